package bundle_test

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"aead.dev/minisign"

	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/jobs"
	"tidegate/gateway/jobs/bundle"
	"tidegate/gateway/store"
)

var issued = time.Date(2026, 5, 1, 12, 0, 0, 7, time.UTC)

// keys makes a pair of keys.
func keys(t testing.TB) (bundle.Signer, bundle.Key) {
	t.Helper()
	pub, key, err := minisign.GenerateKey(rand.Reader)
	must(t, err)
	text, err := key.MarshalText()
	must(t, err)
	k, err := bundle.ParseKey(text, "")
	must(t, err)
	s, err := bundle.ParseSigner(pub.String())
	must(t, err)
	return s, k
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// manifest is of a job with one file.
func manifest(content string) bundle.Manifest {
	h := hash(content)
	return bundle.Manifest{Issued: issued, Job: jobs.CreateInput{JobID: "fw-7", Targets: []string{"group:pumps", "thing:p:1"}, Document: `{"stream":"fw-7"}`,
		Settings: jobs.Settings{Timeout: &jobs.Timeout{Minutes: 5}}},
		Objects: []bundle.Object{{Bucket: "jobs", Key: "fw-7/fw.bin", Hash: h}}, Streams: []bundle.Stream{{ID: "fw-7", Files: []bundle.StreamFile{{ID: 0, Hash: h}}}},
		Files: []bundle.File{{Hash: h, Size: int64(len(content))}}}
}

func payload(t testing.TB, m bundle.Manifest, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, bundle.WritePayload(&b, m, func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }))
	return b.Bytes()
}

// signed makes a bundle of a payload.
func signed(t testing.TB, k bundle.Key, payload []byte) []byte {
	t.Helper()
	sig, err := k.Sign(bytes.NewReader(payload), "a comment")
	must(t, err)
	var b bytes.Buffer
	must(t, bundle.Write(&b, bytes.NewReader(payload), int64(len(payload)), sig))
	return b.Bytes()
}

