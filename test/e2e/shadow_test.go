package e2e_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/test/harness"
	"tidegate/test/rawmqtt"
)

// asker sends requests about shadows and hears the answers.
type asker struct {
	*rawmqtt.Conn
	t *testing.T
}

func listenIn(t *testing.T, addr, id, filter string) asker {
	t.Helper()
	c, _, err := rawmqtt.Dial(addr, rawmqtt.Options{ClientID: id, Clean: true, ReadBuffer: 256 << 10})
	if err == nil {
		err = c.Subscribe(1, filter)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Conn.Close() })
	return asker{c, t}
}

func (a asker) send(topic, payload string) {
	a.t.Helper()
	if _, err := a.Write(rawmqtt.AppendPublish(nil, false, topic, []byte(payload), 0, 0, 0)); err != nil {
		a.t.Fatal(err)
	}
}

// next gives the next message.
func (a asker) next() (topic string, payload []byte) {
	a.t.Helper()
	a.SetReadDeadline(time.Now().Add(30 * time.Second))
	for {
		p, err := a.Next()
		if err != nil {
			a.t.Fatal(err)
		}
		if p.Type == rawmqtt.Publish {
			return string(p.Topic), append([]byte(nil), p.Payload...)
		}
	}
}

// Every refusal of the specification, over MQTT and over HTTPS with the same words (spec/shadow.md §6, §7).
func TestEveryRefusalOfAShadowRequest(t *testing.T) {
	s := newSite(t, harness.Options{Config: "limits: {shadow: {in_flight: 3}}\n"})
	s.enroll("dev")
	c := listenIn(t, s.MQTT, "asker", "$aws/things/+/shadow/#")
	made := `{"state":{"reported":{"a":1}}}`
	c.send("$aws/things/x/shadow/update", made)
	for topic := ""; !strings.HasSuffix(topic, "accepted"); {
		topic, _ = c.next()
	}
	deep := func(n int) string {
		return `{"state":{"desired":` + strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) + "}}"
	}
	file := filepath.Join(s.dir, "body")
	head := filepath.Join(s.dir, "head")
	rest := func(method, path, body string) (status int, kind string, answer map[string]any) {
		t.Helper()
		if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{"-X", method, "-D", head}
		if method != "GET" && body != "" {
			args = append(args, "--data-binary", "@"+file)
		}
		status, b := s.curl("dev", s.port()+path, args...)
		json.Unmarshal(b, &answer) //nolint:errcheck // shown below
		for line := range strings.Lines(string(read(t, head))) {
			if k, v, _ := strings.Cut(line, ":"); strings.EqualFold(k, "x-amzn-ErrorType") {
				kind = strings.TrimSpace(v)
			}
		}
		return status, kind, answer
	}
	names := map[int]string{400: "InvalidRequestException", 404: "ResourceNotFoundException", 409: "ConflictException", 413: "RequestEntityTooLargeException", 415: "UnsupportedDocumentEncodingException"}
	for _, bad := range []struct {
		op, body string
		code     int
		message  string
	}{
		{"update", "\xff", 415, "Unsupported documented encoding; supported encoding is UTF-8"},
		{"update", `{"state":{"desired":{"a":"` + strings.Repeat("x", 8190) + `"}}}`, 413, "The payload exceeds the maximum size allowed"},
		{"update", `{"state":{`, 400, "Invalid JSON"},
		{"update", `[]`, 400, "Invalid JSON"},
		{"update", `{"state":{"desired":{"a":01}}}`, 400, "Invalid JSON"},
		{"update", `{"clientToken":"k"}`, 400, "Missing required node: state"},
		{"update", `{"state":"a"}`, 400, "State node must be an object"},
		{"update", `{"state":{"desired":1}}`, 400, "Desired node must be an object"},
		{"update", `{"state":{"reported":[]}}`, 400, "Reported node must be an object"},
		{"update", `{"state":{"desire":{}}}`, 400, "State contains an invalid node"},
		{"update", `{"state":{"delta":{}}}`, 400, "State contains an invalid node"},
		{"update", `{"state":{"desired":{"a":[1,null]}}}`, 400, ""},
		{"update", `{"state":{},"clientToken":1}`, 400, "Invalid clientToken"},
		{"update", `{"state":{},"clientToken":"` + strings.Repeat("k", 65) + `"}`, 400, "Invalid clientToken"},
		{"update", deep(9), 400, "JSON contains too many levels of nesting; maximum is 6"},
		{"update", deep(150), 400, "JSON contains too many levels of nesting; maximum is 6"},
		{"update", `{"state":{},"version":1.5}`, 400, "Invalid version"},
		{"update", `{"state":{},"version":"1"}`, 400, "Invalid version"},
		{"update", `{"state":{},"version":-1}`, 400, "Invalid version"},
		{"update", `{"state":{},"version":0}`, 409, "Version conflict"},
		{"update", `{"state":{},"version":2}`, 409, "Version conflict"},
		{"update", `{"state":{},"version":99999999999999999999}`, 409, "Version conflict"},
	} {
		c.send("$aws/things/x/shadow/"+bad.op, bad.body)
		topic, payload := c.next()
		for strings.HasSuffix(topic, "/"+bad.op) { // our own request
			topic, payload = c.next()
		}
		var doc struct {
			Code    int
			Message string
		}
		if err := json.Unmarshal(payload, &doc); err != nil || !strings.HasSuffix(topic, bad.op+"/rejected") || doc.Code != bad.code || !strings.HasPrefix(doc.Message, bad.message) {
			t.Errorf("MQTT %.60s: %s %s, want %d %s", bad.body, topic, payload, bad.code, bad.message)
		}
		status, kind, answer := rest("POST", "/things/x/shadow", bad.body)
		if status != bad.code || kind != names[bad.code] || answer["message"] != doc.Message {
			t.Errorf("HTTPS %.60s: %d %s %v, want %d %s as over MQTT: %s", bad.body, status, kind, answer, bad.code, names[bad.code], doc.Message)
		}
	}
	for _, bad := range []struct {
		topic, method, path string
		code                int
	}{
		{"none/shadow/get", "GET", "/things/none/shadow", 404},
		{"none/shadow/delete", "DELETE", "/things/none/shadow", 404},
		{"x/shadow/name/none/get", "GET", "/things/x/shadow?name=none", 404},
		{"a b/shadow/get", "GET", "/things/a%20b/shadow", 400},
		{"x/shadow/name/a%b/get", "GET", "/things/x/shadow?name=a%25b", 400},
		{strings.Repeat("x", 129) + "/shadow/get", "GET", "/things/" + strings.Repeat("x", 129) + "/shadow", 400},
		{"x/shadow/name/" + strings.Repeat("x", 65) + "/get", "GET", "/things/x/shadow?name=" + strings.Repeat("x", 65), 400},
	} {
		c.send("$aws/things/"+bad.topic, "")
		topic, payload := c.next()
		for !strings.HasSuffix(topic, "/rejected") {
			topic, payload = c.next()
		}
		if !strings.HasPrefix(string(payload), fmt.Sprintf(`{"code":%d,`, bad.code)) {
			t.Errorf("MQTT %.60s: %s", bad.topic, payload)
		}
		if status, kind, answer := rest(bad.method, bad.path, ""); status != bad.code || kind != names[bad.code] {
			t.Errorf("HTTPS %.60s: %d %s %v", bad.path, status, kind, answer)
		}
	}

	// what only one of the two doors has
	if status, kind, _ := rest("PUT", "/things/x/shadow", made); status != 405 || kind != "MethodNotAllowedException" {
		t.Errorf("PUT: %d %s", status, kind)
	}
	if status, kind, _ := rest("POST", "/things/x/shadow", strings.Repeat(" ", 129<<10)); status != 413 || kind != names[413] {
		t.Errorf("a huge body: %d %s", status, kind)
	}
	for _, size := range []string{"0", "-1", "101", "x"} {
		if status, kind, _ := rest("GET", "/api/things/shadow/ListNamedShadowsForThing/x?pageSize="+size, ""); status != 400 || kind != names[400] {
			t.Errorf("a page of %s: %d %s", size, status, kind)
		}
	}
	if status, _ := s.curl("", s.port()+"/things/x/shadow"); status != 401 && status != 403 {
		t.Errorf("nobody in particular: %d", status)
	}
	narrow := filepath.Join(s.dir, "narrow.json")
	if err := os.WriteFile(narrow, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"arn:aws:iot:local-1:000000000000:thing/other"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cli("policy", "create", "narrow", "-f", narrow)
	s.cli("enroll", "small", "--out", filepath.Join(s.dir, "small"), "--policy", "narrow")
	if status, b := s.curl("small", s.port()+"/things/x/shadow"); status != 403 {
		t.Errorf("not allowed: %d %s", status, b)
	}
	if status, _ := s.curl("small", s.port()+"/things/other/shadow"); status != 404 {
		t.Errorf("allowed: %d", status)
	}

	// 429: more requests on their way than the limit has it
	var burst []byte
	for range 40 {
		burst = rawmqtt.AppendPublish(burst, false, "$aws/things/y/shadow/update", []byte(made), 0, 0, 0)
	}
	if _, err := c.Write(burst); err != nil {
		t.Fatal(err)
	}
	accepted, many := 0, 0
	for accepted+many < 40 {
		switch topic, payload := c.next(); {
		case strings.HasSuffix(topic, "/accepted"):
			accepted++
		case strings.HasSuffix(topic, "/rejected"):
			if many++; !strings.HasPrefix(string(payload), `{"code":429,`) {
				t.Errorf("too many: %s", payload)
			}
		}
	}
	if accepted == 0 || many == 0 {
		t.Errorf("%d were accepted, %d too many", accepted, many)
	}
}

