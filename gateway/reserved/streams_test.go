package reserved_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/gateway/fault"
	"tidegate/gateway/jobs/streams"
	"tidegate/gateway/reserved"
)

// archive is streams behind their operations.
func archive(t *testing.T, o *office) func(op, input string) string {
	room, err := streams.Open(filepath.Join(t.TempDir(), "files"), o.db, o.clk)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := room.Add(strings.NewReader("content"))
	if err != nil {
		t.Fatal(err)
	}
	s := reserved.NewStreams(room, o.reg.Base(), slog.New(slog.DiscardHandler))
	s.OnCommit(o.commit)
	return func(op, input string) string {
		t.Helper()
		answer, err := s.Call(op, []byte(strings.ReplaceAll(input, "HASH", blob.Hash)))
		if err != nil {
			return fault.Of(err).String() + ": " + fault.Message(err)
		}
		b, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

func TestStreamsAreListedInPages(t *testing.T) {
	call := archive(t, newOffice(t))
	for i := range 5 {
		call("CreateStream", fmt.Sprintf(`{"streamId":"s%d","roleArn":"r","files":[{"fileId":0,"sha256":"HASH"}]}`, i))
	}
	list := func(order, more string) (ids, last string) {
		t.Helper()
		for token := ""; ; {
			var page struct {
				Streams   []struct{ StreamID string }
				NextToken string
			}
			if err := json.Unmarshal([]byte(call("ListStreams", `{`+order+more+token+`}`)), &page); err != nil || len(page.Streams) > 2 {
				t.Fatalf("%d, %v", len(page.Streams), err)
			}
			for _, s := range page.Streams {
				ids += s.StreamID + " "
			}
			if page.NextToken == "" {
				return ids, last
			}
			last = page.NextToken
			token = `,"nextToken":"` + last + `"`
		}
	}
	up, token := list(`"isAscendingOrder":true`, `,"maxResults":2`)
	down, _ := list(`"isAscendingOrder":false`, `,"maxResults":2`)
	if up != "s0 s1 s2 s3 s4 " || down != "s4 s3 s2 s1 s0 " {
		t.Errorf("up %q, down %q", up, down)
	}
	for input, want := range map[string]string{
		`{"maxResults":0}`: "invalid: maxResults must be 1 to 250", `{"maxResults":251}`: "invalid: maxResults must be 1 to 250", `{"nextToken":"!"}`: "invalid: nextToken is not one of ours",
		`{"isAscendingOrder":false,"nextToken":"` + token + `"}`: "invalid: nextToken is not one of ours", `{"maxResults":"2"}`: "invalid: maxResults must not be a string",
	} {
		if got := call("ListStreams", input); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", input, got, want)
		}
	}
}
