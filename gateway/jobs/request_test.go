package jobs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/jobs"
	"tidegate/gateway/store"
)

func TestRequestsAreRead(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("", "p")
	for body, want := range map[string]string{
		``:                                       "status is missing",
		`{}`:                                     "status is missing",
		`{"status":5}`:                           "status must be a string",
		`{"status":"QUEUED"}`:                    "status must be IN_PROGRESS",
		`{"status":"FAILED","statusDetails":[]}`: "statusDetails must be",
		`{"status":"FAILED","statusDetails":{"a":1}}`:                                                                                   "statusDetails must be",
		`{"status":"FAILED","statusDetails":{"a b":"1"}}`:                                                                               "a key of statusDetails",
		`{"status":"FAILED","statusDetails":{"a":""}}`:                                                                                  "a value of statusDetails",
		`{"status":"FAILED","statusDetails":{"a":"\u0007"}}`:                                                                            "control characters",
		`{"status":"FAILED","statusDetails":{"a":"` + strings.Repeat("é", 1025) + `"}}`:                                                 "a value of statusDetails",
		`{"status":"FAILED","statusDetails":{"0":"x","1":"x","2":"x","3":"x","4":"x","5":"x","6":"x","7":"x","8":"x","9":"x","a":"x"}}`: "at most 10",
		`{"status":"FAILED","expectedVersion":1.5}`:                                                                                     "expectedVersion must be",
		`{"status":"FAILED","expectedVersion":"x"}`:                                                                                     "expectedVersion must be",
		`{"status":"FAILED","expectedVersion":1e999}`:                                                                                   "expectedVersion must be",
		`{"status":"FAILED","executionNumber":0}`:                                                                                       "executionNumber must be",
		`{"status":"FAILED","executionNumber":2}`:                                                                                       "no such execution",
		`{"status":"FAILED","stepTimeoutInMinutes":0}`:                                                                                  "stepTimeoutInMinutes must be",
		`{"status":"FAILED","stepTimeoutInMinutes":10081}`:                                                                              "stepTimeoutInMinutes must be",
		`{"status":"FAILED","stepTimeoutInMinutes":-2}`:                                                                                 "stepTimeoutInMinutes must be",
		`{"status":"FAILED","includeJobDocument":"yes"}`:                                                                                "includeJobDocument must be",
		`{"clientToken":1}`: "clientToken must be",
		`[]`:                "must be a JSON object",
		`{`:                 "is not JSON",
		"\xff":              "is not JSON",
		strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20):                                                    "too deep",
		`{"status":"FAILED","statusDetails":null,"expectedVersion":"1","executionNumber":1,"stepTimeoutInMinutes":-1}`: "",
	} {
		h.must(h.create(jobs.CreateInput{JobID: "j", Targets: []string{thing("p")}}))
		q, err := jobs.ParseRequest([]byte(body))
		if err == nil {
			var req jobs.UpdateRequest
			if req, err = q.Update(); err == nil {
				_, err = h.update("p", "j", req)
			}
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.80s: %v, want %s", body, err, want)
		}
		if notJSON := want == "is not JSON"; notJSON != errors.Is(err, jobs.ErrJSON) {
			t.Errorf("%.80s: %v", body, err)
		}
		h.must(h.remove("j", true))
	}
}

func TestTokensAreEchoed(t *testing.T) {
	q, err := jobs.ParseRequest([]byte(`{"clientToken":"a\"b","status":7}`))
	if err != nil || q.Token == nil || *q.Token != `a"b` {
		t.Errorf("%+v, %v", q, err)
	}
	if b := jobs.EncodeRefusal("InvalidRequest", "x\n", nil, 5000, q.Token); string(b) != `{"code":"InvalidRequest","message":"x\n","timestamp":5,"clientToken":"a\"b"}` {
		t.Errorf("%s", b)
	}
}

// hostile requests of the largest size a broker lets through.
func hostile() map[string][]byte {
	const size = 128 << 10
	fill := func(head, unit, tail string) []byte {
		return []byte(head + strings.Repeat(unit, (size-len(head)-len(tail))/len(unit)) + tail)
	}
	keys := []byte(`{"status":"FAILED","statusDetails":{`)
	for i := 0; len(keys) < size-100; i++ {
		keys = fmt.Appendf(keys, "\"%x\":\"\",", i)
	}
	return map[string][]byte{
		"details by the thousand": append(keys[:len(keys)-1], "}}"...),
		"one key repeated":        fill(`{"status":"FAILED"`, `,"status":"FAILED"`, `}`),
		"a long number":           fill(`{"expectedVersion":1`, `0`, `}`),
		"a long number as text":   fill(`{"expectedVersion":"1`, `0`, `"}`),
		"a long value":            fill(`{"status":"FAILED","statusDetails":{"a":"`, `x`, `"}}`),
		"escapes":                 fill(`{"status":"`, `\u0000`, `"}`),
		"open arrays":             fill(``, `[`, ``),
		"open objects":            fill(``, `{"a":`, ``),
		"white space":             fill(`{"status":`, " ", `"FAILED"}`),
		"quotes":                  fill("", `"`, ""),
		"too long":                fill("{}", " ", "                "),
	}
}

