package streams_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/jobs/streams"
	"tidegate/gateway/store"
)

type house struct {
	t   testing.TB
	dir string
	db  *store.Store
	*streams.Room
}

func newHouse(t testing.TB) *house {
	clk := clocktest.New(time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC))
	cfg := store.DefaultConfig(t.TempDir())
	cfg.Ballast, cfg.SyncDelay.Off = -1, true
	db, err := store.Open(cfg, clk)
	if err != nil {
		t.Fatal(err)
	}
	db.Start()
	t.Cleanup(func() { _ = db.Close() })
	h := &house{t: t, dir: filepath.Join(t.TempDir(), "files"), db: db}
	if h.Room, err = streams.Open(h.dir, db, clk); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) do(f func(u *store.Unit) error) error { return h.db.Wait(f) }

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// put adds a file under a name of its own.
func (h *house) put(key string, content []byte) streams.Blob {
	h.t.Helper()
	b, err := h.Add(bytes.NewReader(content))
	h.must(err)
	h.must(h.do(func(u *store.Unit) error { return h.Name(u, "b", key, b) }))
	return b
}

func (h *house) files() (n int) {
	_ = filepath.WalkDir(h.dir, func(_ string, d os.DirEntry, _ error) error {
		if !d.IsDir() {
			n++
		}
		return nil
	})
	return n
}

