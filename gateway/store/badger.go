package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// valueThreshold is the size from which on a value stands in the value log.
const valueThreshold = 1 << 10

// badgerOptions keeps Badger small. Chunks of records go to the value log (above ValueThreshold), everything
// else to the tree.
func (s *Store) badgerOptions() badger.Options {
	o := badger.DefaultOptions(s.cfg.path("db")).
		WithSyncWrites(true).
		WithMemTableSize(s.cfg.MemTable).
		WithNumMemtables(2).
		WithNumLevelZeroTables(2).
		WithNumLevelZeroTablesStall(6).
		WithNumCompactors(2).
		WithBaseTableSize(1 << 20). // and so at every level: building a table takes several times its size
		WithBlockCacheSize(8 << 20).
		WithIndexCacheSize(4 << 20).
		WithValueLogFileSize(s.cfg.ValueFile).
		WithValueThreshold(valueThreshold).
		WithCompression(options.None).
		WithNumVersionsToKeep(1).
		WithDetectConflicts(false). // one goroutine writes
		WithMetricsEnabled(false).
		WithLogger(badgerLog{s.log})
	o.TableSizeMultiplier = 1
	if len(s.cfg.Key) > 0 {
		o = o.WithEncryptionKey(s.cfg.Key)
	}
	return o
}

// openBadger opens the database. One that is damaged is set aside, never wiped; its new name is returned.
func (s *Store) openBadger() (aside string, err error) {
	dir := s.cfg.path("db")
	if err := removeEmpty(dir, s.log); err != nil {
		return "", err
	}
	if err = headless(dir); err == nil {
		s.db, err = tryOpen(s.badgerOptions())
	}
	if err == nil {
		return "", nil
	}
	if !damaged(err) {
		return "", fmt.Errorf("open database: %w", err)
	}
	first := err
	if err := removeEmpty(dir, s.log); err != nil { // the attempt itself may have left some
		return "", err
	}
	if headless(dir) == nil {
		if s.db, err = tryOpen(s.badgerOptions()); err == nil {
			return "", nil
		}
	}
	s.log.Error("database is damaged", "err", first)
	for i := 1; ; i++ {
		aside = fmt.Sprintf("%s.damaged-%d", dir, i)
		if _, err := os.Lstat(aside); errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	if err := os.Rename(dir, aside); err != nil {
		return "", err
	}
	if s.db, err = tryOpen(s.badgerOptions()); err != nil {
		return "", fmt.Errorf("open a new database: %w", err)
	}
	return aside, nil
}

// headless tells of tables without the MANIFEST that lists them: Badger would begin a new one and remove them all.
func headless(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, "MANIFEST")); !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err == nil && len(tables) > 0 {
		return errors.New("the database has tables, but no MANIFEST")
	}
	return err
}

// tryOpen is badger.Open for files that may hold anything: some damage makes it panic.
func tryOpen(o badger.Options) (db *badger.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("database panics: %v", r)
		}
	}()
	if db, err = badger.Open(o); err != nil {
		return nil, err // Badger gives half a database along
	}
	return db, nil
}

// damaged says whether an error of badger.Open tells of damage in its files, and not of a missing key, a permission, or
// a disk that is full or broken: then nothing must be moved.
func damaged(err error) bool {
	var no syscall.Errno
	switch {
	case errors.Is(err, badger.ErrEncryptionKeyMismatch), errors.Is(err, badger.ErrInvalidEncryptionKey):
		return false
	case errors.As(err, &no):
		return no == syscall.ENOENT || no == syscall.EEXIST || no == syscall.EINVAL
	case errors.Is(err, os.ErrPermission):
		return false
	}
	return true
}

// removeEmpty removes files that a crash between creating and sizing them has left: they hold nothing, and Badger
// refuses to open with them.
func removeEmpty(dir string, log *slog.Logger) error {
	for _, pattern := range []string{"*.mem", "*.vlog"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, name := range names {
			st, err := os.Stat(name)
			if err != nil || st.Size() > 0 {
				continue
			}
			if err := os.Remove(name); err != nil {
				return err
			}
			log.Info("removed an empty file of the database", "file", filepath.Base(name))
		}
	}
	return nil
}

// schema is the number of the layout this release writes. migrations[i] brings a database from i+1 to i+2.
const schema = 1

type migration func(txn *badger.Txn) error

var migrations = []migration{}

