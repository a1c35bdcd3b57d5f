package vectors_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"tidegate/gateway/jobs/streams"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/reserved"
	"tidegate/gateway/store"
)

// streamSet is the file stream-get.json: one stream and what is asked of it.
type streamSet struct {
	Stream struct {
		StreamID, Description string
		StreamVersion         int64
		Files                 []struct{ FileID, Size int }
	}
	Cases []struct {
		ID     string
		Get    json.RawMessage
		Expect struct {
			Blocks []struct{ I, L int64 }
			Error  string
			C      *string
		}
	}
}

func TestStreamGet(t *testing.T) {
	var set streamSet
	if !load(t, "stream-get.json", &set) {
		return
	}
	w := newWorld(t)
	room, err := streams.Open(t.TempDir(), w.db, w.clk)
	if err != nil {
		t.Fatal(err)
	}
	w.topics.Serve(awstopic.Streams, reserved.NewStreams(room, w.reg.Base(), slog.New(slog.DiscardHandler)).Handle)
	content := map[int64][]byte{}
	var sources []streams.Source
	for _, f := range set.Stream.Files {
		data := make([]byte, f.Size)
		for i := range data {
			data[i] = byte(i*7 + i>>8 + f.FileID)
		}
		blob, err := room.Add(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		content[int64(f.FileID)] = data
		sources = append(sources, streams.Source{ID: f.FileID, Hash: blob.Hash})
	}
	err = w.commit(func(u *store.Unit, _ func(mqtt.Message)) error {
		_, err := room.Create(u, set.Stream.StreamID, set.Stream.Description, "", sources)
		for v := int64(1); err == nil && v < set.Stream.StreamVersion; v++ {
			_, err = room.Update(u, set.Stream.StreamID, nil, "", nil)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range set.Cases {
		run(t, c.ID, nil, func() error {
			topic := "$aws/things/pump1/streams/" + set.Stream.StreamID + "/"
			w.seen = nil
			if err := w.publish(mqtt.Message{Topic: topic + "get/json", Payload: c.Get, QoS: 1, From: "pump1"}); err != nil {
				return err
			}
			answers := w.seen[1:]
			want := len(c.Expect.Blocks)
			if c.Expect.Error != "" {
				want = 1
			}
			if len(answers) != want {
				return fmt.Errorf("%d answers, want %d", len(answers), want)
			}
			for i, m := range answers {
				var got struct {
					C       *string
					F, L, I int64
					P       []byte
					O       string
				}
				if err := json.Unmarshal(m.Payload, &got); err != nil {
					return err
				}
				if (got.C == nil) != (c.Expect.C == nil) || got.C != nil && *got.C != *c.Expect.C {
					return fmt.Errorf("token %v, want %v", got.C, c.Expect.C)
				}
				if c.Expect.Error != "" {
					if m.Topic != topic+"rejected/json" || got.O != c.Expect.Error {
						return fmt.Errorf("%s %s, want %s", m.Topic, m.Payload, c.Expect.Error)
					}
					continue
				}
				b := c.Expect.Blocks[i]
				var asked struct{ F, L int64 }
				if err := json.Unmarshal(c.Get, &asked); err != nil {
					return err
				}
				at := b.I * asked.L
				if m.Topic != topic+"data/json" || got.F != asked.F || got.I != b.I || got.L != b.L || !bytes.Equal(got.P, content[asked.F][at:at+b.L]) {
					return fmt.Errorf("block %d of %d bytes on %s, want %d of %d", got.I, got.L, m.Topic, b.I, b.L)
				}
			}
			return nil
		})
	}
}
