package vectors_test

import "testing"

func TestJobs(t *testing.T) {
	var set []struct {
		ID    string
		Steps []step
	}
	if !load(t, "jobs.json", &set) {
		return
	}
	for _, v := range set {
		run(t, v.ID, nil, func() error { return newWorld(t).play(v.Steps) })
	}
}
