package tpm

import (
	"errors"
	"reflect"
	"testing"
)

// A file that is no wrapped key is refused, and one that reads is written again to the same effect.
func FuzzBlob(f *testing.F) {
	for _, b := range []*blob{{public: []byte{1, 2}, private: []byte{3}}, {sealed: true, pcrs: []uint{0, 7, 23}, public: []byte{1}, private: []byte{2}}} {
		text, err := b.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, b.sealed)
		f.Add(text, !b.sealed)
	}
	f.Add([]byte("-----BEGIN TSS2 PRIVATE KEY-----\nMAA=\n-----END TSS2 PRIVATE KEY-----\n"), false)
	f.Fuzz(func(t *testing.T, text []byte, sealed bool) {
		b, err := decode(text, sealed)
		if err != nil {
			if !errors.Is(err, ErrBlob) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if b.sealed != sealed {
			t.Fatalf("sealed is %v", b.sealed)
		}
		again, err := b.encode()
		if err != nil {
			t.Fatal(err)
		}
		c, err := decode(again, sealed)
		if err != nil || !reflect.DeepEqual(c.public, b.public) || !reflect.DeepEqual(c.private, b.private) {
			t.Fatalf("%+v reads again as %+v: %v", b, c, err)
		}
	})
}
