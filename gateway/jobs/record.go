package jobs

import (
	"bytes"
	"fmt"
	"strconv"

	"tidegate/gateway/fault"
	"tidegate/gateway/store"
)

// The keys. Neither job nor thing names hold a slash.
//
//	job/d/JOB            the definition: Job
//	job/s/JOB            how it stands: state
//	job/x/JOB/THING      its executions on a thing: record
//	job/t/THING/JOB      nothing; leads from a thing to its jobs
//	job/q/THING          what is pending there: []pending
//	job/r/JOB/CHUNK      things that a rollout has still to come to, one a line
//	job/w/AT/KIND/…      an appointment; see alarmKey
//	job/k/TEMPLATE       a template
//
// job/f/, job/m/ and job/n/ belong to the folders below this one. The lock of a job has the name
// of its state's key, that of a thing the name of its pending list's. A record is only
// written with both held.
const (
	keyJob      = store.KeyJob + "d/"
	keyState    = store.KeyJob + "s/"
	keyRecord   = store.KeyJob + "x/"
	keyByThing  = store.KeyJob + "t/"
	keyPending  = store.KeyJob + "q/"
	keyChunk    = store.KeyJob + "r/"
	keyAlarm    = store.KeyJob + "w/"
	keyTemplate = store.KeyJob + "k/"
)

func recordKey(job, thing string) string { return keyRecord + job + "/" + thing }

func chunkKey(job string, i int) string { return fmt.Sprintf("%s%s/%06d", keyChunk, job, i) }

// perChunk is how many things share a chunk.
const perChunk = 256

// state is how a job stands; its definition is kept apart since that is larger and
// changes rarely.
type state struct {
	Status    JobStatus `json:"s"`
	Forced    bool      `json:"f,omitempty"`
	Reason    string    `json:"rc,omitempty"`
	Comment   string    `json:"c,omitempty"`
	Created   int64     `json:"ct"` // milliseconds, as all times here
	Updated   int64     `json:"ut"`
	Completed int64     `json:"et,omitempty"`
	Counts    Counts    `json:"n"`

	Rolling  bool    `json:"r,omitempty"`  // the rollout has things to come to
	Stopped  bool    `json:"x,omitempty"`  // nothing new is queued any more
	Chunks   int     `json:"k,omitempty"`  // written
	Chunk    int     `json:"ki,omitempty"` // where the rollout is
	Offset   int     `json:"ko,omitempty"`
	Notified int64   `json:"nt,omitempty"` // executions made by the rollout
	Minute   int64   `json:"m,omitempty"`  // when the minute began that Rate and InMinute are about
	Rate     float64 `json:"mr,omitempty"`
	InMinute int     `json:"mi,omitempty"`

	Sweep      sweep  `json:"w,omitempty"`
	SweepAfter string `json:"wa,omitempty"` // things up to this one have been looked at
	Alarm      int64  `json:"a,omitempty"`  // when to look at it again
}

// sweep is something that is done to all executions of a job, in steps.
type sweep string

const (
	noSweep     sweep = ""
	sweepCancel sweep = "c" // what is queued
	sweepForce  sweep = "f" // what is pending
	sweepDelete sweep = "d" // everything
)

// record is all executions of one job on one thing.
type record struct {
	Last int64       `json:"n"`           // the greatest number given so far
	Left bool        `json:"l,omitempty"` // the thing has left the groups of a continuous job
	Runs []Execution `json:"x"`           // oldest first
}

// latest gives the newest execution, nil when all were deleted.
func (rec *record) latest() *Execution {
	if len(rec.Runs) == 0 {
		return nil
	}
	return &rec.Runs[len(rec.Runs)-1]
}

// find gives an execution by number, 0 for the newest.
func (rec *record) find(number int64) *Execution {
	if number == 0 {
		return rec.latest()
	}
	for i := range rec.Runs {
		if rec.Runs[i].Number == number {
			return &rec.Runs[i]
		}
	}
	return nil
}

// pending is a place in the list of what a thing has to do.
type pending struct {
	Job       string `json:"j"`
	Number    int64  `json:"n"`
	Started   bool   `json:"s,omitempty"`
	Namespace string `json:"ns,omitempty"`
}

func unpack(b []byte, v any) error { return store.ParseJSON(b, v, "job") }

// get reads a record; ok is false when there is none.
func get(db interface {
	Get(key string) ([]byte, error)
}, key string, v any) (ok bool, err error) {
	return store.GetJSON(db, key, v, "job")
}

// parseJob reads a definition, or gives the one that was read from the same bytes.
func (r *Room) parseJob(id string, raw []byte) (*Job, error) {
	if raw == nil {
		return nil, fault.New(fault.Internal, "a stored job is damaged")
	}
	if j, ok := r.defs.Load(id); ok && bytes.Equal(j.(*Job).raw, raw) {
		return j.(*Job), nil
	}
	j := &Job{raw: raw}
	if err := unpack(raw, j); err != nil {
		return nil, err
	}
	r.defs.Store(id, j)
	return j, nil
}

// The kinds of appointments.
const (
	alarmJob  = "j"
	alarmExec = "x"
)

// alarmKey names an appointment so that keys stand in the order of time. Time 0 stands
// for a date that is not known because the clock could not be trusted.
func alarmKey(at int64, kind, job, thing string) string {
	k := fmt.Sprintf("%s%013d/%s/%s", keyAlarm, max(at, 0), kind, job)
	if thing != "" {
		k += "/" + thing
	}
	return k
}

func alarmAt(key string) int64 {
	if len(key) < len(keyAlarm)+13 {
		return 0
	}
	at, _ := strconv.ParseInt(key[len(keyAlarm):len(keyAlarm)+13], 10, 64)
	return at
}
