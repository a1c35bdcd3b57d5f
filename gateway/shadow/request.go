package shadow

import (
	"strings"
	"unicode/utf8"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/jsondoc"
)

// The refusals of spec/shadow.md §7, word for word.
var (
	errEncoding  = fault.New(fault.Unsupported, "Unsupported documented encoding; supported encoding is UTF-8")
	errTooLarge  = fault.New(fault.TooLarge, "The payload exceeds the maximum size allowed")
	errJSON      = fault.New(fault.Invalid, "Invalid JSON")
	errNoState   = fault.New(fault.Invalid, "Missing required node: state")
	errState     = fault.New(fault.Invalid, "State node must be an object")
	errDesired   = fault.New(fault.Invalid, "Desired node must be an object")
	errReported  = fault.New(fault.Invalid, "Reported node must be an object")
	errNode      = fault.New(fault.Invalid, "State contains an invalid node")
	errToken     = fault.New(fault.Invalid, "Invalid clientToken")
	errTooDeep   = fault.New(fault.Invalid, "JSON contains too many levels of nesting; maximum is 6") // 6 whatever the limit is
	errVersion   = fault.New(fault.Invalid, "Invalid version")
	errConflict  = fault.New(fault.Conflict, "Version conflict")
	nullValue    = jsondoc.NullValue()
	sectionNames = [2]string{"desired", "reported"}
)

// update is a valid update request.
type update struct {
	token    *string        // as it is echoed; nil: none was sent
	state    *jsondoc.Value // an object or null
	desired  section
	reported section
	version  *jsondoc.Value // a non-negative integer, or nil
}

// section is what a request says about desired or reported: nothing when nil.
type section struct{ patch *jsondoc.Value }

// apply gives the section after the request; one without members is no section.
func (s section) apply(trees *jsondoc.Arena, old *jsondoc.Value) jsondoc.Value {
	if s.patch == nil {
		return *old
	}
	if s.patch.Kind() == jsondoc.Null {
		return jsondoc.Value{}
	}
	next := trees.Merge(old, s.patch)
	if next.Len() == 0 {
		return jsondoc.Value{}
	}
	return next
}

// parseUpdate reads an update request and judges it in the order of spec/shadow.md §7.
// With an error the token is still set where it could be read.
func (lim *Limits) parseUpdate(trees *jsondoc.Arena, b []byte, now int64) (u update, err error) {
	if len(b) > lim.Request {
		if !utf8.Valid(b) {
			return u, errEncoding
		}
		return u, errTooLarge
	}
	doc, err := trees.Parse(b, jsondoc.Options{Mark: now, Alias: true})
	switch {
	case err == jsondoc.ErrEncoding:
		return u, errEncoding
	case err == jsondoc.ErrTooDeep:
		return u, errTooDeep
	case err != nil || doc.Kind() != jsondoc.Object:
		return u, errJSON
	}
	tok, tokenErr := lim.token(&doc)
	u.token = tok
	u.state = doc.Get("state")
	if len(b) > lim.Document && lim.tooLarge(u.state) { // nothing is longer than it was written
		return u, errTooLarge
	}
	switch u.state.Kind() {
	case jsondoc.None:
		return u, errNoState
	case jsondoc.Null:
		u.desired.patch, u.reported.patch = &nullValue, &nullValue
	case jsondoc.Object:
		if err := u.sections(); err != nil {
			return u, err
		}
	default:
		return u, errState
	}
	if tokenErr != nil {
		return u, tokenErr
	}
	for _, s := range [2]section{u.desired, u.reported} {
		if s.patch != nil && s.patch.Depth() > lim.Depth {
			return u, errTooDeep
		}
	}
	if u.version = doc.Get("version"); u.version != nil && (!u.version.Integer() || u.version.Text()[0] == '-') {
		return u, errVersion
	}
	return u, nil
}

// tooLarge says whether what a request would have stored is too large by itself.
func (lim *Limits) tooLarge(state *jsondoc.Value) bool {
	if state.Kind() != jsondoc.Object || state.Size() <= lim.Document {
		return false
	}
	n := 0
	for _, name := range sectionNames {
		if s := state.Get(name); s.Kind() == jsondoc.Object {
			kept := jsondoc.Merge(&jsondoc.Value{}, s) // nulls are not stored
			n += kept.Size()
		}
	}
	return n > lim.Document
}

// sections takes state apart.
func (u *update) sections() error {
	kids := u.state.Kids()
	unknown := false
	for i := range kids {
		v := &kids[i].Value
		switch kids[i].Key {
		case "desired":
			u.desired.patch = v
		case "reported":
			u.reported.patch = v
		default:
			unknown = true
		}
	}
	isSection := func(s section) bool {
		return s.patch == nil || s.patch.Kind() == jsondoc.Object || s.patch.Kind() == jsondoc.Null
	}
	switch {
	case !isSection(u.desired):
		return errDesired
	case !isSection(u.reported):
		return errReported
	case unknown, u.state.ArrayWithNull(): // an array cannot hold null, spec/shadow.md §2
		return errNode
	}
	return nil
}

// token reads the client token of a request; nil when there is none. An empty one is one.
func (lim *Limits) token(doc *jsondoc.Value) (*string, error) {
	v := doc.Get("clientToken")
	if v == nil {
		return nil, nil
	}
	if v.Kind() != jsondoc.String || len(v.Text()) > lim.Token {
		return nil, errToken
	}
	return new(strings.Clone(v.Text())), nil // it outlives the request
}

// Token gives the client token of a request that is not served, so that its refusal can name it; nil where there is
// none, or the request is longer than a document.
func (r *Room) Token(request []byte) *string {
	if r.lim.Document > 0 && len(request) > r.lim.Document {
		return nil
	}
	return r.lim.parseDelete(request)
}

// parseGet reads a get request: nothing, or an object with a token.
func (lim *Limits) parseGet(b []byte) (*string, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if !utf8.Valid(b) {
		return nil, errEncoding
	}
	doc, err := jsondoc.Parse(b, jsondoc.Options{MaxSize: lim.Request})
	switch {
	case err == jsondoc.ErrTooLarge:
		return nil, errTooLarge
	case err != nil || doc.Kind() != jsondoc.Object:
		return nil, errJSON
	}
	return lim.token(&doc)
}

// parseDelete looks for a token in a delete request, whose content does not matter.
func (lim *Limits) parseDelete(b []byte) *string {
	if len(b) == 0 {
		return nil
	}
	doc, err := jsondoc.Parse(b, jsondoc.Options{MaxSize: lim.Request})
	if err != nil {
		return nil
	}
	tok, _ := lim.token(&doc)
	return tok
}

// checkVersion compares the version a request names with the current one (spec/shadow.md
// §4). To make a shadow it may name 0 or 1.
func (u *update) checkVersion(old *record, clk clock.Clock) error {
	if u.version == nil {
		return nil
	}
	n, fits := u.version.Int()
	switch {
	case old.exists():
		if !fits || n != old.doc.Version {
			return errConflict
		}
	case !fits || n > 1 && n != old.counter(clk):
		return errVersion
	}
	return nil
}
