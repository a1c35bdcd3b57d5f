// Package mqtt holds the words of MQTT: messages and runs of them, topics and
// filters, properties, and the PUBLISH frame that is a message's only encoding
// from the socket to the disk and back to a socket.
//
// It speaks both MQTT 3.1.1 (OASIS, 2014) and MQTT 5 (OASIS, 2019). It does no I/O and
// knows no session: those belong to the broker.
//
//	run := mqtt.NewRun(mqtt.Message{Topic: "dt/pump1/flow", Payload: []byte(`{"v":3}`), QoS: 1})
//	run.Payload(0) // {"v":3}
package mqtt

import "time"

// Origin says through which door a message came in, so that nothing goes back out
// through it.
type Origin uint8

// The doors.
const (
	Client  Origin = iota // an MQTT client of this broker
	Device                // a sensor wired to the box
	Cloud                 // an upstream
	Rule                  // the result of a rule
	Service               // a reply or event of the gateway itself
	REST                  // HTTPS or the local command line
	Will                  // the last will of a client
	origins
)

var originNames = [origins]string{"client", "device", "cloud", "rule", "service", "rest", "will"}

// String gives the origin's name in one lower-case word.
func (o Origin) String() string {
	if o < origins {
		return originNames[o]
	}
	return "unknown"
}

// House is what the topics of the gateway itself begin with: it alone publishes to them,
// and clients can neither publish nor subscribe. They are there for whoever administers
// the gateway, for upstreams and for rules.
const House = "$tidegate/"

// Sys is what the topics begin with by which a broker tells of itself (MQTT 5, 4.7.2). Only
// the broker makes them; who may subscribe is for policies to say.
const Sys = "$SYS/"

// Message is one application message, decoded.
type Message struct {
	Topic     string
	Payload   []byte
	QoS       byte // 0, 1 or 2
	Retain    bool
	Props     Props
	From      string // client id, thing name of a device, or name of an upstream
	Principal string // who that was proven to be; empty for the gateway's own; with To who that has to be
	To        string // the one client id it is for, subscribed or not; empty for all who are
	Origin    Origin
	Hops      uint8     // how many rules it has been through
	At        time.Time // when it was received or measured
}

// Run is one or more neighbouring PUBLISHes of one source that share topic, QoS,
// RETAIN flag and protocol version, kept as the frames that came, or will go, over a
// socket. The packet ids in them belong to whoever sent them.
//
// Whoever receives a Run may read it until it returns and keep nothing of Buf
// without copying.
type Run struct {
	Topic     string
	QoS       byte
	Retain    bool
	V5        bool // frames carry MQTT 5 properties
	From      string
	Principal string
	To        string // see Message; such a run is never journalled
	Origin    Origin
	Hops      uint8
	At        time.Time
	Ordered   bool    // earlier runs of the same source still wait for their commit
	Buf       []byte  // the frames, one behind the other
	Frames    []Frame // one per message, in order
	Memo      *Memo   // the source's own cache of what its last topic meant
}

// Frame locates one PUBLISH in Run.Buf.
type Frame struct {
	Start uint32 // the fixed header
	ID    uint32 // right behind the topic: the packet id, or with QoS 0 what follows
}

// Memo lets the road keep what it worked out for a topic with the source that keeps
// publishing to it.
type Memo struct {
	Topic string
	Gen   uint64
	Plan  any
}

// Len gives the number of messages.
func (r *Run) Len() int { return len(r.Frames) }

// Frame gives the bytes of message i.
func (r *Run) Frame(i int) []byte {
	if i+1 < len(r.Frames) {
		return r.Buf[r.Frames[i].Start:r.Frames[i+1].Start]
	}
	return r.Buf[r.Frames[i].Start:]
}

// body gives where properties (MQTT 5) and payload of message i begin and where it ends.
func (r *Run) body(i int) (props, payload, end uint32) {
	end = uint32(len(r.Buf))
	if i+1 < len(r.Frames) {
		end = r.Frames[i+1].Start
	}
	props = r.Frames[i].ID
	if r.QoS > 0 {
		props += 2
	}
	payload = props
	if r.V5 {
		n, w := Varint(r.Buf[props:end])
		props += uint32(w)
		payload = props + uint32(n)
	}
	return props, payload, end
}

// Payload gives the payload of message i; it aliases Buf.
func (r *Run) Payload(i int) []byte {
	_, p, end := r.body(i)
	return r.Buf[p:end:end]
}

// RawProps gives the encoded properties of message i without their length; it
// aliases Buf and is empty for MQTT 3.1.1.
func (r *Run) RawProps(i int) []byte {
	a, b, _ := r.body(i)
	return r.Buf[a:b:b]
}

// Message decodes message i. Payload and Props.Correlation alias Buf.
func (r *Run) Message(i int) Message {
	m := Message{Topic: r.Topic, Payload: r.Payload(i), QoS: r.QoS, Retain: r.Retain, From: r.From, Principal: r.Principal, To: r.To,
		Origin: r.Origin, Hops: r.Hops, At: r.At}
	if r.V5 {
		m.Props, _ = ParseProps(r.RawProps(i)) // frames in a run have been checked
	}
	return m
}

// NewRun encodes one message as a run of one MQTT 5 frame.
func NewRun(m *Message) *Run {
	r := &Run{Topic: m.Topic, QoS: m.QoS, Retain: m.Retain, V5: true, From: m.From, Principal: m.Principal, To: m.To, Origin: m.Origin,
		Hops: m.Hops, At: m.At, Frames: make([]Frame, 1)}
	r.Buf = AppendPublish(make([]byte, 0, len(m.Topic)+len(m.Payload)+16+m.Props.size()), m, true, 0)
	r.Frames[0].ID = frameID(r.Buf)
	return r
}

// Check says what would keep m from being sent as a PUBLISH: an impossible topic, QoS
// or size.
func (m *Message) Check() error {
	if err := ValidTopic(m.Topic); err != nil {
		return err
	}
	if m.QoS > 2 {
		return errQoS
	}
	if len(m.Topic)+len(m.Payload)+m.Props.size()+16 > MaxRemaining {
		return errSize
	}
	return m.Props.check()
}
