package conformance_test

import (
	"testing"
)

// outside is a gateway in a process of its own.
func outside(t *testing.T) *process {
	t.Helper()
	p := &process{dir: t.TempDir()}
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// again kills it and starts it again.
func (p *process) again(t *testing.T) {
	t.Helper()
	p.kill()
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
}

func (p *process) dial(t *testing.T, c connect) *peer {
	t.Helper()
	x := begin(t, p.addr, c)
	t.Cleanup(func() { x.Conn.Close() })
	if x.hello = x.next(CONNACK); x.hello.code != 0 {
		t.Fatalf("CONNACK 0x%02x", x.hello.code)
	}
	return x
}

// TestSharedQoS2IsNobodyElsesAfterAKill [MQTT-4.8.2-4], [MQTT-4.8.2-5]: a message of QoS 2 that a member has
// begun to get is that member's, and nobody else's even when its session ends.
func TestSharedQoS2IsNobodyElsesAfterAKill(t *testing.T) {
	keep := []prop{num(sessionExpiry, 3600)}
	a, b := connect{id: "a", v5: true, props: keep}, connect{id: "b", v5: true, props: keep}
	for _, at := range []string{"published", "received", "complete", "ended after PUBLISH", "ended after PUBREC", "unsubscribed after PUBREC"} {
		t.Run(at, func(t *testing.T) {
			p := outside(t)
			one := p.dial(t, a)
			one.sub(2, "$share/g/x")
			p.dial(t, connect{id: "p", v5: true, clean: true}).pub("x", "1", 2, 0)
			k := one.want("x", "1", 2, 0)
			two := p.dial(t, b)
			two.sub(2, "$share/g/x")
			switch at {
			case "received", "ended after PUBREC", "unsubscribed after PUBREC":
				one.write(ack(PUBREC, k.id, 0))
				one.answer(PUBREL, k.id)
			case "complete":
				one.settle(k)
				one.silent()
			}
			switch at {
			case "ended after PUBLISH", "ended after PUBREC":
				p.dial(t, connect{id: "a", v5: true, clean: true}).cut()
			case "unsubscribed after PUBREC":
				one.unsub("$share/g/x")
			}
			p.again(t)
			two = p.dial(t, b)
			two.silent()
			one = p.dial(t, a)
			switch at {
			case "published":
				one.want("x", "1", 2, dup)
			case "received", "unsubscribed after PUBREC":
				one.answer(PUBREL, k.id)
			case "complete": // which need not be on the disk
				if got := one.drain(); len(got) > 0 {
					t.Errorf("%v comes again", got)
				}
			}
			if at != "complete" {
				one.quiet()
			}
			two.quiet()
		})
	}
}