// A change over HTTPS tells the same messages as one over MQTT; named shadows are listed in pages.
func TestAChangeTellsTheSameWhereverItComesFrom(t *testing.T) {
	s := newSite(t, harness.Options{})
	s.enroll("dev")
	c := listenIn(t, s.MQTT, "asker", "$aws/things/+/shadow/+/+")
	request := `{"state":{"desired":{"a":1,"b":[2]},"reported":{"a":2}},"clientToken":"k"}`
	told := func(thing string) (all []string) {
		t.Helper()
		for {
			topic, payload := c.next()
			var doc any
			if err := json.Unmarshal(payload, &doc); err != nil {
				t.Fatal(err)
			}
			undate(doc)
			b, err := json.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, strings.Replace(topic, thing, "THING", 1)+" "+string(b))
			if strings.HasSuffix(topic, "/accepted") {
				return all
			}
		}
	}
	c.send("$aws/things/m/shadow/update", request)
	want := told("m")
	if status, b := s.curl("dev", s.port()+"/things/r/shadow", "--data", request); status != 200 {
		t.Fatalf("%d %s", status, b)
	}
	if got := told("r"); strings.Join(got, "\n") != strings.Join(want, "\n") || len(got) != 3 {
		t.Errorf("over HTTPS\n%s\nover MQTT\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	c.send("$aws/things/m/shadow/delete", "")
	want = told("m")
	if status, b := s.curl("dev", s.port()+"/things/r/shadow", "-X", "DELETE"); status != 200 {
		t.Fatalf("%d %s", status, b)
	}
	if got := told("r"); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("over HTTPS\n%s\nover MQTT\n%s", got, want)
	}

	for i := range 30 {
		s.cli("shadow", "set", "m", "--name", fmt.Sprintf("s%02d", i), "--reported", "{}")
	}
	s.cli("shadow", "rm", "m", "--name", "s07", "--yes")
	var names []string
	for token, pages := "", 0; ; pages++ {
		status, b := s.curl("dev", s.port()+"/api/things/shadow/ListNamedShadowsForThing/m?nextToken="+token)
		var page struct {
			Results   []string
			NextToken string
		}
		if err := json.Unmarshal(b, &page); err != nil || status != 200 || len(page.Results) > 25 || pages > 3 {
			t.Fatalf("%d %s %v", status, b, err)
		}
		names = append(names, page.Results...)
		if token = page.NextToken; token == "" {
			break
		}
	}
	if len(names) != 29 || names[6] != "s06" || names[7] != "s08" || names[28] != "s29" {
		t.Errorf("listed: %v", names)
	}
}

