package localclient

import (
	"encoding/json"
	"time"
)

// Error is the body of a refusal.
type Error struct {
	Code    string `json:"code"` // a fault.Code in words
	Message string `json:"message"`
}

// Version says what was built, from what and when.
type Version struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Date    string `json:"date"`
	Go      string `json:"go"`
}

// Status is the gateway at a glance.
type Status struct {
	// Healthy: alive, ready, and without a warning that is not minor.
	Healthy bool `json:"healthy"`
	Ready   bool `json:"ready"`
	// Dead says which part does no longer do its work, empty when all do.
	Dead     string    `json:"dead,omitempty"`
	Warnings []Warning `json:"warnings"`

	Version   Version           `json:"version"`
	Dev       bool              `json:"dev"`
	Data      string            `json:"data"`
	ARN       string            `json:"arn"`    // what all ARNs here begin with
	Region    string            `json:"region"` // in them
	Vault     string            `json:"vault"`  // keeps the lasting keys: "tpm", "file" (software keys) or "none"
	PID       int               `json:"pid"`
	Started   time.Time         `json:"started"`
	Now       time.Time         `json:"now"` // by the gateway's clock
	Clock     bool              `json:"clock_trusted"`
	Listeners map[string]string `json:"listeners"`

	Clients   int        `json:"clients"` // connected now
	Journal   Journal    `json:"journal"`
	Store     Store      `json:"store"`
	Upstreams []Upstream `json:"upstreams"`
	Devices   []Device   `json:"devices"`
}

// Warning is a condition that lasts; its code is stable.
type Warning struct {
	Code  string    `json:"code"`
	Text  string    `json:"text"`
	Since time.Time `json:"since"`
	// Minor: worth knowing, but the gateway does all that it is there for.
	Minor bool `json:"minor,omitempty"`
}

// Journal says how far the log of messages goes.
type Journal struct {
	Next    uint64   `json:"next"`   // number of the next message
	Bytes   int64    `json:"bytes"`  // on disk
	Losses  uint64   `json:"losses"` // entries of the ledger
	Cursors []Cursor `json:"cursors"`
}

// Cursor is a reader's place in the journal.
type Cursor struct {
	Name string `json:"name"`
	Next uint64 `json:"next"` // number of the first message it still needs
	Lag  uint64 `json:"lag"`  // messages between that and the end
}

// Store says what the disk holds.
type Store struct {
	Bytes int64 `json:"bytes"`      // that the store takes up: log, database, ballast
	Free  int64 `json:"free_bytes"` // on its disk
	Full  bool  `json:"full"`       // new work is refused
}

// Upstream is one way up.
type Upstream struct {
	Name  string    `json:"name"`
	URL   string    `json:"url"`
	State string    `json:"state"`           // "up", "connecting" or "waiting"
	Since time.Time `json:"since"`           // of State
	Error string    `json:"error,omitempty"` // why it is not up

	Lag      uint64 `json:"lag"`       // messages of the journal it has not done with
	InFlight int    `json:"in_flight"` // sent, not acknowledged
	Sent     uint64 `json:"sent"`      // acknowledged since the start
	Received uint64 `json:"received"`
	Dropped  uint64 `json:"dropped"` // came down and could not be taken
	Lost     uint64 `json:"lost"`    // gone from the journal before they could be sent
	Connects uint64 `json:"connects"`
	BytesOut uint64 `json:"bytes_out"`
	BytesIn  uint64 `json:"bytes_in"`
}

// Rule is a rule of the configuration, with what it has done since the start.
type Rule struct {
	Name        string   `json:"ruleName"`
	Description string   `json:"description,omitempty"`
	SQL         string   `json:"sql"`
	Topic       string   `json:"topicPattern"`
	Disabled    bool     `json:"ruleDisabled"`
	Actions     []string `json:"actions"` // in words
	ErrorAction string   `json:"errorAction,omitempty"`

	Matched       uint64 `json:"matched"` // messages it looked at
	Passed        uint64 `json:"passed"`  // that it selected
	Failed        uint64 `json:"failed"`  // that it could not evaluate
	Taken         uint64 `json:"actions_taken"`
	ActionsFailed uint64 `json:"actions_failed"`
}

// Device is something wired to the box, with its last readings.
type Device struct {
	Name     string     `json:"name"`
	Thing    string     `json:"thing"`
	Profile  string     `json:"profile"`
	Bus      string     `json:"bus"`
	Port     string     `json:"port"`
	State    string     `json:"state"` // "good", "starting" or what is wrong, in one word
	Error    string     `json:"error,omitempty"`
	LastGood *time.Time `json:"last_good,omitempty"`
	Readings []Reading  `json:"readings"`
}

// Reading is one value of a point.
type Reading struct {
	Point   string          `json:"point"`
	Group   string          `json:"group,omitempty"`
	Value   json.RawMessage `json:"value"`
	Unit    string          `json:"unit,omitempty"`
	Quality string          `json:"quality"`
	At      time.Time       `json:"at"`
}

// Message is one message that passes. Payload holds it when it is UTF-8, Binary when
// not.
type Message struct {
	Topic   string    `json:"topic,omitempty"`
	Payload string    `json:"payload,omitempty"`
	Binary  []byte    `json:"payload_base64,omitempty"`
	QoS     byte      `json:"qos"`
	Retain  bool      `json:"retain,omitempty"`
	From    string    `json:"from,omitempty"`
	Origin  string    `json:"origin,omitempty"`
	At      time.Time `json:"at"`
	// Lost is how many messages were left out here, because they were no longer kept
	// or because we read too slowly. Then nothing else is set.
	Lost uint64 `json:"lost,omitempty"`
}

// Bytes gives the payload, whichever form it has.
func (m *Message) Bytes() []byte {
	if m.Binary != nil {
		return m.Binary
	}
	return []byte(m.Payload)
}

// Loss is an entry of the ledger: a range of messages that could not be kept.
type Loss struct {
	Queue string    `json:"queue"` // "journal", or the cursor or session it was lost to
	From  uint64    `json:"from"`
	To    uint64    `json:"to"`
	Count uint64    `json:"count"`
	At    time.Time `json:"at"`
	Why   string    `json:"why"`
}
