package session

import (
	"encoding/binary"
	"fmt"
	"time"

	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// Will is the last will of a client, kept from its CONNECT until it was published or
// withdrawn, so that it is also published when the gateway was not there in between.
type Will struct {
	mqtt.Message
	Delay time.Duration // after the connection's end
	Due   time.Time     // when it is to be published; zero while the client is connected
}

// PutWill writes the will of client id.
func PutWill(u *store.Unit, id string, w *Will) {
	b := make([]byte, 0, 64+len(w.Payload))
	b = append(b, 1)
	b = binary.BigEndian.AppendUint64(b, uint64(w.Delay/time.Second))
	due := int64(0)
	if !w.Due.IsZero() {
		due = w.Due.UnixMilli()
	}
	b = binary.BigEndian.AppendUint64(b, uint64(due))
	u.Put(keyWill+id, appendMessage(b, &w.Message))
}

// DelWill removes it.
func DelWill(u *store.Unit, id string) { u.Del(keyWill + id) }

// Wills gives every will kept, with its client id.
func Wills(db *store.Store, fn func(id string, w Will)) error {
	var bad error
	err := db.Scan(keyWill, func(key string, v []byte) bool {
		id := key[len(keyWill):]
		if len(v) < 17 || v[0] != 1 {
			bad = fmt.Errorf("will of %q does not read", id)
			return false
		}
		m, err := parseMessage(v[17:])
		if err != nil {
			bad = fmt.Errorf("will of %q: %w", id, err)
			return false
		}
		w := Will{Message: m, Delay: time.Duration(binary.BigEndian.Uint64(v[1:])) * time.Second}
		if due := int64(binary.BigEndian.Uint64(v[9:])); due != 0 {
			w.Due = time.UnixMilli(due)
		}
		fn(id, w)
		return true
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return fmt.Errorf("read wills: %w", err)
	}
	return nil
}
