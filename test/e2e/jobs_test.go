package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tidegate/test/faultnet"
	"tidegate/test/harness"
)

// firmware writes a file of some size that does not repeat itself.
func firmware(t *testing.T, dir string, size int) (path string, content []byte) {
	t.Helper()
	content = make([]byte, size)
	r := rand.New(rand.NewPCG(7, uint64(size)))
	for i := range content {
		content[i] = byte(r.Uint32())
	}
	path = filepath.Join(dir, "fw.bin")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, content
}

// curl fetches with the unmodified tool, as a device or with "" as nobody, and gives the status and the body.
func (s *site) curl(thing, url string, args ...string) (status int, body []byte) {
	s.t.Helper()
	out := filepath.Join(s.t.TempDir(), "body")
	argv := []string{"-sS", "--cacert", s.env["AWS_CA_BUNDLE"], "-w", "%{http_code}"}
	if !slices.Contains(args, "-o") {
		argv = append(argv, "-o", out)
	}
	if thing != "" {
		argv = append(argv, "--cert", filepath.Join(s.dir, thing, "device.pem"), "--key", filepath.Join(s.dir, thing, "device.key"))
	}
	said, err := exec.Command("curl", append(append(argv, args...), url)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("curl %s: %v: %s", url, err, said)
	}
	status, _ = strconv.Atoi(string(said))
	body, _ = os.ReadFile(out)
	return status, body
}

// port is the HTTPS port as a device calls it.
func (s *site) port() string { return "https://localhost" + s.HTTPS[strings.LastIndex(s.HTTPS, ":"):] }

// offered is what the document of a job with a file says.
type offered struct{ Stream, URL, SHA256 string }

// pending asks, as a device does over HTTPS, for what comes next, and puts it in progress.
func (s *site) pending(thing string) (id string, doc offered) {
	s.t.Helper()
	status, body := s.curl(thing, s.port()+"/things/"+thing+"/jobs/$next", "-X", "PUT", "-d", "{}")
	var answer struct {
		Execution struct{ JobID, JobDocument string }
	}
	if err := json.Unmarshal(body, &answer); status != 200 || err != nil {
		s.t.Fatalf("%s asks what comes next: %d %s", thing, status, body)
	}
	if answer.Execution.JobID != "" {
		if err := json.Unmarshal([]byte(answer.Execution.JobDocument), &doc); err != nil {
			s.t.Fatalf("the document %s: %v", answer.Execution.JobDocument, err)
		}
	}
	return answer.Execution.JobID, doc
}

// report tells how an execution goes.
func (s *site) report(thing, job, state string) {
	s.t.Helper()
	if status, body := s.curl(thing, s.port()+"/things/"+thing+"/jobs/"+job, "-X", "POST", "-d", `{"status":"`+state+`"}`); status != 200 {
		s.t.Errorf("%s reports %s: %d %s", thing, state, status, body)
	}
}

