package files_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/api/files"
	"tidegate/gateway/authz"
	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/identity"
	"tidegate/gateway/jobs"
	"tidegate/gateway/jobs/streams"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/registry"
	"tidegate/gateway/reserved"
	"tidegate/gateway/store"
)

// rig is the door behind a real HTTPS listener, with real rooms.
type rig struct {
	*testing.T
	url  string
	clk  *clocktest.Manual
	reg  *registry.Registry
	id   *identity.Identity
	db   *store.Store
	room *streams.Room
	jobs *reserved.Jobs
	door *files.Files
	key  string
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func newRig(t *testing.T) *rig {
	r := &rig{T: t, clk: clocktest.New(time.Now())}
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	sc := store.DefaultConfig(dir)
	sc.LogFileSize, sc.Ballast = 1<<20, -1
	var err error
	r.db, err = store.Open(sc, r.clk)
	r.must(err)
	r.db.Start()
	t.Cleanup(func() { _ = r.db.Close() })
	r.reg, err = registry.Open(r.db, r.clk, registry.DefaultConfig())
	r.must(err)
	vault, err := identity.FileVault(filepath.Join(dir, "pki"))
	r.must(err)
	r.id, err = identity.Open(vault, r.clk, identity.DefaultConfig(filepath.Join(dir, "pki")))
	r.must(err)
	r.room, err = streams.Open(filepath.Join(dir, "files"), r.db, r.clk)
	r.must(err)
	fleet := reserved.Fleet{Registry: r.reg}
	office, err := jobs.Open(jobs.Deps{Store: r.db, Clock: r.clk, Fleet: fleet, Base: r.reg.Base(), Limits: jobs.DefaultLimits(), Events: fleet.Events})
	r.must(err)
	r.jobs = reserved.NewJobs(office, r.db, r.clk, log)
	r.jobs.OnCommit(func(build func(u *store.Unit, emit func(mqtt.Message)) error, done func(error)) error {
		err := r.db.Wait(func(u *store.Unit) error { return build(u, func(mqtt.Message) {}) })
		if err == nil {
			done(nil)
		}
		return err
	})
	r.key = filepath.Join(dir, "pki", "files.key")
	key, err := files.Key(r.key)
	r.must(err)
	r.door = files.New(files.Deps{Files: r.room, Auth: authz.New(r.reg, r.clk, authz.Config{}), Clock: r.clk, Log: log, Assigned: office.Assigned,
		Things: func(certificate string) (names []string) {
			links, _, _ := r.reg.ThingsOf(r.reg.ARN("cert", certificate), registry.Page{})
			for _, l := range links {
				names = append(names, l.Thing)
			}
			return names
		}}, key)
	srv := httptest.NewUnstartedServer(r.door)
	srv.Listener = tls.NewListener(srv.Listener, r.id.ServerTLS()) // StartTLS would show a certificate of its own
	srv.Start()
	t.Cleanup(srv.Close)
	r.url = "https://" + srv.Listener.Addr().String()
	return r
}

// put keeps content as an object.
func (r *rig) put(bucket, key string, content []byte) streams.Blob {
	r.Helper()
	b, err := r.room.Add(bytes.NewReader(content))
	r.must(err)
	r.must(r.db.Wait(func(u *store.Unit) error { return r.room.Name(u, bucket, key, b) }))
	return b
}

// client is a device: a thing with a certificate and a policy, or with "" nobody.
func (r *rig) client(thing, document string) *http.Client {
	r.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(r.id.CAPEM())
	cfg := &tls.Config{RootCAs: pool}
	if thing != "" {
		pair, err := r.id.IssueKeys(0)
		r.must(err)
		r.must(r.reg.Do("test", func(tx *registry.Tx) error {
			_, e0 := tx.CreateThing(registry.ThingInput{Name: thing})
			c, e1 := tx.AddCertificate(registry.CertificateInput{PEM: pair.Certificate, Status: registry.Active, Mode: registry.ModeDefault})
			if err := errors.Join(e0, e1); err != nil {
				return err
			}
			arn := r.reg.ARN("cert", c.ID)
			_, e2 := tx.CreatePolicy(thing, document, nil)
			return errors.Join(e2, tx.AttachPolicy(thing, arn), tx.AttachPrincipal(thing, arn, false))
		}))
		cert, err := tls.X509KeyPair([]byte(pair.Certificate), []byte(pair.PrivateKey))
		r.must(err)
		cfg.Certificates = []tls.Certificate{cert}
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableCompression: true}}
	r.Cleanup(c.CloseIdleConnections)
	return c
}

