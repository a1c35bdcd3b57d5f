package e2e_test

import (
	"strconv"
	"strings"
	"testing"

	"tidegate/test/harness"
)

// What watches a mosquitto by its $SYS topics watches the gateway: mosquitto_sub gets the values of the moment, then what
// changes.
func TestSysTopicsAsMosquittoHasThem(t *testing.T) {
	g := harness.Start(t, harness.Options{Config: "broker: {sys_interval: 1s}\n"})
	for range 5 {
		harness.MosquittoPub(t, g.MQTT, "a", "x")
	}
	sub := harness.StartMosquittoSub(t, g.MQTT, "$SYS/broker/#")
	seen, atOnce := map[string]string{}, map[string]int{}
	for again := 0; again < 2; { // until the uptime has come a second time
		h := sub.Next()
		if h.QoS != 0 {
			t.Errorf("%+v", h)
		}
		seen[h.Topic] = h.Payload
		atOnce[h.Topic] += h.Retain
		if h.Topic == "$SYS/broker/uptime" {
			again++
		}
	}
	for topic, n := range atOnce {
		if n != 1 {
			t.Errorf("%s came %d times as if retained", topic, n)
		}
	}
	for topic, want := range map[string]string{"publish/messages/received": "5", "retained messages/count": "0", "subscriptions/count": "1"} {
		if got := seen["$SYS/broker/"+topic]; got != want {
			t.Errorf("%s: %q, want %q", topic, got, want)
		}
	}
	if v := seen["$SYS/broker/version"]; !strings.HasPrefix(v, "tidegate version ") {
		t.Errorf("version: %q", v)
	}
	for _, topic := range []string{"bytes/received", "messages/sent", "load/messages/received/1min", "load/connections/15min", "uptime", "clients/total", "clients/connected", "messages/stored"} {
		number, _, _ := strings.Cut(seen["$SYS/broker/"+topic], " ")
		if _, err := strconv.ParseFloat(number, 64); err != nil {
			t.Errorf("%s: %q", topic, seen["$SYS/broker/"+topic])
		}
	}
	g.Stop()
}
