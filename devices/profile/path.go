package profile

import (
	"fmt"
	"strconv"
	"strings"
)

// Step is one step of a path into a JSON document: a key, or the index of an array.
type Step struct {
	Key   string
	Index int // when Key is empty
}

// ParsePath reads "env.inputs[0].t". Keys may hold anything but . [ and ].
func ParsePath(s string) ([]Step, error) {
	var steps []Step
	wrong := fmt.Errorf("is %q, expected keys and indexes as in env.inputs[0].t", s)
	for i, part := range strings.Split(s, ".") {
		key, rest, _ := strings.Cut(part, "[")
		if key == "" && (i > 0 || rest == "") || strings.Contains(key, "]") {
			return nil, wrong
		}
		if key != "" {
			steps = append(steps, Step{Key: key})
		}
		if !strings.Contains(part, "[") {
			continue
		}
		for _, index := range strings.Split(rest, "[") {
			n, closed := strings.CutSuffix(index, "]")
			v, err := strconv.ParseUint(n, 10, 16)
			if !closed || err != nil {
				return nil, wrong
			}
			steps = append(steps, Step{Index: int(v)})
		}
	}
	if len(steps) == 0 || len(steps) > 32 {
		return nil, wrong
	}
	return steps, nil
}
