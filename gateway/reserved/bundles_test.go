package reserved_test

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"

	"tidegate/gateway/fault"
	"tidegate/gateway/jobs"
	"tidegate/gateway/jobs/bundle"
	"tidegate/gateway/jobs/streams"
	"tidegate/gateway/reserved"
	"tidegate/gateway/store"
)

// post is where signed jobs are taken and given out.
type post struct {
	*office
	*reserved.Bundles
	key bundle.Key
}

func (p *post) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// newPost makes one that trusts a key: one of its own, or that of another.
func newPost(t *testing.T, friend *post) *post {
	p := &post{office: newOffice(t)}
	dir := filepath.Join(t.TempDir(), "files")
	files, err := streams.Open(dir, p.db, p.clk)
	p.must(err)
	room, err := jobs.Open(jobs.Deps{Store: p.db, Clock: p.clk, Fleet: reserved.Fleet{Registry: p.reg}, Base: p.reg.Base(), Limits: jobs.DefaultLimits()})
	p.must(err)
	log := slog.New(slog.DiscardHandler)
	p.office.jobs = reserved.NewJobs(room, p.db, p.clk, log)
	p.office.jobs.OnCommit(p.commit)
	p.Bundles = &reserved.Bundles{Jobs: p.office.jobs, Room: room, Files: files, Store: p.db, Clock: p.clk, Log: log, Base: p.reg.Base(), Spool: dir, Limits: bundle.Limits{Bytes: 1 << 20}}
	if friend != nil {
		p.Signers = friend.Signers
		return p
	}
	pub, key, err := minisign.GenerateKey(rand.Reader)
	p.must(err)
	s, err := bundle.ParseSigner(pub.String())
	p.must(err)
	text, err := key.MarshalText()
	p.must(err)
	p.key, err = bundle.ParseKey(text, "")
	p.must(err)
	p.Signers = []bundle.Signer{s}
	return p
}

// put keeps content as an object and gives its hash.
func (p *post) put(bucket, key, content string) string {
	p.t.Helper()
	b, err := p.Files.Add(strings.NewReader(content))
	p.must(err)
	p.must(p.db.Wait(func(u *store.Unit) error { return p.Files.Name(u, bucket, key, b) }))
	return b.Hash
}

// bundle exports a job, signed.
func (p *post) bundle(id string) []byte {
	p.t.Helper()
	m, err := p.Export(id)
	p.must(err)
	var payload, out bytes.Buffer
	p.must(p.Write(&payload, m))
	sig, err := p.key.Sign(bytes.NewReader(payload.Bytes()), id)
	p.must(err)
	p.must(bundle.Write(&out, &payload, int64(payload.Len()), sig))
	p.clk.Advance(time.Second) // the next one is newer
	return out.Bytes()
}

