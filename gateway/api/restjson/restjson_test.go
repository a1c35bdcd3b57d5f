package restjson_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/api/restjson"
	"tidegate/gateway/fault"
)

type input struct {
	Name  string `at:"path,name"`
	Rest  string `at:"path,rest"`
	Max   int    `at:"query,max"`
	On    *bool  `at:"query,on"`
	Owner string `at:"header,x-owner"`
	Text  string `json:"text"`
	List  []int  `json:"list"`
	Inner *struct {
		A string `json:"a"`
	} `json:"inner"`
}

type needy struct {
	Query  string `at:"query,q" need:""`
	Member string `json:"member" need:""`
}

// ops is a server of a few operations.
func ops() *restjson.Server {
	echo := func(op string) func(c *restjson.Call, in *input) (any, error) {
		return func(c *restjson.Call, in *input) (any, error) {
			return map[string]any{"op": op, "in": in, "who": c.Who}, nil
		}
	}
	return &restjson.Server{
		MaxBody: 100,
		Ops: []restjson.Op{
			restjson.Handle("Root", "POST", "/items", echo("Root")),
			restjson.Handle("One", "POST", "/items/{name}", echo("One")),
			restjson.Handle("Fixed", "POST", "/items/fixed", echo("Fixed")),
			restjson.Handle("Deep", "GET", "/items/{name}/part/{rest}", echo("Deep")),
			restjson.Handle("Greedy", "POST", "/topics/{rest+}", echo("Greedy")),
			restjson.Handle("Slash", "GET", "/all/", echo("Slash")),
			restjson.Handle("Need", "POST", "/need", func(_ *restjson.Call, in *needy) (any, error) { return in, nil }),
			restjson.Handle("Nothing", "DELETE", "/items/{name}", func(*restjson.Call, *input) (any, error) { return nil, nil }),
			restjson.Handle("Fail", "PUT", "/items/{name}", func(_ *restjson.Call, in *input) (any, error) {
				return nil, fault.New(fault.NotFound, "no %s", in.Name)
			}),
			restjson.Handle("Raw", "PATCH", "/items/{name}", func(_ *restjson.Call, in *struct {
				Payload json.RawMessage `at:"body"`
			}) (any, error) {
				return restjson.Raw{Status: 202, Header: http.Header{"X-A": {"b"}}, Body: in.Payload}, nil
			}),
		},
		Authorize: func(op *restjson.Op, r *http.Request, body []byte) (any, error) {
			if r.Header.Get("x-refuse") != "" {
				return nil, fault.New(fault.Forbidden, "not %s", op.Name)
			}
			return "ada", nil
		},
		Dialect: func(err error) restjson.Problem {
			p := restjson.Problem{Status: 500, Name: "InternalFailureException", Message: fault.Message(err)}
			switch fault.Of(err) {
			case fault.Invalid:
				p.Status, p.Name = 400, "InvalidRequestException"
			case fault.NotFound:
				p.Status, p.Name, p.Members = 404, "ResourceNotFoundException", map[string]any{"resourceId": "x"}
			case fault.Forbidden:
				p.Status, p.Name = 403, "AccessDeniedException"
			case fault.TooLarge:
				p.Status, p.Name = 413, "RequestEntityTooLargeException"
			}
			return p
		},
	}
}

func server(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(ops())
	t.Cleanup(srv.Close)
	return srv.URL
}

