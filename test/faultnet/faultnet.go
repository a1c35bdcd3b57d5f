// Package faultnet puts a bad network between two parts of a test: a TCP proxy whose links can be cut, delayed, or turned
// into a black hole, in which everything is taken and nothing comes out, as behind a router that lost its state.
//
//	p := faultnet.New(t, upstream.Addr)
//	... connect to p.Addr() ...
//	p.BlackHole(true) // both sides stay connected and hear nothing
//	p.Cut()           // every link is reset; new ones are let in
//
// It knows nothing of what travels.
package faultnet

import (
	"net"
	"sync"
	"time"
)

// TB is what New needs of a *testing.T.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Proxy forwards to one address. Its methods may be called at any time, from any goroutine.
type Proxy struct {
	ln     net.Listener
	target string
	wg     sync.WaitGroup

	mu     sync.Mutex // guards what follows
	change *sync.Cond
	links  map[net.Conn]bool
	hole   bool
	refuse bool
	closed bool
	delay  time.Duration
	bytes  int64
	opened int
}

// New starts a proxy on a free loopback port in front of target; it ends with the test.
func New(tb TB, target string) *Proxy {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("faultnet: %v", err)
	}
	p := &Proxy{ln: ln, target: target, links: map[net.Conn]bool{}}
	p.change = sync.NewCond(&p.mu)
	p.wg.Add(1)
	go p.accept()
	tb.Cleanup(p.close)
	return p
}

// Addr is where to connect.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Delay holds every chunk back for d, in both directions.
func (p *Proxy) Delay(d time.Duration) { p.set(func() { p.delay = d }) }

// BlackHole keeps the links up but lets nothing through while it is on; what was sent meanwhile comes out afterwards, as far
// as the sockets' buffers hold it. New links are accepted and stay silent.
func (p *Proxy) BlackHole(on bool) { p.set(func() { p.hole = on }) }

// Refuse closes new links at once while it is on.
func (p *Proxy) Refuse(on bool) { p.set(func() { p.refuse = on }) }

// Cut resets every link there is, without sending what is still held back.
func (p *Proxy) Cut() {
	p.set(func() {
		for c := range p.links {
			if t, ok := c.(*net.TCPConn); ok {
				t.SetLinger(0)
			}
			c.Close()
		}
	})
}

// Passed is the number of bytes forwarded so far, both directions together, and of links that reached the target.
func (p *Proxy) Passed() (bytes int64, links int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes, p.opened
}

func (p *Proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.change.Broadcast()
}

func (p *Proxy) close() {
	p.ln.Close()
	p.set(func() { p.closed, p.hole, p.delay = true, false, 0 })
	p.Cut()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	defer p.wg.Done()
	for {
		near, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.wg.Add(1)
		go p.link(near)
	}
}

func (p *Proxy) link(near net.Conn) {
	defer p.wg.Done()
	defer near.Close()
	if !p.keep(near) {
		return
	}
	defer p.forget(near)
	if !p.pass(0) { // in a black hole there is no far side either
		return
	}
	p.mu.Lock()
	p.opened++
	target := p.target
	p.mu.Unlock()
	far, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer far.Close()
	if !p.keep(far) {
		return
	}
	defer p.forget(far)
	var both sync.WaitGroup
	both.Add(2)
	go func() { defer both.Done(); p.copy(far, near) }()
	go func() { defer both.Done(); p.copy(near, far) }()
	both.Wait()
}

func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse || p.closed {
		return false
	}
	p.links[c] = true
	return true
}

func (p *Proxy) forget(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, c)
}

// pass waits while the hole is open, then as long as the delay says; false when the proxy has ended.
func (p *Proxy) pass(n int) bool {
	p.mu.Lock()
	for p.hole && !p.closed {
		p.change.Wait()
	}
	d := p.delay
	p.bytes += int64(n)
	closed := p.closed
	p.mu.Unlock()
	if d > 0 {
		time.Sleep(d)
	}
	return !closed
}

func (p *Proxy) copy(dst, src net.Conn) {
	defer func() { // the other direction ends, too, as it does when a peer goes
		dst.Close()
		src.Close()
	}()
	b := make([]byte, 64<<10)
	for {
		n, err := src.Read(b)
		if n > 0 && p.pass(n) {
			if _, err := dst.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