func TestContentIsKeptOnceAndForgotten(t *testing.T) {
	h := newHouse(t)
	b := h.put("one", []byte("x"))
	if again := h.put("two", []byte("x")); again != b || h.files() != 1 {
		t.Errorf("%v %v, %d files", b, again, h.files())
	}
	h.put("three", []byte("y"))
	h.must(h.do(func(u *store.Unit) error {
		_, err := h.Create(u, "s", "", "", []streams.Source{{ID: 7, Bucket: "b", Key: "one"}})
		return err
	}))
	for _, key := range []string{"one", "two"} {
		h.must(h.do(func(u *store.Unit) error { return h.Forget(u, "b", key) }))
	}
	sweep := func(want int) {
		t.Helper()
		if n, err := h.Sweep(0); err != nil || n != want {
			t.Errorf("swept %d, %v, want %d", n, err, want)
		}
	}
	sweep(0) // the stream holds on to it
	h.must(h.do(func(u *store.Unit) error { return h.Delete(u, "s") }))
	sweep(1)
	h.must(h.do(func(u *store.Unit) error { return h.Forget(u, "b", "three") }))
	sweep(0) // an empty database is no reason to remove everything
	if _, err := h.Read(b.Hash); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	for _, bad := range []string{"", "..", strings.Repeat("g", 64), "../" + strings.Repeat("a", 61)} {
		if _, err := h.Read(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestAFileThatBreaksOffLeavesNothing(t *testing.T) {
	h := newHouse(t)
	if _, err := h.Add(io.MultiReader(strings.NewReader("half"), broken{})); err == nil {
		t.Error("no error")
	}
	if h.files() != 0 {
		t.Error("something is left")
	}
}

func TestStreamsHaveVersions(t *testing.T) {
	h := newHouse(t)
	h.put("k", []byte("one"))
	one := []streams.Source{{ID: 0, Bucket: "b", Key: "k"}}
	create := func(id string, src []streams.Source) error {
		return h.do(func(u *store.Unit) error { _, err := h.Create(u, id, "d", "r", src); return err })
	}
	h.must(create("s", one))
	for what, err := range map[string]error{
		"exists":    create("s", one),
		"not found": create("t", []streams.Source{{ID: 0, Bucket: "b", Key: "nope"}}),
	} {
		if fault.Of(err).String() != what {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, bad := range [][]streams.Source{nil, make([]streams.Source, 51), {{ID: 256, Bucket: "b", Key: "k"}}, {one[0], one[0]}} {
		if err := create("t", bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	h.put("k", []byte("two")) // the stream keeps what it had
	blocks, err := h.Blocks(h.db, "s", streams.Request{Block: 256})
	if err != nil || string(blocks[0].Data) != "one" {
		t.Errorf("%v %v", blocks, err)
	}
	h.must(h.do(func(u *store.Unit) error {
		s, err := h.Update(u, "s", nil, "", one)
		if err == nil && s.Version != 2 {
			t.Errorf("version %d", s.Version)
		}
		return err
	}))
	second := int64(2)
	if blocks, err = h.Blocks(h.db, "s", streams.Request{Version: &second, Block: 256}); err != nil || string(blocks[0].Data) != "two" {
		t.Errorf("%v %v", blocks, err)
	}
	if list, err := h.Streams(); err != nil || len(list) != 1 || list[0].Description != "d" {
		t.Errorf("%v %v", list, err)
	}
}

func TestBothFormatsSayTheSame(t *testing.T) {
	h := newHouse(t)
	h.put("k", bytes.Repeat([]byte("ab"), 200))
	h.must(h.do(func(u *store.Unit) error {
		_, err := h.Create(u, "s", "é", "", []streams.Source{{ID: 3, Bucket: "b", Key: "k"}})
		return err
	}))
	asked := map[string]any{"c": "tok", "s": 1, "f": 3, "l": 256, "o": 0, "n": 5, "b": "02"}
	j, _ := json.Marshal(asked)
	asked["b"] = []byte{2} // CBOR may have the bitmap as bytes
	c, _ := cbor.Marshal(asked)
	for f, body := range map[streams.Format][]byte{streams.JSON: j, streams.CBOR: c} {
		q, token, err := streams.ParseGet(f, body)
		h.must(err)
		blocks, err := h.Blocks(h.db, "s", q)
		h.must(err)
		if token != "tok" || len(blocks) != 1 || blocks[0].ID != 1 || len(blocks[0].Data) != 144 {
			t.Fatalf("%v: %q %+v", f, token, blocks)
		}
		s, err := h.Stream(h.db, "s")
		h.must(err)
		out := map[string]any{}
		if b := blocks[0].Encode(f, token); f == streams.JSON {
			h.must(json.Unmarshal(b, &out))
			if out["c"] != "tok" || out["f"] != 3.0 || out["l"] != 144.0 || out["i"] != 1.0 || !strings.HasPrefix(out["p"].(string), "YWJh") {
				t.Errorf("%s", b)
			}
			if b := s.Encode(f, ""); string(b) != `{"s":1,"d":"é","r":[{"f":3,"z":400}]}` {
				t.Errorf("%s", b)
			}
		} else {
			h.must(cbor.Unmarshal(b, &out))
			if out["c"] != "tok" || out["i"] != uint64(1) || !bytes.HasPrefix(out["p"].([]byte), []byte("abab")) {
				t.Errorf("%x", b)
			}
			out = map[string]any{}
			h.must(cbor.Unmarshal(s.Encode(f, "t"), &out))
			if out["d"] != "é" || out["s"] != uint64(1) || len(out["r"].([]any)) != 1 {
				t.Errorf("%v", out)
			}
		}
	}
}

func TestWrongRequestsHaveTheirCodes(t *testing.T) {
	h := newHouse(t)
	h.put("k", []byte("one"))
	h.must(h.do(func(u *store.Unit) error {
		_, err := h.Create(u, "s", "", "", []streams.Source{{Bucket: "b", Key: "k"}})
		return err
	}))
	for body, want := range map[string]string{
		`{`: "InvalidJson", `[]`: "InvalidRequest", `{}`: "InvalidRequest", `{"f":0}`: "InvalidRequest", `{"f":0,"l":"256"}`: "InvalidRequest",
		`{"f":0,"l":256.5}`: "InvalidRequest", `{"f":0,"l":99999999999999999999}`: "BlockSizeOutOfBounds", `{"f":0,"l":256,"o":99999999999999999999}`: "OffsetOutOfBounds",
		`{"f":0,"l":256,"n":-99999999999999999999}`: "BlockCountLimitExceeded", `{"f":0,"l":256,"s":99999999999999999999}`: "VersionMismatch", `{"f":256,"l":256}`: "ResourceNotFound",
		`{"f":-1,"l":256}`: "ResourceNotFound", `{"f":0,"l":256,"s":0}`: "VersionMismatch", `{"f":0,"l":256,"s":-1}`: "VersionMismatch", `{"f":0,"l":256,"s":"1"}`: "InvalidRequest",
		`{"f":0,"l":256,"b":"0g"}`: "InvalidRequest", `{"f":0,"l":256,"b":"` + strings.Repeat("00", 12288) + `"}`: "BlockBitmapLimitExceeded",
		`{"f":0,"l":256,"o":-1}`: "OffsetOutOfBounds", `{"f":0,"l":256,"n":-1}`: "BlockCountLimitExceeded", `{"f":0,"l":256,"o":1}`: "ResourceNotFound",
		`{"f":0,"l":256,"s":9}`: "VersionMismatch", `{"f":0,"l":256,"b":"00"}`: "ResourceNotFound", `{"f":0,"l":256,"c":7}`: "InvalidRequest",
	} {
		q, _, err := streams.ParseGet(streams.JSON, []byte(body))
		if err == nil {
			_, err = h.Blocks(h.db, "s", q)
		}
		if err == nil || streams.Code(err) != want {
			t.Errorf("%.60s: %v, want %s", body, err, want)
		}
	}
	for _, body := range [][]byte{nil, {0xff}, {0x80}, bytes.Repeat([]byte{0x81}, 1000), {0xbf, 0xff}, {0xa1, 1, 1}, append([]byte{0x9b}, bytes.Repeat([]byte{0xff}, 8)...)} {
		if _, _, err := streams.ParseGet(streams.CBOR, body); streams.Code(err) != "InvalidCbor" {
			t.Errorf("%.20x: %v", body, err)
		}
	}
	if _, err := h.Blocks(h.db, "nope", streams.Request{Block: 256}); streams.Code(err) != "ResourceNotFound" {
		t.Error(err)
	}
	if streams.Code(errors.New("x")) != "InternalError" {
		t.Error("a foreign error is shown")
	}
}

func TestURLsOfObjects(t *testing.T) {
	for s, want := range map[string]string{
		"https://s3.amazonaws.com/b/k/l":              "b k/l",
		"https://s3.eu-west-1.amazonaws.com/b/k":      "b k",
		"https://s3-eu-west-1.amazonaws.com/b/k%20x":  "b k x",
		"https://my.b.s3.eu-west-1.amazonaws.com/k/l": "my.b k/l",
		"https://b.s3.amazonaws.com/k":                "b k",
		"http://s3.amazonaws.com/b/k":                 "",
		"https://s3.amazonaws.com/b":                  "",
		"https://example.com/b/k":                     "",
		"::":                                          "",
	} {
		got := ""
		if bucket, key, ok := streams.ParseURL(s); ok {
			got = bucket + " " + key
		}
		if got != want {
			t.Errorf("%s: %q, want %q", s, got, want)
		}
	}
	h := newHouse(t)
	h.put("doc", []byte(`{}`))
	if b, err := h.Document("https://s3.amazonaws.com/b/doc"); err != nil || string(b) != `{}` {
		t.Errorf("%s %v", b, err)
	}
}

func FuzzParseGet(f *testing.F) {
	f.Add(false, []byte(`{"c":"1","s":3,"f":2,"l":256,"o":20,"n":32,"b":"0x130080"}`))
	b, _ := cbor.Marshal(map[string]any{"c": "1", "f": 2, "l": 256, "b": []byte{1, 2}})
	f.Add(true, b)
	h := newHouse(f)
	h.put("k", make([]byte, 3000))
	h.must(h.do(func(u *store.Unit) error {
		_, err := h.Create(u, "s", "", "", []streams.Source{{ID: 2, Bucket: "b", Key: "k"}})
		return err
	}))
	f.Fuzz(func(t *testing.T, binary bool, b []byte) {
		format := streams.JSON
		if binary {
			format = streams.CBOR
		}
		q, token, err := streams.ParseGet(format, b)
		if err != nil {
			if streams.Code(err) == "InternalError" {
				t.Fatal(err)
			}
			return
		}
		blocks, err := h.Blocks(h.db, "s", q)
		if err != nil {
			if streams.Code(err) == "InternalError" {
				t.Fatal(err)
			}
			return
		}
		total := 0
		for i := range blocks {
			total += len(blocks[i].Data)
			if out := blocks[i].Encode(format, token); format == streams.JSON && !json.Valid(out) || format == streams.CBOR && cbor.Wellformed(out) != nil {
				t.Fatalf("wrote %x", out)
			}
		}
		if total > 131072 || int64(len(blocks)) > max(q.Count, 512) {
			t.Fatalf("%d blocks, %d bytes", len(blocks), total)
		}
	})
}
