package mqttclient

import (
	"bufio"
	"bytes"
	"io"
	"testing"
	"testing/iotest"
)

// What an upstream sends reaches the library byte for byte, without the PUBACKs, however it is
// cut into reads; a PUBACK inside another packet is payload.
func FuzzRead(f *testing.F) {
	f.Add([]byte{0x20, 2, 0, 0, 0x40, 2, 0, 7, 0xd0, 0, 0x40, 2, 1, 0}, true)
	f.Add([]byte{0x32, 8, 0, 1, 'a', 0, 1, 0x40, 2, 0, 0x40, 2, 0, 9}, false)
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, false)
	f.Add([]byte{0x40}, true)
	f.Fuzz(func(t *testing.T, stream []byte, slow bool) {
		var wantIDs []uint16
		var want []byte
		for rest := stream; len(rest) > 1; { // the definition: packet by packet
			if rest[0] == 0x40 && rest[1] == 2 {
				if len(rest) < 4 {
					break
				}
				wantIDs, rest = append(wantIDs, uint16(rest[2])<<8|uint16(rest[3])), rest[4:]
				continue
			}
			n, i, whole := 0, 1, false
			for ; i < len(rest) && !whole; i++ {
				n |= int(rest[i]&0x7f) << (7 * (i - 1))
				whole = rest[i] < 0x80 || i == 4
			}
			if !whole { // the length is cut off
				break
			}
			n = min(n+i, len(rest))
			want, rest = append(want, rest[:n]...), rest[n:]
		}
		var in io.Reader = bytes.NewReader(stream)
		if slow {
			in = iotest.OneByteReader(in)
		}
		var ids []uint16
		c := &conn{r: bufio.NewReaderSize(in, 64), acked: func(id uint16) { ids = append(ids, id) }}
		got, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) || len(ids) != len(wantIDs) {
			t.Fatalf("%x\ngot  %x, acknowledged %v\nwant %x, %v", stream, got, ids, want, wantIDs)
		}
		for i := range ids {
			if ids[i] != wantIDs[i] {
				t.Fatalf("acknowledged %v, want %v", ids, wantIDs)
			}
		}
	})
}
