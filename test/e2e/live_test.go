package e2e_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"tidegate/test/harness"
	"tidegate/test/rawmqtt"
)

// doors connects a device by every door there is for its certificate and gives a channel for each that tells when the socket has ended.
func (s *site) doors(thing string) map[string]<-chan time.Time {
	s.t.Helper()
	ended := map[string]<-chan time.Time{}
	dial := func(addr, alpn string) *tls.Conn {
		cfg := s.tls(thing)
		if alpn != "" {
			cfg.NextProtos = []string{alpn}
		}
		nc, err := tls.Dial("tcp", addr, cfg)
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { nc.Close() })
		return nc
	}
	watch := func(r io.Reader) <-chan time.Time {
		at := make(chan time.Time, 1)
		go func() { io.Copy(io.Discard, r); at <- time.Now() }()
		return at
	}
	for door, x := range map[string]struct{ addr, alpn string }{"MQTT": {s.MQTTS, ""}, "MQTT on the port of HTTPS": {s.HTTPS, "x-amzn-mqtt-ca"}} {
		c, _, err := rawmqtt.Handshake(dial(x.addr, x.alpn), rawmqtt.Options{ClientID: thing + x.alpn, Clean: true, Timeout: harness.Patience})
		if err != nil {
			s.t.Fatalf("%s: %v", door, err)
		}
		ended[door] = watch(c)
	}
	nc := dial(s.HTTPS, "")
	fmt.Fprintf(nc, "POST /topics/seen/%s?qos=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx", thing)
	r := bufio.NewReader(nc)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("HTTPS: %+v, %v", resp, err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	ended["HTTPS"] = watch(r)
	lost := make(chan time.Time, 1)
	s.connect(s.paho("wss://"+s.HTTPS+"/mqtt", thing+"-web", s.tls(thing), func(o *mqtt.ClientOptions) {
		o.SetConnectionLostHandler(func(mqtt.Client, error) { lost <- time.Now() })
	}))
	ended["WebSocket"] = lost
	return ended
}

// Whatever takes a certificate's right to connect away ends its connections at once, on every door, and nobody else's.
func TestARevokedCertificateLosesEveryConnection(t *testing.T) {
	s := newSite(t, harness.Options{NoDev: true})
	c, ctx := sdk(t, s.Gateway), t.Context()
	s.enroll("bystander")
	stays := s.doors("bystander")
	for _, status := range []types.CertificateStatus{types.CertificateStatusRevoked, types.CertificateStatusInactive} {
		thing := strings.ToLower(string(status))
		s.enroll(thing)
		ended := s.doors(thing)
		id := s.certificateOf(thing)
		began := time.Now()
		if _, err := c.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &id, NewStatus: status}); err != nil {
			t.Fatal(err)
		}
		for door, at := range ended {
			select {
			case at := <-at:
				if d := at.Sub(began); d > 2*time.Second {
					t.Errorf("%s, %s: ended after %v", status, door, d)
				} else {
					t.Logf("%s, %s: ended %v after the request", status, door, d.Round(time.Millisecond))
				}
			case <-time.After(harness.Patience):
				t.Errorf("%s, %s: still open", status, door)
			}
		}
		if _, err := tls.Dial("tcp", s.HTTPS, s.tls(thing)); err != nil {
			t.Errorf("TLS alone is for everybody: %v", err)
		}
		audited(t, s.Gateway, `"kind":"cert"`, `"name":"`+id+`"`, string(status))
	}
	for door, at := range stays {
		select {
		case <-at:
			t.Errorf("the bystander has lost its connection: %s", door)
		default:
		}
	}
}

// Connections that stand feel a change of a policy, of what it is attached to, and of the thing it speaks of, within a second.
func TestConnectionsFeelAChangeOfPolicy(t *testing.T) {
	s := newSite(t, harness.Options{NoDev: true})
	c, data, ctx := sdk(t, s.Gateway), dataSDK(t, s.Gateway), t.Context()
	const base = "arn:aws:iot:local-1:000000000000:"
	document := func(receive string) *string {
		return aws.String(fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Connect","iot:Subscribe","iot:Publish"],"Resource":"*"},
			{"Effect":"Allow","Action":"iot:Receive","Resource":"%stopic/%s"}]}`, base, receive))
	}
	if _, err := c.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("live"), PolicyDocument: document("site/*")}); err != nil {
		t.Fatal(err)
	}
	if _, errOut, code := s.CLI("enroll", "ear", "--out", s.dir+"/ear", "--policy", "live"); code != 0 {
		t.Fatal(errOut)
	}
	var mu sync.Mutex
	heard := map[string]bool{}
	cl := s.paho("ssl://"+s.MQTTS, "ear", s.tls("ear"), nil)
	s.connect(cl)
	s.done(cl.Subscribe("site/#", 1, func(_ mqtt.Client, m mqtt.Message) { mu.Lock(); heard[string(m.Payload())] = true; mu.Unlock() }))
	var n atomic.Int64
	say := func() (text string) {
		text = fmt.Sprint(n.Add(1))
		if _, err := data.Publish(ctx, &iotdataplane.PublishInput{Topic: aws.String("site/x"), Qos: 1, Payload: []byte(text)}); err != nil {
			t.Fatal(err)
		}
		return text
	}
	has := func(text string) bool { mu.Lock(); defer mu.Unlock(); return heard[text] }
	// feels waits until messages do, or do not, arrive, and checks that those published a second after the change are treated so.
	feels := func(what string, arrive bool, change func() error) {
		t.Helper()
		if err := change(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		changed, settled := time.Now(), time.Duration(-1)
		for time.Since(changed) < 3*time.Second {
			at := time.Since(changed)
			text := say()
			if arrive {
				for wait := time.Now(); !has(text) && time.Since(wait) < 300*time.Millisecond; time.Sleep(5 * time.Millisecond) {
				}
			} else {
				time.Sleep(50 * time.Millisecond)
			}
			switch {
			case has(text) != arrive:
				settled = -1
			case settled < 0:
				settled = at
			}
			if settled >= 0 && at > settled+time.Second {
				break
			}
		}
		if settled < 0 || settled > time.Second {
			t.Errorf("%s: felt after %v, want a second at most", what, settled)
		} else {
			t.Logf("%s: felt after %v", what, settled.Round(time.Millisecond))
		}
	}
	version := func(receive string) func() error {
		return func() error {
			_, err := c.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: aws.String("live"), PolicyDocument: document(receive), SetAsDefault: true})
			return err
		}
	}
	feels("at first", true, func() error { return nil })
	feels("a version without the right", false, version("elsewhere/*"))
	feels("the default version set back", true, func() error {
		_, err := c.SetDefaultPolicyVersion(ctx, &iot.SetDefaultPolicyVersionInput{PolicyName: aws.String("live"), PolicyVersionId: aws.String("1")})
		return err
	})
	if _, err := c.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("quiet"), PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"iot:Receive","Resource":"*"}}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: aws.String("hall")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: aws.String("quiet"), Target: aws.String(base + "thinggroup/hall")}); err != nil {
		t.Fatal(err)
	}
	feels("the thing joins a group with a denial", false, func() error {
		_, err := c.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingGroupName: aws.String("hall"), ThingName: aws.String("ear")})
		return err
	})
	feels("the denial is detached", true, func() error {
		_, err := c.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: aws.String("quiet"), Target: aws.String(base + "thinggroup/hall")})
		return err
	})
}
