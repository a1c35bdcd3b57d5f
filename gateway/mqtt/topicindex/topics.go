package topicindex

import "strings"

// Topics finds the topics that a filter covers: retained messages, for one. Each topic
// carries one value. The zero Topics is empty.
type Topics[V any] struct {
	root leaf[V]
	size int
}

type leaf[V any] struct {
	kids map[string]*leaf[V]
	val  V
	set  bool
}

// Len gives the number of topics.
func (x *Topics[V]) Len() int { return x.size }

// Set gives topic the value val and says whether the topic is new.
func (x *Topics[V]) Set(topic string, val V) (added bool, err error) {
	if strings.Count(topic, "/") >= MaxLevels {
		return false, ErrTooDeep
	}
	n := &x.root
	for rest, more := topic, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		k := n.kids[level]
		if k == nil {
			if n.kids == nil {
				n.kids = map[string]*leaf[V]{}
			}
			k = &leaf[V]{}
			n.kids[strings.Clone(level)] = k
		}
		n = k
	}
	added = !n.set
	n.val, n.set = val, true
	if added {
		x.size++
	}
	return added, nil
}

// Get gives the value of topic.
func (x *Topics[V]) Get(topic string) (val V, ok bool) {
	n := &x.root
	for rest, more := topic, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if n = n.kids[level]; n == nil {
			return val, false
		}
	}
	return n.val, n.set
}

// Delete takes topic out and says whether it was in.
func (x *Topics[V]) Delete(topic string) bool {
	if !x.root.delete(topic) {
		return false
	}
	x.size--
	return true
}

func (n *leaf[V]) delete(topic string) bool {
	level, rest, more := strings.Cut(topic, "/")
	k := n.kids[level]
	if k == nil || more && !k.delete(rest) || !more && !k.set {
		return false
	}
	if !more {
		var zero V
		k.val, k.set = zero, false
	}
	if len(k.kids) == 0 && !k.set {
		if delete(n.kids, level); len(n.kids) == 0 {
			n.kids = nil
		}
	}
	return true
}

// Match calls fn for every topic that filter covers, in no particular order, until fn
// returns false. `a/#` covers `a`; a wildcard in the first level covers no topic that
// begins with `$`. fn must not change the index.
func (x *Topics[V]) Match(filter string, fn func(topic string, val V) bool) {
	x.root.match(filter, "", true, fn)
}

func (n *leaf[V]) match(filter, at string, top bool, fn func(string, V) bool) bool {
	level, rest, more := strings.Cut(filter, "/")
	switch level {
	case "#":
		return n.all(at, top, fn)
	case "+":
		for l, k := range n.kids {
			if top && strings.HasPrefix(l, "$") {
				continue
			}
			if !k.step(rest, more, join(at, l, top), fn) {
				return false
			}
		}
		return true
	}
	if k := n.kids[level]; k != nil {
		return k.step(rest, more, join(at, level, top), fn)
	}
	return true
}

func (n *leaf[V]) step(rest string, more bool, at string, fn func(string, V) bool) bool {
	if more {
		if rest == "#" && n.set && !fn(at, n.val) { // the parent level itself
			return false
		}
		return n.match(rest, at, false, fn)
	}
	return !n.set || fn(at, n.val)
}

// all visits everything below n, not n itself.
func (n *leaf[V]) all(at string, top bool, fn func(string, V) bool) bool {
	for l, k := range n.kids {
		if top && strings.HasPrefix(l, "$") {
			continue
		}
		path := join(at, l, top)
		if k.set && !fn(path, k.val) || !k.all(path, false, fn) {
			return false
		}
	}
	return true
}

func join(at, level string, top bool) string {
	if top {
		return level
	}
	return at + "/" + level
}
