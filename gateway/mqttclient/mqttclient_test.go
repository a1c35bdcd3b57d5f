package mqttclient_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tidegate/gateway/fault"
	"tidegate/gateway/mqttclient"
	"tidegate/test/faultnet"
	"tidegate/test/harness"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func connect(t *testing.T, cfg mqttclient.Config) *mqttclient.Client {
	t.Helper()
	c, err := mqttclient.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func url(m *harness.Mosquitto) string { return "mqtt://" + m.Addr }

// inbox collects messages and acknowledges them.
type inbox chan *mqttclient.Message

func (in inbox) take(m *mqttclient.Message) { in <- m; m.Ack() }

func (in inbox) next(t *testing.T) *mqttclient.Message {
	t.Helper()
	select {
	case m := <-in:
		return m
	case <-time.After(10 * time.Second):
		t.Fatal("no message came")
		return nil
	}
}

func TestMessagesGoOutAndComeIn(t *testing.T) {
	m := harness.StartMosquitto(t)
	in := make(inbox, 100)
	sub := connect(t, mqttclient.Config{URL: url(m), ClientID: "sub", OnMessage: in.take})
	if err := sub.Subscribe(t.Context(), map[string]byte{"a/#": 1, "b": 0}); err != nil {
		t.Fatal(err)
	}
	pub := connect(t, mqttclient.Config{URL: strings.Replace(url(m), "mqtt", "tcp", 1)})
	for i := range 50 {
		tok := pub.Publish(fmt.Sprintf("a/%d", i%3), byte(i%3), false, []byte(fmt.Sprint(i)))
		if err := tok.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	next := [3]int{0, 1, 2} // a broker keeps order for each topic and QoS, not between them
	for range 50 {
		got := in.next(t)
		k := int(got.Topic[len(got.Topic)-1] - '0')
		if got.Topic != fmt.Sprintf("a/%d", k) || string(got.Payload) != fmt.Sprint(next[k]) || got.QoS != byte(min(k, 1)) {
			t.Fatalf("%s brought %s with QoS %d, want %d", got.Topic, got.Payload, got.QoS, next[k])
		}
		next[k] += 3
	}
	if i, o := pub.Bytes(); i == 0 || o == 0 {
		t.Errorf("bytes counted: %d in, %d out", i, o)
	}
	if err := sub.Unsubscribe(t.Context(), "a/#"); err != nil {
		t.Error(err)
	}
	if err := pub.Publish("a/0", 1, false, nil).Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if err := pub.Publish("b", 1, true, []byte("last")).Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if got := in.next(t); got.Topic != "b" || got.Retain {
		t.Errorf("after unsubscribing %s came", got.Topic)
	}
	pub.Close()
	pub.Close()
	if err := pub.Publish("b", 1, false, nil).Wait(t.Context()); err == nil {
		t.Error("a closed client publishes")
	}
	if pub.Err() != nil {
		t.Errorf("closed by us, Err is %v", pub.Err())
	}
}

// The library left to itself says "acknowledged" here, or never says anything.
func TestALostConnectionFailsItsTokens(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keep session %v", keep), func(t *testing.T) {
			m := harness.StartMosquitto(t)
			p := faultnet.New(t, m.Addr)
			c := connect(t, mqttclient.Config{URL: "mqtt://" + p.Addr(), ClientID: "c", KeepSession: keep})
			p.BlackHole(true)
			tok := c.Publish("x", 1, false, []byte("x"))
			if err := tok.Err(); err == nil {
				t.Error("acknowledged by nobody")
			}
			p.Cut()
			if err := tok.Wait(t.Context()); err == nil {
				t.Error("the token of a lost connection is acknowledged")
			}
			<-c.Done()
			if c.Err() == nil {
				t.Error("a lost connection has no error")
			}
		})
	}
}

// Whoever publishes when the connection is lost is told at once: the library would have him wait for the whole write timeout.
func TestALostConnectionHoldsNobodyUp(t *testing.T) {
	m := harness.StartMosquitto(t)
	p := faultnet.New(t, m.Addr)
	for range 5 {
		c := connect(t, mqttclient.Config{URL: "mqtt://" + p.Addr(), ClientID: "busy"})
		sent, ended := make(chan struct{}), make(chan time.Time, 1)
		go func() {
			var window []*mqttclient.Token
			for i := 0; c.Err() == nil; i++ {
				window = append(window, c.Publish("t", 1, false, make([]byte, 100)))
				if i == 1000 {
					close(sent)
				}
				for ; len(window) > 64; window = window[1:] {
					<-window[0].Done()
				}
			}
			for _, tok := range window {
				<-tok.Done() // acknowledged or failed, and not left open
			}
			ended <- time.Now()
		}()
		<-sent
		cut := time.Now()
		p.Cut()
		<-c.Done()
		if d := (<-ended).Sub(cut); d > 3*time.Second {
			t.Errorf("it took %v to stop", d)
		}
	}
}

