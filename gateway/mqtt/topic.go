package mqtt

import (
	"strings"
	"unicode/utf8"

	"tidegate/gateway/fault"
)

// MaxTopic is the longest topic or filter MQTT can carry, in bytes.
const MaxTopic = 65535

// ValidTopic says what keeps topic from being published to (MQTT 5, 4.7).
func ValidTopic(topic string) error {
	switch {
	case topic == "":
		return fault.New(fault.Invalid, "the topic is empty")
	case len(topic) > MaxTopic:
		return fault.New(fault.Invalid, "the topic is longer than 65535 bytes")
	case !utf8.ValidString(topic):
		return fault.New(fault.Invalid, "the topic is not UTF-8")
	case strings.IndexByte(topic, 0) >= 0:
		return fault.New(fault.Invalid, "the topic contains a null character")
	case strings.ContainsAny(topic, "+#"):
		return fault.New(fault.Invalid, "the topic contains a wildcard")
	}
	return nil
}

// ValidFilter says what keeps filter from being subscribed to (MQTT 5, 4.7). A shared
// subscription's filter is what follows its share name, see SplitShare.
func ValidFilter(filter string) error {
	switch {
	case filter == "":
		return fault.New(fault.Invalid, "the topic filter is empty")
	case len(filter) > MaxTopic:
		return fault.New(fault.Invalid, "the topic filter is longer than 65535 bytes")
	case !utf8.ValidString(filter):
		return fault.New(fault.Invalid, "the topic filter is not UTF-8")
	case strings.IndexByte(filter, 0) >= 0:
		return fault.New(fault.Invalid, "the topic filter contains a null character")
	}
	for rest := filter; ; {
		level, after, more := strings.Cut(rest, "/")
		if strings.ContainsAny(level, "+#") && (len(level) > 1 || level == "#" && more) {
			return fault.New(fault.Invalid, "a wildcard must fill its level, and # must be the last: %q", filter)
		}
		if !more {
			return nil
		}
		rest = after
	}
}

// SplitShare takes a shared subscription `$share/NAME/FILTER` apart (MQTT 5, 4.8.2). ok is
// false for an ordinary filter; err tells what is wrong with a shared one.
func SplitShare(filter string) (name, rest string, ok bool, err error) {
	s, ok := strings.CutPrefix(filter, "$share/")
	if !ok {
		return "", filter, false, nil
	}
	name, rest, found := strings.Cut(s, "/")
	if !found || name == "" || rest == "" || strings.ContainsAny(name, "+#") {
		return "", "", true, fault.New(fault.Invalid, "a shared subscription is $share/NAME/FILTER, with a name without wildcards: %q", filter)
	}
	return name, rest, true, nil
}

// Match says whether filter covers topic by the rules of MQTT: `a/#` covers `a`, and
// a wildcard in the first level covers no topic that begins with `$`.
func Match(filter, topic string) bool { return match(filter, topic, true) }

// MatchAWS is Match as AWS IoT does it in rules: `a/#` does not cover `a`
// (developer guide, "Topic filters").
func MatchAWS(filter, topic string) bool { return match(filter, topic, false) }

func match(filter, topic string, parent bool) bool {
	if topic == "" || topic[0] == '$' && filter != "" && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for {
		fl, frest, fmore := strings.Cut(filter, "/")
		if fl == "#" {
			return true
		}
		tl, trest, tmore := strings.Cut(topic, "/")
		if fl != "+" && fl != tl {
			return false
		}
		if !tmore {
			return !fmore || parent && frest == "#"
		}
		if !fmore {
			return false
		}
		filter, topic = frest, trest
	}
}