const all = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`

func (r *rig) ask(c *http.Client, method, url string, header ...string) (*http.Response, string) {
	r.Helper()
	if strings.HasPrefix(url, "/") {
		url = r.url + url
	}
	req, err := http.NewRequest(method, url, nil)
	r.must(err)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	r.must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	r.must(err)
	return resp, string(b)
}

func (r *rig) status(want int, c *http.Client, url string) {
	r.Helper()
	if resp, body := r.ask(c, "GET", url); resp.StatusCode != want {
		r.Errorf("GET %s: %s %.200s, want %d", url, resp.Status, body, want)
	}
}

// job makes a job for a thing.
func (r *rig) job(id, thing, document string) {
	r.Helper()
	_, err := r.jobs.Call("CreateJob", fmt.Appendf(nil, `{"jobId":%q,"targets":[%q],"document":%q}`, id, r.reg.ARN("thing", thing), document))
	r.must(err)
	r.must(r.jobs.Work(context.Background()))
}

func TestRangesOfAFile(t *testing.T) {
	r := newRig(t)
	content := []byte("0123456789abcdef")
	b := r.put("fw", "a.bin", content)
	pump := r.client("pump", all)
	r.job("j", "pump", `{"sha256":"`+b.Hash+`"}`)
	path := "/files/" + b.Hash
	tag := `"` + b.Hash + `"`
	for _, c := range []struct {
		method string
		header []string
		status int
		span   string // Content-Range
		body   string
	}{
		{"GET", nil, 200, "", string(content)},
		{"GET", []string{"Range", "bytes=0-3"}, 206, "bytes 0-3/16", "0123"},
		{"GET", []string{"Range", "bytes=10-"}, 206, "bytes 10-15/16", "abcdef"},
		{"GET", []string{"Range", "bytes=-2"}, 206, "bytes 14-15/16", "ef"},
		{"GET", []string{"Range", "bytes=14-99"}, 206, "bytes 14-15/16", "ef"},
		{"GET", []string{"Range", "bytes=-99"}, 206, "bytes 0-15/16", string(content)},
		{"GET", []string{"Range", "bytes=16-"}, 416, "bytes */16", ""},
		{"GET", []string{"Range", "bytes=4-", "If-Range", tag}, 206, "bytes 4-15/16", "456789abcdef"},
		{"GET", []string{"Range", "bytes=4-", "If-Range", `"another"`}, 200, "", string(content)},
		{"GET", []string{"Range", "bytes=4-", "If-Range", "W/" + tag}, 200, "", string(content)},
		{"GET", []string{"If-None-Match", tag}, 304, "", ""},
		{"GET", []string{"If-Match", `"another"`}, 412, "", ""},
		{"GET", []string{"Range", "bytes=0-15,0-15"}, 200, "", string(content)}, // more than all of it: all of it
		{"HEAD", nil, 200, "", ""},
		{"HEAD", []string{"Range", "bytes=0-3"}, 206, "bytes 0-3/16", ""},
		{"POST", nil, 405, "", ""},
		{"DELETE", nil, 405, "", ""},
	} {
		resp, body := r.ask(pump, c.method, path, c.header...)
		if resp.StatusCode != c.status || resp.Header.Get("Content-Range") != c.span || c.status < 300 && (body != c.body || resp.Header.Get("ETag") != tag) {
			t.Errorf("%s %v: %s %q %q", c.method, c.header, resp.Status, resp.Header.Get("Content-Range"), body)
		}
		if c.method == "HEAD" && c.span == "" && (resp.ContentLength != 16 || resp.Header.Get("Accept-Ranges") != "bytes" || resp.Header.Get("Repr-Digest") == "") {
			t.Errorf("HEAD: %v", resp.Header)
		}
	}
	resp, body := r.ask(pump, "GET", path, "Range", "bytes=0-1,-2")
	kind, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != 206 || kind != "multipart/byteranges" || err != nil {
		t.Fatalf("two ranges: %s %q", resp.Status, resp.Header.Get("Content-Type"))
	}
	parts := multipart.NewReader(strings.NewReader(body), params["boundary"])
	for _, want := range []string{"bytes 0-1/16 01", "bytes 14-15/16 ef"} {
		p, err := parts.NextPart()
		r.must(err)
		text, err := io.ReadAll(p)
		if got := p.Header.Get("Content-Range") + " " + string(text); err != nil || got != want {
			t.Errorf("part %q %v, want %q", got, err, want)
		}
	}
}

func TestOnlyWhoHasToDoWithAFileGetsIt(t *testing.T) {
	r := newRig(t)
	fw := r.put("fw", "a b.bin", []byte("firmware"))
	other := r.put("fw", "other", []byte("not for you"))
	pump, fan, nobody := r.client("pump", all), r.client("fan", all), r.client("", "")
	mute := r.client("mute", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`)
	r.must(r.db.Wait(func(u *store.Unit) error {
		_, err := r.room.Create(u, "s", "", "", []streams.Source{{Bucket: "fw", Key: "a b.bin"}})
		return err
	}))
	path := "/files/" + fw.Hash
	r.status(403, pump, path) // nothing to do
	for id, document := range map[string]string{
		"by-hash": `{"file":{"sha256":"` + fw.Hash + `"}}`, "by-stream": `{"afr_ota":{"streamname":"s"}}`,
		"by-name": `{"urls":["${aws:iot:s3-presigned-url:https://s3.amazonaws.com/fw/a%20b.bin}"]}`, "by-name-2": `{"u":"x ${aws:iot:s3-presigned-url-v2:https://fw.s3.eu-west-1.amazonaws.com/a%20b.bin}"}`,
	} {
		r.job(id, "pump", document)
		r.job(id+"-mute", "mute", document)
		for _, p := range []string{path, "/objects/fw/a%20b.bin"} {
			r.status(200, pump, p)
			r.status(403, fan, p)
			r.status(403, mute, p)
			r.status(401, nobody, p)
		}
		for _, p := range []string{"/files/" + other.Hash, "/files/" + strings.Repeat("0", 64), "/files/", "/files/..%2f..%2fpki%2fca.pem", "/files/" + strings.ToUpper(fw.Hash), "/objects/fw/other", "/objects/fw", "/objects//"} {
			r.status(403, pump, p)
		}
		_, err := r.jobs.Update("pump", id, []byte(`{"status":"SUCCEEDED"}`))
		r.must(err)
		r.status(403, pump, path) // it is over
	}
	r.job("stream-of-another", "pump", `{"operation":"s","id":"s"}`)
	r.status(403, pump, path)
}