func do(t *testing.T, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestRoutingAndInput(t *testing.T) {
	url := server(t)
	for _, c := range []struct{ method, target, body, want string }{
		{"POST", "/items", "", `{"op":"Root"}`},
		{"POST", "/items/", "", `{"op":"Root"}`},
		{"POST", "/items/a%2Fb%20c", `{"text":"x","list":[1],"inner":{"a":"b"},"unknown":1}`, `{"op":"One","Name":"a/b c","text":"x"}`},
		{"POST", "/items/fixed", "", `{"op":"Fixed"}`},
		{"POST", "/items/fixe%64", "", `{"op":"One","Name":"fixed"}`},
		{"GET", "/items/a:b/part/arn%3Aaws%2Fx?max=5&on=false", "", `{"op":"Deep","Name":"a:b","Rest":"arn:aws/x"}`},
		{"POST", "/topics/a//b/", "", `{"op":"Greedy","Rest":"a//b/"}`},
		{"POST", "/topics/a%2Fb", "", `{"op":"Greedy","Rest":"a/b"}`},
		{"GET", "/all/", "", `{"op":"Slash"}`},
		{"GET", "/all", "", `{"op":"Slash"}`},
		{"POST", "/items/x", `{"Name":"y","Owner":"z","text":null}`, `{"op":"One","Name":"x"}`},
	} {
		resp, body := do(t, c.method, url+c.target, c.body)
		var got struct {
			Op  string
			In  map[string]any
			Who string
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != 200 {
			t.Errorf("%s %s: %d %s", c.method, c.target, resp.StatusCode, body)
			continue
		}
		want := map[string]any{}
		json.Unmarshal([]byte(c.want), &want)
		if got.Op != want["op"] || got.Who != "ada" || got.In["Owner"] != "" {
			t.Errorf("%s %s: got %s", c.method, c.target, body)
		}
		delete(want, "op")
		for k, v := range want {
			if got.In[k] != v {
				t.Errorf("%s %s: %s is %v, want %v", c.method, c.target, k, got.In[k], v)
			}
		}
		if resp.Header.Get("x-amzn-RequestId") == "" || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("headers: %v", resp.Header)
		}
	}
}

func TestAnswers(t *testing.T) {
	url := server(t)
	if resp, body := do(t, "DELETE", url+"/items/a", ""); resp.StatusCode != 200 || body != "{}" {
		t.Errorf("nothing: %d %q", resp.StatusCode, body)
	}
	if resp, body := do(t, "PATCH", url+"/items/a", "<&>"); resp.StatusCode != 202 || body != "<&>" || resp.Header.Get("X-A") != "b" {
		t.Errorf("raw: %d %q", resp.StatusCode, body)
	}
	if _, body := do(t, "POST", url+"/items/a", `{"text":"<&>"}`); !strings.Contains(body, `"<&>"`) {
		t.Errorf("HTML is escaped: %s", body)
	}
	b, _ := json.Marshal([]restjson.Time{restjson.Time(time.UnixMilli(1700000000123)), restjson.Time(time.Unix(5, 0)), {}})
	if string(b) != "[1700000000.123,5,null]" {
		t.Errorf("times: %s", b)
	}
	var back restjson.Time
	if err := json.Unmarshal([]byte("1700000000.123"), &back); err != nil || time.Time(back).UnixMilli() != 1700000000123 {
		t.Errorf("time read: %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`"x"`), &back); err == nil {
		t.Error("a time that is none was read")
	}
}

func TestErrors(t *testing.T) {
	url := server(t)
	for _, c := range []struct {
		method, target, body string
		header               []string
		status               int
		name, message        string
	}{
		{"PUT", "/items/a", "", nil, 404, "ResourceNotFoundException", "no a"},
		{"GET", "/items/a", "", nil, 404, "UnknownOperationException", "GET /items/a is not served by this gateway"},
		{"POST", "/items/a/b", "", nil, 404, "UnknownOperationException", "is not served"},
		{"POST", "/topics/", "", nil, 404, "UnknownOperationException", "is not served"},
		{"POST", "/items/a", "", []string{"x-refuse", "1"}, 403, "AccessDeniedException", "not One"},
		{"POST", "/items/a", "{", nil, 400, "InvalidRequestException", "not a JSON object"},
		{"POST", "/items/a", "[]", nil, 400, "InvalidRequestException", "not a JSON object"},
		{"POST", "/items/a", `{"text":5}`, nil, 400, "InvalidRequestException", "text"},
		{"POST", "/items/a", strings.Repeat(" ", 101), nil, 413, "RequestEntityTooLargeException", "100"},
		{"POST", "/items/a?max=x", "", nil, 400, "InvalidRequestException", "'max'"},
		{"POST", "/items/a?on=1", "", nil, 400, "InvalidRequestException", "'on'"},
		{"POST", "/need?q=1", "", nil, 400, "InvalidRequestException", "Value null at 'member'"},
		{"POST", "/need", `{"member":"x"}`, nil, 400, "InvalidRequestException", "Value null at 'q'"},
	} {
		resp, body := do(t, c.method, url+c.target, c.body, c.header...)
		var got struct{ Message string }
		json.Unmarshal([]byte(body), &got)
		if resp.StatusCode != c.status || resp.Header.Get("x-amzn-ErrorType") != c.name || !strings.Contains(got.Message, c.message) {
			t.Errorf("%s %s: got %d %s %s", c.method, c.target, resp.StatusCode, resp.Header.Get("x-amzn-ErrorType"), body)
		}
	}
}

func TestAWrongTagIsADefect(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	restjson.Handle("X", "GET", "/", func(*restjson.Call, *struct {
		A string `at:"cookie,a"`
	}) (any, error) {
		return nil, errors.New("never")
	})
}
