package store

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Badger writes and reads its files through memory maps, and what was touched of them counts as memory of the process
// until the kernel runs short: a hundred megabytes after a hundred thousand new shadows. The pages are the page cache's
// all the same, so now and then they are taken out of our address space; who needs one again finds it in the cache.

const (
	mappedMost  = 40 << 20 // bytes of mapped files that may be resident, our program among them
	mappedEvery = 2 * time.Second
)

// shedMapped takes the database's files out of the resident set if they are much.
func (s *Store) shedMapped() {
	if residentFiles() < mappedMost || !s.applyMu.TryLock() {
		return
	}
	defer s.applyMu.Unlock()
	if time.Since(s.shed) < mappedEvery || s.failed() != nil || s.db.IsClosed() {
		return
	}
	s.shed = time.Now()
	// A map must not go, and its addresses be given to something else, while it is advised on: then that would lose its
	// contents. Value files come and go with writes, which applyMu keeps out, and with the last iterator that closes. An
	// iterator over everything holds every table that was there before it was made and is there after.
	s.closing.Lock()
	defer s.closing.Unlock()
	before := s.tables()
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{})
	defer it.Close()
	after := s.tables()
	if err := eachMap(func(from, to uintptr, file string) {
		name := filepath.Base(file)
		if filepath.Dir(file) != s.dbDir || filepath.Ext(name) != ".vlog" && !(before[name] && after[name]) {
			return
		}
		syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED) // it is advice
	}); err != nil {
		s.log.Debug("maps cannot be read", "err", err)
	}
}

// closeIterator closes an iterator while nobody relies on value files staying where they are.
func (s *Store) closeIterator(it *badger.Iterator) {
	s.closing.RLock()
	it.Close()
	s.closing.RUnlock()
}

// tables names the files of all tables.
func (s *Store) tables() map[string]bool {
	names := map[string]bool{}
	for _, t := range s.db.Tables() {
		names[fmt.Sprintf("%06d.sst", t.ID)] = true
	}
	return names
}

// residentFiles is how many bytes of mapped files are resident; 0 when that cannot be told.
func residentFiles() int64 {
	b, err := os.ReadFile("/proc/self/statm") // size resident shared …, in pages
	f := bytes.Fields(b)
	if err != nil || len(f) < 3 {
		return 0
	}
	n, _ := strconv.ParseInt(string(f[2]), 10, 64)
	return n * int64(os.Getpagesize())
}

// eachMap calls fn for every mapped file of the process.
func eachMap(fn func(from, to uintptr, file string)) error {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	for in.Scan() {
		var from, to uintptr
		line := in.Text() // from-to permissions offset device inode file
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n != 2 {
			continue
		}
		if i := bytes.IndexByte(in.Bytes(), '/'); i > 0 {
			fn(from, to, line[i:])
		}
	}
	return in.Err()
}
