package vectors_test

import "testing"

func TestShadow(t *testing.T) {
	each(t, "shadow.json", nil, func(v sequence) error { return newWorld(t).play(v.Steps) })
}
