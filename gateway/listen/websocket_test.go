package listen_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"tidegate/gateway/broker"
	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/listen"
)

// wsServer is a WebSocket door whose clients hear again what they say.
type wsServer struct {
	*listen.WebSocket
	addr    string
	clients chan broker.Via
	left    chan error // how a client's stream ended
}

func sockets(t *testing.T, change func(*listen.WebSocket)) *wsServer {
	t.Helper()
	s := &wsServer{clients: make(chan broker.Via, 10), left: make(chan error, 10)}
	clk := clocktest.New(time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC))
	var serving sync.WaitGroup
	s.WebSocket = &listen.WebSocket{Listener: "ws", MaxAge: 24 * time.Hour, Now: clk.Now, Parting: new(sync.WaitGroup), Refuse: func(w http.ResponseWriter, _ *http.Request, err error) {
		w.Header().Set("X-Code", fault.Of(err).String())
		w.WriteHeader(http.StatusForbidden)
	}, Serve: func(tr *broker.Transport, via broker.Via) {
		s.clients <- via
		serving.Go(func() {
			nc := tr.NetConn()
			defer nc.Close()
			for buf := make([]byte, 64<<10); ; {
				if err := nc.(broker.Waiter).Wait(); err != nil {
					s.left <- err
					return
				}
				n, err := nc.Read(buf)
				if err == nil && bytes.HasPrefix(buf[:n], []byte("bye")) {
					s.left <- nil
					return
				}
				if err == nil {
					_, err = nc.Write(buf[:n])
				}
				if err != nil {
					s.left <- err
					return
				}
			}
		})
	}}
	if change != nil {
		change(s.WebSocket)
	}
	t.Cleanup(func() { serving.Wait(); s.Parting.Wait() })
	s.addr, _ = serve(t, s, nil)
	return s
}

func (s *wsServer) dial(t *testing.T, o *websocket.DialOptions, query string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	if o == nil {
		o = &websocket.DialOptions{Subprotocols: []string{"mqtt"}}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, "ws://"+s.addr+"/mqtt"+query, o)
	if err == nil {
		t.Cleanup(func() { c.CloseNow() })
		c.SetReadLimit(-1)
	}
	return c, resp, err
}

