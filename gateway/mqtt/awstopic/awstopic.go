// Package awstopic builds and parses the reserved topics of the AWS dialect: those under
// $aws/. Nobody else in the module spells $aws.
//
// One table (table.go, from spec/mqtt.md §11) holds every reserved topic with what a
// client may do with it. Parse and Topic.String are each other's inverse. The package
// judges the shape of a topic, not the names in it: whether a thing may be called so is
// for the service that keeps it.
//
//	t, ok := awstopic.Parse("$aws/things/pump1/shadow/update") // Service Shadow, Op Update
//	t.Reply = awstopic.Accepted
//	t.String() // $aws/things/pump1/shadow/update/accepted
package awstopic

import "strings"

// Prefix is what every reserved topic begins with.
const Prefix = "$aws/"

// Service is the part of the gateway that a reserved topic belongs to.
type Service string

// The services.
const (
	Shadow       Service = "shadow"       // Thing, Name of the shadow ("" the classic one), Op, Reply
	Jobs         Service = "jobs"         // Thing, Name of the job where there is one, Op, Reply; namespace of a notification in Name
	Rules        Service = "rules"        // Basic Ingest: Name of the rule, Rest the topic it sees
	Defender     Service = "defender"     // Thing, Format, Reply
	Tunnels      Service = "tunnels"      // Thing
	Streams      Service = "streams"      // Thing, Name of the stream, Op, Format
	Certificates Service = "certificates" // Op, Format, Reply
	Provisioning Service = "provisioning" // Name of the template, Format, Reply
	Events       Service = "events"       // Op what happened; Reply the kind of object; Name, Thing and Rest its names
	Commands     Service = "commands"     // Thing (or client, see Op), Name of the execution, Op, Format, Reply
	Location     Service = "location"     // Thing, Reply
	SiteWise     Service = "sitewise"     // Name of the model, Thing the asset, Rest the property
	Wireless     Service = "wireless"     // Rest
	Alexa        Service = "alexa"        // Name of the client, Rest
)

// Op is what a topic asks for, or for events what has happened.
type Op string

// The operations that are used by name.
const (
	Get           Op = "get"
	Update        Op = "update"
	Delete        Op = "delete"
	StartNext     Op = "start-next"
	Notify        Op = "notify"
	NotifyNext    Op = "notify-next"
	Describe      Op = "describe"
	Description   Op = "description"
	Data          Op = "data"
	Create        Op = "create"
	CreateFromCSR Op = "create-from-csr"
	Unknown       Op = "?" // within a service's topics, but nothing it knows
)

// Reply says which answer a topic carries; requests have none. For events it names the
// kind of object.
type Reply string

// The replies.
const (
	Request   Reply = ""
	Accepted  Reply = "accepted"
	Rejected  Reply = "rejected"
	Delta     Reply = "delta"
	Documents Reply = "documents"
)

// Format is how a payload is encoded where the topic says so.
type Format string

// The formats.
const (
	JSON Format = "json"
	CBOR Format = "cbor"
)

// Topic is a reserved topic taken apart. Which fields it has depends on Service.
type Topic struct {
	Service Service
	Op      Op
	Reply   Reply
	Format  Format
	Thing   string
	Name    string
	Rest    string // may hold several levels
}

// Parse takes a topic apart. ok is false when it is not reserved, or not in the table.
func Parse(topic string) (t Topic, ok bool) {
	e, names := find(topic)
	if e == nil {
		return Topic{}, false
	}
	t = e.topic
	for i, f := range e.fields {
		*t.field(f) = names[i]
	}
	return t, true
}

// String builds the topic. It panics when no topic has this Service, Op, Reply and
// Format: that is a defect of the caller.
func (t Topic) String() string {
	e := entries[t.key()]
	if e == nil {
		panic("BUG: awstopic: no topic is like " + string(t.Service) + " " + string(t.Op) + " " + string(t.Reply))
	}
	n := len(e.text[0])
	for i, f := range e.fields {
		n += len(*t.field(f)) + len(e.text[i+1])
	}
	b := make([]byte, 0, n)
	b = append(b, e.text[0]...)
	for i, f := range e.fields {
		b = append(b, *t.field(f)...)
		b = append(b, e.text[i+1]...)
	}
	return string(b)
}

func (t *Topic) field(f byte) *string {
	switch f {
	case 't':
		return &t.Thing
	case 'n':
		return &t.Name
	}
	return &t.Rest
}

// Is says whether topic is reserved by its name, supported or not.
func Is(topic string) bool { return strings.HasPrefix(topic, Prefix) }

// MayPublish says whether clients may publish to topic: to everything that does not
// begin with $, and to the reserved topics that take requests (spec/mqtt.md §11).
func MayPublish(topic string) bool {
	if topic == "" || topic[0] != '$' {
		return true
	}
	e, _ := find(topic)
	return e != nil && e.dir&pub != 0
}

// MaySubscribe says whether clients may subscribe to filter, which may hold wildcards
// but no $share prefix: to everything that does not begin with $, and to what can match
// a reserved topic that is delivered to clients (spec/mqtt.md §11).
func MaySubscribe(filter string) bool {
	if filter == "" || filter[0] != '$' {
		return true
	}
	rest, ok := strings.CutPrefix(filter, Prefix)
	return ok && root.subscribable(rest)
}

// Direct says whether a topic's messages go to one connection alone, the one whose
// request they answer, and are seen by nobody else (spec/jobs.md §3).
func Direct(topic string) bool {
	e, _ := find(topic)
	return e != nil && e.dir&direct != 0
}
