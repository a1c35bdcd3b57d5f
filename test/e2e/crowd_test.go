package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tidegate/test/harness"
	"tidegate/test/rawmqtt"
)

// crowd is many clients that do nothing but be there: a quarter of them over TLS with a certificate, one in ten with a
// session that outlives its connection.
type crowd struct {
	t       *testing.T
	g       *harness.Gateway
	tls     *tls.Config
	clients []*idler
	retries atomic.Int64
}

type idler struct {
	o      rawmqtt.Options
	secure bool
	conn   *rawmqtt.Conn
}

// join connects everybody at once and gives how long it took until the last was in. A hundred or so are on their way at a
// time on this side, which stands for their network cards.
func (c *crowd) join() time.Duration {
	c.t.Helper()
	began := time.Now()
	var wg sync.WaitGroup
	work := make(chan *idler)
	for range 128 {
		wg.Go(func() {
			for i := range work {
				c.connect(i)
			}
		})
	}
	for _, i := range c.clients {
		work <- i
	}
	close(work)
	wg.Wait()
	return time.Since(began)
}

// connect tries again and again, as clients do.
func (c *crowd) connect(i *idler) {
	i.o.Timeout = time.Minute
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); c.retries.Add(1) {
		var err error
		if i.secure {
			var nc net.Conn
			if nc, err = net.DialTimeout("tcp", strings.Replace(c.g.MQTTS, "0.0.0.0", "127.0.0.1", 1), time.Minute); err == nil {
				i.conn, _, err = rawmqtt.Handshake(tls.Client(nc, c.tls), i.o)
			}
		} else {
			i.conn, _, err = rawmqtt.Dial(c.g.MQTT, i.o)
		}
		if err == nil && !i.o.Clean {
			err = i.conn.Subscribe(1, "crowd/"+i.o.ClientID)
		}
		if err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond) // between attempts
	}
	c.t.Errorf("%s did not get in", i.o.ClientID)
}

// cpu gives the processor time of the gateway so far.
func (c *crowd) cpu() time.Duration {
	c.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.g.PID()))
	if err != nil {
		c.t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// Ten thousand idle clients on one box, a quarter of them over mTLS; then the gateway goes down hard and all of them come
// back at once. Three hundred in the short form.
func TestACrowdComesBack(t *testing.T) {
	n := 300
	if *long {
		n = 10_000
	}
	needFiles(t, uint64(n)+500)
	g := harness.Start(t, harness.Options{})
	dir := t.TempDir()
	policy := filepath.Join(dir, "p.json")
	if err := os.WriteFile(policy, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errOut, code := g.CLI("policy", "create", "anything", policy); code != 0 {
		t.Fatal(errOut)
	}
	enroll(t, g, "crowd", dir, "--policy", "anything")
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "device.pem"), filepath.Join(dir, "device.key"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(read(t, filepath.Join(dir, "ca.pem")))
	c := &crowd{t: t, g: g, tls: &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{cert}}}
	for i := range n {
		keep := i%10 == 3
		c.clients = append(c.clients, &idler{secure: i%4 == 0, o: rawmqtt.Options{ClientID: fmt.Sprintf("idle-%d", i), Clean: !keep, V5: i%2 == 0, SessionExpiry: map[bool]uint32{true: 3600}[keep], ReadBuffer: 512}})
	}
	defer func() {
		for _, i := range c.clients {
			if i.conn != nil {
				i.conn.Conn.Close()
			}
		}
	}()

	rss := g.RSS()
	took := c.join()
	c.there(n)
	idle := g.RSS()
	t.Logf("%d clients, %d of them over mTLS, in after %v: %v of the gateway's processor, RSS %d MiB before, %d MiB with all of them (%.1f KiB each), %d MiB at most", n, (n+3)/4, took.Round(time.Millisecond),
		c.cpu().Round(10*time.Millisecond), rss>>20, idle>>20, float64(idle-rss)/float64(n)/1024, g.PeakRSS()>>20)
	if *long {
		before := c.cpu()
		time.Sleep(10 * time.Second) // what being idle costs is measured over time
		t.Logf("idle: %v of processor in 10 s", c.cpu()-before)
	}

	g.Kill()
	c.retries.Store(0)
	g.Restart()
	began := c.cpu()
	took = c.join()
	spent := c.cpu() - began
	c.there(n)
	t.Logf("the storm: started in %v, all %d back after %v, %d attempts failed; %v of processor (%.0f a second of it), RSS %d MiB, %d MiB at most", g.StartUp.Round(time.Millisecond), n, took.Round(time.Millisecond),
		c.retries.Load(), spent.Round(10*time.Millisecond), float64(n)/spent.Seconds(), g.RSS()>>20, g.PeakRSS()>>20)
	if peak := g.PeakRSS(); peak > 128<<20+int64(n)*64<<10 {
		t.Errorf("the storm took %d MiB", peak>>20)
	}
	g.Stop()
}

// there makes sure that all are in, and that messages pass beside them.
func (c *crowd) there(n int) {
	c.t.Helper()
	harness.Until(c.t, "all are in", func() bool { have, _ := c.g.Metric("tidegate_broker_clients"); return int(have) == n })
	beside, _, err := rawmqtt.Dial(c.g.MQTT, rawmqtt.Options{ClientID: "beside", Clean: true})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := beside.Subscribe(0, "beside"); err != nil {
		c.t.Fatal(err)
	}
	beside.Write(rawmqtt.AppendPublish(nil, false, "beside", []byte("the crowd"), 0, 0, 0))
	beside.SetReadDeadline(time.Now().Add(harness.Patience))
	if p, err := beside.Next(); err != nil || string(p.Payload) != "the crowd" {
		c.t.Errorf("%+v, %v", p, err)
	}
	beside.Close()
	harness.Until(c.t, "the one has gone", func() bool { have, _ := c.g.Metric("tidegate_broker_clients"); return int(have) == n })
	runtime.GC() // this side's own
}

// needFiles makes sure that so many files can be open here; the gateway inherits the bound.
func needFiles(t *testing.T, n uint64) {
	t.Helper()
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		t.Fatal(err)
	}
	if r.Cur >= n {
		return
	}
	r.Cur = n
	r.Max = max(r.Max, n)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		t.Fatalf("%d files have to be open at once (ulimit -n): %v", n, err)
	}
}
