package registry

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"unicode/utf8"

	"tidegate/gateway/fault"
)

// rule is a constraint of the API model: a length and an expression.
type rule struct {
	member   string
	min, max int
	expr     string
	re       *regexp.Regexp
}

func newRule(member string, lo, hi int, expr string) *rule {
	return &rule{member, lo, hi, expr, regexp.MustCompile(`^(?:` + expr + `)$`)}
}

// The constraints (botocore, iot 2015-05-28).
var (
	ruleThing        = newRule("thingName", 1, 128, `[a-zA-Z0-9:_-]+`)
	ruleType         = newRule("thingTypeName", 1, 128, `[a-zA-Z0-9:_-]+`)
	ruleGroup        = newRule("thingGroupName", 1, 128, `[a-zA-Z0-9:_-]+`)
	ruleBilling      = newRule("billingGroupName", 1, 128, `[a-zA-Z0-9:_-]+`)
	rulePolicy       = newRule("policyName", 1, 128, `[\w+=,.@-]+`)
	ruleAttrName     = newRule("attributes", 1, 128, `[a-zA-Z0-9_.,@/:#-]+`)
	ruleAttrValue    = newRule("attributes", 0, 800, `[a-zA-Z0-9_.,@/:#=\[\]-]*`)
	ruleTypeText     = newRule("thingTypeDescription", 0, 2028, `[\p{L}\p{M}\p{N}\p{P}\p{S}\p{Z}]*`)
	ruleGroupText    = newRule("thingGroupDescription", 0, 2028, `[\p{L}\p{M}\p{N}\p{P}\p{S}\p{Z}]*`)
	ruleBillText     = newRule("billingGroupDescription", 0, 2028, `[\p{L}\p{M}\p{N}\p{P}\p{S}\p{Z}]*`)
	ruleTagKey       = newRule("tags", 1, 128, `(?s).*`)
	ruleTagValue     = newRule("tags", 0, 256, `(?s).*`)
	ruleUserProperty = newRule("userPropertyKey", 1, 128, `[a-zA-Z0-9:$.]+`)
	ruleConnection   = newRule("connectionAttribute", 1, 128, `[a-zA-Z0-9:.]+`)
	ruleCognito      = newRule("principal", 1, 128, `[\w-]+:[0-9a-fA-F-]+`)
)

// names are the rules of what a resource is asked for by, under the member's name.
var names = func() map[string]*rule {
	id := `(0x)?[a-fA-F0-9]+`
	m := map[string]*rule{}
	for _, r := range []*rule{ruleThing, ruleType, ruleGroup, ruleBilling, rulePolicy, ruleAuthorizer, ruleDomain, ruleRoleAlias, ruleProvider, ruleTemplate,
		newRule("policyVersionId", 1, 128, `[0-9]+`), newRule("certificateId", 64, 64, id), newRule("caCertificateId", 64, 64, id)} {
		m[r.member] = r
	}
	return m
}()

// CheckName says what is wrong with the name or id of a resource; member is how the API
// model calls it ("thingName", "certificateId"). What it does not know passes. Errors are
// fault.Invalid.
func CheckName(member, value string) error {
	if r := names[member]; r != nil {
		return r.check(value)
	}
	return nil
}

// check compares a value with a rule; the text is the one AWS gives.
func (r *rule) check(v string) error {
	wrong := func(what string) error {
		return fault.New(fault.Invalid, "1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: Member must %s", v, r.member, what)
	}
	switch n := utf8.RuneCountInString(v); {
	case n < r.min:
		return wrong(fmt.Sprintf("have length greater than or equal to %d", r.min))
	case n > r.max:
		return wrong(fmt.Sprintf("have length less than or equal to %d", r.max))
	case !r.re.MatchString(v):
		return wrong("satisfy regular expression pattern: " + r.expr)
	}
	return nil
}

func checkAttributes(attrs map[string]string) error {
	for k, v := range attrs {
		if err := ruleAttrName.check(k); err != nil {
			return err
		}
		if err := ruleAttrValue.check(v); err != nil {
			return err
		}
	}
	return nil
}

// newID makes a random UUID (RFC 9562, version 4).
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
