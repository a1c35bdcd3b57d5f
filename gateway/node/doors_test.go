package node_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"tidegate/gateway/api/sigv4"
	"tidegate/test/rawmqtt"
)

// A gateway with somebody at every door, some of them silent, half spoken or stuck, ends
// in time and leaves nothing behind.
func TestTheEndOfEveryDoor(t *testing.T) {
	before := goleak.IgnoreCurrent()
	cfg := config(t, "")
	n, _, err := build(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	announced := filepath.Join(cfg.Data, "run", "listeners.json")
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := os.Stat(announced); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("not up after 10 s")
		}
		time.Sleep(time.Millisecond)
	}
	at := n.Addrs()
	pem, err := os.ReadFile(filepath.Join(cfg.Data, "pki", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}}}
	defer web.CloseIdleConnections()

	resp, err := web.Get("https://" + at["https"] + "/no/such/path")
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close() // the connection stays
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("got %s", resp.Status)
	}

	far := "wss://localhost" + at["https"][strings.LastIndex(at["https"], ":"):] + "/mqtt"
	for _, u := range []string{"ws://" + at["ws"] + "/mqtt", signed(t, cfg.Data, far)} {
		for _, id := range []string{"reads", "stuck"} {
			ws, _, err := websocket.Dial(ctx, u, &websocket.DialOptions{Subprotocols: []string{"mqtt"}, HTTPClient: web})
			if err != nil {
				t.Fatal(err)
			}
			defer ws.CloseNow()
			c, _, err := rawmqtt.Handshake(websocket.NetConn(context.Background(), ws, websocket.MessageBinary), rawmqtt.Options{ClientID: id + u[:3], Clean: true})
			if err != nil {
				t.Fatal(err)
			}
			if id == "reads" {
				go func() {
					for {
						if _, err := c.Next(); err != nil {
							return
						}
					}
				}()
			}
		}
	}
	for port, first := range map[string]string{"mqtt": "\x10\x20", "mqtts": "\x16\x03\x01\x02\x00\x01", "https": "", "ws": "GET /mqtt HT"} {
		nc, err := net.Dial("tcp", at[port])
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		io.WriteString(nc, first)
	}

	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("not ended after 20 s")
	}
	web.CloseIdleConnections()
	goleak.VerifyNone(t, before)
}

// signed signs a URL with the first operator's key.
func signed(t *testing.T, data, far string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(data, "operator", "credentials"))
	if err != nil {
		t.Fatal(err)
	}
	var c sigv4.Credentials
	for line := range strings.Lines(string(b)) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), " = "); name {
		case "aws_access_key_id":
			c.AccessKey = value
		case "aws_secret_access_key":
			c.Secret = value
		}
	}
	u, err := url.Parse(far)
	if err != nil {
		t.Fatal(err)
	}
	return sigv4.Presign(u, c, "local-1", "iotdevicegateway", time.Now(), time.Minute).String()
}
