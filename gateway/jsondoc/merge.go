package jsondoc

import "strings"

// Equal says whether a and b are the same value: numbers by value, arrays by order,
// objects by their members. Marks do not count.
func Equal(a, b *Value) bool {
	if a.kind != b.kind || len(a.kids) != len(b.kids) {
		return false
	}
	if a.kind == Number {
		return sameNumber(a.text, b.text)
	}
	if a.text != b.text {
		return false
	}
	for i := range a.kids {
		if a.kids[i].Key != b.kids[i].Key || !Equal(&a.kids[i].Value, &b.kids[i].Value) {
			return false
		}
	}
	return true
}

// Merge gives dst changed by the patch src: a null in src removes the member, an object
// in both is merged member by member, anything else in src replaces what dst has (RFC
// 7396, JSON Merge Patch; spec/shadow.md §3). Arrays are replaced as a whole. What is
// left of an object whose last member is removed is an empty object. dst may be the zero
// Value; src is not null itself.
func Merge(dst, src *Value) Value { return merge(nil, dst, src) }

func merge(a *Arena, dst, src *Value) Value {
	if src.kind != Object || dst.kind != Object {
		return withoutNulls(a, src)
	}
	if len(src.kids) == 0 {
		return *dst
	}
	if src.flags&nullBelow == 0 && covers(src, dst) {
		return *src
	}
	d, s := dst.kids, src.kids
	kids := a.take(len(d) + len(s))
	for len(d) > 0 || len(s) > 0 {
		order := -1
		if len(d) == 0 {
			order = 1
		} else if len(s) > 0 {
			order = strings.Compare(d[0].Key, s[0].Key)
		}
		if order < 0 {
			kids = append(kids, d[0])
			d = d[1:]
			continue
		}
		if s[0].Value.kind != Null {
			old := &nothing
			if order == 0 {
				old = &d[0].Value
			}
			kids = append(kids, Member{Key: s[0].Key, Value: merge(a, old, &s[0].Value)})
		}
		if order == 0 {
			d = d[1:]
		}
		s = s[1:]
	}
	return ordered(kids)
}

// covers says whether a patch without nulls has every member of dst, so that nothing of dst is left: a device that tells
// all its readings anew.
func covers(src, dst *Value) bool {
	if len(src.kids) < len(dst.kids) {
		return false
	}
	s := src.kids
	for i := range dst.kids {
		d := &dst.kids[i]
		for len(s) > 0 && s[0].Key < d.Key {
			s = s[1:]
		}
		if len(s) == 0 || s[0].Key != d.Key || d.Value.kind == Object && s[0].Value.kind == Object && !covers(&s[0].Value, &d.Value) {
			return false
		}
		s = s[1:]
	}
	return true
}

// nothing stands for the member that is not there; it is never written.
var nothing Value

// withoutNulls gives v without the members that are null, at any depth but not inside
// arrays.
func withoutNulls(a *Arena, v *Value) Value {
	if v.kind != Object || v.flags&nullBelow == 0 {
		return *v
	}
	kids := a.take(len(v.kids))
	for i := range v.kids {
		if m := &v.kids[i]; m.Value.kind != Null {
			kids = append(kids, Member{Key: m.Key, Value: withoutNulls(a, &m.Value)})
		}
	}
	return ordered(kids)
}

// Diff gives what of want is missing or different in have, and whether anything is: a
// member that have lacks comes whole, two objects are compared member by member, and
// anything else that is not equal comes whole. What only have has does not show
// (spec/shadow.md §3.1). have may be the zero Value.
func Diff(want, have *Value) (Value, bool) { return diff(nil, want, have) }

func diff(a *Arena, want, have *Value) (Value, bool) {
	if want.kind != Object || have.kind != Object {
		if want.kind == have.kind && Equal(want, have) {
			return Value{}, false
		}
		return *want, want.kind != None
	}
	var kids []Member
	h := have.kids
	for i := range want.kids {
		w := &want.kids[i]
		for len(h) > 0 && h[0].Key < w.Key {
			h = h[1:]
		}
		other := &nothing
		if len(h) > 0 && h[0].Key == w.Key {
			other = &h[0].Value
		}
		if d, differs := diff(a, &w.Value, other); differs {
			if kids == nil {
				kids = a.take(len(want.kids) - i)
			}
			kids = append(kids, Member{Key: w.Key, Value: d})
		}
	}
	if kids == nil {
		return Value{}, false
	}
	return ordered(kids), true
}

// Undo gives the patch that Merge turns now into was with, and whether they differ at all. was must hold no null, as
// what Merge gives does not; either may be the zero Value. Two numbers differ that are written differently. Marks do not
// count: those of was come along where the patch has its values.
func Undo(now, was *Value) (patch Value, differs bool) { return undo(nil, now, was) }

// Undo is the function Undo with the arena's memory; the result shares that of was.
func (a *Arena) Undo(now, was *Value) (patch Value, differs bool) { return undo(a, now, was) }

func undo(a *Arena, now, was *Value) (Value, bool) {
	if now.kind != Object || was.kind != Object {
		if was.kind == None {
			return NullValue(), now.kind != None
		}
		return *was, !identical(now, was)
	}
	var kids []Member
	n, w := now.kids, was.kids
	for len(n) > 0 || len(w) > 0 {
		order := -1
		if len(n) == 0 {
			order = 1
		} else if len(w) > 0 {
			order = strings.Compare(n[0].Key, w[0].Key)
		}
		there, then := &nothing, &nothing
		key := ""
		if order <= 0 {
			key, there, n = n[0].Key, &n[0].Value, n[1:]
		}
		if order >= 0 {
			key, then, w = w[0].Key, &w[0].Value, w[1:]
		}
		if d, differs := undo(a, there, then); differs {
			if kids == nil {
				kids = a.take(len(n) + len(w) + 1)
			}
			kids = append(kids, Member{Key: key, Value: d})
		}
	}
	if kids == nil {
		return Value{}, false
	}
	return ordered(kids), true
}

// identical is Equal for values that must also be written alike.
func identical(a, b *Value) bool {
	if a.kind != b.kind || a.text != b.text || len(a.kids) != len(b.kids) {
		return false
	}
	for i := range a.kids {
		if a.kids[i].Key != b.kids[i].Key || !identical(&a.kids[i].Value, &b.kids[i].Value) {
			return false
		}
	}
	return true
}
