package restjson_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tidegate/gateway/api/restjson"
	"tidegate/gateway/fault"
)

func TestForwardGathersTheInput(t *testing.T) {
	s := restjson.Server{MaxBody: 1 << 10, Authorize: func(*restjson.Op, *http.Request, []byte) (any, error) { return nil, nil },
		Dialect: func(err error) restjson.Problem {
			return restjson.Problem{Status: 400, Name: "X", Message: fault.Message(err)}
		},
		Ops: []restjson.Op{restjson.Forward("F", "POST", "/a/{name}/b", map[string]restjson.Kind{"n": restjson.Integer, "f": restjson.Boolean, "t": restjson.Text},
			func(_ *restjson.Call, input []byte) (any, error) { return restjson.Raw{Body: input}, nil })}}
	for _, c := range []struct{ target, body, want string }{
		{"/a/x%2Fy/b?n=007&f=1&t=q&other=1", `{"name":"z","m":[1]}`, `{"f":true,"m":[1],"n":7,"name":"x/y","t":"q"}`},
		{"/a/x/b", ``, `{"name":"x"}`},
		{"/a/x/b?n=one", ``, `n must be an integer`},
		{"/a/x/b?f=maybe", ``, `f must be true or false`},
		{"/a/x/b", `[]`, `not a JSON object`},
		{"/a/x/b", `null`, `not a JSON object`},
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", c.target, strings.NewReader(c.body)))
		got, _ := io.ReadAll(w.Body)
		if !strings.Contains(string(got), c.want) {
			t.Errorf("%s %s: %s, want %s", c.target, c.body, got, c.want)
		}
	}
}
