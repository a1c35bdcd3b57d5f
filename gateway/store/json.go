package store

import (
	"encoding/json"

	"tidegate/gateway/fault"
)

// JSON gives the record of v. What cannot be JSON is a broken invariant of who calls.
func JSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("BUG: a record that is not JSON: " + err.Error())
	}
	return b
}

// ParseJSON reads a record that JSON made. The error is fault.Internal and calls it what:
// "job".
func ParseJSON(b []byte, v any, what string) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fault.Wrap(fault.Internal, err, "a stored %s is damaged", what)
	}
	return nil
}

// GetJSON reads the record of a key; ok is false when there is none. The error is as of
// ParseJSON.
func GetJSON(db interface {
	Get(key string) ([]byte, error)
}, key string, v any, what string) (ok bool, err error) {
	b, err := db.Get(key)
	if err != nil {
		return false, fault.Wrap(fault.Internal, err, "%ss cannot be read", what)
	}
	if b == nil {
		return false, nil
	}
	return true, ParseJSON(b, v, what)
}
