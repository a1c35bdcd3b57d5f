package shadow

import (
	"bytes"
	"strconv"

	"tidegate/gateway/jsondoc"
)

// writer appends the documents of spec/shadow.md §5. It remembers how the last time it
// wrote looks: most leaves of a document have the same.
type writer struct {
	b    []byte
	at   int64
	leaf []byte // {"timestamp":at}
}

func (w *writer) text(s string) { w.b = append(w.b, s...) }

func (w *writer) value(v *jsondoc.Value) { w.b = jsondoc.Append(w.b, v) }

// metadata mirrors v with the time of each leaf in its place.
func (w *writer) metadata(v *jsondoc.Value) { w.b = jsondoc.AppendLeaves(w.b, v, w.stamp) }

func (w *writer) stamp(b []byte, v *jsondoc.Value) []byte {
	if w.leaf == nil || v.Mark != w.at {
		w.at = v.Mark
		w.leaf = append(strconv.AppendInt(append(w.leaf[:0], `{"timestamp":`...), v.Mark, 10), '}')
	}
	return append(b, w.leaf...)
}

// sections writes {"desired":…,"reported":…} with each that has a value.
func (w *writer) sections(d *Document, delta *jsondoc.Value, write func(*jsondoc.Value)) {
	open := byte('{')
	for _, s := range [3]struct {
		name  string
		value *jsondoc.Value
	}{{`"desired":`, &d.Desired}, {`"reported":`, &d.Reported}, {`"delta":`, delta}} {
		if s.value.Kind() == jsondoc.None {
			continue
		}
		w.b = append(w.b, open)
		w.text(s.name)
		write(s.value)
		open = ','
	}
	if open == '{' {
		w.b = append(w.b, open)
	}
	w.b = append(w.b, '}')
}

// AppendMetadata appends {"desired":…,"reported":…} with the time of each leaf in its
// place, {"timestamp":SECONDS}.
func (d *Document) AppendMetadata(b []byte) []byte {
	w := writer{b: b}
	w.sections(d, nil, w.metadata)
	return w.b
}

// end writes version, time and token and closes the document.
func (w *writer) end(version int64, token *string, now int64) {
	if version > 0 {
		w.text(`,"version":`)
		w.b = strconv.AppendInt(w.b, version, 10)
	}
	w.text(`,"timestamp":`)
	w.b = strconv.AppendInt(w.b, now, 10)
	if token != nil {
		w.text(`,"clientToken":`)
		w.b = jsondoc.AppendString(w.b, *token)
	}
	w.b = append(w.b, '}')
}

// snapshot writes one side of the documents message.
func (w *writer) snapshot(d *Document) {
	w.text(`{"state":`)
	w.sections(d, nil, w.value)
	w.text(`,"metadata":`)
	w.sections(d, nil, w.metadata)
	w.text(`,"version":`)
	w.b = strconv.AppendInt(w.b, d.Version, 10)
	w.b = append(w.b, '}')
}

// write fills in the documents of a change that are wanted.
func (c *Change) write(mem *work, req *update, old *record, next *Document, now int64, want Parts) {
	w := writer{b: mem.out[:0]}
	if want&WantAccepted != 0 {
		w.text(`{"state":`)
		w.value(req.state)
		w.text(`,"metadata":`)
		w.metadata(req.state)
		w.end(next.Version, c.Token, now)
	}
	accepted := len(w.b)
	if want&WantDelta != 0 {
		if delta, differs := next.delta(&mem.trees); differs {
			w.text(`{"state":`)
			w.value(&delta)
			w.text(`,"metadata":`)
			w.metadata(&delta)
			w.end(next.Version, c.Token, now)
		}
	}
	delta := len(w.b)
	if want&WantDocuments != 0 {
		w.text(`{"previous":`)
		if old.exists() {
			w.snapshot(&old.doc)
		} else {
			w.text("null")
		}
		w.text(`,"current":`)
		w.snapshot(next)
		w.end(0, c.Token, now)
	}
	mem.out = w.b
	cut := func(from, to int) []byte {
		if from == to {
			return nil
		}
		return w.b[from:to:to]
	}
	c.Accepted, c.Delta, c.Documents = cut(0, accepted), cut(accepted, delta), cut(delta, len(w.b))
}

// getDocument writes the reply to a get.
func getDocument(mem *work, d *Document, token *string, now int64) []byte {
	delta, _ := d.delta(&mem.trees)
	w := writer{b: mem.out[:0]}
	w.text(`{"state":`)
	w.sections(d, &delta, w.value)
	w.text(`,"metadata":`)
	w.sections(d, nil, w.metadata)
	w.end(d.Version, token, now)
	mem.out = w.b
	return bytes.Clone(w.b)
}

// deleteDocument writes the reply to a delete.
func deleteDocument(version int64, token *string, now int64) []byte {
	w := writer{b: []byte(`{"version":`)}
	w.b = strconv.AppendInt(w.b, version, 10)
	w.end(0, token, now)
	return w.b
}
