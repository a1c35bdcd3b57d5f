package e2e_test

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"tidegate/test/harness"
)

// Operations that move something between accounts are refused in words, role aliases and domain configurations are kept, and an
// endpoint is the one that was asked.
func TestOperationsBesideTheRegistry(t *testing.T) {
	s := newSite(t, harness.Options{NoDev: true})
	c, ctx := sdk(t, s.Gateway), t.Context()
	s.enroll("pump")
	id := aws.String(s.certificateOf("pump"))

	_, err := c.TransferCertificate(ctx, &iot.TransferCertificateInput{CertificateId: id, TargetAwsAccount: aws.String("111111111111")})
	refused[*types.InvalidRequestException](t, "a transfer", err, 400)
	_, err = c.AcceptCertificateTransfer(ctx, &iot.AcceptCertificateTransferInput{CertificateId: id})
	refused[*types.InvalidRequestException](t, "its acceptance", err, 400)
	_, err = c.RejectCertificateTransfer(ctx, &iot.RejectCertificateTransferInput{CertificateId: id})
	refused[*types.InvalidRequestException](t, "its rejection", err, 400)
	_, err = c.CancelCertificateTransfer(ctx, &iot.CancelCertificateTransferInput{CertificateId: id})
	refused[*types.InvalidRequestException](t, "its end", err, 400)
	if err == nil || !strings.Contains(err.Error(), "one account") {
		t.Errorf("it does not say why: %v", err)
	}
	if out, err := c.ListOutgoingCertificates(ctx, &iot.ListOutgoingCertificatesInput{}); err != nil || len(out.OutgoingCertificates) != 0 {
		t.Errorf("outgoing: %+v, %v", out, err)
	}

	role := aws.String("arn:aws:iam::000000000000:role/fridge")
	if _, err := c.CreateRoleAlias(ctx, &iot.CreateRoleAliasInput{RoleAlias: aws.String("fridge"), RoleArn: role}); err != nil {
		t.Fatal(err)
	}
	_, err = c.CreateRoleAlias(ctx, &iot.CreateRoleAliasInput{RoleAlias: aws.String("fridge"), RoleArn: role})
	refused[*types.ResourceAlreadyExistsException](t, "a second one", err, 409)
	_, err = c.UpdateRoleAlias(ctx, &iot.UpdateRoleAliasInput{RoleAlias: aws.String("fridge"), CredentialDurationSeconds: aws.Int32(60)})
	refused[*types.InvalidRequestException](t, "a minute", err, 400)
	if _, err := c.UpdateRoleAlias(ctx, &iot.UpdateRoleAliasInput{RoleAlias: aws.String("fridge"), CredentialDurationSeconds: aws.Int32(900)}); err != nil {
		t.Error(err)
	}
	if out, err := c.DescribeRoleAlias(ctx, &iot.DescribeRoleAliasInput{RoleAlias: aws.String("fridge")}); err != nil || *out.RoleAliasDescription.RoleArn != *role || *out.RoleAliasDescription.CredentialDurationSeconds != 900 {
		t.Errorf("the role alias: %+v, %v", out, err)
	}
	if out, err := c.ListRoleAliases(ctx, &iot.ListRoleAliasesInput{}); err != nil || len(out.RoleAliases) != 1 {
		t.Errorf("role aliases: %+v, %v", out, err)
	}
	if _, err := c.DeleteRoleAlias(ctx, &iot.DeleteRoleAliasInput{RoleAlias: aws.String("fridge")}); err != nil {
		t.Error(err)
	}
	_, err = c.DescribeRoleAlias(ctx, &iot.DescribeRoleAliasInput{RoleAlias: aws.String("fridge")})
	refused[*types.ResourceNotFoundException](t, "the one that is gone", err, 404)

	end, err := c.DescribeEndpoint(ctx, &iot.DescribeEndpointInput{EndpointType: aws.String("iot:Data-ATS")})
	if err != nil || *end.EndpointAddress != strings.TrimPrefix(s.env["AWS_ENDPOINT_URL"], "https://") {
		t.Fatalf("the endpoint: %+v, %v", end, err)
	}
	// It is good for both: HTTPS, and MQTT by its protocol of TLS.
	host, port, _ := net.SplitHostPort(*end.EndpointAddress)
	dir := filepath.Join(s.dir, "pump")
	if out, err := exec.Command("mosquitto_pub", "-h", host, "-p", port, "--tls-alpn", "x-amzn-mqtt-ca", "--cafile", dir+"/ca.pem", "--cert", dir+"/device.pem", "--key", dir+"/device.key",
		"-i", "pump", "-q", "1", "-t", "pump/x", "-m", "x").CombinedOutput(); err != nil {
		t.Errorf("MQTT at the endpoint: %v: %s", err, out)
	}
	_, err = c.DescribeEndpoint(ctx, &iot.DescribeEndpointInput{EndpointType: aws.String("iot:Nothing")})
	refused[*types.InvalidRequestException](t, "an unknown endpoint", err, 400)
}

