package callout_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/callout"
	"tidegate/gateway/fault"
)

func shell(script string) callout.Func { return callout.Command([]string{"/bin/sh", "-c", script}) }

func TestCommandsAreAskedWithinTheirTime(t *testing.T) {
	t.Setenv("TIDEGATE_SECRET", "s3cret")
	set := callout.NewSet()
	set.Add("echo", shell(`read x; printf '{"got":%s}' "$x"`))
	set.Add("env", shell(`env`))
	set.Add("fails", shell(`echo no >&2; exit 3`))
	set.Add("flood", shell(`head -c 300000 /dev/zero`))
	set.Add("missing", callout.Command([]string{"/does/not/exist"}))
	set.AddLimit("slow", shell(`sleep 60 & sleep 60`), 50*time.Millisecond)
	for _, c := range []struct {
		name, want string
		code       fault.Code
	}{
		{"echo", `{"got":[1]}`, 0},
		{"arn:aws:lambda:local-1:000000000000:function:echo", `{"got":[1]}`, 0},
		{"arn:aws:lambda:local-1:000000000000:function:echo:3", `{"got":[1]}`, 0},
		{"fails", "", fault.Unavailable},
		{"flood", "", fault.Unavailable},
		{"missing", "", fault.Unavailable},
		{"slow", "", fault.Timeout},
		{"nobody", "", fault.NotFound},
	} {
		got, err := set.Call(context.Background(), c.name, []byte("[1]\n"))
		if c.code != 0 && !fault.Is(err, c.code) || c.code == 0 && (err != nil || string(got) != c.want) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
	if got, err := set.Call(context.Background(), "env", nil); err != nil || strings.Contains(string(got), "s3cret") {
		t.Errorf("the environment of a command: %s, %v", got, err)
	}
}

func TestEndpointsAreAskedWithinTheirTime(t *testing.T) {
	held := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") != "application/json" {
			w.WriteHeader(http.StatusUnsupportedMediaType)
		}
		io.Copy(w, r.Body)
	})
	mux.Handle("POST /away", http.RedirectHandler("/echo", http.StatusTemporaryRedirect))
	mux.HandleFunc("POST /flood", func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, callout.MaxAnswer+1)) })
	mux.HandleFunc("POST /slow", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-held:
		case <-r.Context().Done():
		}
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	defer close(held)
	client, err := callout.Client("")
	if err != nil {
		t.Fatal(err)
	}
	set := callout.NewSet()
	for _, name := range []string{"echo", "away", "flood", "nothing"} {
		set.Add(name, callout.Endpoint(client, srv.URL+"/"+name))
	}
	set.AddLimit("slow", callout.Endpoint(client, srv.URL+"/slow"), 50*time.Millisecond)
	for name, code := range map[string]fault.Code{"away": fault.Unavailable, "flood": fault.Unavailable, "nothing": fault.Unavailable, "slow": fault.Timeout} {
		if got, err := set.Call(context.Background(), name, []byte("{}")); !fault.Is(err, code) {
			t.Errorf("%s: %.20q, %v, want %v", name, got, err, code)
		}
	}
	if got, err := set.Call(context.Background(), "echo", []byte(`{"a":1}`)); err != nil || string(got) != `{"a":1}` {
		t.Errorf("echo: %q, %v", got, err)
	}
}

func TestOneSlowFunctionDoesNotTakeAllPlacesForEver(t *testing.T) {
	set := callout.NewSet()
	begun := make(chan struct{}, 64)
	set.AddLimit("stuck", func(ctx context.Context, _ []byte) ([]byte, error) {
		begun <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}, 300*time.Millisecond)
	set.AddLimit("quick", func(context.Context, []byte) ([]byte, error) { return nil, nil }, 20*time.Millisecond)
	done := make(chan error, 16)
	for range 16 {
		go func() { _, err := set.Call(context.Background(), "stuck", nil); done <- err }()
	}
	for range 16 {
		<-begun
	}
	if _, err := set.Call(context.Background(), "quick", nil); !fault.Is(err, fault.Throttled) {
		t.Errorf("without a place: %v", err)
	}
	if got := set.Stats(); got.Calls != 16 || got.Busy != 1 || got.Running != 16 {
		t.Errorf("stats %+v", got)
	}
	for range 16 {
		if err := <-done; !fault.Is(err, fault.Timeout) {
			t.Error(err)
		}
	}
	if _, err := set.Call(context.Background(), "quick", nil); err != nil {
		t.Error(err)
	}
}