// A firmware is offered with one command, and a device with curl and its certificate gets it, in pieces, across a kill of the
// gateway.
func TestAFirmwareIsDownloadedInPieces(t *testing.T) {
	s := newSite(t, harness.Options{NoDev: true})
	s.enroll("pump-1")
	s.enroll("fan-1")
	s.cli("group", "create", "pumps")
	s.cli("group", "set", "pumps", "--add", "pump-1")
	file, content := firmware(t, s.dir, 3<<20)
	arn := strings.TrimSpace(s.cli("job", "create", "--file", file, "--target", "group:pumps"))
	id := arn[strings.LastIndexByte(arn, '/')+1:]
	if !strings.HasPrefix(id, "fw-bin-") {
		t.Errorf("the job is called %q", id)
	}
	next, doc := s.pending("pump-1")
	if next != id || doc.Stream != id || !strings.HasPrefix(doc.URL, s.port()+"/objects/jobs/"+id+"/fw.bin?") {
		t.Fatalf("%s %+v", next, doc)
	}
	path := s.port() + "/files/" + doc.SHA256
	part := filepath.Join(t.TempDir(), "part")
	if status, body := s.curl("pump-1", path, "-r", "0-999999"); status != 206 || !bytes.Equal(body, content[:1000000]) {
		t.Fatalf("the first part: %d, %d bytes", status, len(body))
	}
	if err := os.WriteFile(part, content[:1000000], 0o600); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	s.Restart()
	path = s.port() + "/files/" + doc.SHA256
	if status, _ := s.curl("pump-1", path, "-C", "-", "-o", part); status != 206 {
		t.Errorf("going on: %d", status)
	}
	if got, err := os.ReadFile(part); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the whole is %d bytes, %v", len(got), err)
	}
	etag := `"` + doc.SHA256 + `"`
	if status, body := s.curl("pump-1", path, "-r", "3145000-", "-H", "If-Range: "+etag); status != 206 || !bytes.Equal(body, content[3145000:]) {
		t.Errorf("the end of what is still the same: %d, %d bytes", status, len(body))
	}
	if status, body := s.curl("pump-1", path, "-r", "3145000-", "-H", `If-Range: "other"`); status != 200 || !bytes.Equal(body, content) {
		t.Errorf("the end of what has changed: %d, %d bytes", status, len(body))
	}
	if status, _ := s.curl("pump-1", path, "-r", "99999999-"); status != 416 {
		t.Errorf("behind the end: %d", status)
	}
	if status, body := s.curl("pump-1", path, "-r", "0-1,5-6"); status != 206 || !bytes.Contains(body, []byte("Content-Range: bytes 5-6/3145728")) {
		t.Errorf("two ranges: %d %.200q", status, body)
	}
	for who, want := range map[string]int{"fan-1": 403, "": 401} {
		if status, body := s.curl(who, path); status != want || len(body) > 200 {
			t.Errorf("%q gets %d and %d bytes", who, status, len(body))
		}
	}
	// The URL needs no certificate, but nothing in it may be changed. It is good after the kill, too; only the port is another.
	url := s.port() + doc.URL[strings.Index(doc.URL, "/objects/"):]
	if status, body := s.curl("", url, "-r", "5-9"); status != 206 || !bytes.Equal(body, content[5:10]) {
		t.Errorf("by URL: %d, %d bytes", status, len(body))
	}
	if status, _ := s.curl("", strings.Replace(url, "thing=pump-1", "thing=fan-1", 1)); status != 403 {
		t.Errorf("by a changed URL: %d", status)
	}
	s.report("pump-1", id, "SUCCEEDED")
	if status, _ := s.curl("pump-1", path); status != 403 {
		t.Errorf("when the job is done: %d", status)
	}
	if out := s.cli("job", "show", id, "--watch"); !strings.Contains(out, "COMPLETED [##############################] 1/1  1 succeeded") {
		t.Errorf("joined again: %s", out)
	}
	s.Stop()
}

