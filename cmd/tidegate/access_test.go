package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/gateway/localapi/localclient"
	"tidegate/test/rawmqtt"
)

// cli calls command lines against one gateway.
type cli struct {
	t    *testing.T
	data string
}

// ok calls a command line that must succeed, and gives what it says.
func (c cli) ok(args ...string) string {
	c.t.Helper()
	code, out, errOut := call(c.t, "", append(args, "--data", c.data)...)
	if code != 0 {
		c.t.Fatalf("tidegate %s: exit %d, %s", strings.Join(args, " "), code, errOut)
	}
	return out
}

// no calls one that must fail with a line that holds want.
func (c cli) no(want string, args ...string) {
	c.t.Helper()
	code, out, errOut := call(c.t, "", append(args, "--data", c.data)...)
	if code == 0 || out != "" || !strings.Contains(errOut, want) || !strings.HasPrefix(errOut, "tidegate: ") {
		c.t.Errorf("tidegate %s: exit %d, stdout %q, stderr %q; want %q", strings.Join(args, " "), code, out, errOut, want)
	}
}

func (c cli) json(into any, args ...string) {
	c.t.Helper()
	out := c.ok(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		c.t.Fatalf("tidegate %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// says checks that every word stands in what a command line says.
func (c cli) says(words []string, args ...string) {
	c.t.Helper()
	out := c.ok(args...)
	for _, w := range words {
		if !strings.Contains(out, w) {
			c.t.Errorf("tidegate %s: %q is not in\n%s", strings.Join(args, " "), w, out)
		}
	}
}

// connect connects with the files of enroll.
func connect(t *testing.T, addr, dir, id string) (*rawmqtt.Conn, error) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "device.pem"), filepath.Join(dir, "device.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	nc, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, ServerName: "localhost"})
	if err != nil {
		return nil, err
	}
	c, _, err := rawmqtt.Handshake(nc, rawmqtt.Options{ClientID: id, Clean: true})
	return c, err
}

func TestAFleetIsKeptFromTheCommandLine(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	ports, _ := start(t, data)
	c := cli{t, data}

	c.ok("type", "create", "pump", "--searchable", "site", "--description", "moves water")
	c.ok("group", "create", "plant")
	c.ok("group", "create", "hall-1", "--parent", "plant", "--attr", "floor=2")
	c.ok("group", "create", "oslo", "--query", "attributes.site:oslo")
	if out := c.ok("thing", "create", "pump-1", "--type", "pump", "--attr", "site=oslo", "--group", "hall-1"); out != "arn:aws:iot:local-1:000000000000:thing/pump-1\n" {
		t.Errorf("create says %q", out)
	}
	c.no("already exists", "thing", "create", "pump-1", "--type", "other")
	c.no("expected NAME=VALUE", "thing", "create", "x", "--attr", "nonsense")

	dev := filepath.Join(t.TempDir(), "dev")
	var e enrolled
	c.json(&e, "enroll", "pump-1", "--out", dev)
	if e.Thing != "pump-1" || e.Policy != "device" || len(e.Certificate) != 64 || !strings.HasPrefix(e.Try, "mosquitto_pub -h localhost -p ") || !strings.Contains(e.Try, " -i pump-1 -q 1 -t pump-1/hello ") {
		t.Errorf("enrolled %+v", e)
	}
	if st, err := os.Stat(filepath.Join(dev, "device.key")); err != nil || st.Mode() != 0o600 {
		t.Errorf("device.key: %v, %v", st, err)
	}
	c.no("is there already and is not written over", "enroll", "pump-2", "--out", dev)
	c.no("Policy nope", "enroll", "pump-2", "--policy", "nope", "--out", filepath.Join(dev, "2"))
	c.says([]string{"pump-1", "pump", "site=oslo", "hall-1", e.Certificate, "ACTIVE", "device"}, "thing", "show", "pump-1")
	c.says([]string{"pump-1"}, "group", "show", "oslo")
	c.says([]string{"pump-1", "below", "plant"}, "group", "show", "hall-1")
	for _, args := range []string{"--group plant", "--query attributes.site:oslo", "--type pump", "--attr site=oslo", ""} {
		var ts []thing
		if c.json(&ts, append([]string{"thing", "ls"}, strings.Fields(args)...)...); len(ts) != 1 || ts[0].Name != "pump-1" || ts[0].Attributes["site"] != "oslo" {
			t.Errorf("thing ls %s: %+v", args, ts)
		}
	}
	c.ok("thing", "set", "pump-1", "--attr", "site=", "--attr", "line=7", "--ungroup", "hall-1", "--group", "plant")
	c.no("already in group", "group", "set", "hall-1", "--add", "pump-1")
	var one thing
	if c.json(&one, "thing", "show", "pump-1"); len(one.Attributes) != 1 || one.Attributes["line"] != "7" || strings.Join(one.Groups, " ") != "plant" {
		t.Errorf("after set: %+v", one)
	}
	c.ok("group", "set", "hall-1", "--description", "the first", "--attr", "floor=3")
	c.ok("group", "set", "oslo", "--query", "attributes.line:7")
	c.says([]string{"pump-1", "attributes.line:7"}, "group", "show", "oslo")

	// what the certificate is good for
	device, err := connect(t, ports["mqtts"], dev, "pump-1")
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if other, err := connect(t, ports["mqtts"], dev, "pump-2"); err == nil {
		other.Close()
		t.Error("the certificate is good for another name")
	}
	var s localclient.Session
	if c.json(&s, "session", "show", "pump-1"); !s.Connected || s.Principal != e.Certificate {
		t.Errorf("session %+v", s)
	}
	c.says([]string{"pump-1", "connected", e.Certificate[:12]}, "session", "ls")
	c.no("has no session", "session", "show", "pump-2")

	c.says([]string{e.Certificate, "pump-1", "device", "BEGIN CERTIFICATE"}, "cert", "show", e.Certificate[:8])
	c.no("no certificate begins with", "cert", "show", "ffffff0000")
	if code, _, errOut := call(t, "n\n", "cert", "set", e.Certificate, "--revoked", "--data", data); code != 1 || !strings.Contains(errOut, "Revoke the certificate") {
		t.Errorf("exit %d, %q", code, errOut)
	}
	c.ok("cert", "set", e.Certificate[:10], "--revoked", "--yes")
	for {
		if _, err := device.Next(); err != nil {
			break // cut off
		}
	}
	if again, err := connect(t, ports["mqtts"], dev, "pump-1"); err == nil {
		again.Close()
		t.Error("a revoked certificate is good")
	}
	var cs []cert
	if c.json(&cs, "cert", "ls", "--status", "revoked"); len(cs) != 1 {
		t.Errorf("%+v", cs)
	}

	// policies and their versions
	file := filepath.Join(t.TempDir(), "p.json")
	if err := os.WriteFile(file, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c.ok("policy", "create", "all", "-f", file)
	for range 6 {
		c.ok("policy", "set", "all", "-f", file)
	}
	c.says([]string{"7, made", "in force", "iot:*"}, "policy", "show", "all")
	c.no("alformed", "policy", "create", "bad", "-f", "/dev/null")
	c.ok("policy", "set", "all", "--version", "5", "--attach", "arn:aws:iot:local-1:000000000000:thinggroup/plant")
	c.says([]string{"all"}, "group", "show", "plant")
	out := c.ok("cert", "create", "--out", filepath.Join(dev, "3"), "--policy", "all", "--thing", "pump-1", "--inactive")
	if !strings.Contains(out, ":cert/") {
		t.Errorf("cert create says %q", out)
	}
	c.ok("cert", "rm", strings.TrimSpace(out), "-y")

	c.ok("policy", "rm", "all", "-y")
	c.ok("thing", "rm", "pump-1", "--certs", "-y")
	if c.json(&cs, "cert", "ls"); len(cs) != 0 {
		t.Errorf("left: %+v", cs)
	}
	c.no("pump-1", "thing", "show", "pump-1")
	c.ok("group", "rm", "oslo", "-y")
	c.ok("group", "rm", "hall-1", "-y")
	c.ok("group", "rm", "plant", "-y")
	c.ok("type", "set", "pump", "--deprecated")
	c.says([]string{"deprecated"}, "type", "ls")
	c.no("set what?", "thing", "set", "x")
}

func TestOperatorsAreMadeRotatedAndRevoked(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	start(t, data)
	c := cli{t, data}
	file := filepath.Join(data, "operator", "credentials")
	if st, err := os.Stat(file); err != nil || st.Mode() != 0o600 {
		t.Fatalf("credentials: %v, %v", st, err)
	}
	first, _, _ := credentials(file)
	if !strings.Contains(c.ok("env"), "AWS_ACCESS_KEY_ID='"+first+"'") {
		t.Error("env has not the first key")
	}
	var os1 []localclient.Operator
	if c.json(&os1, "operator", "ls"); len(os1) != 1 || os1[0].Role != "admin" || len(os1[0].Keys) != 1 || os1[0].Keys[0].ID != first {
		t.Fatalf("%+v", os1)
	}
	c.no("last admin", "operator", "rm", "admin", "-y")
	c.no("last admin", "operator", "set", "admin", "--role", "viewer")
	c.no("is unknown", "operator", "create", "ada", "--role", "king")

	// both keys are good for a while
	c.ok("operator", "rotate", "admin")
	second, _, _ := credentials(file)
	if second == first {
		t.Error("the file has not followed")
	}
	c.no("has 2 keys already", "operator", "rotate", "admin")
	c.ok("operator", "revoke", "admin", first, "-y")
	c.no("has no key", "operator", "revoke", "admin", first, "-y")
	c.ok("operator", "rotate", "admin", "--now")
	third, _, _ := credentials(file)
	c.says([]string{third}, "operator", "show", "admin")
	if strings.Contains(c.ok("operator", "show", "admin"), second) {
		t.Error("--now has left the older key")
	}

	own := filepath.Join(t.TempDir(), "ada")
	if out := c.ok("operator", "create", "ada", "--role", "admin", "--out", own); out != "" {
		t.Errorf("said %q", out)
	}
	if key, _, ok := credentials(own); !ok || key == third {
		t.Errorf("%s", key)
	}
	if out := c.ok("operator", "rotate", "ada"); !strings.Contains(out, "aws_secret_access_key = ") {
		t.Errorf("said %q", out)
	}
	if now, _, _ := credentials(file); now != third {
		t.Error("the file has followed somebody else")
	}
	c.ok("operator", "rm", "admin", "-y")
	if _, err := os.Stat(file); err == nil {
		t.Error("the file has outlived its key")
	}
	c.no("does not exist", "operator", "show", "admin")
}

func TestTemplatesAndAuthorizersAreKeptFromTheCommandLine(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	start(t, data)
	c := cli{t, data}
	file := filepath.Join(t.TempDir(), "t.json")
	if err := os.WriteFile(file, []byte(`{"Parameters":{"Serial":{"Type":"String"}},"Resources":{
		"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"Serial"}}},
		"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"Active"}}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := c.ok("template", "create", "line", file, "--description", "the line"); out != "arn:aws:iot:local-1:000000000000:provisioningtemplate/line\n" {
		t.Errorf("create says %q", out)
	}
	c.says([]string{"line", "FLEET_PROVISIONING", "enabled", "the line"}, "template", "ls")
	c.ok("template", "set", "line", file)
	c.ok("template", "set", "line", "--disabled", "--description", "stopped")
	c.says([]string{"disabled", "stopped", "2, made", "in force", "Serial"}, "template", "show", "line")
	c.no("set what?", "template", "set", "line")
	c.no("must not be null", "template", "create", "bad", "/dev/null")
	c.ok("template", "rm", "line", "--yes")
	var ts []template
	if c.json(&ts, "template", "ls"); len(ts) != 0 {
		t.Errorf("left: %+v", ts)
	}

	c.ok("authorizer", "create", "tokens", "--function", "arn:aws:lambda:local-1:000000000000:function:jwt")
	c.ok("authorizer", "set", "tokens", "--default")
	c.says([]string{"tokens", "ACTIVE", "yes", "function:jwt"}, "authorizer", "ls")
	c.ok("authorizer", "set", "tokens", "--no-default", "--inactive")
	c.says([]string{"INACTIVE", "default        no", "signed         no"}, "authorizer", "show", "tokens")
	c.no("required flag", "authorizer", "create", "x")
	c.ok("authorizer", "rm", "tokens", "--yes")
	c.no("tokens", "authorizer", "show", "tokens")
}
