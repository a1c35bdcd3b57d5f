package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// freeBytes gives what an ordinary user may still write on the disk that holds path.
func freeBytes(path string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", path, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// DiskBytes gives what the store takes up on its disk, in bytes: log, database and ballast. Holes in files are no
// part of it.
func (s *Store) DiskBytes() int64 {
	var n int64
	filepath.WalkDir(s.cfg.Dir, func(_ string, e fs.DirEntry, err error) error { //nolint:errcheck // files go while we look: the rest counts
		if err != nil || e.IsDir() {
			return nil
		}
		if info, err := e.Info(); err == nil {
			n += info.Sys().(*syscall.Stat_t).Blocks * 512 // stat(2): in units of 512 bytes, whatever the file system's are
		}
		return nil
	})
	return n
}

// clearBallast gives up the ballast file when the disk is nearly full, so that the database can be opened and then
// trimmed: on a full disk it would die of SIGBUS at every start.
func (s *Store) clearBallast() {
	free, err := freeBytes(s.cfg.Dir)
	if err != nil || free >= s.cfg.Reserve {
		return
	}
	if os.Remove(s.cfg.path("ballast")) == nil {
		s.log.Warn("disk is nearly full: gave up the ballast file", "bytes", free)
	}
}

// makeBallast makes the ballast file when it is missing and there is plenty of room.
func (s *Store) makeBallast(free int64) {
	name := s.cfg.path("ballast")
	if s.cfg.Ballast <= 0 || free < s.cfg.Reserve+2*s.cfg.Ballast {
		return
	}
	if _, err := os.Lstat(name); !errors.Is(err, os.ErrNotExist) {
		return
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return
	}
	err = syscall.Fallocate(int(f.Fd()), 0, 0, s.cfg.Ballast)
	if err = errors.Join(err, f.Close()); err != nil { // a file system that cannot reserve: go without
		s.log.Info("no ballast file", "err", err)
		if errors.Is(err, syscall.EOPNOTSUPP) {
			s.cfg.Ballast = -1
		}
		os.Remove(name)
	}
}

// lockDir makes sure that one process has the store. The lock goes with the process.
func lockDir(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another gateway is using this data folder (%s is locked): stop it, or choose another folder with --data", name)
		}
		return nil, err
	}
	return f, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