// A job comes to a gateway without a network on a stick, signed by someone it trusts, and what became of it is told when the
// link returns. minisign makes the keys.
func TestASignedJobComesOnAStick(t *testing.T) {
	stick := t.TempDir()
	minisign := func(args ...string) {
		t.Helper()
		cmd := exec.Command("minisign", args...)
		cmd.Dir = stick
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("minisign %v: %v: %s", args, err, out)
		}
	}
	at := func(name string) string { return filepath.Join(stick, name) }
	minisign("-G", "-W", "-p", "office.pub", "-s", "office.key")
	minisign("-G", "-W", "-p", "stranger.pub", "-s", "stranger.key")

	office := newSite(t, harness.Options{NoDev: true})
	office.cli("thing", "create", "pump-1")
	file, content := firmware(t, stick, 100_000)
	for _, id := range []string{"fw-6", "fw-7", "fw-8"} {
		office.cli("job", "create", id, "--target", "thing:pump-1", "--file", file, "--timeout", "10")
		office.cli("job", "export", id, "--key", at("office.key"), "--out", at(id+".job"))
	}
	office.cli("job", "export", "fw-8", "--key", at("stranger.key"), "--out", at("strange.job"))
	office.cli("job", "export", "fw-8", "--unsigned", "--out", at("job.tar"))
	if _, errw, code := office.CLI("job", "export", "fw-8"); code != 2 || !strings.Contains(errw, "--key") {
		t.Errorf("exported without a signature: %d %s", code, errw)
	}
	if _, errw, code := office.CLI("job", "export", "nope", "--unsigned", "--out", at("nope")); code != 1 || !strings.Contains(errw, "does not exist") {
		t.Errorf("exported what is not there: %d %s", code, errw)
	}
	minisign("-S", "-m", "job.tar", "-s", "office.key", "-t", "signed by hand")
	if out, err := exec.Command("tar", "-C", stick, "-cf", at("hand.job"), "job.tar", "job.tar.minisig").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	office.Stop()

	cloud := harness.StartMosquitto(t, "")
	ear := harness.StartMosquittoSub(t, cloud.Addr, "site7/#")
	link := faultnet.New(t, cloud.Addr)
	link.Refuse(true) // it is down
	s := newSite(t, harness.Options{NoDev: true, Config: fmt.Sprintf(`
jobs:
  signers: ['file:%s']
upstreams:
  - name: cloud
    url: mqtt://%s
    backoff_max: 1s
    up: [{filter: '$aws/events/#', topic: 'site7/events/{rest}'}]
`, at("office.pub"), link.Addr())})
	no := func(file, says string) {
		t.Helper()
		if out, errw, code := s.CLI("job", "import", at(file)); code != 1 || !strings.Contains(errw, says) || strings.Count(errw, "\n") != 1 {
			t.Errorf("%s was taken: exit %d: %s%s, want %q", file, code, out, errw, says)
		}
	}
	no("fw-7.job", "pump-1 does not exist")
	s.enroll("pump-1")
	s.cli("job", "import", at("fw-7.job"))
	no("fw-7.job", "imported already")
	no("fw-6.job", "older")
	no("strange.job", "not among jobs.signers")
	no("job.tar", `expected only job.tar and job.tar.minisig`)
	whole := read(t, at("fw-8.job"))
	for name, bad := range map[string][]byte{"cut.job": whole[:len(whole)/2], "bent.job": bytes.Replace(whole, content[500:600], content[501:601], 1)} {
		if bytes.Equal(bad, whole) {
			t.Fatalf("%s is as it was", name)
		}
		if err := os.WriteFile(at(name), bad, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	no("cut.job", "cut off")
	no("bent.job", "was changed")
	if out := s.cli("job", "ls"); strings.Contains(out, "fw-6") || strings.Contains(out, "fw-8") {
		t.Errorf("there is more than fw-7: %s", out)
	}
	s.Kill()
	s.Restart()
	no("fw-6.job", "older") // this is remembered
	id, doc := s.pending("pump-1")
	if status, body := s.curl("pump-1", s.port()+"/files/"+doc.SHA256); id != "fw-7" || status != 200 || !bytes.Equal(body, content) {
		t.Errorf("%s: %d, %d bytes", id, status, len(body))
	}
	s.report("pump-1", "fw-7", "SUCCEEDED")
	if out := s.cli("job", "show", "fw-7"); !strings.Contains(out, "COMPLETED") || !strings.Contains(out, "signed by") {
		t.Errorf("shown: %s", out)
	}
	s.cli("job", "import", at("hand.job"))
	s.pending("pump-1")
	s.report("pump-1", "fw-8", "FAILED")

	link.Refuse(false)
	want := map[string]bool{"job/fw-7/completed": true, "jobExecution/fw-7/succeeded": true, "job/fw-8/completed": true, "jobExecution/fw-8/failed": true}
	for len(want) > 0 {
		h := ear.Next()
		topic := strings.TrimPrefix(h.Topic, "site7/events/")
		if !want[topic] || !strings.Contains(h.Payload, `"jobId":"`+strings.Split(topic, "/")[1]) {
			t.Errorf("%s %s", h.Topic, h.Payload)
		}
		delete(want, topic)
	}
	s.Stop()
}
