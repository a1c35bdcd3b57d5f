package e2e_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/golang-jwt/jwt/v5"

	"tidegate/test/harness"
)

const fleetTemplate = `{"Parameters":{"Serial":{"Type":"String"},"AWS::IoT::Certificate::Id":{"Type":"String"}},"Resources":{
 "thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Fn::Join":["-",["gh",{"Ref":"Serial"}]]}}},
 "certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"Active"}},
 "policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"gh-device"}}},
 "DeviceConfiguration":{"label":{"Fn::Sub":"Unit ${Serial}"}}}`

const deviceDocument = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"},
 {"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:local-1:000000000000:topic/${iot:Connection.Thing.ThingName}/*"}]}`

// lambda is the ARN of a function that the configuration names.
func lambda(name string) *string {
	return aws.String("arn:aws:lambda:local-1:000000000000:function:" + name)
}

func write(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// identityIn writes what a device needs to connect into a folder.
func identityIn(t *testing.T, g *harness.Gateway, cert, key string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write(t, filepath.Join(dir, "device.pem"), cert)
	write(t, filepath.Join(dir, "device.key"), key)
	write(t, filepath.Join(dir, "ca.pem"), string(read(t, filepath.Join(g.Dir, "pki", "ca.pem"))))
	return dir
}

// ask sends a request as a device and gives the answer on one of the two topics.
func ask(t *testing.T, g *harness.Gateway, dir, id, topic, payload, verdict string) map[string]any {
	t.Helper()
	argv := append(device(g, dir, id), "-q", "1", "-t", topic, "-e", topic+"/"+verdict, "-W", "20", "-m", payload)
	out, err := exec.Command("mosquitto_rr", argv...).CombinedOutput()
	if err != nil {
		t.Fatalf("mosquitto_rr %s: %v: %s", topic, err, out)
	}
	var doc map[string]any
	if err := json.Unmarshal(out, &doc); err != nil {
		t.Fatalf("%s/%s: %s", topic, verdict, out)
	}
	return doc
}

// A device that has only a claim gets its certificate, its thing and its policy, and works with them.
func TestADeviceIsProvisionedByAClaim(t *testing.T) {
	hook := write(t, filepath.Join(t.TempDir(), "hook.sh"), `read event
