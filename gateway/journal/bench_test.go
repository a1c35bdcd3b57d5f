package journal_test

import (
	"testing"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/journal"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/store"
)

// BenchmarkBlocks sends runs of 32 messages of 256 bytes through the journal and reads them behind, with a cursor that
// keeps up.
func BenchmarkBlocks(b *testing.B) {
	db, err := store.Open(store.DefaultConfig(b.TempDir()), clock.System())
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	j, err := journal.Open(db, clock.System(), nil, journal.DefaultConfig())
	if err != nil {
		b.Fatal(err)
	}
	db.Start()
	var c *journal.Cursor
	if err := db.Wait(func(u *store.Unit) error { c = j.Create(u, "c"); return nil }); err != nil {
		b.Fatal(err)
	}
	const n = 32
	run := &mqtt.Run{Topic: "dt/pump1/flow", QoS: 1, From: "pump1", At: time.Now()}
	for range n {
		at := uint32(len(run.Buf))
		run.Buf = mqtt.AppendPublish(run.Buf, &mqtt.Message{Topic: run.Topic, QoS: 1, Payload: make([]byte, 256)}, false, 1)
		run.Frames = append(run.Frames, mqtt.Frame{Start: at, ID: at + 2 + 1 + uint32(len(run.Topic)) + 2})
	}
	ch, cancel := j.Watch()
	defer cancel()
	read := make(chan int, 1)
	total := b.N * n
	go func() {
		r, got := j.Reader(c.Pos()), 0
		for got < total {
			first, run, ok, err := r.Next()
			if err != nil {
				b.Error(err)
				break
			}
			if !ok {
				<-ch
				continue
			}
			got += run.Len()
			c.Move(first + uint64(run.Len()))
		}
		read <- got
	}()
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		u := db.NewUnit()
		u.Append(journal.Block(run))
		if err := db.Submit(u); err != nil {
			b.Fatal(err)
		}
	}
	if got := <-read; got != total {
		b.Fatalf("read %d of %d", got, total)
	}
	b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "msg/s")
}