func TestASilentPeerIsFoundOut(t *testing.T) {
	m := harness.StartMosquitto(t)
	p := faultnet.New(t, m.Addr)
	c := connect(t, mqttclient.Config{URL: "mqtt://" + p.Addr(), KeepAlive: time.Second, PingTimeout: 200 * time.Millisecond})
	p.BlackHole(true)
	select {
	case <-c.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("not noticed")
	}
}

func TestTheSessionIsKeptWithWhatWasNotAcknowledged(t *testing.T) {
	m := harness.StartMosquitto(t)
	seen := make(inbox, 10)
	cfg := mqttclient.Config{URL: url(m), ClientID: "s", KeepSession: true, OnMessage: func(m *mqttclient.Message) {
		seen <- m
		if string(m.Payload) != "2" {
			m.Ack()
		}
	}}
	c := connect(t, cfg)
	if c.SessionPresent() {
		t.Error("a first connection finds a session")
	}
	if err := c.Subscribe(t.Context(), map[string]byte{"t": 1}); err != nil {
		t.Fatal(err)
	}
	pub := connect(t, mqttclient.Config{URL: url(m)})
	send := func(s string) {
		t.Helper()
		if err := pub.Publish("t", 1, false, []byte(s)).Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	send("1")
	send("2")
	seen.next(t)
	seen.next(t)
	c.Close()
	send("3")
	cfg.OnMessage = seen.take
	c = connect(t, cfg)
	if !c.SessionPresent() {
		t.Error("the session is gone")
	}
	for _, want := range []string{"2", "3"} {
		if got := seen.next(t); string(got.Payload) != want {
			t.Errorf("got %s, want %s", got.Payload, want)
		}
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	m := harness.StartMosquitto(t, "allow_anonymous false")
	_, err := mqttclient.Connect(t.Context(), mqttclient.Config{URL: url(m), User: "u", Password: "p"})
	if !fault.Is(err, fault.Unauthorized) || !strings.Contains(err.Error(), "check user, password") {
		t.Errorf("got %v", err)
	}
	m.Stop()
	if _, err = mqttclient.Connect(t.Context(), mqttclient.Config{URL: url(m)}); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
	// a peer that takes the connection and says nothing
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err = mqttclient.Connect(ctx, mqttclient.Config{URL: "mqtt://" + ln.Addr().String()}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	for _, bad := range []string{"", "mqtt://", "http://x", "mqtt://u:p@h", "mqtt://h/path", "::", "h:1883"} {
		if _, err := mqttclient.Connect(t.Context(), mqttclient.Config{URL: bad}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q gives %v", bad, err)
		}
	}
}

func TestURLsGetTheirPort(t *testing.T) {
	for in, want := range map[string]string{
		"mqtt://h": "mqtt://h:1883", "tcp://h:1": "mqtt://h:1", "mqtts://h/": "mqtts://h:8883/", "ssl://[::1]": "mqtts://[::1]:8883", "tls://h:443": "mqtts://h:443",
	} {
		if u, err := mqttclient.ParseURL(in); err != nil || u.String() != want {
			t.Errorf("%s is %v, %v; want %s", in, u, err, want)
		}
	}
}

func TestTLSWithAClientCertificate(t *testing.T) {
	dir := t.TempDir()
	ca, caKey := certificate(t, dir, "ca", nil, nil)
	certificate(t, dir, "server", ca, caKey)
	certificate(t, dir, "device", ca, caKey)
	m := harness.StartMosquitto(t, "cafile "+dir+"/ca.pem", "certfile "+dir+"/server.pem", "keyfile "+dir+"/server.key",
		"require_certificate true", "use_identity_as_username true", "allow_anonymous false")
	addr := "mqtts://" + m.Addr
	files := mqttclient.Files{CA: dir + "/ca.pem", Cert: dir + "/device.pem", Key: dir + "/device.key"}
	tc, err := files.Load()
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, mqttclient.Config{URL: addr, TLS: tc})
	if err := c.Publish("x", 1, false, nil).Wait(t.Context()); err != nil {
		t.Error(err)
	}
	// the same with a key that only signs, as one in a TPM
	tc.Certificates = []tls.Certificate{{Certificate: tc.Certificates[0].Certificate, PrivateKey: signer{tc.Certificates[0].PrivateKey.(*ecdsa.PrivateKey)},
		SupportedSignatureAlgorithms: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}}}
	c = connect(t, mqttclient.Config{URL: addr, TLS: tc})
	if err := c.Publish("x", 1, false, nil).Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := mqttclient.Connect(t.Context(), mqttclient.Config{URL: addr}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an authority we do not know: %v", err)
	}
	for name, bad := range map[string]mqttclient.Files{
		"no such file":      {CA: dir + "/nope.pem"},
		"not a certificate": {CA: dir + "/device.key"},
		"key alone":         {Key: dir + "/device.key"},
		"wrong key":         {Cert: dir + "/device.pem", Key: dir + "/server.key"},
	} {
		if _, err := bad.Load(); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type signer struct{ *ecdsa.PrivateKey }

// certificate makes a key and a certificate signed by ca, itself when nil.
func certificate(t *testing.T, dir, name string, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: ca == nil}
	if ca == nil {
		ca, caKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: k}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}
