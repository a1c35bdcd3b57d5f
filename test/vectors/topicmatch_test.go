package vectors_test

import (
	"fmt"
	"testing"

	"tidegate/gateway/mqtt"
)

// topicVector is an element of topic-match.json.
type topicVector struct {
	Filter, Topic string
	Match         bool
}

func TestTopicMatch(t *testing.T) {
	each(t, "topic-match.json", nil, func(v topicVector) error {
		if got := mqtt.MatchAWS(v.Filter, v.Topic); got != v.Match {
			return fmt.Errorf("filter %q, topic %q: got %v, want %v", v.Filter, v.Topic, got, v.Match)
		}
		return nil
	})
}
