package reserved

import (
	"sync"
	"sync/atomic"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/metrics"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// pace bounds how many requests about one thing a service takes within a second, whoever asks: its
// clients over MQTT, or anybody over HTTPS. What the gateway itself, a wired sensor, a rule or an
// upstream has to say of the thing is not counted.
type pace struct {
	clk     clock.Clock
	most    int          // 0 and less: any number
	refused atomic.Int64 // by this and by whatever else bounds the requests of the service

	mu  sync.Mutex // guards what follows
	sec int64
	of  map[string]int // requests taken in that second, by thing
}

// take counts a request about thing. An error is fault.Throttled. undo takes the count back.
func (p *pace) take(thing string) (undo func(), err error) {
	if p.most <= 0 {
		return func() {}, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	sec := p.clk.Now().Unix()
	if p.sec != sec || p.of == nil {
		p.sec, p.of = sec, map[string]int{}
	}
	if p.of[thing] >= p.most {
		p.refused.Add(1)
		return nil, fault.New(fault.Throttled, "Too many requests: %d a second are taken for one thing", p.most)
	}
	p.of[thing]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.sec == sec {
			p.of[thing]--
		}
	}, nil
}

// takeIn is take for the request m in unit u, which may be built more than once.
func (p *pace) takeIn(u *store.Unit, thing string, m *mqtt.Message) error {
	if m.Origin != mqtt.Client && m.Origin != mqtt.REST {
		return nil
	}
	undo, err := p.take(thing)
	if err == nil && p.most > 0 {
		u.Then(func(_ uint64, err error) {
			if err != nil {
				undo()
			}
		})
	}
	return err
}

// admit is take for a door that makes a unit of its own.
func (p *pace) admit(thing string) error {
	_, err := p.take(thing)
	return err
}

// tell registers the counter of requests refused.
func (p *pace) tell(m *metrics.Set, service string) {
	m.Counter("tidegate_requests_throttled_total", "Requests refused because there were too many of one thing, or of one client.",
		func() float64 { return float64(p.refused.Load()) }, "service", service)
}

// Limit sets how many requests about one thing are taken within a second, over all doors; more are refused with 429. 0: any
// number. Call it before the first request.
func (s *Shadows) Limit(requests int) { s.pace.most = requests }

// Admit counts a request about thing that comes in by another door than a topic. An error is fault.Throttled.
func (s *Shadows) Admit(thing string) error { return s.pace.admit(thing) }

// Metrics registers the counter of requests refused.
func (s *Shadows) Metrics(m *metrics.Set) { s.pace.tell(m, "shadow") }

// Limit is Shadows.Limit for what devices ask about their jobs; more are refused with RequestThrottled.
func (j *Jobs) Limit(requests int) { j.pace.most = requests }

// Admit is Shadows.Admit.
func (j *Jobs) Admit(thing string) error { return j.pace.admit(thing) }

// Metrics registers the counter of requests refused.
func (j *Jobs) Metrics(m *metrics.Set) { j.pace.tell(m, "jobs") }
