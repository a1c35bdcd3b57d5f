// Package topicindex answers the two questions a broker asks all day: which filters
// cover this topic (Index), and which of these topics does that filter cover (Topics).
//
// Both are tries with one node per topic level. A lookup costs what it finds, not what
// is stored: an Index with a hundred thousand exact filters answers as fast as one
// with ten. Neither is safe for concurrent use; whoever owns one owns its lock.
//
//	var x topicindex.Index[*Session, Options]
//	x.Add("dt/+/flow", s, opt)
//	x.Match("dt/pump1/flow", func(s *Session, o Options) { … })
package topicindex

import (
	"errors"
	"slices"
	"strings"
)

// MaxLevels is the deepest filter or topic that is taken in. Every level costs a node,
// so that a filter of 65,535 slashes would cost megabytes; nothing honest comes near.
const MaxLevels = 200

// ErrTooDeep is what Add and Set say to a filter or topic of more than MaxLevels levels.
var ErrTooDeep = errors.New("topicindex: too many levels")

// Index finds the filters that cover a topic. Under one filter each key stands once.
// The zero Index is empty and matches by the rules of MQTT; set AWS before the first
// Match for the rules of AWS IoT's rule engine, where `a/#` does not cover `a`.
type Index[K comparable, V any] struct {
	AWS  bool
	root node[K, V]
	size int
}

type node[K comparable, V any] struct {
	kids map[string]*node[K, V] // literal levels and "+"
	plus *node[K, V]
	here bag[K, V] // filters that end here
	rest bag[K, V] // filters that end here with /#
}

// bag is a small map: most filters have one key, for which a map would cost ten times
// the memory.
type bag[K comparable, V any] struct {
	few  []pair[K, V]
	many map[K]V // instead of few, from fewKeys on
}

type pair[K comparable, V any] struct {
	key K
	val V
}

const fewKeys = 8

func (b *bag[K, V]) empty() bool { return len(b.few) == 0 && b.many == nil }

func (b *bag[K, V]) put(key K, val V) (had bool) {
	if b.many != nil {
		_, had = b.many[key]
		b.many[key] = val
		return had
	}
	for i := range b.few {
		if b.few[i].key == key {
			b.few[i].val = val
			return true
		}
	}
	if len(b.few) < fewKeys {
		b.few = append(b.few, pair[K, V]{key, val})
		return false
	}
	b.many = make(map[K]V, 2*fewKeys)
	for _, p := range b.few {
		b.many[p.key] = p.val
	}
	b.few = nil
	b.many[key] = val
	return false
}

func (b *bag[K, V]) take(key K) bool {
	if b.many != nil {
		if _, ok := b.many[key]; !ok {
			return false
		}
		if delete(b.many, key); len(b.many) == 0 {
			b.many = nil
		}
		return true
	}
	for i := range b.few {
		if b.few[i].key == key {
			if b.few = slices.Delete(b.few, i, i+1); len(b.few) == 0 {
				b.few = nil
			}
			return true
		}
	}
	return false
}

func (b *bag[K, V]) each(fn func(K, V)) {
	for i := range b.few {
		fn(b.few[i].key, b.few[i].val)
	}
	for k, v := range b.many {
		fn(k, v)
	}
}

// Len gives the number of filter and key pairs.
func (x *Index[K, V]) Len() int { return x.size }

// Add puts key under filter with val, replacing what it had there; it says whether
// there was something. filter must be valid.
func (x *Index[K, V]) Add(filter string, key K, val V) (replaced bool, err error) {
	if strings.Count(filter, "/") >= MaxLevels {
		return false, ErrTooDeep
	}
	n := &x.root
	for rest, more := filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		switch level {
		case "#":
			replaced = n.rest.put(key, val)
			if !replaced {
				x.size++
			}
			return replaced, nil
		case "+":
			if n.plus == nil {
				n.plus = &node[K, V]{}
			}
			n = n.plus
		default:
			k := n.kids[level]
			if k == nil {
				if n.kids == nil {
					n.kids = map[string]*node[K, V]{}
				}
				k = &node[K, V]{}
				n.kids[strings.Clone(level)] = k
			}
			n = k
		}
	}
	replaced = n.here.put(key, val)
	if !replaced {
		x.size++
	}
	return replaced, nil
}

// Remove takes key from under filter and says whether it stood there. Levels that
// hold nothing any more are freed.
func (x *Index[K, V]) Remove(filter string, key K) bool {
	if !x.root.remove(filter, key) {
		return false
	}
	x.size--
	return true
}

func (n *node[K, V]) remove(filter string, key K) bool {
	level, rest, more := strings.Cut(filter, "/")
	if level == "#" {
		return n.rest.take(key)
	}
	k := n.plus
	if level != "+" {
		k = n.kids[level]
	}
	if k == nil {
		return false
	}
	if more && !k.remove(rest, key) || !more && !k.here.take(key) {
		return false
	}
	if k.kids == nil && k.plus == nil && k.here.empty() && k.rest.empty() {
		if level == "+" {
			n.plus = nil
		} else if delete(n.kids, level); len(n.kids) == 0 {
			n.kids = nil
		}
	}
	return true
}

// Match calls fn for every filter and key that covers topic, in no particular order. A
// wildcard in the first level covers no topic that begins with `$` (MQTT 5, 4.7.2). fn
// must not change the index.
func (x *Index[K, V]) Match(topic string, fn func(K, V)) {
	if topic == "" {
		return
	}
	x.root.match(topic, topic[0] == '$', !x.AWS, fn)
}

func (n *node[K, V]) match(rest string, sys, parent bool, fn func(K, V)) {
	if !sys {
		n.rest.each(fn)
	}
	level, rest, more := strings.Cut(rest, "/")
	if k := n.kids[level]; k != nil {
		k.step(rest, more, parent, fn)
	}
	if n.plus != nil && !sys {
		n.plus.step(rest, more, parent, fn)
	}
}

func (n *node[K, V]) step(rest string, more, parent bool, fn func(K, V)) {
	if more {
		n.match(rest, false, parent, fn)
		return
	}
	n.here.each(fn)
	if parent {
		n.rest.each(fn)
	}
}
