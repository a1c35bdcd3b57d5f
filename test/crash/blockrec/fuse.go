package blockrec

import (
	"context"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// serve mounts a FUSE file system on dir whose only file, "disk", is d.
func serve(dir string, d *Disk) (*fuse.Server, error) {
	hour := time.Hour
	return fs.Mount(dir, &folder{disk: d}, &fs.Options{
		AttrTimeout: &hour, EntryTimeout: &hour,
		MountOptions: fuse.MountOptions{DirectMountStrict: true, MaxWrite: 512 << 10},
	})
}

type folder struct {
	fs.Inode
	disk *Disk
}

type file struct {
	fs.Inode
	disk *Disk
}

// OnAdd puts the file into the folder.
func (r *folder) OnAdd(ctx context.Context) {
	r.AddChild("disk", r.NewPersistentInode(ctx, &file{disk: r.disk}, fs.StableAttr{Mode: fuse.S_IFREG}), false)
}

// Open has no state of its own.
func (f *file) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

// Getattr tells the size.
func (f *file) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Size, out.Mode = uint64(f.disk.img.size), 0o600
	return 0
}

// Setattr changes nothing: the disk has one size.
func (f *file) Setattr(ctx context.Context, h fs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return f.Getattr(ctx, h, out)
}

// Read reads the disk.
func (f *file) Read(_ context.Context, _ fs.FileHandle, b []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return fuse.ReadResultData(b[:f.disk.img.ReadAt(b, off)]), 0
}

// Write writes the disk and notes it.
func (f *file) Write(_ context.Context, _ fs.FileHandle, b []byte, off int64) (uint32, syscall.Errno) {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failWrite {
		return 0, syscall.EIO
	}
	d.img.WriteAt(b, off)
	d.events = append(d.events, Event{Off: off, Data: append([]byte(nil), b...), At: time.Now()})
	return uint32(len(b)), 0
}

// Fsync is a flush of the disk; what came while it ran is not made safe by it.
func (f *file) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	d := f.disk
	d.mu.Lock()
	covers, delay := len(d.events), d.delay
	d.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failSync {
		return syscall.EIO
	}
	d.events = append(d.events, Event{Flush: true, Covers: covers, At: time.Now()})
	return 0
}
