package policy

import (
	"net/netip"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Context is what is known of a connection or a request when its policies are
// compiled. The zero value knows nothing: every variable is then without a value.
type Context struct {
	// Base is the ARN up to and with the account: "arn:aws:iot:REGION:ACCOUNT:".
	Base string

	ClientID   string
	SourceIP   netip.Addr
	DomainName string // the host name the client asked for (SNI)

	// Thing is the registered thing the connection stands for, nil when there is
	// none. For HTTPS it is always nil (developer guide, "Thing policy variables").
	Thing *Thing
	// Unattachable marks principals that cannot be attached to a thing (custom
	// authorizers). For them a thing is believed by its name alone.
	Unattachable bool

	Certificate *Certificate

	// Connected says that the attributes of a CONNECT packet are known; without
	// it iot:ConnectAttributes is an absent key and not an empty set.
	Connected         bool
	ConnectAttributes []string // "PersistentConnect", "LastWill"
	LastWillTopic     string   // ARN of the will's topic, "" without a will

	// Extra holds further keys, for example "cognito-identity.amazonaws.com:sub"
	// or a token's claims. Names are compared in any case.
	Extra map[string][]string

	// Now tells the time for aws:CurrentTime and aws:EpochTime. Without it those
	// keys are absent.
	Now func() time.Time
}

// Thing is what variables can say of a thing.
type Thing struct {
	Name       string
	Type       string
	Attributes map[string]string
	Attached   bool // to the principal that asks
}

// Certificate is what variables can say of a client certificate.
type Certificate struct {
	ID           string // 64 lower-case hex characters
	SerialNumber string
	Subject      Name
	Issuer       Name
}

// Name holds the attributes of a subject or an issuer by the names policies use
// (CommonName, Organization … and AlternativeName.DNSName …), each with its
// values in the order of the certificate.
type Name map[string][]string

// The bounds of certificate variables (developer guide, "X.509 Certificate
// policy variables").
const (
	maxListed      = 5    // values of a .List
	maxSubstituted = 1024 // characters of a value that is filled in
)

const (
	thingPrefix     = "iot:connection.thing."
	attributePrefix = "iot:connection.thing.attributes["
	subjectPrefix   = "iot:certificate.subject."
	issuerPrefix    = "iot:certificate.issuer."
)

// values gives the values of a condition key. present tells an absent key from
// an empty set.
func (c *Context) values(key string) (values []string, present bool) {
	if c == nil {
		return nil, false
	}
	one := func(s string) ([]string, bool) {
		if s == "" {
			return nil, false
		}
		return []string{s}, true
	}
	switch k := foldASCII(key); {
	case k == "iot:clientid":
		return one(c.ClientID)
	case k == "iot:domainname":
		return one(c.DomainName)
	case k == "aws:sourceip":
		if !c.SourceIP.IsValid() {
			return nil, false
		}
		return []string{c.SourceIP.Unmap().WithZone("").String()}, true
	case k == "iot:connectattributes":
		return c.ConnectAttributes, c.Connected
	case k == "iot:lastwilltopic":
		return one(c.LastWillTopic)
	case k == "aws:currenttime":
		if c.Now == nil {
			return nil, false
		}
		return []string{c.Now().UTC().Format(time.RFC3339Nano)}, true
	case k == "aws:epochtime":
		if c.Now == nil {
			return nil, false
		}
		return []string{strconv.FormatInt(c.Now().Unix(), 10)}, true
	case strings.HasPrefix(k, thingPrefix):
		return c.thing(k, key)
	case k == "iot:certificateid" || strings.HasPrefix(k, "iot:certificate."):
		return c.certificate(k)
	}
	for name, v := range c.Extra {
		if strings.EqualFold(name, key) {
			return v, true
		}
	}
	return nil, false
}

// thing gives the values of the thing variables. Apart from IsAttached they are
// there only when the principal is attached to the thing or cannot be.
func (c *Context) thing(folded, key string) ([]string, bool) {
	if folded == thingPrefix+"isattached" {
		return []string{strconv.FormatBool(c.Thing != nil && c.Thing.Attached)}, true
	}
	t := c.Thing
	if t == nil || !t.Attached && !c.Unattachable {
		return nil, false
	}
	switch {
	case folded == thingPrefix+"thingname":
		return []string{t.Name}, true
	case folded == thingPrefix+"thingtypename":
		if t.Type == "" {
			return nil, false
		}
		return []string{t.Type}, true
	case strings.HasPrefix(folded, attributePrefix) && strings.HasSuffix(key, "]"):
		v, ok := t.Attributes[key[len(attributePrefix):len(key)-1]]
		return []string{v}, ok
	}
	return nil, false
}

// certificate gives the values of the certificate variables.
func (c *Context) certificate(folded string) ([]string, bool) {
	cert := c.Certificate
	if cert == nil {
		return nil, false
	}
	switch {
	case folded == "iot:certificateid":
		return []string{cert.ID}, cert.ID != ""
	case folded == "iot:certificate.serialnumber":
		return []string{cert.SerialNumber}, cert.SerialNumber != ""
	case folded == "iot:certificate.availablekeys":
		return cert.keys(), true
	case strings.HasPrefix(folded, subjectPrefix):
		return cert.Subject.values(folded[len(subjectPrefix):])
	case strings.HasPrefix(folded, issuerPrefix):
		return cert.Issuer.values(folded[len(issuerPrefix):])
	}
	return nil, false
}

// keys lists the certificate variables that have a value.
func (c *Certificate) keys() []string {
	var all []string
	if c.SerialNumber != "" {
		all = append(all, "iot:Certificate.SerialNumber")
	}
	for prefix, name := range map[string]Name{"iot:Certificate.Subject.": c.Subject, "iot:Certificate.Issuer.": c.Issuer} {
		for k, v := range name {
			if len(v) > 0 {
				all = append(all, prefix+k)
			}
		}
	}
	sort.Strings(all)
	return all
}

// values gives an attribute: its first value, its n-th for the suffix ".n"
// counted from 0, or all for ".List".
func (n Name) values(attr string) ([]string, bool) {
	index, list := 0, false
	if i := strings.LastIndexByte(attr, '.'); i >= 0 {
		suffix := attr[i+1:]
		if suffix == "list" {
			attr, list = attr[:i], true
		} else if v, err := strconv.ParseUint(suffix, 10, 16); err == nil {
			attr, index = attr[:i], int(v)
		}
	}
	for k, v := range n {
		if !strings.EqualFold(k, attr) {
			continue
		}
		if list {
			out := make([]string, 0, maxListed)
			for _, s := range v[:min(len(v), maxListed)] {
				out = append(out, escape(s))
			}
			return out, true
		}
		if index < len(v) {
			return []string{escape(v[index])}, true
		}
	}
	return nil, false
}

// escape puts a backslash before the characters the cloud escapes in
// certificate attributes.
func escape(s string) string {
	if !strings.ContainsAny(s, `,"\+=<>;`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if strings.IndexByte(`,"\+=<>;`, s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// substitute gives the text that replaces a variable. Only keys with exactly one
// value can be filled in; certificate attributes with wildcard characters, or
// longer than 1024, are not.
func (c *Context) substitute(name string) (string, bool) {
	v, ok := c.values(name)
	if !ok || len(v) != 1 {
		return "", false
	}
	folded := foldASCII(name)
	if isTime(folded) { // a Decider would keep the moment it was made
		return "", false
	}
	if strings.HasPrefix(folded, subjectPrefix) || strings.HasPrefix(folded, issuerPrefix) {
		if strings.HasSuffix(folded, ".list") || len(v[0]) > maxSubstituted || strings.ContainsAny(v[0], "*$+?#") {
			return "", false
		}
	}
	return v[0], true
}

// isTime says whether a key changes while a connection lasts.
func isTime(folded string) bool {
	return folded == "aws:currenttime" || folded == "aws:epochtime"
}
