package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tidegate/gateway/api/sigv4"
	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/logs"
	"tidegate/gateway/node"
	"tidegate/test/harness"
	"tidegate/test/rawmqtt"
)

// aged is a gateway in this process whose clock the test moves.
type aged struct {
	t     *testing.T
	clk   *clocktest.Manual
	ports map[string]string
	stop  func()
	dir   string // of the device's files
}

// age starts a gateway on a data folder at a date.
func age(t *testing.T, data, dir string, at time.Time, trusted bool) *aged {
	t.Helper()
	a := &aged{t: t, clk: clocktest.New(at), dir: dir}
	a.clk.SetTrusted(trusted)
	const any = "127.0.0.1:0"
	cfg, err := node.LoadConfig(node.Flags{Data: data, MQTTS: any, HTTPS: any, Metrics: "off"}, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	cfg.Broker.Limits.KeepAliveMax = 0 // a client that is silent for a day is not what this is about
	n, err := node.Build(cfg, node.Deps{Clock: a.clk, Log: logs.Discard(), Env: os.Getenv})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	a.ports = n.Addrs()
	stopped := false
	a.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Errorf("the gateway ends with %v", err)
			}
		}
	}
	t.Cleanup(a.stop)
	return a
}

// trust is the TLS configuration of a device that knows the date.
func (a *aged) trust(now time.Time) *tls.Config {
	a.t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(a.dir, "device.pem"), filepath.Join(a.dir, "device.key"))
	if err != nil {
		a.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(read(a.t, filepath.Join(a.dir, "ca.pem")))
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, ServerName: "localhost", Time: func() time.Time { return now }}
}

// dial connects as a device on a date, and gives the server's certificate, too.
func (a *aged) dial(id string, now time.Time) (*rawmqtt.Conn, *x509.Certificate) {
	a.t.Helper()
	nc, leaf := a.shake(now)
	c, _, err := rawmqtt.Handshake(nc, rawmqtt.Options{ClientID: id, Clean: true})
	if err != nil {
		a.t.Fatalf("%s: not let in: %v", now.Format(time.DateOnly), err)
	}
	return c, leaf
}

// publish sends a message on a connection and waits for its acknowledgement.
func publish(t *testing.T, c *rawmqtt.Conn, n int) {
	t.Helper()
	c.SetDeadline(time.Now().Add(harness.Patience))
	id := uint16(n%1000 + 1)
	c.Write(rawmqtt.AppendPublish(nil, false, "old-hand/day", fmt.Appendf(nil, "%d", n), 1, id, 0))
	if p, err := c.Next(); err != nil || p.Type != rawmqtt.Puback || p.ID != id {
		t.Fatalf("day %d: publish: %+v, %v", n, p, err)
	}
}

// Nothing expires by being offline. A gateway is left alone for 400 days: devices that know the date connect on each of
// them, its server certificate is followed by others in time, and a connection of the first day lasts. Then it boots in
// 1970 and they connect again; when it learns the date they do, too.
func TestFourHundredDaysOfflineAndABootIn1970(t *testing.T) {
	g := harness.Start(t, harness.Options{NoDev: true})
	dir := filepath.Join(t.TempDir(), "dev")
	enroll(t, g, "old-hand", dir)
	env := g.Environment()
	g.Stop()

	const day = 24 * time.Hour
	start := time.Now().Truncate(time.Second)
	a := age(t, g.Dir, dir, start, true)
	lasting, leaf := a.dial("old-hand", start)
	certs := 1
	for d := 1; d <= 400; d++ {
		a.clk.Advance(day)
		now := a.clk.Now()
		probe, seen := a.shake(now)
		probe.Close()
		if leaf.NotAfter.Sub(now) < 20*day { // past due by days of this clock, and by an instant of the processor's
			harness.Until(t, "another server certificate", func() bool {
				probe, seen = a.shake(now)
				probe.Close()
				return !seen.Equal(leaf)
			})
		}
		if !seen.Equal(leaf) {
			certs++
			if leaf.NotAfter.Before(now) || seen.NotBefore.After(now) {
				t.Errorf("day %d: no overlap: the certificate before ends on %v, this one is good from %v", d, leaf.NotAfter, seen.NotBefore)
			}
			leaf = seen
		}
		publish(t, lasting, d)
	}
	if certs < 6 {
		t.Errorf("only %d server certificates in 400 days", certs)
	}
	lasting.Close()
	a.stop()

	// the machine has no battery for its clock
	later := start.Add(401 * day)
	a = age(t, g.Dir, dir, time.Unix(60, 0), false)
	lasting, leaf = a.dial("old-hand", later)
	if leaf.NotAfter.Year() != 2049 {
		t.Errorf("a certificate of 1970 that ends on %v", leaf.NotAfter)
	}
	publish(t, lasting, 401)
	a.operator(env, later)

	// and is told the date
	a.clk.Set(later)
	a.clk.SetTrusted(true)
	harness.Until(t, "the server certificate is a short one again", func() bool {
		a.clk.Advance(time.Hour)
		probe, seen := a.shake(later)
		probe.Close()
		return seen.NotAfter.Before(later.Add(400 * day))
	})
	publish(t, lasting, 402)
	lasting.Close()
	again, _ := a.dial("old-hand", a.clk.Now())
	publish(t, again, 403)
	again.Close()
	a.operator(env, a.clk.Now())
	a.stop()
}

// shake only shakes hands.
func (a *aged) shake(now time.Time) (*tls.Conn, *x509.Certificate) {
	a.t.Helper()
	nc, err := tls.Dial("tcp", a.ports["mqtts"], a.trust(now))
	if err != nil {
		a.t.Fatalf("%s: no TLS: %v", now.Format(time.DateOnly), err)
	}
	return nc, nc.ConnectionState().PeerCertificates[0]
}

// operator asks for the things with a request that is signed on a date.
func (a *aged) operator(env []string, now time.Time) {
	a.t.Helper()
	keys := map[string]string{}
	for _, pair := range env {
		for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
			if len(pair) > len(name) && pair[:len(name)+1] == name+"=" {
				keys[name] = pair[len(name)+1:]
			}
		}
	}
	r, err := http.NewRequestWithContext(a.t.Context(), "GET", "https://"+a.ports["https"]+"/things/old-hand", nil)
	if err != nil {
		a.t.Fatal(err)
	}
	sigv4.Sign(r, nil, sigv4.Credentials{AccessKey: keys["AWS_ACCESS_KEY_ID"], Secret: keys["AWS_SECRET_ACCESS_KEY"]}, "local-1", "iot", now)
	transport := &http.Transport{TLSClientConfig: a.trust(now)}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		a.t.Errorf("an operator's request: %s", res.Status)
	}
}
