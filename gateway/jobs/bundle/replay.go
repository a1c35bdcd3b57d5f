package bundle

import (
	"encoding/json"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/store"
)

// keyNewest leads, with the signer's public key behind it, to the newest bundle of that
// signer that was taken.
const keyNewest = store.KeyJob + "n/"

// newest is the newest bundle that was taken.
type newest struct {
	Issued int64  `json:"i"` // nanoseconds since 1970
	Job    string `json:"j"`
}

// Tx is what Accept needs of a *store.Unit.
type Tx interface {
	Get(key string) ([]byte, error)
	Put(key string, val []byte)
	Lock(name string)
}

// ahead is how far a bundle may come from the future: clocks differ.
const ahead = 24 * time.Hour

// Accept notes, in the unit that makes the job, that a bundle is taken. One that is not
// newer than the last of its signer is refused with Conflict, as is one from the future
// where now can be trusted: it would keep out all that follow.
func (b *Bundle) Accept(tx Tx, now time.Time, trusted bool) error {
	m := &b.Manifest
	if trusted && m.Issued.After(now.Add(ahead)) {
		return fault.New(fault.Conflict, "the bundle was issued at %s, which is in the future: look at the clock of the machine it comes from, and export it again", m.Issued.UTC().Format(time.RFC3339))
	}
	key := keyNewest + b.Signer.String()
	tx.Lock(key)
	raw, err := tx.Get(key)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "jobs cannot be read")
	}
	var last newest
	if raw != nil {
		if err := json.Unmarshal(raw, &last); err != nil {
			return fault.Wrap(fault.Internal, err, "a stored job is damaged")
		}
	}
	at := time.Unix(0, last.Issued).UTC().Format(time.RFC3339)
	switch issued := m.Issued.UnixNano(); {
	case raw == nil || issued > last.Issued:
	case issued == last.Issued && m.Job.JobID == last.Job:
		return fault.New(fault.Exists, "this bundle was imported already: job %s, issued at %s", last.Job, at)
	default:
		return fault.New(fault.Conflict, "the bundle is older (%s) than the newest one of this signer that was imported (job %s, %s): export the job again if it is still wanted", m.Issued.UTC().Format(time.RFC3339), last.Job, at)
	}
	raw, err = json.Marshal(newest{Issued: m.Issued.UnixNano(), Job: m.Job.JobID})
	if err != nil {
		return fault.Wrap(fault.Internal, err, "the import cannot be noted")
	}
	tx.Put(key, raw)
	return nil
}
