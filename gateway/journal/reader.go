package journal

import (
	"errors"
	"fmt"

	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// GapError says that records From to To are not there. Reading goes on behind them.
type GapError struct {
	From, To uint64
	Why      string
	Unwanted bool // every cursor had passed them
}

func (e *GapError) Error() string {
	return fmt.Sprintf("records %d to %d are missing: %s", e.From, e.To, e.Why)
}

// Reader reads the journal in order. It belongs to one goroutine; it needs no Close.
type Reader struct {
	j    *Journal
	recs *store.Records
	dec  decoder
	run  mqtt.Run
}

// Reader gives a reader that begins with the record numbered from; 0 means the oldest there is.
func (j *Journal) Reader(from uint64) *Reader {
	return &Reader{j: j, recs: j.db.Records(from)}
}

// Pos gives the number that Next will begin with.
func (r *Reader) Pos() uint64 { return r.recs.Pos() }

// Next gives the next records: a run whose first message has the number first. It never waits: ok is false when
// everything committed has been read; Watch tells when there is more. A record may be seen here before the Done of
// its unit has run. A gap is told once, as a *GapError; any other error may be tried again. run is the
// reader's and changes with the next call; what Buf points to never does and may be kept.
func (r *Reader) Next() (first uint64, run *mqtt.Run, ok bool, err error) {
	pos := r.recs.Pos()
	first, rec, ok, err := r.recs.Next()
	if err != nil {
		var hole *store.HoleError
		if errors.As(err, &hole) {
			err = r.j.gap(hole)
		}
		return 0, nil, false, err
	}
	if !ok {
		return 0, nil, false, nil
	}
	if err := r.dec.decode(&r.run, rec.Data, rec.Count); err != nil {
		return 0, nil, false, r.j.gap(&store.HoleError{From: max(pos, first), To: first + uint64(rec.Count) - 1, Err: err})
	}
	if first < pos { // begin in the middle of a block
		r.run.Frames = r.run.Frames[pos-first:]
		first = pos
	}
	return first, &r.run, true, nil
}

// gap explains a hole: by the ledger, by nobody having wanted the records, or not at all, which is counted.
func (j *Journal) gap(h *store.HoleError) *GapError {
	g := &GapError{From: h.From, To: h.To}
	if why, _, ok := j.why(h.From); ok {
		g.Why = why
		return g
	}
	j.mu.Lock()
	floor := j.floor
	j.mu.Unlock()
	if h.Err == nil && h.To < floor {
		g.Why, g.Unwanted = "no cursor wanted them any more", true
		return g
	}
	g.Why = "unknown"
	if h.Err != nil {
		g.Why = h.Err.Error()
	}
	j.unexplained.Add(h.To - h.From + 1)
	j.log.Error("journal has a gap that the ledger does not explain", "from", h.From, "to", h.To, "why", g.Why)
	j.lose(g)
	return g
}

// lose enters an unexplained gap into the ledger, so that it is told once and for all.
func (j *Journal) lose(g *GapError) {
	u := j.db.NewUnit()
	u.Vital = true
	j.Lose(u, Loss{Name: "journal", From: g.From, To: g.To, Why: g.Why})
	if err := j.db.Submit(u); err != nil {
		j.log.Warn("gap could not be entered into the ledger", "err", err)
	}
}