func TestSignedURLs(t *testing.T) {
	r := newRig(t)
	r.put("fw", "dir/a b.bin", []byte("firmware"))
	nobody := r.client("", "")
	url := r.door.URL(r.url, "pump", "fw", "dir/a b.bin", time.Minute)
	if resp, body := r.ask(nobody, "GET", url, "Range", "bytes=4-"); resp.StatusCode != 206 || body != "ware" {
		t.Errorf("%s %q", resp.Status, body)
	}
	r.status(404, nobody, r.door.URL(r.url, "pump", "fw", "nothing", time.Minute))
	for what, change := range map[string][2]string{
		"path": {"dir/a", "dir/b"}, "bucket": {"/fw/", "/gw/"}, "thing": {"thing=pump", "thing=fan"}, "expires": {"expires=", "expires=9"}, "signature": {"signature=", "signature=0"},
		"twice": {"thing=pump", "thing=pump&thing=pump"}, "none": {"thing=pump", "thing2=pump"}, "encoding": {"a%20b", "a+b"}, "path to a hash": {"/objects/fw/dir/a%20b.bin", "/files/" + strings.Repeat("0", 64)},
	} {
		bad := strings.Replace(url, change[0], change[1], 1)
		if bad == url {
			t.Fatalf("%s: nothing changed in %s", what, url)
		}
		r.status(403, nobody, bad)
	}
	r.clk.Advance(61 * time.Second)
	if resp, body := r.ask(nobody, "GET", url); resp.StatusCode != 403 || !strings.Contains(body, "expired") {
		t.Errorf("%s %s", resp.Status, body)
	}

	again, err := files.Key(r.key)
	r.must(err)
	stays := files.New(r.door.Deps, again)
	if a, b := r.door.URL("", "p", "b", "k", time.Hour), stays.URL("", "p", "b", "k", time.Hour); a != b {
		t.Errorf("after a start %s, before %s", b, a)
	}
	if info, err := os.Stat(r.key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	r.must(os.WriteFile(r.key, []byte("short"), 0o600))
	if _, err := files.Key(r.key); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a damaged key: %v", err)
	}
}
