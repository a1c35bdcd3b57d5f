package restjson_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// Every request has an answer that is JSON or nothing, and none is blamed on the gateway.
func FuzzRequest(f *testing.F) {
	f.Add("POST", "/items/a", "max=5&on=true", `{"text":"x","list":[1],"inner":{"a":"b"}}`)
	f.Add("POST", "/topics/a//b%2fc/", "", "")
	f.Add("GET", "/items/a/part/b", "max=99999999999999999999", `{}`)
	f.Add("POST", "/need", "q=", `{"member":null}`)
	f.Add("POST", "/items", "", `{"list":{"a":1}}`)
	f.Add("PATCH", "/items/a", "", `[`)
	f.Add("PUT", "/items/%ff", "", `"x"`)
	s := ops()
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.Method, r.URL = method, &url.URL{Path: path, RawQuery: query}
		if u, err := url.Parse(path); err == nil && u.Host == "" && u.Scheme == "" {
			r.URL.Path, r.URL.RawPath = u.Path, u.RawPath
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code >= http.StatusInternalServerError {
			t.Errorf("%s %q?%q %q: %d %s", method, path, query, body, w.Code, w.Body)
		}
		if method != "PATCH" && w.Body.Len() > 0 && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %q?%q %q: %d %s", method, path, query, body, w.Code, w.Body)
		}
	})
}
