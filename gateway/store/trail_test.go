package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/gateway/store"
)

// note commits a unit with these notes under key.
func note(t *testing.T, s *store.Store, key string, notes ...string) {
	t.Helper()
	if err := s.Wait(func(u *store.Unit) error {
		for _, n := range notes {
			u.Note(key, []byte(n))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// notes gives the newest notes under key, at most so many, the newest first.
func notes(t *testing.T, s *store.Store, key string, most int) string {
	t.Helper()
	var all []string
	if err := s.Notes(key, func(n []byte) bool {
		all = append(all, string(n))
		return len(all) < most
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestNotesAreToldTheNewestFirst(t *testing.T) {
	cfg := small(t.TempDir())
	s := start(t, cfg)
	note(t, s, "a", "1", "2")
	note(t, s, "b", "x")
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	note(t, s, "a", "3")
	put(t, s, "a", "value")
	note(t, s, "a", "4", "5")
	for i := range 2 {
		if got := notes(t, s, "a", 9); got != "5 4 3 2 1" {
			t.Errorf("round %d: notes are %q", i, got)
		}
		if got := notes(t, s, "a", 4); got != "5 4 3 2" {
			t.Errorf("round %d: the newest are %q", i, got)
		}
		if got := get(t, s, "a"); got != "value" {
			t.Errorf("round %d: a note has become the value %q", i, got)
		}
		if got := notes(t, s, "c", 9) + notes(t, s, "b", 9); got != "x" {
			t.Errorf("round %d: others are %q", i, got)
		}
		if i == 0 {
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(t, cfg)
	if got := notes(t, s, "a", 9); got != "5 4 3 2 1" {
		t.Errorf("after a start: %q", got)
	}
	if st := s.Stats(); st.TrailBytes == 0 {
		t.Error("the store does not say what the notes take")
	}
}

// What was committed and not applied is replayed from the log, notes included, in clear and encrypted.
func TestNotesSurviveACrash(t *testing.T) {
	for _, key := range []string{"", "0123456789abcdef"} {
		cfg := small(t.TempDir())
		cfg.Key = []byte(key)
		s := start(t, cfg)
		note(t, s, "a", "1")
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		note(t, s, "a", "2", "3")
		cfg = crash(t, cfg)
		again := start(t, cfg)
		if got := notes(t, again, "a", 9); got != "3 2 1" {
			t.Errorf("before an apply: %q", got)
		}
		if err := again.Flush(); err != nil {
			t.Fatal(err)
		}
		if got := notes(t, again, "a", 9); got != "3 2 1" {
			t.Errorf("after an apply: %q", got)
		}
	}
}

func TestTheTrailIsBoundedAndTheOldestGoFirst(t *testing.T) {
	cfg := small(t.TempDir())
	cfg.TrailBytes = 200 << 10
	s := start(t, cfg)
	fill := strings.Repeat("x", 4000)
	for i := range 200 {
		note(t, s, "a", fmt.Sprintf("%d:%s", i, fill))
		if i%20 == 19 {
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := strings.Fields(notes(t, s, "a", 1000))
	if n := len(all); n < 200<<10/4100/2 || n > 200<<10/4000+1 {
		t.Errorf("%d notes are left", n)
	}
	for i, n := range all {
		if !strings.HasPrefix(n, fmt.Sprint(199-i, ":")) {
			t.Fatalf("note %d is %.10s", i, n)
		}
	}
	if got := s.Stats().TrailBytes; got > cfg.TrailBytes || got < cfg.TrailBytes/2 {
		t.Errorf("%d bytes", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	cfg.TrailBytes = -1 // none from now on; what there is stays until it is wanted again
	s = start(t, cfg)
	note(t, s, "a", "more")
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := notes(t, s, "a", 1); strings.HasPrefix(got, "more") {
		t.Error("a note was kept although none are")
	}
}

// A damaged chunk ends the trail and nothing else.
func TestADamagedTrailEndsThere(t *testing.T) {
	cfg := small(t.TempDir())
	s := start(t, cfg)
	note(t, s, "a", "old", strings.Repeat("o", 3000))
	put(t, s, "k", "v")
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	note(t, s, "a", "new")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	name, at := find(t, filepath.Join(cfg.Dir, "db", "*.vlog"), strings.Repeat("o", 3000))
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), at+100); err != nil {
		t.Fatal(err)
	}
	f.Close()
	s = start(t, cfg)
	if got := notes(t, s, "a", 9); got != "new" {
		t.Errorf("notes are %.30q", got)
	}
	if got := get(t, s, "k"); got != "v" {
		t.Errorf("the state is %q", got)
	}
}