case "$event" in
*'"Serial":"stolen"'*) echo '{"allowProvisioning":false}';;
*) echo '{"allowProvisioning":true}';;
esac
`)
	g := harness.Start(t, harness.Options{NoDev: true, Config: "functions:\n  - name: gate\n    command: [/bin/sh, " + hook + "]\n"})
	c, ctx := sdk(t, g), t.Context()
	_, e1 := c.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("gh-device"), PolicyDocument: aws.String(deviceDocument)})
	_, e2 := c.CreateProvisioningTemplate(ctx, &iot.CreateProvisioningTemplateInput{TemplateName: aws.String("gh"), TemplateBody: aws.String(fleetTemplate), Enabled: aws.Bool(true),
		ProvisioningRoleArn: aws.String("arn:aws:iam::000000000000:role/r"), PreProvisioningHook: &types.ProvisioningHook{TargetArn: lambda("gate")}})
	if err := errors.Join(e1, e2); err != nil {
		t.Fatal(err)
	}
	claim, err := c.CreateProvisioningClaim(ctx, &iot.CreateProvisioningClaimInput{TemplateName: aws.String("gh")})
	if err != nil {
		t.Fatal(err)
	}
	dir := identityIn(t, g, *claim.CertificatePem, *claim.KeyPair.PrivateKey)
	create, provision := "$aws/certificates/create/json", "$aws/provisioning-templates/gh/provision/json"
	// Somebody with the same claim listens to the answer that is not theirs.
	heard := listen(t, append(device(g, dir, "other"), "-t", create+"/accepted", "-W", "3"))

	made := ask(t, g, dir, "new-1", create, "{}", "accepted")
	body := func(serial string) string {
		return fmt.Sprintf(`{"certificateOwnershipToken":%q,"parameters":{"Serial":%q}}`, made["certificateOwnershipToken"], serial)
	}
	if doc := ask(t, g, dir, "new-1", provision, body("stolen"), "rejected"); doc["errorCode"] != "AccessDenied" || doc["statusCode"] != 403.0 {
		t.Errorf("the hook said no: %v", doc)
	}
	if doc := ask(t, g, dir, "new-1", provision, body("77"), "accepted"); doc["thingName"] != "gh-77" || doc["deviceConfiguration"].(map[string]any)["label"] != "Unit 77" {
		t.Errorf("provisioned: %v", doc)
	}
	if doc := ask(t, g, dir, "new-1", provision, body("78"), "rejected"); doc["errorCode"] != "InvalidCertificateOwnershipToken" {
		t.Errorf("a second time: %v", doc)
	}
	for what, csr := range map[string]string{"a bomb": "-----BEGIN CERTIFICATE REQUEST-----\n" + strings.Repeat(strings.Repeat("A", 64)+"\n", 1200) + "-----END CERTIFICATE REQUEST-----\n", "nonsense": "hello"} {
		body, _ := json.Marshal(map[string]string{"certificateSigningRequest": csr})
		if doc := ask(t, g, dir, "new-1", "$aws/certificates/create-from-csr/json", string(body), "rejected"); doc["statusCode"] != 400.0 || doc["errorCode"] != "InvalidCertificateSigningRequest" {
			t.Errorf("%s: %v", what, doc)
		}
	}
	audited(t, g, `"what":"provision"`, "create-from-csr")
	mine := identityIn(t, g, made["certificatePem"].(string), made["privateKey"].(string))
	if out, err := tryOut(g, mine, "gh-77", "gh-77/hello"); err != nil {
		t.Errorf("with its own certificate: %v: %s", err, out)
	}
	if out, err := tryOut(g, mine, "gh-77", "gh-78/hello", "-V", "5"); err == nil && !strings.Contains(out, "ot authori") {
		t.Errorf("on another thing's topic: %s", out)
	}
	if out, err := tryOut(g, dir, "new-1", "gh-77/hello", "-V", "5"); err == nil && !strings.Contains(out, "ot authori") {
		t.Errorf("the claim on a device's topic: %s", out)
	}
	if text := heard(); strings.Contains(text, "privateKey") {
		t.Errorf("somebody else has heard %s", text)
	}
	audited(t, g, `"by":"`+*claim.CertificateId+`"`, `"name":"gh-77"`)
	audited(t, g, `"what":"provision"`, "hook")
}

// listen starts mosquitto_sub and returns when it has subscribed; heard gives what it has said when its time is up.
func listen(t *testing.T, argv []string) (heard func() string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "stdbuf", append([]string{"-oL", "mosquitto_sub", "-d"}, argv...)...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	subscribed, all := make(chan struct{}), make(chan string, 1)
	go func() {
		var text strings.Builder
		for sc := bufio.NewScanner(out); sc.Scan(); {
			if text.WriteString(sc.Text() + "\n"); strings.HasPrefix(sc.Text(), "Subscribed") {
				close(subscribed)
			}
		}
		cmd.Wait()
		all <- text.String()
	}()
	select {
	case <-subscribed:
	case text := <-all:
		t.Fatalf("mosquitto_sub has not subscribed: %s", text)
	}
	return func() string { return <-all }
}

// audited waits until the audit log has an entry with all of these texts.
func audited(t *testing.T, g *harness.Gateway, texts ...string) {
	t.Helper()
	harness.Until(t, fmt.Sprintf("the audit log has %q", texts), func() bool {
		cmd := exec.CommandContext(t.Context(), harness.Binary(t), "tail", "--data", g.Dir, "--json", "--since", "1h", "-n", "1000", "$tidegate/audit/#")
		out, _ := cmd.StdoutPipe()
		if cmd.Start() != nil {
			return false
		}
		defer cmd.Wait()
		defer cmd.Process.Kill()
		dec := json.NewDecoder(out)
		found := make(chan bool, 1)
		go func() {
			for {
				var m struct{ Payload string }
				if dec.Decode(&m) != nil {
					found <- false
					return
				}
				all := true
				for _, s := range texts {
					all = all && strings.Contains(m.Payload, s)
				}
				if all {
					found <- true
					return
				}
			}
		}()
		select {
		case ok := <-found:
			return ok
		case <-time.After(500 * time.Millisecond):
			return false
		}
	})
}

// authority is a certificate authority of somebody's own.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	tpl := &x509.Certificate{Subject: pkix.Name{CommonName: "Plant CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.pem, a.cert, a.key = a.sign(t, tpl)
	return a
}

// sign makes a certificate with a key of its own.
func (a *authority) sign(t *testing.T, tpl *x509.Certificate) (text string, x *x509.Certificate, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl.SerialNumber = big.NewInt(time.Now().UnixNano())
	if tpl.NotAfter.IsZero() {
		tpl.NotBefore, tpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = tpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	x, _ = x509.ParseCertificate(der)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), x, key
}

// device makes the folder of a device with a certificate of the authority.
func (a *authority) device(t *testing.T, g *harness.Gateway, tpl *x509.Certificate) (dir string) {
	t.Helper()
	text, _, key := a.sign(t, tpl)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return identityIn(t, g, text, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
}

const jitpTemplate = `{"Parameters":{"AWS::IoT::Certificate::CommonName":{"Type":"String"},"AWS::IoT::Certificate::Id":{"Type":"String"}},"Resources":{
 "thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"AWS::IoT::Certificate::CommonName"}}},
 "certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"ACTIVE"}},
 "policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"gh-device"}}}}`

// The first connection of a device of a known authority registers it: an event tells, or a template provisions.
func TestDevicesOfAKnownAuthorityRegisterThemselves(t *testing.T) {
	g := harness.Start(t, harness.Options{NoDev: true})
	c, ctx := sdk(t, g), t.Context()
	if _, err := c.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("gh-device"), PolicyDocument: aws.String(deviceDocument)}); err != nil {
		t.Fatal(err)
	}
	plain, byTemplate, stranger := newAuthority(t), newAuthority(t), newAuthority(t)
	for a, cfg := range map[*authority]*types.RegistrationConfig{plain: nil, byTemplate: {TemplateBody: aws.String(jitpTemplate), RoleArn: aws.String("arn:aws:iam::0:role/r")}} {
		if _, err := c.RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: &a.pem, SetAsActive: true, AllowAutoRegistration: true,
			CertificateMode: types.CertificateModeSniOnly, RegistrationConfig: cfg}); err != nil {
			t.Fatal(err)
		}
	}

	// Just-in-time registration: refused, told, activated by hand, let in.
	dir := plain.device(t, g, &x509.Certificate{Subject: pkix.Name{CommonName: "d1"}})
	watcher := t.TempDir()
	enroll(t, g, "watcher", watcher, "--policy", permissive(t, g))
	events := harness.StartMosquittoSub(t, strings.Replace(g.MQTTS, "127.0.0.1", "localhost", 1), "$aws/events/certificates/registered/#", device(g, watcher, "watcher")[4:]...)
	if out, err := tryOut(g, dir, "d1", "d1/hello"); err == nil {
		t.Fatalf("let in at once: %s", out)
	}
	var event struct {
		ID     string `json:"certificateId"`
		Status string `json:"certificateStatus"`
	}
	if h := events.Next(); json.Unmarshal([]byte(h.Payload), &event) != nil || event.Status != "PENDING_ACTIVATION" {
		t.Fatalf("event %+v", h)
	}
	arn := "arn:aws:iot:local-1:000000000000:cert/" + event.ID
	_, e1 := c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("d1")})
	_, e2 := c.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: aws.String("d1"), Principal: &arn})
	_, e3 := c.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: aws.String("gh-device"), Target: &arn})
	_, e4 := c.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &event.ID, NewStatus: types.CertificateStatusActive})
	if err := errors.Join(e1, e2, e3, e4); err != nil {
		t.Fatal(err)
	}
	if out, err := tryOut(g, dir, "d1", "d1/hello"); err != nil {
		t.Errorf("after its activation: %v: %s", err, out)
	}

	// Just-in-time provisioning: refused once, and then let in.
	dir = byTemplate.device(t, g, &x509.Certificate{Subject: pkix.Name{CommonName: "d2"}})
	if out, err := tryOut(g, dir, "d2", "d2/hello"); err == nil {
		t.Errorf("let in at once: %s", out)
	}
	if out, err := tryOut(g, dir, "d2", "d2/hello"); err != nil {
		t.Errorf("the second time: %v: %s", err, out)
	}

	// Refused, and written down.
	for name, dir := range map[string]string{
		"a stranger's":  stranger.device(t, g, &x509.Certificate{Subject: pkix.Name{CommonName: "d3"}}),
		"expired":       plain.device(t, g, &x509.Certificate{Subject: pkix.Name{CommonName: "d4"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}),
		"not yet valid": plain.device(t, g, &x509.Certificate{Subject: pkix.Name{CommonName: "d5"}, NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour)}),
	} {
		id := strings.ReplaceAll(name, " ", "-")
		if out, err := tryOut(g, dir, id, "x/y"); err == nil {
			t.Errorf("%s: let in: %s", name, out)
		}
		audited(t, g, `"what":"connect"`, `"client":"`+id+`"`, `"code":"unauthorized"`)
	}
}

