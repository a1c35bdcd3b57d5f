package policy

import "strings"

// Action is something a device can ask for. The names and the resources they
// apply to are those of the developer guide's page "AWS IoT Core policy actions".
type Action uint8

// The actions a policy can speak of. Those of the control plane are not among
// them: there an operator's role decides ([Decider.Named]).
const (
	Connect Action = iota
	Publish
	RetainPublish // in addition to Publish when the RETAIN flag is set, also on a will
	Receive       // at each delivery
	Subscribe     // once, on the text of the filter
	GetRetainedMessage
	ListRetainedMessages
	GetThingShadow
	UpdateThingShadow
	DeleteThingShadow
	ListNamedShadowsForThing
	DescribeJobExecution
	GetPendingJobExecutions
	StartNextPendingJobExecution
	UpdateJobExecution
	AssumeRoleWithCertificate
	DeleteConnection
	actions
)

// table gives each action its name and the part of an ARN between the account
// and the name it acts on.
var table = [actions]struct{ name, kind string }{
	Connect:                      {"iot:Connect", "client/"},
	Publish:                      {"iot:Publish", "topic/"},
	RetainPublish:                {"iot:RetainPublish", "topic/"},
	Receive:                      {"iot:Receive", "topic/"},
	Subscribe:                    {"iot:Subscribe", "topicfilter/"},
	GetRetainedMessage:           {"iot:GetRetainedMessage", "topic/"},
	ListRetainedMessages:         {"iot:ListRetainedMessages", ""},
	GetThingShadow:               {"iot:GetThingShadow", "thing/"},
	UpdateThingShadow:            {"iot:UpdateThingShadow", "thing/"},
	DeleteThingShadow:            {"iot:DeleteThingShadow", "thing/"},
	ListNamedShadowsForThing:     {"iot:ListNamedShadowsForThing", "thing/"},
	DescribeJobExecution:         {"iot:DescribeJobExecution", "thing/"},
	GetPendingJobExecutions:      {"iot:GetPendingJobExecutions", "thing/"},
	StartNextPendingJobExecution: {"iot:StartNextPendingJobExecution", "thing/"},
	UpdateJobExecution:           {"iot:UpdateJobExecution", "thing/"},
	AssumeRoleWithCertificate:    {"iot:AssumeRoleWithCertificate", "rolealias/"},
	DeleteConnection:             {"iot:DeleteConnection", "client/"},
}

// Actions lists every action.
func Actions() []Action {
	all := make([]Action, actions)
	for i := range all {
		all[i] = Action(i)
	}
	return all
}

// String gives the action as policies spell it, for example "iot:Publish".
func (a Action) String() string {
	if a < actions {
		return table[a].name
	}
	return "iot:Unknown"
}

// ParseAction finds an action by its name, in any case.
func ParseAction(name string) (Action, bool) {
	for a := range table {
		if strings.EqualFold(table[a].name, name) {
			return Action(a), true
		}
	}
	return 0, false
}

// Resource gives the ARN of what the action is asked for: base is
// "arn:aws:iot:REGION:ACCOUNT:", name a client id, topic, filter, thing
// ("pump1" or "pump1/shadow") or role alias. [ListRetainedMessages] has no
// resource of its own; its ARN is "*".
func (a Action) Resource(base, name string) string {
	return string(a.append(nil, base, name))
}

// append is Resource into a buffer.
func (a Action) append(buf []byte, base, name string) []byte {
	if a >= actions || table[a].kind == "" {
		return append(buf, '*')
	}
	buf = append(buf, base...)
	buf = append(buf, table[a].kind...)
	return append(buf, name...)
}

// foldASCII lowers the ASCII letters of s; action names and condition keys are
// compared so.
func foldASCII(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