// undate takes the times out of a document.
func undate(v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if k == "timestamp" {
				v[k] = 0
			}
			undate(e)
		}
	case []any:
		for _, e := range v {
			undate(e)
		}
	}
}

// kill -9 in the middle of updates of several shadows: what was accepted is there with that version and that content,
// versions have no gap, and so has the past.
func TestKillNineInTheMiddleOfShadowUpdates(t *testing.T) {
	const writers, window = 6, 16
	g := harness.Start(t, harness.Options{})
	accepted, acked := [writers]map[int64]int{}, [writers]map[int]bool{} // version → content; contents
	for w := range writers {
		accepted[w], acked[w] = map[int64]int{}, map[int]bool{}
	}
	sent := [writers]int{}
	for range 4 {
		var wg sync.WaitGroup
		for w := range writers {
			wg.Add(1)
			go func() {
				defer wg.Done()
				topic := fmt.Sprintf("$aws/things/t%d/shadow/update", w)
				c, _, err := rawmqtt.Dial(g.MQTT, rawmqtt.Options{ClientID: fmt.Sprint("w", w), Clean: true, ReadBuffer: 64 << 10})
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Conn.Close()
				err = c.Subscribe(1, topic+"/accepted")
				update := func() error {
					sent[w]++
					body := fmt.Sprintf(`{"state":{"reported":{"n":%d}},"clientToken":"%d"}`, sent[w], sent[w])
					_, err := c.Write(rawmqtt.AppendPublish(nil, false, topic, []byte(body), 1, uint16(sent[w]%65535)+1, 0))
					return err
				}
				for range window {
					if err == nil {
						err = update()
					}
				}
				for err == nil {
					var p rawmqtt.Packet
					if p, err = c.Next(); err != nil {
						return // killed
					}
					switch p.Type {
					case rawmqtt.Puback:
						acked[w][int(p.ID)-1] = true
						err = update()
					case rawmqtt.Publish:
						var doc struct {
							Version     int64
							ClientToken string
						}
						n := 0
						if err := json.Unmarshal(p.Payload, &doc); err != nil {
							t.Error(err)
						}
						fmt.Sscan(doc.ClientToken, &n)
						accepted[w][doc.Version] = n
						c.Write(rawmqtt.AppendAck(nil, rawmqtt.Puback, p.ID))
					}
				}
			}()
		}
		time.Sleep(100*time.Millisecond + rand.N(300*time.Millisecond)) // the kill comes whenever it comes
		g.Kill()
		wg.Wait()
		g.Restart()
	}
	total := 0
	for w := range writers {
		out, errOut, code := g.CLI("shadow", "log", fmt.Sprint("t", w), "--max", "0", "--json")
		var log []struct {
			Version int64
			State   struct{ Reported struct{ N int } }
		}
		if err := json.Unmarshal([]byte(out), &log); code != 0 || err != nil {
			t.Fatalf("the log: %v %s", err, errOut)
		}
		has := map[int]bool{}
		for i, e := range log {
			if e.Version != int64(i+1) {
				t.Fatalf("t%d: change %d has version %d", w, i+1, e.Version)
			}
			has[e.State.Reported.N] = true
		}
		for version, n := range accepted[w] {
			if version > int64(len(log)) || log[version-1].State.Reported.N != n {
				t.Errorf("t%d: %d was accepted as version %d, which is not there", w, n, version)
			}
		}
		for n := range acked[w] {
			if !has[n] {
				t.Errorf("t%d: %d was acknowledged and is not there", w, n)
			}
		}
		var now struct {
			Version int64
			State   struct{ Reported struct{ N int } }
		}
		out, errOut, code = g.CLI("shadow", "show", fmt.Sprint("t", w), "--json")
		if err := json.Unmarshal([]byte(out), &now); code != 0 || err != nil || now.Version != int64(len(log)) || now.State.Reported.N != log[len(log)-1].State.Reported.N {
			t.Errorf("t%d: it is %+v after %d changes, %v %s", w, now, len(log), err, errOut)
		}
		total += len(accepted[w])
	}
	t.Logf("%d accepted through 4 kills", total)
	if total < 100 {
		t.Errorf("only %d were accepted: nothing is shown", total)
	}
}
