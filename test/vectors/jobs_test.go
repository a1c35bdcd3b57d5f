package vectors_test

import "testing"

// sequence is an element of jobs.json or shadow.json.
type sequence struct{ Steps []step }

func TestJobs(t *testing.T) {
	each(t, "jobs.json", nil, func(v sequence) error { return newWorld(t).play(v.Steps) })
}
