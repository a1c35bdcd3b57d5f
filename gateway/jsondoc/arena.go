package jsondoc

// Arena is memory for the trees of one piece of work: those that its methods make hold
// until Reset, and then it is used again. It saves a busy caller most of what trees cost.
// A nil *Arena takes from the heap and its trees last as long as they are held; the
// functions of the package are its methods. An Arena must not be used concurrently.
type Arena struct {
	chunk []Member // what is used of the present one; earlier ones belong to their trees
	stack []Member // empty between parses
}

const (
	firstChunk = 128
	keepChunk  = 2048 // members; more is given back at Reset
)

// Reset ends the life of every tree the arena made.
func (a *Arena) Reset() {
	if cap(a.chunk) > keepChunk || cap(a.stack) > keepChunk {
		*a = Arena{}
		return
	}
	clear(a.chunk)
	clear(a.stack[:cap(a.stack)])
	a.chunk = a.chunk[:0]
}

// take gives room for n members.
func (a *Arena) take(n int) []Member {
	if n == 0 {
		return nil
	}
	if a == nil {
		return make([]Member, 0, n)
	}
	if n > cap(a.chunk)-len(a.chunk) {
		a.chunk = make([]Member, 0, max(firstChunk, 2*cap(a.chunk), n))
	}
	at := len(a.chunk)
	a.chunk = a.chunk[:at+n]
	return a.chunk[at : at : at+n]
}

// Parse is the function Parse with the arena's memory.
func (a *Arena) Parse(b []byte, o Options) (Value, error) { return parse(a, b, o) }

// Merge is the function Merge with the arena's memory; the result shares that of dst and
// src.
func (a *Arena) Merge(dst, src *Value) Value { return merge(a, dst, src) }

// Diff is the function Diff with the arena's memory; the result shares that of want.
func (a *Arena) Diff(want, have *Value) (Value, bool) { return diff(a, want, have) }

// DecodeBinary is the function DecodeBinary with the arena's memory.
func (a *Arena) DecodeBinary(s string, base int64) (v Value, rest string, err error) {
	return decode(a, s, base)
}
