package reserved

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"tidegate/gateway/fault"
	"tidegate/gateway/logs"
	"tidegate/gateway/metrics"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/provision"
)

const (
	waitingProvisions = 256 // requests that wait; beyond that the newest is dropped and counted, its device asks again
	provisioners      = 4   // requests under way: making a key and asking a hook both take their time
)

// Provisioning serves the topics of fleet provisioning (spec/provisioning.md §5). Making
// keys and asking hooks takes longer than the road may wait, so requests are followed as
// messages and answered beside the road. An answer goes to the connection that asked and
// to nobody else: the topics are the same for every device, and there are private keys in
// them.
type Provisioning struct {
	fleet   *provision.Fleet
	submit  func(mqtt.Message, func(error))
	log     *slog.Logger
	in      chan mqtt.Message
	dropped atomic.Uint64
	refused func(m *mqtt.Message, template string, err error)
}

// NewProvisioning makes the binding; its answers go down submit.
func NewProvisioning(fleet *provision.Fleet, submit func(mqtt.Message, func(error)), log *slog.Logger) *Provisioning {
	return &Provisioning{fleet: fleet, submit: submit, log: log, in: make(chan mqtt.Message, waitingProvisions), refused: func(*mqtt.Message, string, error) {}}
}

// OnRefused names who is told of requests that were refused. It is called before Run.
func (p *Provisioning) OnRefused(fn func(m *mqtt.Message, template string, err error)) {
	p.refused = fn
}

// Filters lists what is to be followed with Note.
func (p *Provisioning) Filters() []string {
	var out []string
	for _, f := range []awstopic.Format{awstopic.JSON, awstopic.CBOR} {
		out = append(out, awstopic.Topic{Service: awstopic.Certificates, Op: awstopic.Create, Format: f}.String(),
			awstopic.Topic{Service: awstopic.Certificates, Op: awstopic.CreateFromCSR, Format: f}.String(),
			awstopic.Topic{Service: awstopic.Provisioning, Name: "+", Format: f}.String())
	}
	return out
}

// Note takes the requests of a run and returns at once. Only a client's connection can be
// answered.
func (p *Provisioning) Note(run *mqtt.Run) {
	if run.Origin != mqtt.Client {
		return
	}
	for i := range run.Frames {
		m := mqtt.Message{Topic: run.Topic, Payload: bytes.Clone(run.Payload(i)), QoS: min(run.QoS, 1), From: run.From, Principal: run.Principal}
		select {
		case p.in <- m:
		default:
			p.dropped.Add(1)
		}
	}
}

// Run answers requests until ctx ends.
func (p *Provisioning) Run(ctx context.Context, ready func()) error {
	ready()
	var wg sync.WaitGroup
	for range provisioners {
		wg.Go(func() {
			for {
				select {
				case m := <-p.in:
					p.answer(ctx, &m)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	wg.Wait()
	return nil
}

// Metrics registers the counter of requests dropped.
func (p *Provisioning) Metrics(m *metrics.Set) {
	m.Counter("tidegate_provisioning_dropped_total", "Provisioning requests dropped because too many waited.", func() float64 { return float64(p.dropped.Load()) })
}

func (p *Provisioning) answer(ctx context.Context, m *mqtt.Message) {
	t, ok := awstopic.Parse(m.Topic)
	if !ok || t.Reply != awstopic.Request {
		return
	}
	c := codecs[t.Format]
	out, err := p.serve(ctx, t, m, c)
	t.Reply = awstopic.Accepted
	if err != nil {
		if fault.Of(err) == fault.Internal {
			p.log.Error("provisioning request failed", logs.Err(err), logs.Client, m.From)
		}
		p.refused(m, t.Name, err)
		t.Reply, out = awstopic.Rejected, provisionRefusal(err)
	}
	payload, err := c.encode(out)
	if err != nil {
		p.log.Error("provisioning answer cannot be encoded", logs.Err(err))
		return
	}
	r := message(t.String(), payload)
	r.To, r.Principal, r.QoS = m.From, m.Principal, m.QoS
	p.submit(r, nil)
}

// serve answers a request with a document.
func (p *Provisioning) serve(ctx context.Context, t awstopic.Topic, m *mqtt.Message, c codec) (any, error) {
	switch {
	case t.Service == awstopic.Provisioning:
		var q struct {
			Token      string            `json:"certificateOwnershipToken"`
			Parameters map[string]string `json:"parameters"`
		}
		if err := c.decode(m.Payload, &q); err != nil {
			return nil, err
		}
		out, err := p.fleet.Provision(ctx, &provision.Request{By: m.Principal, ClientID: m.From, Template: t.Name, Token: q.Token, Parameters: q.Parameters})
		if err != nil {
			return nil, err
		}
		return provisioned{c.plain(out.DeviceConfiguration), out.Thing}, nil
	case t.Op == awstopic.CreateFromCSR:
		var q struct {
			CSR string `json:"certificateSigningRequest"`
		}
		if err := c.decode(m.Payload, &q); err != nil {
			return nil, err
		}
		if q.CSR == "" {
			return nil, fault.New(fault.Invalid, "certificateSigningRequest is missing")
		}
		return createdOf(p.fleet.CreateFromCSR(m.Principal, q.CSR))
	}
	if len(m.Payload) > 0 {
		if err := c.decode(m.Payload, &struct{}{}); err != nil {
			return nil, err
		}
	}
	return createdOf(p.fleet.Create(m.Principal))
}

// created is the answer with a new certificate.
type created struct {
	ID         string `json:"certificateId"`
	PEM        string `json:"certificatePem"`
	PrivateKey string `json:"privateKey,omitempty"`
	Token      string `json:"certificateOwnershipToken"`
}

func createdOf(c *provision.Created, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return created{c.ID, c.PEM, c.PrivateKey, c.Token}, nil
}

// provisioned is the answer to a provisioning. deviceConfiguration is there even when it
// is empty.
type provisioned struct {
	Configuration map[string]any `json:"deviceConfiguration"`
	Thing         string         `json:"thingName,omitempty"`
}
