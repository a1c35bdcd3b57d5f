package commitlog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"syscall"
)

// osFile is a file of the operating system; Sync is fdatasync, which leaves the times in the inode
// alone: that is half the writes on a small disk.
type osFile struct {
	*os.File
	s *syncer
}

func (f osFile) Sync() error { return f.s.sync(f.File) }

func (l *Log) openFile(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if l.cfg.Wrap != nil {
		return l.cfg.Wrap(filepath.Base(path), osFile{f, l.sync}), nil
	}
	return osFile{f, l.sync}, nil
}

// openRing opens every file that is there and makes the missing ones. A file gets its name only when
// it is filled and synced, so a short file is a damaged one.
func (l *Log) openRing() error {
	if err := os.MkdirAll(l.cfg.Dir, 0o700); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(l.cfg.Dir, "log.[0-9][0-9]"))
	if err != nil {
		return err
	}
	sort.Strings(names)
	made := false
	for i := 0; len(names) < l.cfg.Files; i++ {
		name := filepath.Join(l.cfg.Dir, fmt.Sprintf("log.%02d", i))
		if _, err := os.Stat(name); err == nil {
			continue
		}
		if err := make0(name, l.cfg.FileSize); err != nil {
			return err
		}
		names, made = append(names, name), true
	}
	if made {
		if err := syncDir(l.cfg.Dir); err != nil {
			return err
		}
	}
	for _, name := range names {
		s := &segment{name: filepath.Base(name)}
		if s.f, err = l.openFile(name); err != nil {
			return err
		}
		l.ring = append(l.ring, s)
		if err := l.inspect(s, name); err != nil {
			return err
		}
	}
	return nil
}

// inspect reads a file's header and sees to its size.
func (l *Log) inspect(s *segment, path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	page := make([]byte, PageSize)
	readSome(s.f, page, 0)
	number, size, ok := parseHeader(page)
	s.number, s.broken = number, !ok
	if s.size = st.Size() / PageSize * PageSize; ok && number > 0 && st.Size() < size {
		s.short = size - st.Size()
	}
	if st.Size() < PageSize {
		s.short = l.cfg.FileSize - st.Size()
	}
	if st.Size() >= l.cfg.FileSize {
		return nil
	}
	// Cut short, or the size was raised. Growing writes nothing over; without room the file stays as it is.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	switch err := fill(f, st.Size(), l.cfg.FileSize); {
	case err == nil:
		s.size = l.cfg.FileSize
	case errors.Is(err, syscall.ENOSPC):
		return f.Truncate(st.Size())
	default:
		return err
	}
	return nil
}

// make0 makes a file of size zeros. Zeros, not holes: writing into them later needs no new blocks and so can
// neither meet a full disk nor cost a journal commit.
func make0(name string, size int64) error {
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(fill(f, 0, size), f.Close()); err != nil {
		os.Remove(name + ".new") // a full disk must not stay full for our sake
		return err
	}
	return os.Rename(name+".new", name)
}

func fill(f *os.File, from, to int64) error {
	zeros := make([]byte, 256<<10)
	for from < to {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return f.Sync()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writeFull is WriteAt that takes a short write for the error it is.
func writeFull(f File, p []byte, off int64) error {
	n, err := f.WriteAt(p, off)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return err
}

// readSome reads as much of p as can be read at off and leaves zeros where it cannot: a page the disk
// refuses is damage like any other. It says how many pages those were.
func readSome(f File, p []byte, off int64) (lost int) {
	if n, err := f.ReadAt(p, off); err == nil && n == len(p) {
		return 0
	}
	for at := 0; at < len(p); at += PageSize {
		page := p[at:min(at+PageSize, len(p))]
		n, err := f.ReadAt(page, off+int64(at))
		clear(page[max(n, 0):])
		if err != nil && !errors.Is(err, io.EOF) {
			lost++
		}
	}
	return lost
}
