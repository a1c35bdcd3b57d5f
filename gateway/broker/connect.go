package broker

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"math"
	"net"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"tidegate/gateway/broker/session"
	"tidegate/gateway/fault"
	"tidegate/gateway/journal"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// Watcher is an Authorizer that is told when somebody asks for a session that is another
// principal's; what it holds is never handed over, a new one takes its place. It must not
// block.
type Watcher interface {
	Estranged(p Principal, clientID, owner string)
}

// Warden is an Authorizer that is told of clients who publish to, or subscribe to, what is
// closed to every client. It must not block.
type Warden interface {
	Trespassed(p Principal, what, name string) // what is "publish" or "subscribe"
}

// trespassed tells a Warden.
func (b *Broker) trespassed(p Principal, what, name string) {
	if w, ok := b.az.(Warden); ok {
		w.Trespassed(p, what, name)
	}
}

// ConnectRequest is what a client shows to be let in.
type ConnectRequest struct {
	ClientID    string
	Username    string
	HasUsername bool
	Password    []byte
	V5          bool
	Clean       bool   // MQTT 3.1.1 clean session, MQTT 5 clean start
	Persistent  bool   // the session is to outlive the connection
	Will        bool   // there is a will
	WillTopic   string // and this is its topic
	TLS         *tls.ConnectionState
	Remote      net.Addr
	Via         Via
}

// Principal is who a client was proven to be.
type Principal interface {
	Name() string // principalIdentifier of AWS's lifecycle events, and mqtt.Run.Principal
}

// Ender is a Principal whose proof has an end; its connection is then closed. The end may
// move. event is the disconnectReason, such as CUSTOMAUTH_TTL_EXPIRATION.
type Ender interface {
	Until() (at time.Time, event string)
}

// WillJudge is an Authorizer that has more to say of a will that is due, which was allowed at
// CONNECT, than MayPublish: of a client, say, whose rights nobody knows since a restart.
type WillJudge interface {
	MayLeave(p Principal, topic string, retain bool) bool
}

// Authorizer says who may do what. Its methods are called concurrently, may take as long
// as a policy takes to evaluate, and must not call the broker.
type Authorizer interface {
	// Connect lets a client in or says why not: fault.Unauthorized for bad credentials,
	// fault.Forbidden for a client that may not connect, fault.Unavailable for later.
	Connect(r *ConnectRequest) (Principal, error)
	// Restore gives the principal of a stored session by its name.
	Restore(name, clientID string) Principal
	MayPublish(p Principal, topic string, retain bool) bool
	MaySubscribe(p Principal, filter string) bool
	MayReceive(p Principal, topic string) bool
}

func refuseConnect(code byte, text string) *Reason { return &Reason{code, text, "CLIENT_ERROR"} }

// connect answers CONNECT. Until it returns nothing more of the client is read.
func (c *Conn) connect(f []byte) error {
	c.b.connecting(c)
	if why := c.checkVersion(f); why != nil {
		return why
	}
	pk, err := decode(f, false)
	if err != nil {
		return err
	}
	c.v5 = pk.ProtocolVersion == 5
	if why := c.checkConnect(pk); why != nil {
		c.refuseConnect(pk, why)
		return why
	}
	id, assigned := strings.Clone(pk.Connect.ClientIdentifier), "" // not the whole packet for the sake of the id
	if id == "" {
		id = newID("auto-")
		assigned = id
	}
	b := c.b
	req := &ConnectRequest{ClientID: id, Username: string(pk.Connect.Username), HasUsername: pk.Connect.UsernameFlag, Password: pk.Connect.Password,
		V5: c.v5, Clean: pk.Connect.Clean, Persistent: !pk.Connect.Clean && !c.v5 || c.v5 && pk.Properties.SessionExpiryInterval > 0,
		Will: pk.Connect.WillFlag, WillTopic: pk.Connect.WillTopic, TLS: c.t.State(), Remote: c.via.Remote, Via: c.via}
	c.info = &connInfo{remote: c.via.Remote, listener: c.via.Listener, since: b.clk.Now(), session: newID(""), problem: true}
	if pk.Properties.RequestProblemInfoFlag {
		c.info.problem = pk.Properties.RequestProblemInfo == 1
	}
	p, err := b.az.Connect(req)
	c.via.Hint = nil // headers and the like; nobody asks again
	if err != nil {
		why := connectRefusal(err)
		b.failed(c, req, "", err)
		c.refuseConnect(pk, why)
		return why
	}
	c.info.principal, c.principal = p, p.Name()
	c.enrichBy(p)
	if why := b.crowded(id); why != nil { // not before it is known who it is: others could keep it out
		c.refuseConnect(pk, why)
		return why
	}
	will, why := c.willOf(pk, id)
	if why != nil {
		if why == errUnauthorized {
			b.failed(c, req, p.Name(), why)
		}
		c.refuseConnect(pk, why)
		return why
	}
	return c.establish(pk, id, assigned, will)
}