func (s *wsServer) must(t *testing.T) *websocket.Conn {
	t.Helper()
	c, _, err := s.dial(t, nil, "?a=b")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAWebSocketIsAStreamOfBytes(t *testing.T) {
	s := sockets(t, nil)
	c := s.must(t)
	if c.Subprotocol() != "mqtt" {
		t.Errorf("subprotocol %q [MQTT-6.0.0-4]", c.Subprotocol())
	}
	via := <-s.clients
	up := via.Hint.(*listen.Upgrade)
	if via.Listener != "ws" || !strings.HasPrefix(via.Remote.String(), "127.0.0.1:") || up.Query != "a=b" || via.UntilWhy != "WEBSOCKET_TTL_EXPIRATION" || via.Until.Day() != 5 {
		t.Errorf("via %+v, %+v", via, up)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	want := bytes.Repeat([]byte("0123456789abcdef"), 20000)
	go func() {
		c.Write(ctx, websocket.MessageBinary, nil) // an empty message is no end
		w, _ := c.Writer(ctx, websocket.MessageBinary)
		w.Write(want[:100_000]) // in fragments
		w.Write(want[100_000:200_000])
		w.Close()
		c.Write(ctx, websocket.MessageBinary, want[200_000:])
	}()
	whole := make(chan []byte, 1)
	go func() { // goes on to the end, as only a reader sees a pong
		var got []byte
		for {
			typ, b, err := c.Read(ctx)
			if err != nil {
				return
			}
			if got = append(got, b...); typ != websocket.MessageBinary || len(got) >= len(want) {
				whole <- got
			}
		}
	}()
	got := <-whole
	if !bytes.Equal(got, want) {
		t.Error("what came back is something else")
	}
	if err := c.Ping(ctx); err != nil {
		t.Error(err)
	}
	go c.Close(websocket.StatusNormalClosure, "")
	if err := <-s.left; !errors.Is(err, broker.ErrLeft) {
		t.Errorf("a close frame ends the stream with %v", err)
	}
}

func TestALostWebSocketIsNoGoodbye(t *testing.T) {
	s := sockets(t, nil)
	s.must(t).CloseNow()
	if err := <-s.left; err == nil || errors.Is(err, broker.ErrLeft) {
		t.Errorf("got %v", err)
	}
}

func TestTextIsRefused(t *testing.T) {
	s := sockets(t, nil)
	c := s.must(t)
	if err := c.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil { // [MQTT-6.0.0-1]
		t.Fatal(err)
	}
	_, _, err := c.Read(t.Context())
	if code := websocket.CloseStatus(err); code != websocket.StatusUnsupportedData {
		t.Errorf("got %v", err)
	}
	<-s.left
}

func TestTheServerSaysGoodbyeAndDoesNotWaitLong(t *testing.T) {
	s := sockets(t, nil)
	polite, rude := s.must(t), s.must(t)
	for _, c := range []*websocket.Conn{polite, rude} {
		if err := c.Write(t.Context(), websocket.MessageBinary, []byte("bye")); err != nil {
			t.Fatal(err)
		}
		if err := <-s.left; err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := polite.Read(t.Context())
	if code := websocket.CloseStatus(err); code != websocket.StatusNormalClosure {
		t.Errorf("got %v", err)
	}
	begin := time.Now()
	s.Parting.Wait() // the rude one reads nothing and answers nothing
	if d := time.Since(begin); d > 4*time.Second {
		t.Errorf("waited %v", d)
	}
}

func TestWhoMayUpgrade(t *testing.T) {
	s := sockets(t, func(s *listen.WebSocket) {
		s.Origins = []string{"https://dash.example"}
		s.Admit = func(r *http.Request) (any, error) {
			switch r.URL.Query().Get("who") {
			case "":
				return nil, fault.New(fault.Unauthorized, "who are you")
			case "foe":
				return nil, fault.New(fault.Forbidden, "not you")
			case "none":
				return nil, errors.New("secret")
			}
			return r.URL.Query().Get("who"), nil
		}
	})
	for _, c := range []struct {
		query, origin, protocol string
		status                  int
		refusal                 string
	}{
		{"?who=ada", "", "mqtt", 101, ""},
		{"?who=ada", "", "mqttv3.1", 101, ""},
		{"?who=ada", "", "chat", 403, "invalid"},
		{"?who=ada", "", "", 403, "invalid"},
		{"", "", "mqtt", 403, "unauthorized"},
		{"?who=foe", "", "mqtt", 403, "forbidden"},
		{"?who=none", "", "mqtt", 403, "internal"},
		{"?who=ada", "http://localhost:3000", "mqtt", 101, ""},
		{"?who=ada", "https://dash.example", "mqtt", 101, ""},
		{"?who=ada", "https://evil.example", "mqtt", 403, "forbidden"},
		{"?who=ada", "null", "mqtt", 403, "forbidden"},
		{"?who=ada", "https://127.0.0.1.evil.example", "mqtt", 403, "forbidden"},
		{"?who=ada&X-Amz-Signature=00", "https://evil.example", "mqtt", 101, ""}, // Admit judges signatures
	} {
		o := &websocket.DialOptions{HTTPHeader: http.Header{}}
		if c.protocol != "" {
			o.Subprotocols = []string{c.protocol}
		}
		if c.origin != "" {
			o.HTTPHeader.Set("Origin", c.origin)
		}
		conn, resp, err := s.dial(t, o, c.query)
		if resp == nil {
			t.Fatal(err)
		}
		if resp.StatusCode != c.status || resp.Header.Get("X-Code") != c.refusal {
			t.Errorf("%+v: got %d %s", c, resp.StatusCode, resp.Header.Get("X-Code"))
		}
		if err == nil {
			if conn.Subprotocol() != c.protocol {
				t.Errorf("%+v: subprotocol %q", c, conn.Subprotocol())
			}
			if via := <-s.clients; via.Hint.(*listen.Upgrade).Credential != "ada" {
				t.Errorf("%+v: credential %v", c, via.Hint)
			}
			conn.CloseNow()
			<-s.left
		}
	}
}

func TestARequestThatIsNoUpgradeIsAnswered(t *testing.T) {
	s := sockets(t, nil)
	resp, err := http.Get("http://" + s.addr + "/mqtt")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("got %s", resp.Status)
	}
	http.DefaultClient.CloseIdleConnections()
}