// A domain configuration says how clients that ask for its host name prove who they are.
func TestADomainConfigurationSaysHowClientsComeIn(t *testing.T) {
	judge := write(t, filepath.Join(t.TempDir(), "judge.sh"), `cat > /dev/null
echo '{"isAuthenticated":true,"principalId":"guest","disconnectAfterInSeconds":3600,"policyDocuments":["{\"Version\":\"2012-10-17\",\"Statement\":{\"Effect\":\"Allow\",\"Action\":\"iot:*\",\"Resource\":\"*\"}}"]}'
`)
	s := newSite(t, harness.Options{NoDev: true, Config: "identity: {names: [guests.local, staff.local]}\nfunctions:\n  - name: judge\n    command: [/bin/sh, " + judge + "]\n"})
	c, ctx := sdk(t, s.Gateway), t.Context()
	pump := s.enroll("pump")
	if _, err := c.CreateAuthorizer(ctx, &iot.CreateAuthorizerInput{AuthorizerName: aws.String("judge"), AuthorizerFunctionArn: lambda("judge"), SigningDisabled: aws.Bool(true),
		Status: types.AuthorizerStatusActive}); err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]*iot.CreateDomainConfigurationInput{
		"guests": {DomainName: aws.String("guests.local"), AuthenticationType: types.AuthenticationTypeCustomAuth, AuthorizerConfig: &types.AuthorizerConfig{DefaultAuthorizerName: aws.String("judge")}},
		"staff":  {DomainName: aws.String("staff.local"), AuthenticationType: types.AuthenticationTypeAwsX509},
	} {
		in.DomainConfigurationName = &name
		if _, err := c.CreateDomainConfiguration(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	_, port, _ := net.SplitHostPort(s.MQTTS)
	_, err := c.CreateDomainConfiguration(ctx, &iot.CreateDomainConfigurationInput{DomainConfigurationName: aws.String("more"), DomainName: aws.String("Guests.local")})
	refused[*types.ResourceAlreadyExistsException](t, "the same host again", err, 409)
	come := func(host, alpn string, args ...string) error {
		cfg := s.tls("")
		if len(args) > 0 {
			cfg = s.tls("pump")
		}
		cfg.ServerName = host
		if alpn != "" {
			cfg.NextProtos = []string{alpn}
		}
		cl := s.paho("ssl://127.0.0.1:"+port, "pump", cfg, nil)
		tok := cl.Connect()
		if !tok.WaitTimeout(harness.Patience) {
			t.Fatal("no answer")
		}
		cl.Disconnect(0)
		return tok.Error()
	}
	for _, x := range []struct {
		what, host, alpn string
		certificate, in  bool
	}{
		{"a guest", "guests.local", "", false, true},
		{"a guest with a certificate", "guests.local", "", true, true},
		{"staff", "staff.local", "", true, true},
		{"staff without a certificate", "staff.local", "", false, false},
		{"a stranger", "localhost", "", false, false},
		{"a device", "localhost", "", true, true},
		{"a device by its protocol", "localhost", "x-amzn-mqtt-ca", true, true},
		{"a device by the other, without an authorizer", "localhost", "mqtt", true, true},
	} {
		var args []string
		if x.certificate {
			args = pump
		}
		if err := come(x.host, x.alpn, args...); (err == nil) != x.in {
			t.Errorf("%s: %v", x.what, err)
		}
	}
	d, err := c.DescribeDomainConfiguration(ctx, &iot.DescribeDomainConfigurationInput{DomainConfigurationName: aws.String("guests")})
	if err != nil || *d.DomainName != "guests.local" || d.DomainConfigurationStatus != types.DomainConfigurationStatusEnabled || *d.AuthorizerConfig.DefaultAuthorizerName != "judge" {
		t.Errorf("guests: %+v, %v", d, err)
	}
	_, err = c.DeleteDomainConfiguration(ctx, &iot.DeleteDomainConfigurationInput{DomainConfigurationName: aws.String("guests")})
	refused[*types.InvalidRequestException](t, "an enabled one", err, 400)
	if _, err := c.UpdateDomainConfiguration(ctx, &iot.UpdateDomainConfigurationInput{DomainConfigurationName: aws.String("guests"), DomainConfigurationStatus: types.DomainConfigurationStatusDisabled}); err != nil {
		t.Fatal(err)
	}
	if err := come("guests.local", ""); err == nil {
		t.Error("a guest comes in by a disabled domain configuration")
	}
	if _, err := c.DeleteDomainConfiguration(ctx, &iot.DeleteDomainConfigurationInput{DomainConfigurationName: aws.String("guests")}); err != nil {
		t.Error(err)
	}
	if out, err := c.ListDomainConfigurations(ctx, &iot.ListDomainConfigurationsInput{}); err != nil || len(out.DomainConfigurations) != 1 || *out.DomainConfigurations[0].DomainConfigurationName != "staff" {
		t.Errorf("domain configurations: %+v, %v", out, err)
	}
	// A default authorizer judges whoever comes by the protocol of custom authorizers, certificate or not.
	if _, err := c.SetDefaultAuthorizer(ctx, &iot.SetDefaultAuthorizerInput{AuthorizerName: aws.String("judge")}); err != nil {
		t.Fatal(err)
	}
	if err := come("localhost", "mqtt", pump...); err != nil {
		t.Error(err)
	}
	harness.Until(t, "the client is the authorizer's", func() bool { return strings.Count(s.Stderr(), "client=pump principal=guest") == 3 })
	if err := come("localhost", "x-amzn-mqtt-ca"); err == nil {
		t.Error("the protocol of certificates lets one in without")
	}
}

// A certificate provider signs in place of the local authority, and nothing but the key that was asked for.
func TestACertificateProviderSigns(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=Plant CA",
		"-keyout", dir+"/ca.key", "-out", dir+"/ca.pem").CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v: %s", err, out)
	}
	provider := write(t, filepath.Join(dir, "sign.py"), `import json, subprocess, sys
event = json.load(sys.stdin)
csr = event["certificateSigningRequest"] if "operator/" in event["principalId"] else ""
pem = subprocess.run(["openssl", "x509", "-req", "-CA", "`+dir+`/ca.pem", "-CAkey", "`+dir+`/ca.key", "-CAcreateserial", "-days", "1"], input=csr, capture_output=True, text=True).stdout
print(json.dumps({"certificatePem": pem}))
`)
	s := newSite(t, harness.Options{NoDev: true, Config: "functions:\n  - name: sign\n    command: [/usr/bin/env, python3, " + provider + "]\n"})
	c, ctx := sdk(t, s.Gateway), t.Context()
	in := &iot.CreateCertificateProviderInput{CertificateProviderName: aws.String("plant"), LambdaFunctionArn: lambda("sign"),
		AccountDefaultForOperations: []types.CertificateProviderOperation{types.CertificateProviderOperationCreateCertificateFromCsr}}
	if _, err := c.CreateCertificateProvider(ctx, in); err != nil {
		t.Fatal(err)
	}
	in.CertificateProviderName = aws.String("another")
	_, err := c.CreateCertificateProvider(ctx, in)
	refused[*types.LimitExceededException](t, "another", err, 410)
	csr := read(t, filepath.Join(s.Dir, "pki", "upstream.csr")) // any will do
	text := string(csr)
	out, err := c.CreateCertificateFromCsr(ctx, &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: &text, SetAsActive: true})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(*out.CertificatePem))
	x, err := x509.ParseCertificate(block.Bytes)
	if err != nil || x.Issuer.CommonName != "Plant CA" {
		t.Errorf("signed by %v, %v", x.Issuer, err)
	}
	if list, err := c.ListCertificateProviders(ctx, &iot.ListCertificateProvidersInput{}); err != nil || len(list.CertificateProviders) != 1 {
		t.Errorf("providers: %+v, %v", list, err)
	}
	if _, err := c.UpdateCertificateProvider(ctx, &iot.UpdateCertificateProviderInput{CertificateProviderName: aws.String("plant"), LambdaFunctionArn: lambda("nobody")}); err != nil {
		t.Fatal(err)
	}
	_, err = c.CreateCertificateFromCsr(ctx, &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: &text})
	refused[*types.ServiceUnavailableException](t, "without a function", err, 503)
	if d, err := c.DescribeCertificateProvider(ctx, &iot.DescribeCertificateProviderInput{CertificateProviderName: aws.String("plant")}); err != nil || *d.LambdaFunctionArn != *lambda("nobody") {
		t.Errorf("the provider: %+v, %v", d, err)
	}
	if _, err := c.DeleteCertificateProvider(ctx, &iot.DeleteCertificateProviderInput{CertificateProviderName: aws.String("plant")}); err != nil {
		t.Fatal(err)
	}
	local, err := c.CreateCertificateFromCsr(ctx, &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: &text})
	if err != nil {
		t.Fatal(err)
	}
	block, _ = pem.Decode([]byte(*local.CertificatePem))
	if x, err := x509.ParseCertificate(block.Bytes); err != nil || !strings.Contains(x.Issuer.CommonName, "Tidegate") {
		t.Errorf("the local authority signs again: %v", err)
	}
}
