package broker

import "errors"

// Reason is why a connection ended, or why something was refused.
type Reason struct {
	Code  byte   // MQTT 5 reason code, 0 for a normal end
	Text  string // sent as MQTT 5 reason string, and logged
	Event string // disconnectReason of AWS's lifecycle events
}

func (r *Reason) Error() string { return r.Text }

// Reason codes of MQTT 5 (2.4) that the broker sends.
const (
	codeSuccess           = 0x00
	codeWithWill          = 0x04
	codeNoSubscription    = 0x11
	codeUnspecified       = 0x80
	codeMalformed         = 0x81
	codeProtocol          = 0x82
	codeBadVersion        = 0x84
	codeBadClientID       = 0x85
	codeBadCredentials    = 0x86
	codeNotAuthorized     = 0x87
	codeUnavailable       = 0x88
	codeBusy              = 0x89
	codeShutdown          = 0x8B
	codeBadAuth           = 0x8C
	codeKeepAlive         = 0x8D
	codeTakenOver         = 0x8E
	codeBadFilter         = 0x8F
	codeBadTopic          = 0x90
	codePacketIDInUse     = 0x91
	codePacketIDNotFound  = 0x92
	codeReceiveMaximum    = 0x93
	codeBadAlias          = 0x94
	codeTooLarge          = 0x95
	codeRateTooHigh       = 0x96
	codeQuota             = 0x97
	codeAdministrative    = 0x98
	codeNoRetain          = 0x9A
	codeNoQoS             = 0x9B
	codeNoShared          = 0x9E
	codeConnectRate       = 0x9F
	codeNoSubscriptionIDs = 0xA1
)

// Why connections end (spec of AWS's lifecycle events, "disconnectReason").
var (
	errLost          = &Reason{codeUnspecified, "connection lost", "CONNECTION_LOST"}
	errClientLeft    = &Reason{codeSuccess, "disconnected by the client", "CLIENT_INITIATED_DISCONNECT"}
	errLeftWithWill  = &Reason{codeWithWill, "disconnected by the client with its will", "CLIENT_INITIATED_DISCONNECT"}
	errMalformed     = &Reason{codeMalformed, "malformed packet", "CLIENT_ERROR"}
	errProtocol      = &Reason{codeProtocol, "protocol error", "CLIENT_ERROR"}
	errTooLarge      = &Reason{codeTooLarge, "packet too large", "CLIENT_ERROR"}
	errBadTopic      = &Reason{codeBadTopic, "topic name not valid", "CLIENT_ERROR"}
	errBadAlias      = &Reason{codeBadAlias, "topic alias not valid", "CLIENT_ERROR"}
	errReceiveMax    = &Reason{codeReceiveMaximum, "more unacknowledged messages than the receive maximum", "CLIENT_ERROR"}
	errNoQoS2        = &Reason{codeNoQoS, "QoS 2 is not served", "CLIENT_ERROR"}
	errNoSubIDs      = &Reason{codeNoSubscriptionIDs, "subscription identifiers are not served", "CLIENT_ERROR"}
	errUnauthorized  = &Reason{codeNotAuthorized, "not authorized", "AUTH_ERROR"}
	errNoReauth      = &Reason{codeBadAuth, "enhanced authentication is not served", "CLIENT_ERROR"}
	errKeepAlive     = &Reason{codeKeepAlive, "keep alive timeout", "MQTT_KEEP_ALIVE_TIMEOUT"}
	errTakenOver     = &Reason{codeTakenOver, "another connection uses this client id", "DUPLICATE_CLIENTID"}
	errShutdown      = &Reason{codeShutdown, "the gateway is stopping", "SERVER_INITIATED_DISCONNECT"}
	errServer        = &Reason{codeUnspecified, "internal failure", "SERVER_ERROR"}
	errAdministrator = &Reason{codeAdministrative, "disconnected by an operator", "API_INITIATED_DISCONNECT"}
	errThrottled     = &Reason{codeRateTooHigh, "message rate too high", "THROTTLED"}
	errManyRetained  = &Reason{codeQuota, "too many retained messages", "THROTTLED"}
	errSlow          = &Reason{codeQuota, "too much is waiting for this client", "THROTTLED"}
	errHalfSent      = &Reason{codeQuota, "too many packets are half sent, this one for the longest time", "THROTTLED"}
	errFull          = &Reason{codeQuota, "no room for more messages", "THROTTLED"}
	errStalled       = &Reason{codeUnspecified, "the client takes nothing of what is sent", "CONNECTION_LOST"}
	errNoConnect     = &Reason{codeUnspecified, "no CONNECT in time", "CONNECTION_LOST"}

	errManyConnections = &Reason{codeQuota, "too many connections", "THROTTLED"}
	errConnectRate     = &Reason{codeConnectRate, "connection rate exceeded", "THROTTLED"}
)

// ErrLeft is what a transport's Read gives when the client has ended the stream on purpose
// in a way of the transport's own, such as a WebSocket close frame: its will is then not
// published, as with AWS.
var ErrLeft error = errClientLeft

// reasonOf gives err as a Reason.
func reasonOf(err error) *Reason {
	var r *Reason
	if errors.As(err, &r) {
		return r
	}
	return errLost
}