func TestSignedJobsTravelWithWhatTheyNeed(t *testing.T) {
	office := newPost(t, nil)
	office.thing("p")
	hash := office.put("fw", "a b", "by name")
	plain := office.put("other", "x", "by hash")
	office.put("fw", "unrelated", "stays here")
	office.must(office.db.Wait(func(u *store.Unit) error {
		_, err := office.Files.Create(u, "s", "d", "", []streams.Source{{ID: 3, Bucket: "fw", Key: "a b"}})
		return err
	}))
	document := `{\"stream\":\"s\",\"alsoStream\":\"none\",\"url\":\"${aws:iot:s3-presigned-url:https://s3.amazonaws.com/fw/a%20b}\",\"sha256\":\"` + plain + `\",\"not\":\"` + strings.Repeat("0", 64) + `\"}`
	office.call("CreateJob", `{"jobId":"j","targets":["arn:aws:iot:local-1:000000000000:thing/p"],"document":"`+document+`","timeoutConfig":{"inProgressTimeoutInMinutes":5}}`)
	sent := office.bundle("j")

	site := newPost(t, office)
	if _, err := site.Import(bytes.NewReader(sent), "me"); !fault.Is(err, fault.NotFound) {
		t.Errorf("for a thing that is not here: %v", err)
	}
	if _, err := site.Files.Named("fw", "a b"); !fault.Is(err, fault.NotFound) {
		t.Errorf("an object of a job that was refused: %v", err)
	}
	site.thing("p")
	site.clk.Advance(time.Second)
	x, err := site.Import(bytes.NewReader(sent), "me")
	site.must(err)
	if x.Job.ID != "j" || x.Comment != "j" || x.Job.Timeout.Minutes != 5 || x.Job.Signer != x.Signer.String() {
		t.Errorf("%+v", x)
	}
	if b, err := site.Files.Named("fw", "a b"); err != nil || b.Hash != hash {
		t.Errorf("the object: %v %v", b, err)
	}
	if s, err := site.Files.Stream(site.db, "s"); err != nil || s.Description != "d" || len(s.Files) != 1 || s.Files[0].ID != 3 || s.Files[0].Hash != hash {
		t.Errorf("the stream: %+v %v", s, err)
	}
	if gone, err := site.Files.Sweep(0); err != nil || gone > 0 {
		t.Errorf("%d files would not have stayed, %v", gone, err)
	}
	if _, err := site.Files.Stat(plain); err != nil {
		t.Error(err)
	}
	if s := site.heard(); !strings.Contains(s, "notify-next") {
		t.Errorf("the thing hears %s", s)
	}
	// No events are enabled here, and yet its outcome is told.
	site.send("$aws/things/p/jobs/j/update", `{"status":"SUCCEEDED"}`)
	if s := site.heard(); !strings.Contains(s, "$aws/events/jobExecution/j/succeeded") || !strings.Contains(s, "$aws/events/job/j/completed") {
		t.Errorf("heard of its end: %s", s)
	}
	_, err = site.office.jobs.Update("p", "j", []byte(`{"status":"IN_PROGRESS"}`))
	if !fault.Is(err, fault.Conflict) {
		t.Errorf("it is over: %v", err)
	}
	if _, err := site.Import(bytes.NewReader(sent), "me"); !fault.Is(err, fault.Exists) {
		t.Errorf("again: %v", err)
	}
}

func TestASignedJobOverwritesNothing(t *testing.T) {
	office := newPost(t, nil)
	office.thing("p")
	office.put("fw", "k", "new")
	office.must(office.db.Wait(func(u *store.Unit) error {
		_, err := office.Files.Create(u, "s", "", "", []streams.Source{{Bucket: "fw", Key: "k"}})
		return err
	}))
	for id, document := range map[string]string{"named": `${aws:iot:s3-presigned-url:https://s3.amazonaws.com/fw/k}`, "j": "x"} {
		office.call("CreateJob", `{"jobId":"`+id+`","targets":["arn:aws:iot:local-1:000000000000:thing/p"],"document":"{\"u\":\"`+document+`\"}"}`)
	}
	office.call("CreateJob", `{"jobId":"streamed","targets":["arn:aws:iot:local-1:000000000000:thing/p"],"document":"{\"stream\":\"s\"}"}`)
	site := newPost(t, office)
	site.thing("p")
	site.put("fw", "k", "old")
	site.must(site.db.Wait(func(u *store.Unit) error {
		_, err := site.Files.Create(u, "s", "", "", []streams.Source{{Bucket: "fw", Key: "k"}})
		return err
	}))
	site.call("CreateJob", `{"jobId":"j","targets":["arn:aws:iot:local-1:000000000000:thing/p"],"document":"{\"mine\":1}"}`)
	for _, c := range []struct{ id, says string }{{"named", "object fw/k"}, {"streamed", "stream s"}, {"j", "Job j already exists"}} {
		sent := office.bundle(c.id)
		site.clk.Advance(time.Second)
		if _, err := site.Import(bytes.NewReader(sent), "me"); !fault.Is(err, fault.Exists) || !strings.Contains(fault.Message(err), c.says) {
			t.Errorf("%s: %v", c.id, err)
		}
	}
	if got := site.call("GetJobDocument", `{"jobId":"j"}`); !strings.Contains(got, "mine") {
		t.Errorf("the job that was there: %s", got)
	}
	office.clk.SetTrusted(false)
	if _, err := office.Export("j"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("exported without a date: %v", err)
	}
}
