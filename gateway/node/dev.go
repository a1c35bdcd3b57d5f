package node

import (
	"tidegate/gateway/broker"
	"tidegate/gateway/policy"
)

// devPolicy is what anonymous clients may do with --dev: everything.
const devPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`

// anyone lets everybody in under the policy dev. It stands behind listeners that exist
// with --dev only.
type anyone struct{ decider *policy.Decider }

func newAnyone() (anyone, error) {
	doc, err := policy.Parse([]byte(devPolicy))
	if err != nil {
		return anyone{}, err
	}
	doc.Name = "dev"
	return anyone{policy.Compile([]*policy.Document{doc}, policy.Context{})}, nil
}

// anonymous is the principal of everybody with --dev.
type anonymous struct{}

// Name is the policy's.
func (anonymous) Name() string { return "dev" }

// Connect lets the client in.
func (anyone) Connect(*broker.ConnectRequest) (broker.Principal, error) { return anonymous{}, nil }

// Restore gives the principal of a stored session.
func (anyone) Restore(_, _ string) broker.Principal { return anonymous{} }

// MayPublish asks the policy.
func (a anyone) MayPublish(_ broker.Principal, topic string, retain bool) bool {
	return a.decider.May(policy.Publish, topic) && (!retain || a.decider.May(policy.RetainPublish, topic))
}

// MaySubscribe asks the policy.
func (a anyone) MaySubscribe(_ broker.Principal, filter string) bool {
	return a.decider.May(policy.Subscribe, filter)
}

// MayReceive asks the policy.
func (a anyone) MayReceive(_ broker.Principal, topic string) bool {
	return a.decider.May(policy.Receive, topic)
}
