package node

import (
	"fmt"

	"tidegate/gateway/localapi/localclient"
	"tidegate/gateway/rules"
)

// ruleList tells the rules and what they have done.
func (n *Node) ruleList() []localclient.Rule {
	rs := []localclient.Rule{}
	for _, i := range n.rules.Rules() {
		r := localclient.Rule{Name: i.Name, Description: i.Description, SQL: i.SQL, Topic: i.Filter, Disabled: i.Disabled, Actions: []string{},
			Matched: i.Matched, Passed: i.Passed, Failed: i.Failed, Taken: i.Actions, ActionsFailed: i.ActionsFailed}
		for _, a := range i.Rule.Actions {
			r.Actions = append(r.Actions, inWords(a))
		}
		if i.ErrorAction != nil {
			r.ErrorAction = inWords(*i.ErrorAction)
		}
		rs = append(rs, r)
	}
	return rs
}

// inWords says what an action does.
func inWords(a rules.Action) string {
	return fmt.Sprintf("republish to %s at QoS %d", a.Republish.Topic, a.Republish.QoS)
}
