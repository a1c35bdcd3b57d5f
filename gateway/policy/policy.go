// Package policy reads policy documents and decides by them.
//
// It keeps nothing and knows nobody: documents go in, decisions come out. A
// document is parsed once ([Parse]); together with what is known of a
// connection it is compiled into a [Decider] ([Compile]), in which variables are
// already filled in and conditions already answered, so that a decision on the
// publish path is a few comparisons without an allocation.
//
// The language is that of AWS IoT policies (developer guide, "AWS IoT Core
// policies"; IAM user guide, "Policy evaluation logic"): a matching Deny wins,
// else a matching Allow allows, else it is denied. MQTT wildcards are plain
// characters; '*' matches any run and '?' exactly one character, both across '/'.
//
//	doc, err := policy.Parse(text)
//	d := policy.Compile([]*policy.Document{doc}, policy.Context{
//		Base:     "arn:aws:iot:local-1:000000000000:",
//		ClientID: "pump1",
//	})
//	if !d.May(policy.Publish, "site/pump1/state") { … }
//
// Whose documents apply to whom is not decided here (gateway/authz, with what
// gateway/registry keeps).
package policy

import "tidegate/gateway/fault"

// MaxSize is how many characters, white space not counted, a document may have
// (AWS IoT quota "Maximum policy document size").
const MaxSize = 2048

// maxBytes bounds what is read of one document at the default size, white space
// included. It keeps padding from being a way around MaxSize.
const maxBytes = 64 << 10

// Document is a parsed policy. It is immutable and may be shared.
type Document struct {
	// Name is for explanations ([Decider.Explain]); the owner of the document
	// sets it before the first use.
	Name string

	version    string
	statements []*statement
}

// The versions of the language. Variables are filled in only by the newer one.
const (
	version2008 = "2008-10-17"
	version2012 = "2012-10-17"
)

// statement is one element of a document, its patterns cut into parts.
type statement struct {
	deny         bool
	actions      []pattern // never with variables
	notActions   bool
	mask         uint32 // the known actions that actions (or its negation) selects
	resources    []template
	notResources bool
	conditions   []condition
}

// selects says whether the statement speaks of the action.
func (s *statement) selects(action string) bool {
	action = foldASCII(action)
	for i := range s.actions {
		if s.actions[i].match([]byte(action)) {
			return !s.notActions
		}
	}
	return s.notActions
}

// malformed makes the one error Parse returns.
func malformed(format string, args ...any) error {
	return fault.New(fault.Invalid, "the policy document is malformed: "+format, args...)
}