// readMeta reads, or makes, what the store itself keeps in Badger. restored says that this is the first start from a
// backup.
func (s *Store) readMeta() (restored bool, err error) {
	if err := migrate(s.db, schema, migrations); err != nil {
		return false, err
	}
	s.next = 1
	err = s.db.View(func(txn *badger.Txn) error {
		for key, p := range map[string]*uint64{string(keyApplied): &s.applied, string(keyNext): &s.next, string(keyEpoch): &s.epoch} {
			item, err := txn.Get([]byte(key))
			if errors.Is(err, badger.ErrKeyNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if err := item.Value(func(v []byte) error {
				if len(v) != 8 {
					return fmt.Errorf("%s has %d bytes", key, len(v))
				}
				*p = binary.BigEndian.Uint64(v)
				return nil
			}); err != nil {
				return err
			}
		}
		if err := s.readTrail(txn); err != nil {
			return err
		}
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte(prefixSegment), PrefetchValues: true, PrefetchSize: 64})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			key := it.Item().KeyCopy(nil)
			if err := it.Item().Value(func(v []byte) error {
				if g, ok := parseSegment(key, v); ok {
					s.segs = append(s.segs, g)
				}
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("read the store's own keys: %w", err)
	}
	s.index = s.applied + 1
	s.acked = s.applied
	if err := s.dropLeftovers(); err != nil {
		return false, err
	}
	restored, err = s.afterRestore()
	if err == nil && s.epoch == 0 {
		err = s.newEpoch()
	}
	return restored, err
}

// newEpoch begins a new life: the numbers given from here on are told apart from earlier ones.
func (s *Store) newEpoch() error {
	var b [8]byte
	rand.Read(b[:])
	b[0] &= 0x7f // fits into a signed integer, for whoever stores it elsewhere
	s.epoch = binary.BigEndian.Uint64(b[:])
	return s.db.Update(func(txn *badger.Txn) error { return txn.Set(keyEpoch, u64(s.epoch)) })
}

// RestoredMark is the file that whoever puts a backup in place leaves in the store's directory. The next start
// sets the log aside, whose entries belong to another life, and begins a new epoch.
const RestoredMark = "restored"

func (s *Store) afterRestore() (bool, error) {
	mark := s.cfg.path(RestoredMark)
	if _, err := os.Lstat(mark); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	dir := s.cfg.path("log")
	if _, err := os.Lstat(dir); err == nil {
		for i := 1; ; i++ {
			aside := fmt.Sprintf("%s.before-restore-%d", dir, i)
			if _, err := os.Lstat(aside); errors.Is(err, os.ErrNotExist) {
				if err := os.Rename(dir, aside); err != nil {
					return false, err
				}
				s.log.Warn("a backup was restored: the commit log was set aside", "file", filepath.Base(aside))
				break
			}
		}
	}
	if err := s.newEpoch(); err != nil {
		return false, err
	}
	return true, errors.Join(os.Remove(mark), syncDir(s.cfg.Dir))
}

// dropLeftovers drops chunks without a segment: a crash came between the two halves of a trim, or before the last
// transaction of an apply, which replay repeats.
func (s *Store) dropLeftovers() error {
	known := map[uint64]bool{}
	for i := range s.segs {
		known[s.segs[i].ID] = true
	}
	var stray [][]byte
	err := s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte(prefixChunk)})
		defer it.Close()
		for it.Rewind(); it.Valid(); {
			key := it.Item().Key()
			if len(key) != len(prefixChunk)+16 {
				it.Next()
				continue
			}
			id := binary.BigEndian.Uint64(key[len(prefixChunk):])
			if !known[id] {
				stray = append(stray, chunkPrefix(id))
			}
			it.Seek(chunkPrefix(id + 1))
		}
		return nil
	})
	if err != nil || len(stray) == 0 {
		return err
	}
	return s.db.DropPrefix(stray...)
}

// migrate brings the database to schema number want, one step and one transaction at a time. A newer one is refused:
// nothing is ever taken back.
func migrate(db *badger.DB, want uint32, steps []migration) error {
	have := uint32(0)
	err := db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(keySchema)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return item.Value(func(v []byte) error {
			if len(v) == 4 {
				have = binary.BigEndian.Uint32(v)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	if have > want {
		return fmt.Errorf("the data was written by a newer release (schema %d, this one knows %d): install that release again", have, want)
	}
	set := func(txn *badger.Txn, n uint32) error {
		return txn.Set(keySchema, binary.BigEndian.AppendUint32(nil, n))
	}
	if have == 0 {
		return db.Update(func(txn *badger.Txn) error { return set(txn, want) })
	}
	for ; have < want; have++ {
		if err := db.Update(func(txn *badger.Txn) error {
			return errors.Join(steps[have-1](txn), set(txn, have+1))
		}); err != nil {
			return fmt.Errorf("migrate from schema %d: %w", have, err)
		}
	}
	return nil
}

// badgerLog turns Badger's log lines into ours, one level milder: what matters about them the store says itself.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) line(level slog.Level, format string, args []any) {
	l.log.Log(context.Background(), level, "badger", "line", strings.TrimSpace(fmt.Sprintf(format, args...)))
}
func (l badgerLog) Errorf(format string, args ...any)   { l.line(slog.LevelWarn, format, args) }
func (l badgerLog) Warningf(format string, args ...any) { l.line(slog.LevelInfo, format, args) }
func (l badgerLog) Infof(format string, args ...any)    { l.line(slog.LevelDebug, format, args) }
func (l badgerLog) Debugf(string, ...any)               {}