// checkVersion looks at protocol name and level, before anything is read by their rules
// ([MQTT-3.1.2-1], [MQTT-3.1.2-2]).
func (c *Conn) checkVersion(f []byte) *Reason {
	w, _ := mqtt.Header(f)
	b := f[w:]
	if len(b) < 2 || len(b) < 2+int(b[0])<<8+int(b[1])+1 {
		return errMalformed
	}
	n := int(b[0])<<8 + int(b[1])
	name, level := string(b[2:2+n]), b[2+n]
	if name == "MQTT" && (level == 4 || level == 5) {
		return nil
	}
	if name == "MQTT" || name == "MQIsdp" {
		if level > 5 {
			c.sendNow([]byte{mqtt.CONNACK << 4, 3, 0, codeBadVersion, 0})
		} else {
			c.sendNow([]byte{mqtt.CONNACK << 4, 2, 0, 1})
		}
	}
	return refuseConnect(codeBadVersion, "protocol version not served")
}

// checkConnect looks at what needs no more than the packet.
func (c *Conn) checkConnect(pk *packets.Packet) *Reason {
	x, l := &pk.Connect, &c.b.cfg.Limits
	switch {
	case pk.ReservedBit != 0, // [MQTT-3.1.2-3]
		x.WillQos > 2, !x.WillFlag && (x.WillQos != 0 || x.WillRetain), // [MQTT-3.1.2-11] to -15
		!c.v5 && x.PasswordFlag && !x.UsernameFlag: // [MQTT-3.1.2-22]
		return errMalformed
	case pk.Properties.AuthenticationMethod != "":
		return refuseConnect(codeBadAuth, "enhanced authentication is not served")
	case x.ClientIdentifier == "" && !c.v5 && !x.Clean: // [MQTT-3.1.3-8]
		return refuseConnect(codeBadClientID, "a session that is to be kept needs a client id")
	case strings.HasPrefix(x.ClientIdentifier, "$"), strings.IndexByte(x.ClientIdentifier, 0) >= 0:
		return refuseConnect(codeBadClientID, "client id not valid")
	case l.ClientID > 0 && len(x.ClientIdentifier) > l.ClientID:
		return refuseConnect(codeBadClientID, "client id too long")
	}
	return nil
}

// connectRefusal gives the words for an error of the Authorizer.
func connectRefusal(err error) *Reason {
	why := &Reason{codeNotAuthorized, fault.Message(err), "AUTH_ERROR"}
	switch fault.Of(err) {
	case fault.Unauthorized:
		why.Code = codeBadCredentials
	case fault.Invalid:
		why.Code = codeBadClientID
	case fault.Throttled, fault.LimitExceeded, fault.Full:
		why.Code, why.Event = codeQuota, "THROTTLED"
	case fault.Unavailable, fault.Timeout:
		why.Code, why.Event = codeUnavailable, "SERVER_ERROR"
	case fault.Internal:
		why.Code, why.Event = codeUnspecified, "SERVER_ERROR"
	}
	return why
}

// refuseConnect sends a CONNACK that says no.
func (c *Conn) refuseConnect(pk *packets.Packet, why *Reason) {
	ack := &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ReasonCode: why.Code}
	if c.v5 {
		ack.Properties.ReasonString = why.Text
		if most := pk.Properties.MaximumPacketSize; most > 0 {
			ack.Mods.MaxSize = wordsWithin(int(most), 5) // [MQTT-3.2.2-19]
		}
	} else if ack.ReasonCode = connack3(why.Code); ack.ReasonCode == 0 {
		return // MQTT 3.1.1 has no code for it: the connection just ends
	}
	c.b.stats.connectRefused.Add(1)
	c.sendNow(encode(ack, c.v5))
}

// connack3 gives MQTT 3.1.1's return code for a reason code of MQTT 5 (3.2.2.3).
func connack3(code byte) byte {
	switch code {
	case codeBadVersion:
		return 1
	case codeBadClientID:
		return 2
	case codeUnavailable, codeBusy, codeQuota, codeConnectRate, codeUnspecified:
		return 3
	case codeBadCredentials:
		return 4
	case codeNotAuthorized:
		return 5
	}
	return 0
}

