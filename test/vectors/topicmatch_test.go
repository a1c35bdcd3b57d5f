package vectors_test

import (
	"fmt"
	"testing"

	"tidegate/gateway/mqtt"
)

func TestTopicMatch(t *testing.T) {
	var set []struct {
		ID, Filter, Topic string
		Match             bool
	}
	if !load(t, "topic-match.json", &set) {
		return
	}
	for _, v := range set {
		run(t, v.ID, nil, func() error {
			if got := mqtt.MatchAWS(v.Filter, v.Topic); got != v.Match {
				return fmt.Errorf("filter %q, topic %q: got %v, want %v", v.Filter, v.Topic, got, v.Match)
			}
			return nil
		})
	}
}
