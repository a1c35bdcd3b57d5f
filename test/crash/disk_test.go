package crash_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"tidegate/test/crash/blockrec"
	"tidegate/test/harness"
	"tidegate/test/traffic"
)

// A commit that meets an I/O error ends the process: nothing is acknowledged after it, and everything before it is there when
// the disk works again.
func TestTheDiskFails(t *testing.T) {
	for _, how := range []struct {
		name string
		fail func(*blockrec.Disk, bool)
	}{
		{"syncs fail", (*blockrec.Disk).FailSyncs},
		{"writes fail", (*blockrec.Disk).FailWrites},
	} {
		t.Run(how.name, func(t *testing.T) {
			base := blockrec.Format(t, diskSize)
			disk := blockrec.Mount(t, base)
			s := newScene(t, harness.Options{Dir: filepath.Join(disk.Dir, "data")})
			s.watch(nil)
			s.keep(traffic.KeeperOptions{})
			s.start()
			if !s.keeper.Subscribed() {
				t.Fatal("no subscription at the gateway")
			}
			s.publish(300, nil)
			harness.Until(t, "some traffic", func() bool { return s.fleet.Total() > 500 })
			how.fail(disk, true)
			if code := s.g.Wait(); code != 1 {
				t.Errorf("exit %d after an I/O error, want 1", code)
			}
			s.gateway.Set("")
			stopped := s.fleet.Total()
			how.fail(disk, false)
			// What the disk has been told and has confirmed, nothing else.
			events := disk.Events()
			disk.Unmount()
			disk = blockrec.Mount(t, blockrec.Cut(base, events, len(events), blockrec.Flushed, nil))
			s.g.Dir = filepath.Join(disk.Dir, "data")
			s.start()
			harness.Until(t, "traffic again", func() bool { return s.fleet.Total() > stopped+500 })
			s.settle()
			s.lossless()
			s.tell("%s", how.name)
			s.end()
		})
	}
}

// A full disk: new work is refused with a reason or kept waiting, nothing crashes, a start on the full disk works, and when
// there is room again all goes on.
func TestTheDiskIsFull(t *testing.T) {
	mount := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=640m", "tidegate-test", mount).CombinedOutput(); err != nil {
		t.Fatalf("mount a tmpfs (needs root): %v: %s", err, out)
	}
	s := newScene(t, harness.Options{Dir: filepath.Join(mount, "data")})
	s.configure("journal: {when_full: refuse-new}") // rather than drop the oldest, which the ledger would tell
	t.Cleanup(func() {
		if !s.g.Ended() {
			s.g.Kill()
		}
		if out, err := exec.Command("umount", mount).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	s.watch(nil)
	s.keep(traffic.KeeperOptions{})
	s.start()
	if !s.keeper.Subscribed() {
		t.Fatal("no subscription at the gateway")
	}
	s.keeper.Stop()
	s.net.BlackHole(true) // everything has to be kept
	s.fleet = traffic.StartFleet(&s.gateway, traffic.FleetOptions{Publishers: publishers, Window: 1, Size: size, Topic: "crash", V5: true})
	harness.Until(t, "some traffic", func() bool { return s.fleet.Total() > 1000 })

	filler := filepath.Join(mount, "filler")
	fill(t, mount, filler)
	harness.Until(t, "refusals", func() bool { return s.fleet.Refused() > 20 || s.g.Ended() })
	if s.g.Ended() {
		t.Fatalf("the gateway ended on a full disk:\n%s", s.g.Stderr())
	}
	if st := s.g.Status(); st.Healthy || len(st.Warnings) == 0 {
		t.Errorf("a full disk is not told by status: %+v", st)
	}
	s.kill()
	s.start()
	before := s.fleet.Refused()
	harness.Until(t, "refusals after a start on the full disk", func() bool { return s.fleet.Refused() > before+5 || s.g.Ended() })
	if s.g.Ended() {
		t.Fatalf("the gateway ended after a start on a full disk:\n%s", s.g.Stderr())
	}
	// Who fetches what is kept makes room: the absent subscriber is let in and served.
	s.keep(traffic.KeeperOptions{Resume: true})
	harness.Until(t, "the subscriber gets its messages from a full disk", func() bool { n, _ := s.beside.Counts(); return n > 500 })
	had := s.fleet.Total()
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	harness.Until(t, "traffic once there is room", func() bool { return s.fleet.Total() > had+1000 })
	s.net.BlackHole(false)
	s.settle()
	s.lossless()
	harness.Until(t, "status is healthy again", func() bool { return s.g.Status().Healthy })
	s.tell("%d refusals", s.fleet.Refused())
	s.end()
}

// fill leaves no more than 8 MB on the file system, so that it is as good as full.
func fill(t *testing.T, mount, filler string) {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(mount, &st); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	chunk := make([]byte, 1<<20)
	for left := int64(st.Bavail)*st.Bsize - 8<<20; left > 0; left -= int64(len(chunk)) {
		if _, err := f.Write(chunk); err != nil {
			t.Fatal(fmt.Errorf("fill the disk: %w", err))
		}
	}
}

// A disk as slow as an SD card: everything takes longer and nothing else changes.
func TestTheDiskIsSlow(t *testing.T) {
	s := newScene(t, harness.Options{Env: []string{"TIDEGATE_SYNC_DELAY=20ms"}})
	s.watch(nil)
	s.keep(traffic.KeeperOptions{Stay: 200 * time.Millisecond, Away: 100 * time.Millisecond})
	s.start()
	if !s.keeper.Subscribed() {
		t.Fatal("no subscription at the gateway")
	}
	s.publish(0, nil)
	for range pick(2, 10) {
		time.Sleep(500 * time.Millisecond)
		s.kill()
		s.start()
	}
	s.settle()
	s.lossless()
	s.tell("20 ms to a sync")
	s.end()
}
