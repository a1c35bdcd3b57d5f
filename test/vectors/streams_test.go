package vectors_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"tidegate/gateway/jobs/streams"
	"tidegate/gateway/localapi/localclient"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/reserved"
	"tidegate/gateway/store"
	"tidegate/test/rawmqtt"
)

// streamSet is the file stream-get.json: one stream and what is asked of it.
type streamSet struct {
	Stream struct {
		StreamID, Description string
		StreamVersion         int64
		Files                 []struct{ FileID, Size int }
	}
	Cases []streamCase
}

// streamCase is a request and what must be answered.
type streamCase struct {
	ID     string
	Get    json.RawMessage
	Expect struct {
		Blocks []struct{ I, L int64 }
		Error  string
		C      *string
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
	var sources []streams.Source
	for _, f := range set.Stream.Files {
		blob, err := room.Add(bytes.NewReader(set.content(f.FileID)))
		if err != nil {
			t.Fatal(err)
		}
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
			return set.check(c, topic, answers)
		})
	}
}

// content is what a file of the stream has.
func (set *streamSet) content(id int) []byte {
	for _, f := range set.Stream.Files {
		if f.FileID == id {
			data := make([]byte, f.Size)
			for i := range data {
				data[i] = byte(i*7 + i>>8 + f.FileID)
			}
			return data
		}
	}
	return nil
}

// check compares what a device was sent with what a case wants.
func (set *streamSet) check(c streamCase, topic string, answers []mqtt.Message) error {
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
		if m.Topic != topic+"data/json" || got.F != asked.F || got.I != b.I || got.L != b.L || !bytes.Equal(got.P, set.content(int(asked.F))[at:at+b.L]) {
			return fmt.Errorf("block %d of %d bytes on %s, want %d of %d", got.I, got.L, m.Topic, b.I, b.L)
		}
	}
	return nil
}

func TestStreamGetThroughDoors(t *testing.T) {
	var set streamSet
	if !load(t, "stream-get.json", &set) {
		return
	}
	h := newHouse(t)
	local := localclient.New(h.data)
	defer local.Close() //nolint:errcheck // only idle connections
	call := func(op string, input any) {
		t.Helper()
		b, err := json.Marshal(input)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := h.control(op, b); err != nil || got.status != 200 {
			t.Fatalf("%s: %d %s %v", op, got.status, got.body, err)
		}
	}
	type object = map[string]any
	var files []object
	for _, f := range set.Stream.Files {
		key := fmt.Sprint(f.FileID)
		if _, err := local.AddFile(t.Context(), "vectors", key, bytes.NewReader(set.content(f.FileID))); err != nil {
			t.Fatal(err)
		}
		files = append(files, object{"fileId": f.FileID, "s3Location": object{"bucket": "vectors", "key": key}})
	}
	id := set.Stream.StreamID
	call("CreateStream", object{"streamId": id, "description": set.Stream.Description, "roleArn": "r", "files": files})
	for v := int64(1); v < set.Stream.StreamVersion; v++ {
		call("UpdateStream", object{"streamId": id})
	}
	topic := "$aws/things/pump1/streams/" + id + "/"
	g, err := h.guest("pump1", topic+"data/json", topic+"rejected/json")
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range set.Cases {
		run(t, c.ID, nil, func() error {
			h.mu.Lock()
			h.seen = nil
			h.mu.Unlock()
			if err := g.exchange(rawmqtt.AppendPublish(nil, false, topic+"get/json", c.Get, 1, 5, 0), rawmqtt.Puback); err != nil {
				return err
			}
			heard := func() []mqtt.Message {
				h.mu.Lock()
				defer h.mu.Unlock()
				return slices.DeleteFunc(slices.Clone(h.seen), func(m mqtt.Message) bool { return m.To != g.id })
			}
			if err := until(func() error { return set.check(c, topic, heard()) }); err != nil {
				return err
			}
			if err := h.settle(i); err != nil {
				return err
			}
			return set.check(c, topic, heard())
		})
	}
}
