package listen_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/gateway/broker"
	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/identity"
	"tidegate/gateway/listen"
	"tidegate/gateway/logs"
	"tidegate/gateway/metrics"
)

// secured is a port with a Secure behind it whose doors say who they are, how TLS came
// about, and then repeat what they hear.
type secured struct {
	*listen.Secure
	t     *testing.T
	id    *identity.Identity
	clk   *clocktest.Manual
	addr  string
	roots *x509.CertPool
	open  atomic.Int32
}

func secure(t *testing.T, bound func(*listen.Secure), protocols ...string) *secured {
	t.Helper()
	s := &secured{t: t, clk: clocktest.New(time.Now()), roots: x509.NewCertPool()}
	dir := t.TempDir()
	vault, err := identity.FileVault(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.id, err = identity.Open(vault, s.clk, identity.DefaultConfig(dir)); err != nil {
		t.Fatal(err)
	}
	s.roots.AddCert(s.id.CA())
	var list []listen.Protocol
	for _, p := range protocols {
		list = append(list, listen.Protocol{Name: p, Door: s.door(p)})
	}
	s.Secure = listen.NewSecure("mqtts", s.id.ServerTLS(), logs.Discard(), list, s.door("other"))
	if bound != nil {
		bound(s.Secure)
	}
	set, _ := open(t, listen.Addr{Name: "mqtts", Addr: "127.0.0.1:0"})
	s.addr = set.Addrs()["mqtts"]
	stop := start(t, set.Doors(map[string]func(net.Conn){"mqtts": s.Serve}))
	t.Cleanup(func() {
		stop()
		s.Close()
		set.Close()
	})
	return s
}

func (s *secured) door(name string) func(*broker.Transport) {
	return func(t *broker.Transport) {
		defer t.Close()
		s.open.Add(1)
		defer s.open.Add(-1)
		state := t.State()
		said := []string{name, state.ServerName, "full"}
		if state.DidResume {
			said[2] = "resumed"
		}
		for _, c := range state.PeerCertificates {
			said = append(said, c.Subject.CommonName)
		}
		nc := t.NetConn()
		io.WriteString(nc, strings.Join(said, " ")+"\n")
		io.Copy(nc, nc)
	}
}

// dial connects and gives what the door says of it.
func (s *secured) dial(cfg *tls.Config) (*tls.Conn, string) {
	s.t.Helper()
	c, said, err := s.try(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return c, said
}

func (s *secured) try(cfg *tls.Config) (*tls.Conn, string, error) {
	if cfg.RootCAs == nil {
		cfg.RootCAs = s.roots
	}
	c, err := tls.Dial("tcp", s.addr, cfg)
	if err != nil {
		return nil, "", err
	}
	s.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(5 * time.Second))
	var line []byte
	for b := make([]byte, 1); len(line) == 0 || line[len(line)-1] != '\n'; line = append(line, b[0]) {
		if _, err := c.Read(b); err != nil {
			return c, "", err
		}
	}
	return c, strings.TrimSpace(string(line)), nil
}

// device makes a client certificate that nobody has signed but its own key: who may come
// in is not judged here.
func device(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	tpl.Subject.CommonName = name
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestALPNDecidesWhoServes(t *testing.T) {
	s := secure(t, nil, "x-amzn-mqtt-ca", "mqtt", "http/1.1")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, c := range []struct {
			ask  []string
			want string
		}{
			{nil, "other"},
			{[]string{"x-amzn-mqtt-ca"}, "x-amzn-mqtt-ca"},
			{[]string{"mqtt"}, "mqtt"},
			{[]string{"h2", "http/1.1"}, "http/1.1"},
			{[]string{"http/1.1", "mqtt"}, "mqtt"},
			{[]string{"something-of-its-own"}, "other"},
		} {
			conn, said := s.dial(&tls.Config{ServerName: "localhost", NextProtos: c.ask, MinVersion: version, MaxVersion: version})
			if said != c.want+" localhost full" {
				t.Errorf("TLS %x, asked for %q: got %q, want %q", version, c.ask, said, c.want)
			}
			if p := conn.ConnectionState().NegotiatedProtocol; p != c.want && c.want != "other" {
				t.Errorf("told %q, want %q", p, c.want)
			}
			conn.Close()
		}
	}
	if _, _, err := s.try(&tls.Config{ServerName: "localhost", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is served")
	}
}

func TestAnyServerNameOrNoneIsServed(t *testing.T) {
	s := secure(t, nil)
	for _, name := range []string{"", "127.0.0.1", "no-such-name.example", "abc-ats.iot.eu-west-1.amazonaws.com"} {
		if _, said := s.dial(&tls.Config{ServerName: name, InsecureSkipVerify: true}); !strings.HasPrefix(said, "other") {
			t.Errorf("%q: %q", name, said)
		}
	}
}

func TestAClientCertificateIsSeenAlsoWhenResumed(t *testing.T) {
	s := secure(t, nil)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := &tls.Config{ServerName: "localhost", Certificates: []tls.Certificate{device(t, "pump1")}, ClientSessionCache: tls.NewLRUClientSessionCache(1), MaxVersion: version}
		for _, how := range []string{"full", "resumed", "resumed"} {
			c, said := s.dial(cfg)
			if want := "other localhost " + how + " pump1"; said != want {
				t.Errorf("TLS %x: got %q, want %q", version, said, want)
			}
			c.Close()
		}
	}
}

func TestRotationDropsNoConnection(t *testing.T) {
	s := secure(t, nil)
	cfg := &tls.Config{ServerName: "localhost", Time: s.clk.Now}
	before, _ := s.dial(cfg)
	s.clk.Advance(80 * 24 * time.Hour)
	if err := s.id.Renew(); err != nil {
		t.Fatal(err)
	}
	after, _ := s.dial(cfg)
	if a, b := before.ConnectionState().PeerCertificates[0], after.ConnectionState().PeerCertificates[0]; a.SerialNumber.Cmp(b.SerialNumber) == 0 {
		t.Error("the certificate was not renewed")
	}
	for _, c := range []*tls.Conn{before, after} {
		b := make([]byte, 4)
		if _, err := c.Write([]byte("echo")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "echo" {
			t.Errorf("%q, %v", b, err)
		}
	}
}

func TestWhatIsNotTLSIsTurnedAway(t *testing.T) {
	s := secure(t, func(s *listen.Secure) { s.Bound(200*time.Millisecond, 4, 4, time.Second) })
	for what, c := range map[string]struct{ send, want string }{
		"HTTP":    {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.0 400 Bad Request"},
		"MQTT":    {"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00", ""},
		"nothing": {"", ""},
		"half":    {"\x16\x03\x01", ""},
		"junk":    {"\x16\x03\x01\x00\x05hello", "\x15\x03"},
	} {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.Write([]byte(c.send))
		nc.SetDeadline(time.Now().Add(5 * time.Second))
		got, err := io.ReadAll(nc)
		if ne, ok := err.(net.Error); ok && ne.Timeout() || !bytes.HasPrefix(got, []byte(c.want)) {
			t.Errorf("%s: got %q, %v", what, got, err)
		}
	}
}

func TestAStalledHandshakeGivesWay(t *testing.T) {
	s := secure(t, func(s *listen.Secure) { s.Bound(10*time.Second, 1, 1, 20*time.Millisecond) })
	stalled, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer stalled.Close()
	stalled.Write([]byte("\x16\x03\x01\x02\x00\x01"))
	until(t, "the handshake has begun", func() bool { return strings.Contains(s.metrics(t), `tidegate_tls_pending{port="mqtts"} 1`) })
	if _, said := s.dial(&tls.Config{ServerName: "localhost"}); !strings.HasPrefix(said, "other") {
		t.Errorf("got %q", said)
	}
	stalled.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadAll(stalled); err != nil {
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Error("the stalled one is still there")
		}
	}
	text := s.metrics(t)
	for _, want := range []string{`tidegate_tls_handshakes_total{port="mqtts"} 1`, `tidegate_tls_hurried_total{port="mqtts"} 1`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not among the metrics", want)
		}
	}
}

func (s *secured) metrics(t *testing.T) string {
	t.Helper()
	set := metrics.New()
	s.Metrics(set)
	return scrape(set)
}

func TestCloseEndsWhoHasNotShownItself(t *testing.T) {
	s := secure(t, nil)
	var conns []net.Conn
	for _, first := range []string{"", "\x16\x03\x01\x02\x00\x01"} {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.Write([]byte(first))
		conns = append(conns, nc)
	}
	until(t, "both have come", func() bool { return strings.Contains(s.metrics(t), `tidegate_tls_pending{port="mqtts"} 2`) })
	s.Close()
	for _, nc := range conns {
		nc.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.ReadAll(nc); err != nil && slices.Contains([]string{"i/o timeout"}, err.Error()) {
			t.Error(err)
		}
	}
	until(t, "none is left", func() bool { return strings.Contains(s.metrics(t), `tidegate_tls_pending{port="mqtts"} 0`) })
}

// until waits for what another goroutine does.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("not after 5 s: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}
