package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tidegate/test/harness"
)

// cloud calls the aws command, which takes the gateway for AWS IoT.
type cloud struct {
	t   *testing.T
	g   *harness.Gateway
	env []string // beyond what `tidegate env` says
}

// ok calls an operation of iot, its arguments separated by spaces, that must succeed; more are arguments with spaces.
func (c *cloud) ok(into any, line string, more ...string) {
	c.t.Helper()
	out, errOut, code := c.g.AWS(c.env, append(append([]string{"iot", "--output", "json"}, strings.Fields(line)...), more...)...)
	if code != 0 {
		c.t.Fatalf("aws iot %s: exit %d: %s", line, code, errOut)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(out), into); err != nil {
			c.t.Fatalf("aws iot %s: %v: %s", line, err, out)
		}
	}
}

// no calls one that must fail with an error of this name.
func (c *cloud) no(name, line string, more ...string) {
	c.t.Helper()
	out, errOut, code := c.g.AWS(c.env, append(append([]string{"iot"}, strings.Fields(line)...), more...)...)
	if code == 0 || !strings.Contains(errOut, "An error occurred ("+name+")") {
		c.t.Errorf("aws iot %s: exit %d, want %s: %s%s", line, code, name, out, errOut)
	}
}

// The life of a fleet as the aws command sees it: kinds and groups, a policy in terms of the thing's name, a certificate
// that is good for its thing alone and only until it is revoked. One call takes about a second, most of it Python's start.
func TestTheLifeOfAFleet(t *testing.T) {
	g := harness.Start(t, harness.Options{NoDev: true})
	aws := &cloud{t: t, g: g}
	const base = "arn:aws:iot:local-1:000000000000:"

	aws.ok(nil, "create-thing-type --thing-type-name pump --thing-type-properties searchableAttributes=site")
	aws.ok(nil, "create-thing-group --thing-group-name plant")
	aws.ok(nil, "create-thing-group --thing-group-name hall --parent-group-name plant")
	var made struct{ ThingARN, ThingID string }
	aws.ok(&made, `create-thing --thing-name pump-1 --thing-type-name pump --attribute-payload {"attributes":{"site":"oslo"}}`)
	if made.ThingARN != base+"thing/pump-1" || made.ThingID == "" {
		t.Errorf("create-thing: %+v", made)
	}
	aws.ok(nil, "create-thing --thing-name pump-2 --thing-type-name pump")
	aws.no("ResourceAlreadyExistsException", "create-thing --thing-name pump-1")
	aws.ok(nil, "add-thing-to-thing-group --thing-group-name hall --thing-name pump-1")

	var page struct {
		Things    []struct{ ThingName string }
		NextToken string
	}
	if aws.ok(&page, "list-things --max-items 1"); len(page.Things) != 1 || page.NextToken == "" {
		t.Errorf("the first page: %+v", page)
	}
	token := page.NextToken
	page.Things, page.NextToken = nil, ""
	if aws.ok(&page, "list-things --starting-token "+token); len(page.Things) != 1 || page.Things[0].ThingName != "pump-2" || page.NextToken != "" {
		t.Errorf("the second page: %+v", page)
	}
	if aws.ok(&page, "search-index --query-string", "attributes.site:osl* AND thingTypeName:pump AND thingGroupNames:hall"); len(page.Things) != 1 || page.Things[0].ThingName != "pump-1" {
		t.Errorf("found %+v", page)
	}

	policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iot:Connect","Resource":"%[1]sclient/${iot:Connection.Thing.ThingName}"},
		{"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":"%[1]stopic/${iot:Connection.Thing.ThingTypeName}/${iot:Connection.Thing.ThingName}/*"},
		{"Effect":"Allow","Action":"iot:Subscribe","Resource":"%[1]stopicfilter/*"}]}`, base)
	aws.no("MalformedPolicyException", "create-policy --policy-name own --policy-document", `{"Statement":[]}`)
	aws.ok(nil, "create-policy --policy-name own --policy-document", policy)
	aws.ok(nil, "create-policy --policy-name plant --policy-document",
		fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:Publish","Resource":"%stopic/plant/*"}}`, base))
	aws.ok(nil, "attach-policy --policy-name plant --target "+base+"thinggroup/plant")

	dir := t.TempDir()
	var cert struct{ CertificateARN, CertificateID string }
	aws.ok(&cert, "create-keys-and-certificate --set-as-active --certificate-pem-outfile "+filepath.Join(dir, "device.pem")+" --private-key-outfile "+filepath.Join(dir, "device.key"))
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), read(t, filepath.Join(g.Dir, "pki", "ca.pem")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := tryOut(g, dir, "pump-1", "pump/pump-1/data"); err == nil {
		t.Errorf("a certificate without a policy may connect: %s", out)
	}
	aws.ok(nil, "attach-policy --policy-name own --target "+cert.CertificateARN)
	aws.ok(nil, "attach-thing-principal --thing-name pump-1 --principal "+cert.CertificateARN)
	for _, c := range []struct {
		id, topic string
		want      bool
	}{
		{"pump-1", "pump/pump-1/data", true},
		{"pump-1", "plant/alarm", true}, // by its group's parent
		{"pump-1", "pump/pump-2/data", false},
		{"pump-2", "pump/pump-2/data", false}, // the thing is there, the certificate is not its own
		{"stranger", "pump/stranger/data", false},
	} {
		if out, err := tryOut(g, dir, c.id, c.topic); (err == nil) != c.want {
			t.Errorf("%s publishes on %s: %v, want %v: %s", c.id, c.topic, err, c.want, out)
		}
	}
	var effective struct{ EffectivePolicies []struct{ PolicyName string } }
	if aws.ok(&effective, "get-effective-policies --thing-name pump-1 --principal "+cert.CertificateARN); fmt.Sprint(effective.EffectivePolicies) != "[{own} {plant}]" {
		t.Errorf("effective: %v", effective)
	}
	aws.no("DeleteConflictException", "delete-policy --policy-name own")

	// a certificate that is revoked loses its connection
	sub := exec.Command("mosquitto_sub", append(device(g, dir, "pump-1"), "-t", "pump/pump-1/#", "-d")...)
	out := new(strings.Builder)
	sub.Stdout, sub.Stderr = out, out
	pipe, err := sub.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	if err := sub.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan time.Time, 1)
	go func() { sub.Wait(); gone <- time.Now() }()
	defer sub.Process.Kill()
	harness.Until(t, "pump-1 is connected", func() bool {
		said, _, _ := g.CLI("session", "ls")
		return regexp.MustCompile(`(?m)^pump-1 +connected`).MatchString(said)
	})
	aws.ok(nil, "update-certificate --new-status REVOKED --certificate-id "+cert.CertificateID)
	revoked := time.Now()
	select {
	case at := <-gone:
		t.Logf("cut off %v after the command returned", at.Sub(revoked).Round(time.Millisecond))
	case <-time.After(time.Second):
		t.Error("the revoked certificate still has its connection a second later")
	}
	if out, err := tryOut(g, dir, "pump-1", "pump/pump-1/data"); err == nil {
		t.Errorf("a revoked certificate may connect: %s", out)
	}

	aws.no("InvalidRequestException", "delete-thing --thing-name pump-1")
	aws.ok(nil, "detach-thing-principal --thing-name pump-1 --principal "+cert.CertificateARN)
	aws.ok(nil, "delete-thing --thing-name pump-1")
	aws.no("ResourceNotFoundException", "list-thing-principals --thing-name pump-1")

	// another's key is not good here, and a viewer only looks
	file := filepath.Join(t.TempDir(), "viewer")
	if _, errOut, code := g.CLI("operator", "create", "eve", "--role", "viewer", "--out", file); code != 0 {
		t.Fatalf("operator create: %s", errOut)
	}
	key, err := exec.Command("sed", "-n", `s/^aws_\(.*\) = /AWS_\U\1=/p`, file).Output()
	if err != nil {
		t.Fatal(err)
	}
	viewer := &cloud{t: t, g: g, env: strings.Fields(string(key))}
	viewer.no("AccessDeniedException", "delete-thing --thing-name pump-2")
	if _, errOut, code := g.CLI("operator", "rm", "eve", "--yes"); code != 0 {
		t.Fatalf("operator rm: %s", errOut)
	}
	viewer.no("UnrecognizedClientException", "describe-thing --thing-name pump-2")
}