// establish makes or resumes the session, and answers. What the answer promises is on
// the disk before it leaves.
func (c *Conn) establish(pk *packets.Packet, id, assigned string, w *session.Will) error {
	b := c.b
	lock := b.idLock(id)
	lock.Lock()
	defer lock.Unlock()
	expiry := uint32(0)
	switch {
	case c.v5:
		expiry = b.clampExpiry(pk.Properties.SessionExpiryInterval)
	case !pk.Connect.Clean && b.cfg.Limits.SessionExpiry > 0:
		expiry = uint32(min(b.cfg.Limits.SessionExpiry/time.Second, session.Never))
	case !pk.Connect.Clean:
		expiry = session.Never
	}
	old := b.sessionOf(id)
	resume := old != nil && !pk.Connect.Clean && old.persistent && old.v5 == c.v5 && old.who().Name() == c.info.principal.Name()
	if old != nil {
		if w, ok := b.az.(Watcher); ok && !pk.Connect.Clean && old.persistent && old.who().Name() != c.info.principal.Name() {
			w.Estranged(c.info.principal, id, old.who().Name())
		}
		b.takeOver(old, resume)
	}
	s := old
	if !resume {
		s = newSession(b, id, c.v5)
		s.persistent = expiry > 0
		s.rec = session.Record{ID: id, V5: c.v5, Created: b.clk.Now(), Principal: c.info.principal.Name()}
		if s.persistent {
			s.rec.Cursor = b.cursorName("s/" + id)
		}
	}
	s.mu.Lock()
	rec := s.rec
	s.mu.Unlock()
	rec.Expiry, rec.Gone = expiry, time.Time{}
	if err := b.commitSession(s, &rec, old, w); err != nil {
		why := connectRefusal(err)
		c.refuseConnect(pk, why)
		return why
	}
	if old != nil && !resume {
		b.forget(old)
	}
	p := c.info.principal
	s.principal.Store(&p)
	c.info.version = b.versions.next(id, b.clk.Now())
	ack := c.connack(pk, expiry, assigned, resume)
	if w != nil {
		b.armWill(id, w)
	}
	c.attach(s, &rec, pk, ack)
	b.connected(c, s)
	return nil
}

// commitSession writes what CONNECT changes. For what nobody will ask for after a restart
// it does not wait.
func (b *Broker) commitSession(s *client, rec *session.Record, old *client, w *session.Will) error {
	discard := old != nil && old != s && old.persistent
	if !s.persistent && !discard {
		if w != nil {
			return b.db.Do(func(u *store.Unit) error { session.PutWill(u, s.id, w); return nil }, nil)
		}
		return nil
	}
	if discard {
		old.ending.Store(true)
	}
	var cur *journal.Cursor
	err := b.db.Wait(func(u *store.Unit) error {
		u.Lock(sessionLock(s.id))
		u.Vital = old != nil // who comes back for what is kept, or gives it up, makes room
		if discard {
			old.mu.Lock()
			gone := old.rec
			old.mu.Unlock()
			session.Delete(u, &gone, old.marks())
			b.jr.Drop(u, gone.Cursor)
		}
		if s.persistent {
			if err := session.Save(u, rec); err != nil {
				return err
			}
			cur = b.jr.Create(u, rec.Cursor)
		}
		if w != nil {
			session.PutWill(u, s.id, w)
		}
		return nil
	})
	if err != nil && discard {
		old.ending.Store(false)
	}
	if err == nil && s.persistent {
		s.mu.Lock()
		s.cursor = cur
		s.mu.Unlock()
	}
	return err
}

// connack makes the answer, and sets what it promises.
func (c *Conn) connack(pk *packets.Packet, expiry uint32, assigned string, present bool) []byte {
	l := &c.b.cfg.Limits
	keep := time.Duration(pk.Connect.Keepalive) * time.Second
	asked := keep
	if l.KeepAliveMax > 0 && (keep == 0 || keep > l.KeepAliveMax) {
		keep = l.KeepAliveMax
	}
	if keep > 0 && keep < l.KeepAliveMin {
		keep = l.KeepAliveMin
	}
	c.info.keepAlive = keep
	c.keep.Store(int64(keep + keep/2)) // [MQTT-3.1.2-22]
	c.last.Store(c.b.now.Load())
	ack := &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, SessionPresent: present}
	if c.v5 {
		p := &ack.Properties
		p.AssignedClientID = assigned
		if keep != asked {
			p.ServerKeepAlive, p.ServerKeepAliveFlag = uint16(keep/time.Second), true // [MQTT-3.1.2-21]
		}
		if expiry != pk.Properties.SessionExpiryInterval {
			p.SessionExpiryInterval, p.SessionExpiryIntervalFlag = expiry, true
		}
		if l.Inbound > 0 {
			p.ReceiveMaximum = uint16(l.Inbound)
		}
		if !c.b.cfg.QoS2 {
			p.MaximumQos, p.MaximumQosFlag = 1, true // [MQTT-3.2.2-9]
		}
		if !c.b.cfg.SubscriptionIDs {
			p.SubIDAvailable, p.SubIDAvailableFlag = 0, true
		}
		p.MaximumPacketSize = uint32(c.b.maxPacket)
		p.TopicAliasMaximum = uint16(l.TopicAliases)
	}
	return encode(ack, c.v5)
}

