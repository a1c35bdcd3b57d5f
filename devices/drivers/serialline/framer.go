package serialline

import "bytes"

// framer cuts a stream of bytes into lines of at most max bytes.
type framer struct {
	max  int
	buf  []byte
	skip bool // the line under way was too long and is thrown away to its end
}

// feed takes a piece and calls line for every line that ends in it, without its end (CR,
// LF or both); empty lines are passed over. Of a line that is too long it gets the
// beginning and whole is false. line must not keep its argument.
func (f *framer) feed(piece []byte, line func(l []byte, whole bool)) {
	for len(piece) > 0 {
		end := bytes.IndexAny(piece, "\r\n")
		part := piece
		if end >= 0 {
			part, piece = piece[:end], piece[end+1:]
		} else {
			piece = nil
		}
		if !f.skip {
			if room := f.max - len(f.buf); len(part) > room {
				f.buf = append(f.buf, part[:room]...)
				line(f.buf, false)
				f.buf, f.skip = f.buf[:0], true
			} else {
				f.buf = append(f.buf, part...)
			}
		}
		if end >= 0 {
			if !f.skip && len(f.buf) > 0 {
				line(f.buf, true)
			}
			f.buf, f.skip = f.buf[:0], false
		}
	}
}
