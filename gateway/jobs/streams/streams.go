// Package streams keeps files, and the streams that hand them to devices in blocks over
// MQTT (spec/ops.md §4).
//
// A file lies in a folder under the hash of its content, once, whatever it is called. It
// is called by bucket and key, as in an object store, and a stream holds on to the
// content that its files had when it was made. What nothing refers to any more is removed
// by Sweep. Names and streams are keys of the store; a file is on the disk before
// anything can refer to it.
//
// The room spells no topic and does not know who may read what.
//
//	room, err := streams.Open("data/files", db, clk)
//	blob, err := room.Add(file)
//	err = db.Wait(func(u *store.Unit) error { return room.Name(u, "firmware", "fw.bin", blob) })
package streams

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/store"
)

// Bounds (spec/ops.md §4).
const (
	MaxFiles   = 50       // of a stream
	MaxFile    = 24 << 20 // bytes of a file that a stream can have
	maxObject  = 4 << 30  // bytes of a file that can be kept
	maxName    = 128      // characters of a stream's name
	maxComment = 2028
)

// The keys, within those of jobs.
//
//	job/f/BUCKET/KEY   object
//	job/m/STREAM       Stream
const (
	keyObject = store.KeyJob + "f/"
	keyStream = store.KeyJob + "m/"
)

// Tx is what the room needs of a *store.Unit.
type Tx interface {
	Get(key string) ([]byte, error)
	Put(key string, val []byte)
	Del(key string)
	Lock(name string)
}

// Reader is what listings need of a *store.Store.
type Reader interface {
	Get(key string) ([]byte, error)
	Scan(prefix string, fn func(key string, val []byte) bool) error
}

// Room keeps files and streams. Its methods may be called concurrently.
type Room struct {
	dir string
	db  Reader
	clk clock.Clock
}

// Open makes the room over a folder, which is made if need be, and sweeps it.
func Open(dir string, db Reader, clk clock.Clock) (*Room, error) {
	r := &Room{dir: dir, db: db, clk: clk}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open files: %w", err)
	}
	if _, err := r.Sweep(time.Hour); err != nil {
		return nil, fmt.Errorf("open files: %w", err)
	}
	return r, nil
}

// Stream is a list of files that devices can get in blocks.
type Stream struct {
	ID          string `json:"id"`
	Version     int64  `json:"version"`
	Description string `json:"description,omitempty"`
	Role        string `json:"role,omitempty"`
	Files       []File `json:"files"`
	Created     int64  `json:"created"` // milliseconds, as the next
	Updated     int64  `json:"updated"`
}

// File is one file of a stream.
type File struct {
	ID     int    `json:"id"` // 0 to 255
	Bucket string `json:"bucket,omitempty"`
	Key    string `json:"key,omitempty"`
	Blob
}

// Source names what a file of a stream is to hold: an object, or content that was added
// before.
type Source struct {
	ID          int
	Bucket, Key string
	Hash        string // instead of Bucket and Key
}

func invalid(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }

func named(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

// resolve finds the content of a stream's files.
func (r *Room) resolve(tx Tx, sources []Source) ([]File, error) {
	if len(sources) == 0 || len(sources) > MaxFiles {
		return nil, invalid("a stream has 1 to %d files", MaxFiles)
	}
	files := make([]File, 0, len(sources))
	for _, s := range sources {
		if s.ID < 0 || s.ID > 255 {
			return nil, invalid("fileId must be 0 to 255")
		}
		if slices.ContainsFunc(files, func(f File) bool { return f.ID == s.ID }) {
			return nil, invalid("fileId %d is there twice", s.ID)
		}
		f := File{ID: s.ID, Bucket: s.Bucket, Key: s.Key}
		var err error
		if s.Hash != "" {
			f.Blob, err = r.Stat(s.Hash)
		} else {
			f.Blob, err = r.Object(tx, s.Bucket, s.Key)
		}
		if err != nil {
			return nil, err
		}
		if f.Size > MaxFile {
			return nil, invalid("file %d has %d bytes, and a stream's file at most %d", s.ID, f.Size, MaxFile)
		}
		files = append(files, f)
	}
	return files, nil
}

// Create makes a stream. It fails with Invalid, NotFound for an object, or Exists.
func (r *Room) Create(tx Tx, id, description, role string, sources []Source) (Stream, error) {
	if !named(id) {
		return Stream{}, invalid("streamId must be 1 to %d of a-z, A-Z, 0-9, underscore and hyphen", maxName)
	}
	if len(description) > maxComment {
		return Stream{}, invalid("description must have at most %d bytes", maxComment)
	}
	files, err := r.resolve(tx, sources)
	if err != nil {
		return Stream{}, err
	}
	tx.Lock(keyStream + id)
	if _, err := r.Stream(tx, id); !fault.Is(err, fault.NotFound) {
		if err == nil {
			err = fault.New(fault.Exists, "Stream %s already exists", id)
		}
		return Stream{}, err
	}
	now := r.clk.Now().UnixMilli()
	s := Stream{ID: id, Version: 1, Description: description, Role: role, Files: files, Created: now, Updated: now}
	tx.Put(keyStream+id, store.JSON(&s))
	return s, nil
}

// Update changes a stream; nil and empty members leave things as they are. Its version
// counts up.
func (r *Room) Update(tx Tx, id string, description *string, role string, sources []Source) (Stream, error) {
	var files []File
	if sources != nil {
		var err error
		if files, err = r.resolve(tx, sources); err != nil {
			return Stream{}, err
		}
	}
	tx.Lock(keyStream + id)
	s, err := r.Stream(tx, id)
	if err != nil {
		return s, err
	}
	if description != nil {
		if len(*description) > maxComment {
			return s, invalid("description must have at most %d bytes", maxComment)
		}
		s.Description = *description
	}
	if role != "" {
		s.Role = role
	}
	if files != nil {
		s.Files = files
	}
	s.Version++
	s.Updated = r.clk.Now().UnixMilli()
	tx.Put(keyStream+id, store.JSON(&s))
	return s, nil
}

// Delete removes a stream; its files stay as long as something else refers to them.
func (r *Room) Delete(tx Tx, id string) error {
	tx.Lock(keyStream + id)
	if _, err := r.Stream(tx, id); err != nil {
		return err
	}
	tx.Del(keyStream + id)
	return nil
}

// Stream gives a stream.
func (r *Room) Stream(db interface {
	Get(key string) ([]byte, error)
}, id string) (Stream, error) {
	var s Stream
	ok, err := false, error(nil)
	if named(id) {
		ok, err = get(db, keyStream+id, &s)
	}
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "Stream %s does not exist", id)
	}
	return s, err
}

// Streams lists the streams by name.
func (r *Room) Streams() ([]Stream, error) {
	list := []Stream{}
	var bad error
	err := r.db.Scan(keyStream, func(_ string, val []byte) bool {
		var s Stream
		bad = unpack(val, &s)
		list = append(list, s)
		return bad == nil
	})
	return list, errors.Join(err, bad)
}

// Page gives a stretch of the streams by name: at most max of those behind after, or with
// down of those before it. more says whether that was not all.
func (r *Room) Page(after string, max int, down bool) (list []Stream, more bool, err error) {
	all, err := r.Streams()
	if err != nil {
		return nil, false, err
	}
	if down {
		slices.Reverse(all)
	}
	if after != "" {
		all = slices.DeleteFunc(all, func(s Stream) bool { return !down && s.ID <= after || down && s.ID >= after })
	}
	more = len(all) > max
	return all[:min(max, len(all))], more, nil
}

// Run sweeps every hour until ctx ends.
func (r *Room) Run(ctx context.Context, ready func()) error {
	t := r.clk.NewTimer(time.Hour)
	defer t.Stop()
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C():
		}
		if _, err := r.Sweep(time.Hour); err != nil {
			return err
		}
		t.Reset(time.Hour)
	}
}

// Sweep removes content that nothing refers to and that has not been touched for spare,
// and gives how many files went.
func (r *Room) Sweep(spare time.Duration) (int, error) {
	used := map[string]bool{}
	streams, err := r.Streams()
	if err != nil {
		return 0, err
	}
	for _, s := range streams {
		for _, f := range s.Files {
			used[f.Hash] = true
		}
	}
	objects, err := r.Objects("")
	if err != nil {
		return 0, err
	}
	for _, o := range objects {
		used[o.Hash] = true
	}
	gone := 0
	if len(used) == 0 { // the database may have been lost, and the files are all that is left
		return 0, nil
	}
	err = filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil || used[d.Name()] || spare > 0 && time.Since(info.ModTime()) < spare {
			return nil
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		gone++
		return nil
	})
	return gone, err
}

func unpack(b []byte, v any) error { return store.ParseJSON(b, v, "stream") }

// get reads a record; ok is false when there is none.
func get(db interface {
	Get(key string) ([]byte, error)
}, key string, v any) (ok bool, err error) {
	return store.GetJSON(db, key, v, "stream")
}

// objectKey says where an object is kept; ok is false when it cannot be called so.
func objectKey(bucket, key string) (k string, ok bool) {
	if bucket == "" || len(bucket) > 63 || strings.ContainsAny(bucket, "/\x00") || key == "" || len(key) > 1024 || strings.ContainsRune(key, 0) {
		return "", false
	}
	return keyObject + bucket + "/" + key, true
}
