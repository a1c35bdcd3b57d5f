package topicindex_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/topicindex"
)

var (
	level  = rapid.SampledFrom([]string{"a", "b", "", "$s", "c"})
	topics = rapid.Custom(func(t *rapid.T) string {
		s := strings.Join(rapid.SliceOfN(level, 1, 4).Draw(t, "levels"), "/")
		if s == "" {
			return "a"
		}
		return s
	})
	filters = rapid.Custom(func(t *rapid.T) string {
		s := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "", "+", "$s"}), 1, 4).Draw(t, "levels"), "/")
		switch {
		case rapid.IntRange(0, 3).Draw(t, "hash") > 0 && s != "":
			return s
		case rapid.Bool().Draw(t, "only"):
			return "#"
		}
		return s + "/#"
	})
)

// TestIndexAgreesWithMatch plays random adds and removes against the plain matcher.
func TestIndexAgreesWithMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type pair struct {
			filter string
			key    int
		}
		x := topicindex.Index[int, string]{AWS: rapid.Bool().Draw(t, "aws")}
		match := mqtt.Match
		if x.AWS {
			match = mqtt.MatchAWS
		}
		have := map[pair]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				p := pair{filters.Draw(t, "filter"), rapid.IntRange(0, 3).Draw(t, "key")}
				if got, err := x.Add(p.filter, p.key, p.filter); err != nil || got != have[p] {
					t.Fatalf("Add(%v) = %v, %v, want %v", p, got, err, have[p])
				}
				have[p] = true
			},
			"remove": func(t *rapid.T) {
				p := pair{filters.Draw(t, "filter"), rapid.IntRange(0, 3).Draw(t, "key")}
				if got := x.Remove(p.filter, p.key); got != have[p] {
					t.Fatalf("Remove(%v) = %v, want %v", p, got, have[p])
				}
				delete(have, p)
			},
			"match": func(t *rapid.T) {
				topic := topics.Draw(t, "topic")
				got := map[pair]bool{}
				x.Match(topic, func(k int, f string) {
					if got[pair{f, k}] {
						t.Fatalf("%q: %q, %d twice", topic, f, k)
					}
					got[pair{f, k}] = true
				})
				for p := range have {
					if want := match(p.filter, topic); got[p] != want {
						t.Fatalf("%q under %q: %v, want %v", topic, p.filter, got[p], want)
					}
				}
			},
			"": func(t *rapid.T) {
				if x.Len() != len(have) {
					t.Fatalf("Len %d, want %d", x.Len(), len(have))
				}
			},
		})
	})
}

func TestTopicsAgreesWithMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x topicindex.Topics[int]
		have := map[string]int{}
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				topic, v := topics.Draw(t, "topic"), rapid.Int().Draw(t, "v")
				_, had := have[topic]
				if added, err := x.Set(topic, v); err != nil || added == had {
					t.Fatalf("Set(%q) = %v, %v", topic, added, err)
				}
				have[topic] = v
			},
			"delete": func(t *rapid.T) {
				topic := topics.Draw(t, "topic")
				_, had := have[topic]
				if x.Delete(topic) != had {
					t.Fatalf("Delete(%q) = %v", topic, !had)
				}
				delete(have, topic)
			},
			"match": func(t *rapid.T) {
				filter := filters.Draw(t, "filter")
				got := map[string]int{}
				x.Match(filter, func(topic string, v int) bool {
					if _, twice := got[topic]; twice {
						t.Fatalf("%q twice", topic)
					}
					got[topic] = v
					return true
				})
				for topic, v := range have {
					g, ok := got[topic]
					if ok != mqtt.Match(filter, topic) || ok && g != v {
						t.Fatalf("%q for %q: %v %d, want %d", topic, filter, ok, g, v)
					}
				}
			},
			"": func(t *rapid.T) {
				if x.Len() != len(have) {
					t.Fatalf("Len %d, want %d", x.Len(), len(have))
				}
				for topic, v := range have {
					if g, ok := x.Get(topic); !ok || g != v {
						t.Fatalf("Get(%q) = %d, %v", topic, g, ok)
					}
				}
			},
		})
	})
}

func TestFreedLevelsLeaveNothing(t *testing.T) {
	var x topicindex.Index[int, int]
	fs := []string{"a/b/c", "a/+/c", "a/b/#", "#", "+", "a"}
	for _, f := range fs {
		x.Add(f, 1, 1)
	}
	for _, f := range fs {
		if !x.Remove(f, 1) || x.Remove(f, 1) {
			t.Errorf("Remove(%q)", f)
		}
	}
	if n := testing.AllocsPerRun(10, func() { x.Match("a/b/c", func(int, int) { t.Error("found") }) }); n > 0 || x.Len() != 0 {
		t.Errorf("%v allocations, %d left", n, x.Len())
	}
}

func TestTooDeepIsRefused(t *testing.T) {
	var x topicindex.Index[int, int]
	var y topicindex.Topics[int]
	deep := strings.Repeat("/", 65535)
	if _, err := x.Add(deep, 1, 1); !errors.Is(err, topicindex.ErrTooDeep) {
		t.Errorf("filter: %v", err)
	}
	if _, err := y.Set(deep, 1); !errors.Is(err, topicindex.ErrTooDeep) {
		t.Errorf("topic: %v", err)
	}
	x.Add("#", 1, 1)
	n := 0
	x.Match(deep, func(int, int) { n++ })
	y.Match(deep, func(string, int) bool { n++; return true })
	if n != 1 || x.Remove(deep, 1) {
		t.Errorf("%d matches", n)
	}
}

func TestMatchEndsWhenToldTo(t *testing.T) {
	var x topicindex.Topics[int]
	for _, s := range []string{"a/1", "a/2", "a/3", "b"} {
		x.Set(s, 0)
	}
	var seen []string
	x.Match("#", func(s string, _ int) bool { seen = append(seen, s); return len(seen) < 2 })
	if slices.Sort(seen); len(seen) != 2 {
		t.Errorf("saw %v", seen)
	}
}

func BenchmarkMatch(b *testing.B) {
	var x topicindex.Index[int, int]
	for i := range 100_000 {
		x.Add("dt/site"+string(rune('a'+i%26))+"/"+strings.Repeat("x", i%50)+"/flow", i, i)
	}
	x.Add("dt/+/xx/#", 1, 1)
	b.ReportAllocs()
	for b.Loop() {
		x.Match("dt/sitea/xx/press", func(int, int) {})
	}
}
