package blockrec

import (
	"bytes"
	"io"
	"maps"
	"os"
)

const pageSize = 4096

// Image is the contents of a disk. Pages that were never written are zero and cost nothing; copies share their pages.
type Image struct {
	size  int64
	pages map[int64]*[pageSize]byte // by number; never written to once they are here
}

var zeroPage [pageSize]byte

func load(file string, size int64) (*Image, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	img := &Image{size: size, pages: map[int64]*[pageSize]byte{}}
	buf := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(buf)) {
		n, err := io.ReadFull(f, buf)
		if err != nil && err != io.ErrUnexpectedEOF {
			return nil, err
		}
		img.WriteAt(buf[:n], off)
	}
	return img, nil
}

// Clone is a copy that may be written to.
func (im *Image) Clone() *Image { return &Image{im.size, maps.Clone(im.pages)} }

// Size in bytes.
func (im *Image) Size() int64 { return im.size }

// ReadAt fills b from off on and returns how much lies within the disk.
func (im *Image) ReadAt(b []byte, off int64) int {
	b = b[:max(0, min(int64(len(b)), im.size-off))]
	for n := 0; n < len(b); {
		at := off + int64(n)
		page := im.pages[at/pageSize]
		if page == nil {
			page = &zeroPage
		}
		n += copy(b[n:], page[at%pageSize:])
	}
	return len(b)
}

// WriteAt writes b at off, as far as it lies within the disk.
func (im *Image) WriteAt(b []byte, off int64) {
	b = b[:max(0, min(int64(len(b)), im.size-off))]
	for n := 0; n < len(b); {
		at := off + int64(n)
		var page [pageSize]byte
		old := im.pages[at/pageSize]
		if old != nil {
			page = *old
		}
		n += copy(page[at%pageSize:], b[n:])
		if old != nil || page != zeroPage {
			im.pages[at/pageSize] = &page
		}
	}
}

// Equal compares contents.
func (im *Image) Equal(other *Image) bool {
	for _, pair := range [][2]*Image{{im, other}, {other, im}} {
		for nr, page := range pair[0].pages {
			q := pair[1].pages[nr]
			if q == nil {
				q = &zeroPage
			}
			if q != page && !bytes.Equal(page[:], q[:]) {
				return false
			}
		}
	}
	return im.size == other.size
}