// permissive makes a policy that allows everything and gives its name.
func permissive(t *testing.T, g *harness.Gateway) string {
	t.Helper()
	file := write(t, filepath.Join(t.TempDir(), "p.json"), `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}`)
	if _, errOut, code := g.CLI("policy", "create", "anything", file); code != 0 {
		t.Fatal(errOut)
	}
	return "anything"
}

// A client shows a token of an identity provider; what the token claims says what it may do.
func TestATokenLetsAClientIn(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, _ := key.PublicKey.Bytes()
	b64 := base64.RawURLEncoding.EncodeToString
	set, _ := json.Marshal(map[string]any{"keys": []any{map[string]string{"kty": "EC", "kid": "k1", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}}})
	keys := write(t, filepath.Join(t.TempDir(), "jwks.json"), string(set))
	g := harness.Start(t, harness.Options{NoDev: true, Config: `
functions:
  - name: staff
    jwt:
      issuer: https://idp.example
      audience: [tidegate]
      keys: ` + keys + `
      policies:
        - '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"},{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:local-1:000000000000:topic/site/${claim:site}/*"}]}'
`})
	c, ctx := sdk(t, g), t.Context()
	if _, err := c.CreateAuthorizer(ctx, &iot.CreateAuthorizerInput{AuthorizerName: aws.String("staff"), AuthorizerFunctionArn: lambda("staff"), SigningDisabled: aws.Bool(true),
		Status: types.AuthorizerStatusActive}); err != nil {
		t.Fatal(err)
	}
	token := func(m jwt.SigningMethod, by any) string {
		tok := jwt.NewWithClaims(m, jwt.MapClaims{"iss": "https://idp.example", "aud": "tidegate", "sub": "ada", "site": "north", "exp": time.Now().Add(time.Hour).Unix()})
		tok.Header["kid"] = "k1"
		s, err := tok.SignedString(by)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	good := token(jwt.SigningMethodES256, key)
	client := "phone"
	pub := func(user, password, topic string) (string, error) {
		port := g.MQTTS[strings.LastIndexByte(g.MQTTS, ':')+1:]
		out, err := exec.Command("mosquitto_pub", "-h", "localhost", "-p", port, "--cafile", filepath.Join(g.Dir, "pki", "ca.pem"), "-i", client, "-V", "5", "-u", user, "-P", password,
			"-q", "1", "-t", topic, "-m", "x").CombinedOutput()
		return string(out), err
	}
	named := "ada?x-amz-customauthorizer-name=staff"
	if out, err := pub(named, good, "site/north/x"); err != nil || out != "" {
		t.Errorf("with a token: %v: %s", err, out)
	}
	if out, _ := pub(named, good, "site/south/x"); !strings.Contains(out, "ot authori") {
		t.Errorf("on another site's topic: %s", out)
	}
	der, _ := x509.MarshalPKIXPublicKey(&key.PublicKey)
	claims := func(with jwt.MapClaims) string {
		all := jwt.MapClaims{"iss": "https://idp.example", "aud": "tidegate", "sub": "ada", "site": "north", "exp": time.Now().Add(time.Hour).Unix()}
		for k, v := range with {
			all[k] = v
		}
		tok := jwt.NewWithClaims(jwt.SigningMethodES256, all)
		tok.Header["kid"] = "k1"
		s, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for what, password := range map[string]string{
		"expired": claims(jwt.MapClaims{"exp": time.Now().Add(-time.Hour).Unix()}), "another audience": claims(jwt.MapClaims{"aud": "elsewhere"}),
		"another issuer": claims(jwt.MapClaims{"iss": "https://evil.example"}), "of tomorrow": claims(jwt.MapClaims{"nbf": time.Now().Add(24 * time.Hour).Unix()}),
		"a foreign key": token(jwt.SigningMethodES256, stranger), "a changed claim": good[:len(good)/2] + "A" + good[len(good)/2+1:],
		"no token": "", "alg none": token(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType),
		"the public key as a secret": token(jwt.SigningMethodHS256, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
	} {
		client = strings.ReplaceAll(what, " ", "-")
		if out, err := pub(named, password, "site/north/x"); err == nil {
			t.Errorf("%s: let in: %s", what, out)
		}
		audited(t, g, `"what":"connect"`, `"client":"`+client+`"`, `"code":"unauthorized"`)
	}
	client = "phone"
	if out, err := pub("ada", good, "site/north/x"); err == nil {
		t.Errorf("without a default authorizer: let in: %s", out)
	}
	if _, err := c.SetDefaultAuthorizer(ctx, &iot.SetDefaultAuthorizerInput{AuthorizerName: aws.String("staff")}); err != nil {
		t.Fatal(err)
	}
	if out, err := pub("ada", good, "site/north/x"); err != nil || out != "" {
		t.Errorf("by the default authorizer: %v: %s", err, out)
	}
	audited(t, g, `"what":"connect"`, `"client":"phone"`, `"code":"unauthorized"`)
	test, err := c.TestInvokeAuthorizer(ctx, &iot.TestInvokeAuthorizerInput{AuthorizerName: aws.String("staff"), Token: &good})
	if err != nil || !*test.IsAuthenticated || *test.PrincipalId != "ada" {
		t.Errorf("test-invoke-authorizer: %+v, %v", test, err)
	}
}
