package session

import (
	"encoding/json"
	"fmt"
	"time"

	"tidegate/gateway/store"
)

// maxGaps is how many gaps are kept of a session; of more, the oldest are only in the ledger.
const maxGaps = 16

// Gap is messages of a session that it does not get any more.
type Gap struct {
	From  uint64    `json:"from"`            // number in the journal of the first
	To    uint64    `json:"to"`              // and of the last
	Count uint64    `json:"count,omitempty"` // how many; 0: not known, at most To-From+1
	At    time.Time `json:"at"`
	Why   string    `json:"why"`
}

// PutGaps writes the gaps of the session of client id, the newest of them last.
func PutGaps(u *store.Unit, id string, gaps []Gap) error {
	b, err := json.Marshal(gaps)
	if err != nil {
		return fmt.Errorf("encode gaps of session %q: %w", id, err)
	}
	u.Put(keyGaps+id, b)
	return nil
}

// AddGap gives gaps with g at the end, in a list of its own. With join g continues the last one.
func AddGap(gaps []Gap, g Gap, join bool) []Gap {
	n := len(gaps)
	if join && n > 0 {
		last := gaps[n-1]
		g.From, g.Count = last.From, g.Count+last.Count
		n--
	}
	n = min(n, len(gaps))
	from := max(0, n+1-maxGaps)
	return append(append(make([]Gap, 0, n-from+1), gaps[from:n]...), g)
}

// Gaps gives the gaps of every session that has any.
func Gaps(db *store.Store, fn func(id string, gaps []Gap)) error {
	var bad error
	err := db.Scan(keyGaps, func(key string, v []byte) bool {
		var gaps []Gap
		if err := json.Unmarshal(v, &gaps); err != nil {
			bad = fmt.Errorf("gaps %q do not read: %w", key, err)
			return false
		}
		fn(key[len(keyGaps):], gaps)
		return true
	})
	if err == nil {
		err = bad
	}
	return err
}
