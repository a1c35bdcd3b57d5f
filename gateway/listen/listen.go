// Package listen opens the gateway's ports, accepts connections, leads each to its door
// and says where it listens.
//
// All ports are opened at once, before anything else is: a port that is taken stops
// the start early and with a clear word. A door takes connections one by one, or the
// whole listener (the metrics do). The doors here are [Secure], which does TLS and
// leads on by ALPN, [Web], an HTTP server with bounds, and [WebSocket], the way to the
// broker for browsers. None of them lets one client keep another out: what costs memory
// before it is known who is there is bounded, in all and for one address.
//
//	set, err := listen.Open(log, hp, []listen.Addr{{Name: "mqtts", Addr: "0.0.0.0:8883"}})
//	g.OnStop("ports", set.Close)
//	mqtts := listen.NewSecure("mqtts", id.ServerTLS(), log, nil, func(t *broker.Transport) { br.Serve(t, broker.Via{Listener: "mqtts"}) })
//	g.Add("doors", set.Doors(map[string]func(net.Conn){"mqtts": mqtts.Serve}))
//	g.Add("announce", set.Announce(filepath.Join(data, "run", "listeners.json")))
//
// It judges no certificate and no signature: who may come in is asked of gateway/authz.
package listen

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/logs"
)

// Addr is a port to open.
type Addr struct {
	Name string // "mqtt", "metrics" …: key in listeners.json, flag and configuration key
	Addr string // HOST:PORT; port 0 takes a free one
}

// Warner hears of a listener that cannot accept. *health.Health is one.
type Warner interface {
	Raise(code, text string)
	Clear(code string)
}

// Set is a set of open ports.
type Set struct {
	log   *slog.Logger
	warn  Warner
	ports map[string]*Port
	names []string // in the order they were opened
	conns sync.WaitGroup
}

// Open opens every address, or none and says which one cannot be had and why.
func Open(log *slog.Logger, warn Warner, addrs []Addr) (*Set, error) {
	s := &Set{log: log, warn: warn, ports: map[string]*Port{}}
	for _, a := range addrs {
		ln, err := net.Listen("tcp", a.Addr)
		if err != nil {
			s.Close()
			return nil, refusal(a, err)
		}
		s.ports[a.Name] = &Port{Listener: ln, addr: said(a.Addr, ln.Addr()), name: a.Name, set: s, closed: make(chan struct{})}
		s.names = append(s.names, a.Name)
	}
	return s, nil
}

// said gives the address that was taken in the words in which it was asked for: the kernel calls 0.0.0.0
// [::], which is no address that a client can be told.
func said(asked string, got net.Addr) string {
	host, _, _ := net.SplitHostPort(asked) // has just been opened
	_, port, err := net.SplitHostPort(got.String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort(host, port)
	}
	return got.String()
}

func refusal(a Addr, err error) error {
	advice := fmt.Sprintf("choose another address with --%s or listen.%s", a.Name, a.Name)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fault.New(fault.Unavailable, "the address %s (%s) is in use by another program; stop that one, or %s", a.Addr, a.Name, advice)
	case errors.Is(err, syscall.EACCES):
		return fault.New(fault.Forbidden, "the address %s (%s) needs a privilege this process does not have; %s", a.Addr, a.Name, advice)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fault.New(fault.Invalid, "this machine does not have the address %s (%s); %s", a.Addr, a.Name, advice)
	}
	return fault.Wrap(fault.Unavailable, err, "the address %s (%s) cannot be opened; %s", a.Addr, a.Name, advice)
}

// Port gives the listener called name, nil when it is off. Its Accept outlives a
// shortage of file descriptors.
func (s *Set) Port(name string) *Port { return s.ports[name] }

// Addrs gives the addresses that were chosen, by name.
func (s *Set) Addrs() map[string]string {
	m := map[string]string{}
	for name, p := range s.ports {
		m[name] = p.addr
	}
	return m
}

// Close closes every port and waits for the connections that Doors has handed out.
// It may be called twice.
func (s *Set) Close() error {
	for _, p := range s.ports {
		p.Close()
	}
	s.conns.Wait()
	return nil
}

// Doors is a task that accepts on the named ports and calls each connection's door in
// a goroutine of its own. The door closes the connection. When the task is told to
// stop it closes the ports and leaves the connections to their doors; Close waits for
// them.
func (s *Set) Doors(doors map[string]func(net.Conn)) func(context.Context, func()) error {
	return func(ctx context.Context, ready func()) error {
		var accepting sync.WaitGroup
		for name, door := range doors {
			p := s.ports[name]
			if p == nil {
				continue
			}
			accepting.Go(func() {
				for {
					nc, err := p.Accept()
					if err != nil {
						return
					}
					s.conns.Go(func() { door(nc) })
				}
			})
		}
		ready()
		<-ctx.Done()
		for name := range doors {
			if p := s.ports[name]; p != nil {
				p.Close()
			}
		}
		accepting.Wait()
		return nil
	}
}

// Announce is a task that writes the addresses to file as a JSON object, in one step,
// and takes the file away when it is told to stop. Whoever finds the file finds every
// port served, so it is the last task to start.
func (s *Set) Announce(file string) func(context.Context, func()) error {
	return func(ctx context.Context, ready func()) error {
		b, err := json.Marshal(s.Addrs())
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		tmp := file + ".new"
		if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
			return err
		}
		if err := os.Rename(tmp, file); err != nil {
			return err
		}
		for _, name := range s.names {
			s.log.Info("listening", logs.Port, name, logs.Addr, s.ports[name].addr)
		}
		ready()
		<-ctx.Done()
		return os.Remove(file)
	}
}

// Port is one open port.
type Port struct {
	net.Listener
	addr   string // as Addrs tells it
	name   string
	set    *Set
	once   sync.Once
	closed chan struct{}
}

// Accept waits for a connection. A shortage of file descriptors or memory is waited
// out, with a warning while it lasts; the only error is that of a closed port.
func (p *Port) Accept() (net.Conn, error) {
	code := "accept/" + p.name
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		nc, err := p.Listener.Accept()
		if err == nil {
			if pause > 5*time.Millisecond {
				p.set.warn.Clear(code)
			}
			return nc, nil
		}
		select {
		case <-p.closed:
			return nil, net.ErrClosed
		default:
		}
		if pause == 5*time.Millisecond {
			p.set.log.Warn("a connection cannot be accepted", logs.Port, p.name, logs.Err(err))
			p.set.warn.Raise(code, fmt.Sprintf("new connections to %s (%s) wait: %v", p.Addr(), p.name, err))
		}
		t := time.NewTimer(pause)
		select {
		case <-p.closed:
			t.Stop()
			return nil, net.ErrClosed
		case <-t.C:
		}
	}
}

// Close stops accepting. It may be called twice.
func (p *Port) Close() error {
	var err error
	p.once.Do(func() {
		close(p.closed)
		err = p.Listener.Close()
		p.set.warn.Clear("accept/" + p.name)
	})
	return err
}
