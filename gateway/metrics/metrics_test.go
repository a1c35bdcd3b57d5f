package metrics_test

import (
	"io"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"tidegate/gateway/metrics"
)

func TestNumbersAreReadWhenAsked(t *testing.T) {
	var n atomic.Int64
	s := metrics.New()
	read := func() float64 { return float64(n.Load()) }
	s.Counter("tidegate_uplink_sent_total", "Sent.", read, "upstream", "a")
	s.Counter("tidegate_uplink_sent_total", "Sent.", func() float64 { return 7 }, "upstream", "b")
	s.Gauge("tidegate_clients", "Clients.", read)
	n.Store(41)
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, _ := io.ReadAll(w.Body)
	for _, want := range []string{
		"# TYPE tidegate_uplink_sent_total counter\n",
		"tidegate_uplink_sent_total{upstream=\"a\"} 41\n",
		"tidegate_uplink_sent_total{upstream=\"b\"} 7\n",
		"# TYPE tidegate_clients gauge\ntidegate_clients 41\n",
		"process_resident_memory_bytes ",
		"go_goroutines ",
	} {
		if !strings.Contains(string(body), want) {
			t.Errorf("missing %q", want)
		}
	}
}

func TestADefectiveNamePanics(t *testing.T) {
	for name, f := range map[string]func(s *metrics.Set){
		"taken":       func(s *metrics.Set) { s.Gauge("a", "A.", nil); s.Gauge("a", "A.", nil) },
		"half a pair": func(s *metrics.Set) { s.Gauge("a", "A.", nil, strings.Fields("label")...) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f(metrics.New())
		})
	}
}