// attach joins connection and session. The answer to CONNECT is the first that goes out.
func (c *Conn) attach(s *client, rec *session.Record, pk *packets.Packet, ack []byte) {
	l := &c.b.cfg.Limits
	limit := maxWindow
	if l.Outbound > 0 {
		limit = min(limit, l.Outbound)
	}
	if c.v5 && pk.Properties.ReceiveMaximum > 0 {
		limit = min(limit, int(pk.Properties.ReceiveMaximum)) // [MQTT-3.3.4-9]
	}
	if c.v5 && (pk.Properties.MaximumPacketSize > 0 || pk.Properties.TopicAliasMaximum > 0) {
		c.special = &special{maxPacket: math.MaxInt, maxAliases: min(int(pk.Properties.TopicAliasMaximum), l.TopicAliases)}
		if n := pk.Properties.MaximumPacketSize; n > 0 {
			c.special.maxPacket = int(n)
		}
	}
	c.sess = s
	c.owner.Store(s)
	s.mu.Lock()
	subs := s.rec.Subs
	s.rec = *rec
	s.rec.Subs = subs
	s.limit = limit
	if s.persistent && s.cursor != nil && s.pinned == 0 && s.low() == 0 {
		s.cursor.Float()
	}
	s.resend, s.resendEnd = s.win.head, s.win.tail
	for _, o := range s.out2 {
		o.again = !o.dirty && o.state != session.Done
	}
	if s.behind && !s.pending && s.win.len() == 0 && len(s.out2) == 0 && s.queue.empty() && len(s.ret) == 0 {
		s.behind = false
		s.b.stats.behind.Add(-1)
	}
	if c.lockOut() {
		c.out.buf = append(c.out.buf, ack...)
		c.b.stats.answers.Add(1)
	}
	c.unlockOut(&c.in.ob)
	s.conn.Store(c)
	c.b.stats.came()
	c.b.adopt(s)
	s.wake()
	s.mu.Unlock()
	s.online(true)
}

func newID(prefix string) string {
	var b [12]byte
	rand.Read(b[:])
	return prefix + hex.EncodeToString(b[:])
}

// willOf takes the will out of CONNECT and judges it.
func (c *Conn) willOf(pk *packets.Packet, id string) (*session.Will, *Reason) {
	x := &pk.Connect
	if !x.WillFlag {
		return nil, nil
	}
	l := &c.b.cfg.Limits
	wp := &x.WillProperties
	m := mqtt.Message{Topic: x.WillTopic, Payload: x.WillPayload, QoS: x.WillQos, Retain: x.WillRetain, From: id, Origin: mqtt.Will,
		Principal: c.info.principal.Name()}
	m.Props = mqtt.Props{Format: wp.PayloadFormat, HasFormat: wp.PayloadFormatFlag, Expiry: wp.MessageExpiryInterval, HasExpiry: wp.MessageExpiryInterval > 0,
		ContentType: wp.ContentType, ResponseTopic: wp.ResponseTopic, Correlation: wp.CorrelationData}
	for _, u := range wp.User {
		m.Props.User = append(m.Props.User, mqtt.UserProp{Key: u.Key, Value: u.Val})
	}
	switch {
	case m.Check() != nil || c.judgeTopic([]byte(m.Topic)) != nil:
		return nil, refuseConnect(codeBadTopic, "will topic not valid")
	case l.Payload > 0 && len(m.Payload) > l.Payload:
		return nil, refuseConnect(codeTooLarge, "will too large")
	case m.QoS == 2 && !c.b.cfg.QoS2:
		return nil, refuseConnect(codeNoQoS, "QoS 2 is not served")
	case !c.b.mayPublish(c.info.principal, m.Topic, m.Retain):
		return nil, errUnauthorized
	}
	return &session.Will{Message: m, Delay: time.Duration(wp.WillDelayInterval) * time.Second}, nil
}