// entry is a member of an archive made by hand.
type entry struct {
	tar.Header
	body string
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.Size == 0 {
			e.Size = int64(len(e.body))
		}
		e.Mode = 0o644
		must(t, w.WriteHeader(&e.Header))
		_, err := io.WriteString(w, e.body)
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

func file(name, body string) entry { return entry{tar.Header{Name: name, Typeflag: tar.TypeReg}, body} }

// take opens a bundle and reads all of it.
func take(t testing.TB, r io.Reader, l bundle.Limits, signers ...bundle.Signer) (*bundle.Bundle, map[string]string, error) {
	t.Helper()
	dir := t.TempDir()
	b, err := bundle.Open(r, dir, l, signers)
	got := map[string]string{}
	if err == nil {
		err = b.Files(func(f bundle.File, content io.Reader) error {
			text, err := io.ReadAll(content)
			got[f.Hash] = string(text)
			return err
		})
		must(t, b.Close())
		must(t, b.Close())
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%s was left behind", left[0].Name())
	}
	return b, got, err
}

var roomy = bundle.Limits{Bytes: 1 << 20}

func TestABundleArrivesAsItWasSent(t *testing.T) {
	s, k := keys(t)
	content := strings.Repeat("firmware", 1000)
	sent := signed(t, k, payload(t, manifest(content), content))
	b, files, err := take(t, iotest.OneByteReader(bytes.NewReader(sent)), roomy, s)
	must(t, err)
	m := b.Manifest
	if b.Comment != "a comment" || b.Signer.ID() != s.ID() || files[hash(content)] != content || len(files) != 1 || !m.Issued.Equal(issued) {
		t.Errorf("%+v %v", b, len(files))
	}
	in := m.Input("arn:aws:iot:r:1:")
	if in.JobID != "fw-7" || in.Timeout.Minutes != 5 || fmt.Sprint(in.Targets) != "[arn:aws:iot:r:1:thinggroup/pumps arn:aws:iot:r:1:thing/p:1]" {
		t.Errorf("%+v", in)
	}
	for i, arn := range in.Targets {
		if back, err := bundle.Portable("arn:aws:iot:r:1:", arn); err != nil || back != m.Job.Targets[i] {
			t.Errorf("%s is %s, %v", arn, back, err)
		}
	}
	if _, err := bundle.Portable("arn:aws:iot:r:1:", "arn:aws:iot:r:2:thing/p"); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}

func TestWhatIsNotRightIsRefused(t *testing.T) {
	s, k := keys(t)
	other, wrong := keys(t)
	const content = "firmware"
	good := payload(t, manifest(content), content)
	sig, err := k.Sign(bytes.NewReader(good), "c")
	must(t, err)
	text := func(m bundle.Manifest) string {
		m.Format = bundle.Format
		b, err := json.Marshal(m)
		must(t, err)
		return string(b)
	}
	h := hash(content)
	inner := func(entries ...entry) []byte { return signed(t, k, archive(t, entries...)) }
	flipped := bytes.Clone(good)
	flipped[bytes.Index(flipped, []byte(content))] ^= 1
	changed := func(f func(m *bundle.Manifest)) []byte {
		m := manifest(content)
		f(&m)
		return inner(file("job.json", text(m)), file("files/"+h, content))
	}
	whole := signed(t, k, good)
	outer := func(entries ...entry) []byte { return archive(t, entries...) }
	body, sign := file("job.tar", string(good)), file("job.tar.minisig", string(sig))
	for what, c := range map[string]struct {
		bundle []byte
		code   fault.Code
		says   string
	}{
		"unsigned":                {outer(body), fault.Forbidden, "not signed"},
		"only signed":             {outer(sign), fault.Invalid, "holds no job.tar"},
		"empty":                   {nil, fault.Invalid, "holds no job.tar"},
		"no tar":                  {bytes.Repeat([]byte("x"), 2000), fault.Invalid, "cut off or damaged"},
		"another key":             {signed(t, wrong, good), fault.Forbidden, other.ID()},
		"a bit flipped":           {outer(sign, file("job.tar", string(flipped))), fault.Forbidden, "was changed"},
		"signature of another":    {outer(file("job.tar.minisig", string(sig)), file("job.tar", string(payload(t, manifest("x"), "x")))), fault.Forbidden, "was changed"},
		"signature broken":        {outer(file("job.tar.minisig", "untrusted comment: x\nRU\n"), body), fault.Forbidden, "none of minisign's"},
		"comment changed":         {outer(file("job.tar.minisig", strings.Replace(string(sig), "trusted comment: c", "trusted comment: d", 1)), body), fault.Forbidden, "was changed"},
		"signature huge":          {outer(file("job.tar.minisig", strings.Repeat("x", 5000)), body), fault.Invalid, "larger than"},
		"twice":                   {outer(body, body), fault.Invalid, "twice"},
		"something more":          {outer(sign, body, file("more", "")), fault.Invalid, `"more"`},
		"something else":          {outer(file("../../etc/passwd", "x"), sign, body), fault.Invalid, "etc/passwd"},
		"a link":                  {outer(entry{tar.Header{Name: "job.tar", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, ""}, sign), fault.Invalid, "not a plain file"},
		"a long name":             {outer(entry{tar.Header{Name: "job.tar", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"comment": "x"}}, "x"}, sign), fault.Invalid, "not a plain file"},
		"cut off":                 {whole[:len(whole)/2], fault.Invalid, "cut off"},
		"followed by something":   {append(bytes.Clone(whole), 1), fault.Invalid, "something follows"},
		"large":                   {signed(t, k, payload(t, manifest(strings.Repeat("x", 1<<20)), strings.Repeat("x", 1<<20))), fault.TooLarge, "more than 1048576 bytes"},
		"no manifest":             {inner(), fault.Invalid, "lacks job.json"},
		"manifest elsewhere":      {inner(file("files/"+h, content)), fault.Invalid, "where job.json belongs"},
		"manifest up":             {inner(file("../job.json", "{}")), fault.Invalid, "where job.json belongs"},
		"manifest huge":           {inner(file("job.json", strings.Repeat(" ", 300<<10))), fault.Invalid, "manifest has"},
		"manifest no JSON":        {inner(file("job.json", "{")), fault.Invalid, "cannot be read"},
		"manifest of the future":  {inner(file("job.json", `{"format":"tidegate-job-2"}`)), fault.Invalid, "tidegate-job-2"},
		"manifest with more":      {inner(file("job.json", `{"format":"tidegate-job-1","x":1}`)), fault.Invalid, "unknown field"},
		"manifest twice":          {inner(file("job.json", text(manifest(content))+"{}")), fault.Invalid, "something follows"},
		"no date":                 {changed(func(m *bundle.Manifest) { m.Issued = time.Time{} }), fault.Invalid, "when it was issued"},
		"a target by ARN":         {changed(func(m *bundle.Manifest) { m.Job.Targets = []string{"arn:aws:iot:r:1:thing/p"} }), fault.Invalid, "thing:NAME"},
		"a document elsewhere":    {changed(func(m *bundle.Manifest) { m.Job.DocumentSource = "https://x" }), fault.Invalid, "documentSource"},
		"an object of nothing":    {changed(func(m *bundle.Manifest) { m.Objects[0].Hash = hash("y") }), fault.Invalid, "does not hold"},
		"a stream of nothing":     {changed(func(m *bundle.Manifest) { m.Streams[0].Files[0].Hash = hash("y") }), fault.Invalid, "does not hold"},
		"a file without a hash":   {changed(func(m *bundle.Manifest) { m.Files[0].Hash = "../../../x" }), fault.Invalid, "64 hex digits"},
		"a file twice":            {changed(func(m *bundle.Manifest) { m.Files = append(m.Files, m.Files[0]) }), fault.Invalid, "twice"},
		"a file of another size":  {changed(func(m *bundle.Manifest) { m.Files[0].Size = 7 }), fault.Invalid, "bytes in the bundle's payload"},
		"a file missing":          {inner(file("job.json", text(manifest(content)))), fault.Invalid, "lacks files/"},
		"a file not named":        {inner(file("job.json", text(manifest(content))), file("files/"+h, content), file("files/x", "")), fault.Invalid, "does not name"},
		"a file called otherwise": {inner(file("job.json", text(manifest(content))), file("files/../"+h, content)), fault.Invalid, "belongs"},
		"a file that is a link":   {inner(file("job.json", text(manifest(content))), entry{tar.Header{Name: "files/" + h, Typeflag: tar.TypeLink, Linkname: "job.json"}, ""}), fault.Invalid, "not a plain file"},
	} {
		_, _, err := take(t, bytes.NewReader(c.bundle), roomy, s)
		if fault.Of(err) != c.code || !strings.Contains(fault.Message(err), c.says) {
			t.Errorf("%s: %v, want %v with %q", what, err, c.code, c.says)
		}
	}
	if _, _, err := take(t, bytes.NewReader(whole), roomy); !fault.Is(err, fault.Forbidden) || !strings.Contains(err.Error(), "jobs.signers") {
		t.Errorf("without a signer: %v", err)
	}
	if _, _, err := take(t, bytes.NewReader(whole), roomy, other, s); err != nil {
		t.Errorf("with two: %v", err)
	}
	for _, text := range []string{"", "RW", "hello", s.String() + "AAAA", "file:/x"} {
		if _, err := bundle.ParseSigner(text); err == nil {
			t.Errorf("%q is a key", text)
		}
	}
	for _, text := range []string{"", "x", s.String()} {
		if _, err := bundle.ParseKey([]byte(text), ""); err == nil {
			t.Errorf("%q is a secret key", text)
		}
	}
}

// Cut anywhere, a bundle is refused and nothing is left.
func TestEveryTruncationIsSeen(t *testing.T) {
	s, k := keys(t)
	whole := signed(t, k, payload(t, manifest("firmware"), "firmware"))
	end := len(whole) - 1024 // the end of an archive may be missing, as tar says
	for n := 0; n < end; n += 97 {
		if _, _, err := take(t, bytes.NewReader(whole[:n]), roomy, s); err == nil {
			t.Fatalf("%d of %d bytes were taken", n, len(whole))
		}
	}
	for n := range end {
		bad := bytes.Clone(whole)
		bad[n] ^= 0x40
		if b, files, err := take(t, bytes.NewReader(bad), roomy, s); err == nil && (files[hash("firmware")] != "firmware" || b.Manifest.Job.JobID != "fw-7") {
			t.Fatalf("byte %d changed, and %+v taken", n, b.Manifest)
		}
	}
	broken := errors.New("pulled out")
	if _, _, err := take(t, io.MultiReader(bytes.NewReader(whole[:3000]), iotest.ErrReader(broken)), roomy, s); !errors.Is(err, broken) {
		t.Errorf("a stick pulled out: %v", err)
	}
}

func TestAReplayIsRefused(t *testing.T) {
	clk := clocktest.New(issued)
	cfg := store.DefaultConfig(t.TempDir())
	cfg.Ballast = -1
	db, err := store.Open(cfg, clk)
	must(t, err)
	db.Start()
	defer func() { must(t, db.Close()) }()
	ada, _ := keys(t)
	bob, _ := keys(t)
	for i, c := range []struct {
		by      bundle.Signer
		job     string
		at      time.Duration
		trusted bool
		code    fault.Code
		says    string
	}{
		{ada, "j1", 0, true, 0, ""},
		{ada, "j1", 0, true, fault.Exists, "imported already"},
		{ada, "j2", 0, true, fault.Conflict, "older"},
		{ada, "j0", -time.Hour, true, fault.Conflict, "job j1"},
		{bob, "j0", -time.Hour, true, 0, ""}, // each signer has a line of its own
		{ada, "j3", time.Nanosecond, true, 0, ""},
		{ada, "j4", 25 * time.Hour, true, fault.Conflict, "in the future"},
		{ada, "j4", 25 * time.Hour, false, 0, ""},
	} {
		b := bundle.Bundle{Signer: c.by, Manifest: bundle.Manifest{Issued: issued.Add(c.at), Job: jobs.CreateInput{JobID: c.job}}}
		err := db.Wait(func(u *store.Unit) error { return b.Accept(u, clk.Now(), c.trusted) })
		if (err == nil) != (c.says == "") || err != nil && (fault.Of(err) != c.code || !strings.Contains(fault.Message(err), c.says)) {
			t.Errorf("%d: %v, want %q", i, err, c.says)
		}
	}
}

// The tool that everybody has must understand our bundles, and we its.
func TestMinisignItself(t *testing.T) {
	dir := t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	read := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		return b
	}
	write := func(name string, b []byte) { t.Helper(); must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600)) }
	run("minisign", "-G", "-W", "-p", "k.pub", "-s", "k.key")
	s, err := bundle.ParseSigner(string(read("k.pub")))
	must(t, err)
	k, err := bundle.ParseKey(read("k.key"), "")
	must(t, err)

	write("ours.job", signed(t, k, payload(t, manifest("firmware"), "firmware")))
	run("tar", "xf", "ours.job")
	if out := run("minisign", "-V", "-m", "job.tar", "-p", "k.pub"); !strings.Contains(out, "a comment") {
		t.Errorf("minisign says %s", out)
	}
	must(t, os.Remove(filepath.Join(dir, "job.tar.minisig")))
	run("minisign", "-S", "-m", "job.tar", "-s", "k.key", "-t", "by hand")
	for _, members := range [][]string{{"job.tar", "job.tar.minisig"}, {"job.tar.minisig", "job.tar"}} {
		run("tar", append([]string{"cf", "theirs.job"}, members...)...)
		b, files, err := take(t, bytes.NewReader(read("theirs.job")), roomy, s)
		if err != nil || b.Comment != "by hand" || files[hash("firmware")] != "firmware" {
			t.Errorf("%v: %v", members, err)
		}
	}
	run("minisign", "-S", "-l", "-m", "job.tar", "-s", "k.key")
	run("tar", "cf", "legacy.job", "job.tar", "job.tar.minisig")
	if _, _, err := take(t, bytes.NewReader(read("legacy.job")), roomy, s); !fault.Is(err, fault.Forbidden) || !strings.Contains(err.Error(), "without -l") {
		t.Errorf("signed the old way: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	s, k := keys(f)
	good := payload(f, manifest("firmware"), "firmware")
	f.Add(signed(f, k, good), false)
	f.Add(good, true)
	f.Add(archive(f, file("job.json", `{"format":"tidegate-job-1"}`), file("files/x", "y")), true)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte, sign bool) {
		if sign { // what is signed by a friend may still be broken
			b = signed(t, k, b)
		}
		x, err := bundle.Open(bytes.NewReader(b), dir, roomy, []bundle.Signer{s})
		if err == nil {
			defer x.Close()
			total := int64(0)
			err = x.Files(func(f bundle.File, content io.Reader) error {
				n, err := io.Copy(io.Discard, content)
				total += n
				return err
			})
			if total > roomy.Bytes {
				t.Fatalf("%d bytes out of %d", total, len(b))
			}
		}
		if err != nil && fault.Of(err) == fault.Internal {
			t.Fatal(err)
		}
	})
}

// The key was made by minisign, and locked from its format apart from the code under test.
func TestAKeyWithAPasswordSigns(t *testing.T) {
	locked, err := os.ReadFile("testdata/locked.key")
	must(t, err)
	pub, err := os.ReadFile("testdata/locked.pub")
	must(t, err)
	s, err := bundle.ParseSigner(string(pub))
	must(t, err)
	if !bundle.Locked(locked) {
		t.Error("the key is not known to be locked")
	}
	for _, password := range []string{"", "correct horses"} {
		if _, err := bundle.ParseKey(locked, password); !errors.Is(err, bundle.ErrPassword) {
			t.Errorf("with %q: %v, want ErrPassword", password, err)
		}
	}
	k, err := bundle.ParseKey(locked, "correct horse")
	must(t, err)
	b, files, err := take(t, bytes.NewReader(signed(t, k, payload(t, manifest("firmware"), "firmware"))), roomy, s)
	if err != nil || b.Comment != "a comment" || files[hash("firmware")] != "firmware" {
		t.Errorf("%+v, %v", b, err)
	}
}
