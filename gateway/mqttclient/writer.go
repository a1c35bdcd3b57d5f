package mqttclient

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"time"
)

const (
	// waiting is how many bytes may wait for the connection before who writes waits as well.
	waiting = 64 << 10
	// piece is how many bytes have to leave within the time of a write.
	piece = 16 << 10
)

// writer joins what is written packet by packet: while one write is under way, the next
// one gathers.
type writer struct {
	c    *conn
	mu   sync.Mutex // guards what follows
	work *sync.Cond // for run: there is something to write, or no more will come
	room *sync.Cond // for put
	buf  []byte
	err  error // of a write: nothing more is written
	last bool  // no more will come
	done chan struct{}
}

func (w *writer) init(c *conn) {
	w.c, w.done = c, make(chan struct{})
	w.work, w.room = sync.NewCond(&w.mu), sync.NewCond(&w.mu)
	go w.run() // until finish, which every way of closing the connection calls
}

// put has add append a packet to what leaves next. The error is that of an earlier write.
func (w *writer) put(add func(buf []byte) []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.buf) >= waiting && w.err == nil && !w.last {
		w.room.Wait()
	}
	switch {
	case w.err != nil:
		return w.err
	case w.last:
		return net.ErrClosed
	}
	if len(w.buf) == 0 {
		w.work.Signal()
	}
	w.buf = add(w.buf)
	return nil
}

// why gives the error of a failed write in place of that of a read: after it the connection
// was closed by us, and the library takes that for its own doing and waits for a ping to fail.
func (w *writer) why(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	return err
}

// finish says that no more will come and waits until what there is has left, for at most
// patience.
func (w *writer) finish() {
	w.mu.Lock()
	w.last = true
	w.work.Signal()
	w.room.Broadcast()
	w.mu.Unlock()
	_ = w.c.Conn.SetWriteDeadline(time.Now().Add(patience)) // also of a write that is under way
	<-w.done
}

// run writes until finish is called or a write has failed. A failure closes the connection,
// so that whoever reads from it learns of it, too.
func (w *writer) run() {
	defer close(w.done)
	var out []byte
	for {
		w.mu.Lock()
		for len(w.buf) == 0 && !w.last {
			w.work.Wait()
		}
		if len(w.buf) == 0 {
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		runtime.Gosched() // whoever is at it may have more
		w.mu.Lock()
		out, w.buf = w.buf, out[:0]
		w.room.Broadcast()
		w.mu.Unlock()
		if err := w.write(out); err != nil {
			w.mu.Lock()
			w.err = err
			w.room.Broadcast()
			w.mu.Unlock()
			w.c.Conn.Close()
			return
		}
	}
}

// write writes p piece by piece: a slow link may take long for all of it.
func (w *writer) write(p []byte) error {
	for len(p) > 0 {
		w.mu.Lock()
		limit := w.c.timeout
		if w.last {
			limit = patience
		}
		err := w.c.Conn.SetWriteDeadline(time.Now().Add(limit))
		w.mu.Unlock()
		if err != nil {
			return err
		}
		n, err := w.c.Conn.Write(p[:min(len(p), piece)])
		w.c.out.Add(uint64(n))
		p = p[n:]
		_, secure := w.c.Conn.(*tls.Conn) // after a timeout no record can follow
		if slow := errors.Is(err, os.ErrDeadlineExceeded) && n > 0 && !secure; err != nil && !slow {
			return err
		}
	}
	return nil
}
