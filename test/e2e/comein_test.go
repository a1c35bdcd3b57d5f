package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"tidegate/test/harness"
)

// The ways in which devices join a fleet, with nothing but the aws command and mosquitto's clients: by a claim, by the authority that
// made their certificate, in bulk, by a token. What is wrong has the name that AWS gives it.
func TestDevicesJoinAFleetByTheAWSCommand(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	keys := write(t, filepath.Join(dir, "jwks.json"), `{"keys":[{"kty":"EC","kid":"k1","crv":"P-256","x":"`+b64(point[1:33])+`","y":"`+b64(point[33:])+`"}]}`)
	g := harness.Start(t, harness.Options{NoDev: true, Config: "functions:\n  - name: staff\n    jwt: {issuer: https://idp.example, audience: [tidegate], keys: " + keys +
		`, policies: ['{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["iot:Connect","iot:Publish"],"Resource":"*"}}']}` + "\n"})
	aws := &cloud{t: t, g: g}
	file := func(name, text string) string { return "file://" + write(t, filepath.Join(dir, name), text) }
	const role = "arn:aws:iam::000000000000:role/r"

	// By a claim.
	aws.ok(nil, "create-policy --policy-name gh-device --policy-document "+file("policy", deviceDocument))
	aws.ok(nil, "create-provisioning-template --template-name gh --enabled --provisioning-role-arn "+role+" --template-body "+file("template", fleetTemplate))
	aws.no("ResourceNotFoundException", "create-provisioning-claim --template-name none")
	var claim struct {
		CertificatePem string
		KeyPair        struct{ PrivateKey string }
	}
	aws.ok(&claim, "create-provisioning-claim --template-name gh")
	first := identityIn(t, g, claim.CertificatePem, claim.KeyPair.PrivateKey)
	made := ask(t, g, first, "new", "$aws/certificates/create/json", "{}", "accepted")
	if doc := ask(t, g, first, "new", "$aws/provisioning-templates/gh/provision/json",
		fmt.Sprintf(`{"certificateOwnershipToken":%q,"parameters":{"Serial":"7"}}`, made["certificateOwnershipToken"]), "accepted"); doc["thingName"] != "gh-7" {
		t.Errorf("provisioned: %v", doc)
	}
	if out, err := tryOut(g, identityIn(t, g, made["certificatePem"].(string), made["privateKey"].(string)), "gh-7", "gh-7/hello"); err != nil {
		t.Errorf("a device that was provisioned: %v: %s", err, out)
	}

	// By the authority that signed its certificate, which shows that it is ours by signing the registration code.
	plant := newAuthority(t)
	ca := file("plant.pem", plant.pem)
	var code struct{ RegistrationCode string }
	aws.ok(&code, "get-registration-code")
	proof := func(name string) string {
		text, _, _ := plant.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}})
		return file("proof.pem", text)
	}
	register := "register-ca-certificate --set-as-active --allow-auto-registration --ca-certificate " + ca + " --verification-certificate "
	aws.no("RegistrationCodeValidationException", register+proof("guessed"))
	var authority struct{ CertificateID string }
	aws.ok(&authority, register+proof(code.RegistrationCode))
	second := plant.device(t, g, &x509.Certificate{Subject: pkix.Name{CommonName: "d1"}})
	if out, err := tryOut(g, second, "d1", "d1/hello"); err == nil {
		t.Errorf("let in at once: %s", out)
	}
	var waiting struct {
		Certificates []struct{ CertificateID, CertificateARN, Status string }
	}
	aws.ok(&waiting, "list-certificates-by-ca --ca-certificate-id "+authority.CertificateID)
	if len(waiting.Certificates) != 1 || waiting.Certificates[0].Status != "PENDING_ACTIVATION" {
		t.Fatalf("registered: %+v", waiting)
	}
	x := waiting.Certificates[0]
	aws.no("InvalidRequestException", "update-certificate --new-status PENDING_ACTIVATION --certificate-id "+x.CertificateID)
	aws.ok(nil, "update-certificate --new-status ACTIVE --certificate-id "+x.CertificateID)
	aws.ok(nil, "attach-policy --policy-name gh-device --target "+x.CertificateARN)
	aws.ok(nil, "create-thing --thing-name d1")
	aws.ok(nil, "attach-thing-principal --thing-name d1 --principal "+x.CertificateARN)
	if out, err := tryOut(g, second, "d1", "d1/hello"); err != nil {
		t.Errorf("after its activation: %v: %s", err, out)
	}
	aws.no("CertificateStateException", "delete-ca-certificate --certificate-id "+authority.CertificateID)

	// By a token, which an authorizer without a line of code verifies.
	aws.ok(nil, "create-authorizer --authorizer-name staff --status ACTIVE --signing-disabled --authorizer-function-arn "+*lambda("staff"))
	token := func(until time.Duration) string {
		tok := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": "https://idp.example", "aud": "tidegate", "sub": "ada", "exp": time.Now().Add(until).Unix()})
		tok.Header["kid"] = "k1"
		s, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var verdict struct {
		IsAuthenticated bool
		PrincipalID     string
	}
	if aws.ok(&verdict, "test-invoke-authorizer --authorizer-name staff --token "+token(time.Hour)); !verdict.IsAuthenticated || verdict.PrincipalID != "ada" {
		t.Errorf("a good token: %+v", verdict)
	}
	come := func(password string) error {
		out, err := exec.Command("mosquitto_pub", "-h", "localhost", "-p", g.MQTTS[strings.LastIndexByte(g.MQTTS, ':')+1:], "--cafile", filepath.Join(g.Dir, "pki", "ca.pem"), "-i", "phone", "-V", "5",
			"-u", "ada?x-amz-customauthorizer-name=staff", "-P", password, "-q", "1", "-t", "x", "-m", "x").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := come(token(time.Hour)); err != nil {
		t.Errorf("with a token: %v", err)
	}
	if come(token(-time.Hour)) == nil {
		t.Error("an old token lets a client in")
	}

	// In bulk: a line for each, and how far it is.
	if out, errOut, code := g.CLI("thing", "import", strings.TrimPrefix(file("bulk.json", `{"Parameters":{"Name":{"Type":"String"}},"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"Name"}}}}}`), "file://"),
		strings.TrimPrefix(file("lines", "{\"Name\":\"b1\"}\n{\"Name\":\"b2\"}\nnonsense\n"), "file://")); !strings.Contains(out+errOut, "2") {
		t.Errorf("thing import: exit %d: %s%s", code, out, errOut)
	}
	var tasks struct{ TaskIDs []string }
	if aws.ok(&tasks, "list-thing-registration-tasks"); len(tasks.TaskIDs) != 1 {
		t.Fatalf("tasks: %+v", tasks)
	}
	var task struct {
		Status                                         string
		SuccessCount, FailureCount, PercentageProgress int
	}
	aws.ok(&task, "describe-thing-registration-task --task-id "+tasks.TaskIDs[0])
	if task.Status != "Completed" || task.SuccessCount != 2 || task.FailureCount != 1 || task.PercentageProgress != 100 {
		t.Errorf("the task: %+v", task)
	}
	aws.no("InvalidRequestException", "stop-thing-registration-task --task-id "+tasks.TaskIDs[0])
}
