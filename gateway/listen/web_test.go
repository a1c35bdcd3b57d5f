package listen_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/listen"
	"tidegate/gateway/logs"
	"tidegate/gateway/metrics"
)

func scrape(set *metrics.Set) string {
	w := httptest.NewRecorder()
	set.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

// serve runs a Web behind a port.
func serve(t *testing.T, h http.Handler, bound func(*listen.Web)) (addr string, stop func() error) {
	t.Helper()
	web := listen.NewWeb("https", h, logs.Discard())
	if bound != nil {
		bound(web)
	}
	set, _ := open(t, listen.Addr{Name: "https", Addr: "127.0.0.1:0"})
	stopWeb := start(t, web.Run)
	stopDoors := start(t, set.Doors(map[string]func(net.Conn){"https": web.Serve}))
	done := false
	stop = func() error {
		if done {
			return nil
		}
		done = true
		stopDoors()
		return stopWeb()
	}
	t.Cleanup(func() { stop() })
	return set.Addrs()["https"], stop
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(5 * time.Second))
	return nc
}

func TestASlowHeadIsNotWaitedFor(t *testing.T) {
	addr, _ := serve(t, http.NotFoundHandler(), func(w *listen.Web) { w.Bound(50*time.Millisecond, 10, 10) })
	for _, first := range []string{"", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n"} {
		nc := dial(t, addr)
		io.WriteString(nc, first)
		if b, err := io.ReadAll(nc); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%q: %q, %v", first, b, err)
		}
	}
}

func TestAHeadIsBounded(t *testing.T) {
	addr, _ := serve(t, http.NotFoundHandler(), nil)
	nc := dial(t, addr)
	go io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\nX-A: "+strings.Repeat("a", 64<<10)+"\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %s", resp.Status)
	}
}

func TestOneAddressDoesNotTakeTheServer(t *testing.T) {
	addr, _ := serve(t, http.NotFoundHandler(), func(w *listen.Web) { w.Bound(time.Minute, 3, 2) })
	get := func(nc net.Conn) error {
		io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	a, b := dial(t, addr), dial(t, addr)
	if err := get(a); err != nil {
		t.Fatal(err)
	}
	if err := get(b); err != nil {
		t.Fatal(err)
	}
	if err := get(dial(t, addr)); err == nil {
		t.Error("a third connection is served")
	}
	a.Close()
	until(t, "there is a place again", func() bool { return get(dial(t, addr)) == nil })
}

func TestARequestUnderWayIsAnsweredAtTheEnd(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	addr, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-leave
		io.WriteString(w, "done")
	}), nil)
	nc := dial(t, addr)
	io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	ended := make(chan error)
	go func() { ended <- stop() }()
	until(t, "the port is closed", func() bool {
		d := net.Dialer{Timeout: time.Second}
		c, err := d.DialContext(context.Background(), "tcp", addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(leave)
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	if string(b) != "done" {
		t.Errorf("got %q", b)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestTheEndDoesNotWaitForWhoHasNotAsked(t *testing.T) {
	addr, stop := serve(t, http.NotFoundHandler(), nil)
	for _, first := range []string{"", "GET / HT"} {
		io.WriteString(dial(t, addr), first)
	}
	asked := dial(t, addr) // accepted after the others
	io.WriteString(asked, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(asked), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	begin := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("it took %v", d)
	}
}
