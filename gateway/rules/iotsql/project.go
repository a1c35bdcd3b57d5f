package iotsql

import "slices"

// projection makes the outgoing payload.
type projection func(in *Input) []byte

// compiledItem is an item of a selection.
type compiledItem struct {
	star bool
	expr expr
	key  []string
}

func (c *compiler) items(items []item) ([]compiledItem, *SyntaxError) {
	out := make([]compiledItem, len(items))
	for i, it := range items {
		out[i] = compiledItem{star: it.star, key: it.key}
		if !it.star {
			var err *SyntaxError
			if out[i].expr, err = c.expr(it.term); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// top compiles the selection of a statement.
func (c *compiler) top(sel selection) (projection, *SyntaxError) {
	items, err := c.items(sel.items)
	if err != nil {
		return nil, err
	}
	if sel.value {
		if sel.items[0].term.op == opStar {
			return func(in *Input) []byte { return in.Payload }, nil
		}
		return topValue(items[0].expr, c.version), nil
	}
	if len(items) == 1 && items[0].star {
		return func(in *Input) []byte { return in.Payload }, nil
	}
	plain := map[string]bool{} // keys, while they are all different and none nests
	for i, it := range items {
		if it.star && i > 0 || !it.star && (len(it.key) > 1 || plain[it.key[0]]) {
			plain = nil
			break
		}
		if !it.star {
			plain[it.key[0]] = true
		}
	}
	if plain == nil {
		return func(in *Input) []byte {
			v := in.project(items, in.star)
			return in.appendJSON(nil, v, 0)
		}, nil
	}
	return topPlain(items), nil
}

// topValue is SELECT VALUE: the value itself, and nothing at all for Undefined. An array
// cannot stand at the top in version 2015-10-08.
func topValue(e expr, v Version) projection {
	return func(in *Input) []byte {
		val := e(in)
		if val.kind == undefined {
			return nil
		}
		if val.kind == array && v == V2015 {
			in.fail(errTopArray)
			return nil
		}
		return in.appendJSON(nil, val, 0)
	}
}

// topPlain writes keys that are all different straight out, and the payload in front of
// them as it came when none of its keys is among them.
func topPlain(items []compiledItem) projection {
	star := items[0].star
	added := items
	if star {
		added = items[1:]
	}
	keys := make([][]byte, len(added))
	for i, it := range added {
		keys[i] = append(appendString(nil, it.key[0]), ':')
	}
	clash := func(in *Input) bool {
		return slices.ContainsFunc(added, func(it compiledItem) bool { return in.doc.member(0, it.key[0]) != 0 })
	}
	return func(in *Input) []byte {
		dst := make([]byte, 1, 64+16*len(added))
		dst[0] = '{'
		if star && in.root() && in.doc.nodes[0].kind == object {
			if clash(in) {
				v := in.project(items, in.star)
				return in.appendJSON(nil, v, 0)
			}
			if root := in.doc.nodes[0]; root.next > 1 {
				dst = slices.Grow(dst, len(in.Payload))
				dst = append(dst, in.Payload[root.start+1:root.end-1]...)
			}
		}
		for i, it := range added {
			v := it.expr(in)
			if v.kind == undefined {
				continue
			}
			if len(dst) > 1 {
				dst = append(dst, ',')
			}
			dst = in.appendJSON(append(dst, keys[i]...), v, 1)
		}
		return append(dst, '}')
	}
}

// project builds the object of a selection; star gives what * stands for. Of what is no
// object * adds nothing.
func (in *Input) project(items []compiledItem, star func() value) value {
	if len(items) == 1 && items[0].star {
		return star()
	}
	var b objectBuilder
	for _, it := range items {
		if it.star {
			if v := star(); v.kind == object {
				for _, m := range in.members(v) {
					b.set(m.key, m.val)
				}
			}
			continue
		}
		in.spend(1)
		in.setPath(&b, it.key, it.expr(in))
	}
	return objectValue(b.members)
}

// setPath sets a key that may nest, adding to the object that is there already.
func (in *Input) setPath(b *objectBuilder, key []string, v value) {
	if len(key) == 1 || v.kind == undefined {
		b.set(key[0], v)
		return
	}
	var inner objectBuilder
	if i := b.find(key[0]); i >= 0 && b.members[i].val.kind == object {
		for _, m := range in.members(b.members[i].val) {
			inner.set(m.key, m.val)
		}
	}
	in.setPath(&inner, key[1:], v)
	b.set(key[0], objectValue(inner.members))
}

// query compiles a nested SELECT. Its source decides what it gives: an array gives an
// array of what each element that passes WHERE gives, an object what it gives itself,
// anything else Undefined.
func (c *compiler) query(q *query) (expr, *SyntaxError) {
	source, err := c.expr(q.source)
	if err != nil {
		return nil, err
	}
	c.nested++
	defer func() { c.nested-- }()
	items, err := c.items(q.sel.items)
	if err != nil {
		return nil, err
	}
	where := predicate(func(*Input) bool { return true })
	if q.where != nil {
		if where, err = c.where(q.where); err != nil {
			return nil, err
		}
	}
	one := func(in *Input) value {
		if !where(in) {
			return undef
		}
		return in.project(items, in.element)
	}
	if q.sel.value {
		e := items[0].expr
		if q.sel.items[0].term.op == opStar {
			e = (*Input).element
		}
		one = func(in *Input) value {
			if !where(in) {
				return undef
			}
			return e(in)
		}
	}
	alias := q.alias
	return func(in *Input) value {
		src := source(in)
		if src.kind != array && src.kind != object {
			return undef
		}
		at := len(in.scopes)
		in.scopes = append(in.scopes, scope{alias: alias})
		var result value
		if src.kind == object {
			in.scopes[at].elem = src
			result = one(in)
		} else {
			var list []value
			for _, e := range in.elements(src) {
				if !in.spend(1) {
					break
				}
				in.scopes[at].elem = e
				if v := one(in); v.kind != undefined {
					list = append(list, v)
				}
			}
			result = arrayValue(list)
		}
		in.scopes = in.scopes[:at]
		return result
	}, nil
}

// element is what * stands for in a nested query.
func (in *Input) element() value { return in.scopes[len(in.scopes)-1].elem }

// exists compiles EXISTS: whether a query gives at least one element, or an object at all.
func (c *compiler) exists(q *query) (expr, *SyntaxError) {
	e, err := c.query(q)
	return func(in *Input) value {
		v := e(in)
		if v.kind == array {
			return boolValue(len(v.box.list) > 0)
		}
		return boolValue(v.kind != undefined)
	}, err
}
