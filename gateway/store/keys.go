package store

import "encoding/binary"

// Every key prefix of the rooms, with the room that alone writes it. Rooms spell their keys with
// these; a key that begins with none of them is a defect.
const (
	KeyJournal    = "jr/"        // gateway/journal: cursors, ledger
	KeySession    = "sess/"      // gateway/broker/session: sessions, subscriptions, in-flight marks
	KeyRetained   = "ret/"       // gateway/broker/session: retained messages
	KeyShadow     = "shadow/"    // gateway/shadow: documents, versions, tombstones
	KeyThing      = "thing/"     // gateway/registry: things
	KeyThingType  = "thingtype/" // gateway/registry: thing types
	KeyGroup      = "group/"     // gateway/registry: thing groups
	KeyMember     = "member/"    // gateway/reserved: who was last told to be in dynamic groups
	KeyCert       = "cert/"      // gateway/registry: certificates
	KeyPolicy     = "policy/"    // gateway/registry: policies and attachments
	KeyTemplate   = "tmpl/"      // gateway/registry: provisioning templates
	KeyAuthorizer = "author/"    // gateway/registry: custom authorizers
	KeyProvision  = "prov/"      // gateway/provision: registration tasks
	KeyAudit      = "audit/"     // gateway/audit: who changed what
	KeyJob        = "job/"       // gateway/jobs: jobs and executions
	KeyIdentity   = "ident/"     // gateway/identity: the gateway's own certificates
	KeyOperator   = "oper/"      // gateway/operators: people and their access keys
	KeyRule       = "rule/"      // gateway/rules: definitions
	KeyUplink     = "up/"        // sync/uplink: what an upstream remembers
	KeyShadowUp   = "shup/"      // sync/shadowsync: base versions
	KeyClock      = "clock/"     // gateway/node: last known good time
)

// The store's own keys in Badger. All numbers are big-endian, so that they sort.
//
//	m/schema, m/epoch, m/applied, m/next -> u32, u64, u64, u64
//	k/<key of a room>                    -> its value
//	s/<segment u64>                      -> last number, bytes, unix milliseconds of the last write: 3 × u64
//	o/<segment u64><first number u64>    -> chunk of record blocks
//	m/trail                              -> first chunk of notes, number behind the last one, bytes: 3 × u64
//	t/<number u64>                       -> chunk of notes
var (
	keySchema  = []byte("m/schema")
	keyEpoch   = []byte("m/epoch")
	keyApplied = []byte("m/applied")
	keyNext    = []byte("m/next")
	keyTrail   = []byte("m/trail")
	keyTidy    = []byte("m/tidy") // written to be dropped
)

const (
	prefixState   = "k/"
	prefixSegment = "s/"
	prefixChunk   = "o/"
	prefixTrail   = "t/"
)

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func stateKey(key string) []byte { return append([]byte(prefixState), key...) }

func segmentKey(id uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(prefixSegment), id)
}

func chunkPrefix(id uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(prefixChunk), id)
}

func chunkKey(id, first uint64) []byte {
	return binary.BigEndian.AppendUint64(chunkPrefix(id), first)
}
