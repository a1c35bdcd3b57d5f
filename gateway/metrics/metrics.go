// Package metrics shows the rooms' numbers in Prometheus' form.
//
// Rooms count in atomics of their own and offer a method Metrics(*metrics.Set)
// that registers one reader for each; the readers are called when somebody asks.
// Names start with tidegate_, counters end in _total, and units are seconds and
// bytes, as Prometheus' naming page has it.
//
//	m.Counter("tidegate_uplink_sent_total", "Messages an upstream has acknowledged.",
//		func() float64 { return float64(u.sent.Load()) }, "upstream", u.name)
//
// It is the only package that imports the Prometheus client. It keeps no
// histograms and pushes nothing.
package metrics

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Set is a collection of numbers. Registering and asking may go on concurrently.
type Set struct{ reg *prometheus.Registry }

// New gives a set with the numbers of the process itself: CPU, memory, open
// files, goroutines, garbage collection.
func New() *Set {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector())
	return &Set{reg: reg}
}

// Counter registers a number that only grows. kv are label names and values in
// turn; one name may be registered several times with different values of the
// same labels and the same help. read must be quick and may be called
// concurrently. A name that is malformed or taken panics: it is a defect of ours.
func (s *Set) Counter(name, help string, read func() float64, kv ...string) {
	s.reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels(kv)}, read))
}

// Gauge registers a number that goes up and down; otherwise like Counter.
func (s *Set) Gauge(name, help string, read func() float64, kv ...string) {
	s.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels(kv)}, read))
}

// Handler serves the set in Prometheus' text form.
func (s *Set) Handler() http.Handler {
	return promhttp.HandlerFor(s.reg, promhttp.HandlerOpts{})
}

func labels(kv []string) prometheus.Labels {
	if len(kv)%2 != 0 {
		panic(fmt.Sprintf("BUG: label without a value: %q", kv))
	}
	ls := prometheus.Labels{}
	for i := 0; i < len(kv); i += 2 {
		ls[kv[i]] = kv[i+1]
	}
	return ls
}