func TestHostileRequestsAreBoundedInTimeAndMemory(t *testing.T) {
	h := newHouse(t)
	h.fleet.add("", "p")
	for name, request := range hostile() {
		h.must(h.create(jobs.CreateInput{JobID: "j", Targets: []string{thing("p")}}))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		q, err := jobs.ParseRequest(request)
		if err == nil {
			var req jobs.UpdateRequest
			if req, err = q.Update(); err == nil {
				_, err = h.update("p", "j", req)
			}
		}
		d := time.Since(start)
		runtime.ReadMemStats(&after)
		if err != nil && fault.Of(err) == fault.Internal {
			t.Errorf("%s: %v", name, err)
		}
		if mem := after.TotalAlloc - before.TotalAlloc; d > time.Second || mem > 16<<20 {
			t.Errorf("%s: %v and %d MB, then %v", name, d, mem>>20, err)
		}
		h.must(h.remove("j", true))
	}
}

func FuzzRequests(f *testing.F) {
	h := newHouse(f)
	h.fleet.add("", "p")
	h.must(h.create(jobs.CreateInput{JobID: "j", Targets: []string{thing("p")}, Document: `{"a":[1,"\u00e9"]}`}))
	f.Add([]byte(`{"status":"IN_PROGRESS","statusDetails":{"a":"1"},"expectedVersion":"2","includeJobExecutionState":true,"clientToken":"x"}`))
	f.Add([]byte(`{"statusDetails":{"p":"é"},"stepTimeoutInMinutes":5,"executionNumber":1,"includeJobDocument":false}`))
	dropped := errors.New("dropped")
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := jobs.ParseRequest(b)
		if err != nil {
			if fault.Of(err) != fault.Invalid {
				t.Fatal(err)
			}
			return
		}
		valid := func(b []byte) {
			if !json.Valid(b) {
				t.Fatalf("wrote %s", b)
			}
		}
		err = h.db.Do(func(u *store.Unit) error {
			tell := func(n jobs.Notice) {
				switch n := n.(type) {
				case jobs.PendingNotice:
					valid(n.Encode())
				case jobs.NextNotice:
					valid(n.Encode())
				}
			}
			if req, err := q.Start(); err == nil {
				v, err := h.Start(u, tell, "p", req)
				if err != nil && fault.Of(err) == fault.Internal {
					t.Fatal(err)
				}
				valid(v.Encode(jobs.Topics, 1, q.Token))
			}
			if req, err := q.Update(); err == nil {
				up, err := h.Update(u, tell, "p", "j", req)
				if err != nil && fault.Of(err) == fault.Internal {
					t.Fatal(err)
				}
				valid(up.Encode(jobs.HTTP, 1, q.Token))
			}
			if req, err := q.Describe(); err == nil {
				v, err := h.Describe(u, "p", jobs.Next, req)
				if err != nil && fault.Of(err) == fault.Internal {
					t.Fatal(err)
				}
				valid(v.Encode(jobs.HTTP, 1, q.Token))
			}
			return dropped
		}, nil)
		if err != dropped {
			t.Fatal(err)
		}
	})
}

func FuzzDocuments(f *testing.F) {
	h := newHouse(f)
	h.fleet.add("", "p")
	f.Add(`{"a":"${aws:iot:parameter:x}"}`, "v\"")
	f.Add(`{"a":"${aws:iot:s3-presigned-url:https://s3.amazonaws.com/b/k}"}`, "")
	dropped := errors.New("dropped")
	f.Fuzz(func(t *testing.T, doc, value string) {
		err := h.db.Do(func(u *store.Unit) error {
			_, err := h.Create(u, func(n jobs.Notice) {
				if n, ok := n.(jobs.NextNotice); ok && !json.Valid(n.Encode()) {
					t.Fatalf("wrote %s", n.Encode())
				}
			}, jobs.CreateInput{JobID: "j", Targets: []string{thing("p")}, Document: doc, Parameters: map[string]string{"x": value}})
			if err != nil && fault.Of(err) != fault.Invalid {
				t.Fatal(err)
			}
			return dropped
		}, nil)
		if err != dropped {
			t.Fatal(err)
		}
	})
}
