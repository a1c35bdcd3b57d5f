package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	datatypes "github.com/aws/aws-sdk-go-v2/service/iotdataplane/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"tidegate/test/harness"
)

// sdk is AWS's own client for Go, with what `tidegate env` says.
func sdk(t *testing.T, g *harness.Gateway) *iot.Client {
	t.Helper()
	env, transport := surroundings(t, g)
	return iot.New(iot.Options{Region: env["AWS_DEFAULT_REGION"], BaseEndpoint: aws.String(env["AWS_ENDPOINT_URL"]), HTTPClient: transport, Retryer: aws.NopRetryer{}, Credentials: operatorKey(env)})
}

// dataSDK is the one for the data plane.
func dataSDK(t *testing.T, g *harness.Gateway) *iotdataplane.Client {
	t.Helper()
	env, transport := surroundings(t, g)
	return iotdataplane.New(iotdataplane.Options{Region: env["AWS_DEFAULT_REGION"], BaseEndpoint: aws.String(env["AWS_ENDPOINT_URL"]), HTTPClient: transport, Retryer: aws.NopRetryer{}, Credentials: operatorKey(env)})
}

// surroundings are what `tidegate env` says, and a client that trusts the gateway.
func surroundings(t *testing.T, g *harness.Gateway) (env map[string]string, client *http.Client) {
	t.Helper()
	env = map[string]string{}
	for _, pair := range g.Environment() {
		k, v, _ := strings.Cut(pair, "=")
		env[k] = v
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(read(t, filepath.Join(g.Dir, "pki", "ca.pem")))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	return env, &http.Client{Transport: transport}
}

func operatorKey(env map[string]string) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: env["AWS_ACCESS_KEY_ID"], SecretAccessKey: env["AWS_SECRET_ACCESS_KEY"]}, nil
	})
}

// refused checks that an error is of the type T and has this HTTP status.
func refused[T error](t *testing.T, what string, err error, status int) (e T) {
	t.Helper()
	var res *smithyhttp.ResponseError
	if !errors.As(err, &e) || !errors.As(err, &res) || res.HTTPStatusCode() != status {
		t.Errorf("%s: got %v, want %T and status %d", what, err, e, status)
	}
	return e
}

// AWS's client for Go finds in errors the types its model has, with their members, and turns pages.
func TestAnSDKFindsItsErrorsAndPages(t *testing.T) {
	g := harness.Start(t, harness.Options{NoDev: true})
	c, ctx := sdk(t, g), t.Context()
	const things = 7
	var first *iot.CreateThingOutput
	for i := range things {
		out, err := c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String(fmt.Sprintf("thing:%d", i)),
			AttributePayload: &types.AttributePayload{Attributes: map[string]string{"n": fmt.Sprint(i), "even": fmt.Sprint(i%2 == 0)}}})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = out
		}
	}

	var names []string
	pages := 0
	for p := iot.NewListThingsPaginator(c, &iot.ListThingsInput{MaxResults: aws.Int32(3)}); p.HasMorePages(); pages++ {
		page, err := p.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range page.Things {
			names = append(names, *x.ThingName)
		}
	}
	if pages != 3 || len(names) != things || names[0] != "thing:0" || names[6] != "thing:6" {
		t.Errorf("%d pages: %v", pages, names)
	}
	found, err := c.SearchIndex(ctx, &iot.SearchIndexInput{QueryString: aws.String("attributes.even:true"), MaxResults: aws.Int32(2)})
	if err != nil || len(found.Things) != 2 || found.NextToken == nil {
		t.Errorf("search: %+v, %v", found, err)
	}

	_, err = c.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: aws.String("nobody")})
	refused[*types.ResourceNotFoundException](t, "describe", err, 404)
	_, err = c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("thing:0")})
	if e := refused[*types.ResourceAlreadyExistsException](t, "create again", err, 409); e != nil && (aws.ToString(e.ResourceArn) != *first.ThingArn || aws.ToString(e.ResourceId) != *first.ThingId) {
		t.Errorf("it does not say what exists: %+v", e)
	}
	_, err = c.UpdateThing(ctx, &iot.UpdateThingInput{ThingName: aws.String("thing:0"), ExpectedVersion: aws.Int64(9)})
	refused[*types.VersionConflictException](t, "update", err, 409)
	_, err = c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("a b")})
	refused[*types.InvalidRequestException](t, "a bad name", err, 400)
	_, err = c.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("p"), PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Maybe"}]}`)})
	refused[*types.MalformedPolicyException](t, "a bad policy", err, 400)
	_, err = c.SearchIndex(ctx, &iot.SearchIndexInput{QueryString: aws.String("attributes.n:[1 TO")})
	refused[*types.InvalidQueryException](t, "a bad query", err, 400)
	_, err = c.RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: aws.String(string(read(t, filepath.Join(g.Dir, "pki", "server.pem"))))})
	refused[*types.CertificateValidationException](t, "a certificate of an unknown CA", err, 400)

	doc := aws.String(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}`)
	if _, err := c.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("p"), PolicyDocument: doc}); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		_, err = c.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: aws.String("p"), PolicyDocument: doc})
		if i < 4 && err != nil {
			t.Fatal(err)
		}
	}
	refused[*types.VersionsLimitExceededException](t, "the sixth version", err, 409)

	cert, err := c.CreateKeysAndCertificate(ctx, &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	if err != nil || cert.KeyPair == nil || !strings.Contains(aws.ToString(cert.KeyPair.PrivateKey), "RSA PRIVATE KEY") {
		t.Fatalf("keys and certificate: %v", err)
	}
	if _, err := c.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: aws.String("p"), Target: cert.CertificateArn}); err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: cert.CertificateId})
	refused[*types.CertificateStateException](t, "delete an active certificate", err, 406)
	if _, err := c.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: cert.CertificateId, NewStatus: types.CertificateStatusInactive}); err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: cert.CertificateId})
	refused[*types.DeleteConflictException](t, "delete a certificate with a policy", err, 409)
	d, err := c.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: cert.CertificateId})
	if err != nil || d.CertificateDescription.Status != types.CertificateStatusInactive || d.CertificateDescription.CreationDate.IsZero() || d.CertificateDescription.Validity.NotAfter.Year() != 2049 {
		t.Errorf("describe: %+v, %v", d, err)
	}
	target := aws.String("arn:aws:iot:local-1:000000000000:cert/" + *cert.CertificateId)
	policies, err := c.ListAttachedPolicies(ctx, &iot.ListAttachedPoliciesInput{Target: target})
	if err != nil || len(policies.Policies) != 1 || *policies.Policies[0].PolicyName != "p" {
		t.Errorf("attached: %+v, %v", policies, err)
	}
	verdict, err := c.TestAuthorization(ctx, &iot.TestAuthorizationInput{Principal: cert.CertificateArn, AuthInfos: []types.AuthInfo{{ActionType: types.ActionTypePublish, Resources: []string{"arn:aws:iot:local-1:000000000000:topic/a"}}}})
	if err != nil || len(verdict.AuthResults) != 1 || verdict.AuthResults[0].AuthDecision != types.AuthDecisionAllowed {
		t.Errorf("verdict: %+v, %v", verdict, err)
	}

	// what is not served says so by name, and a wrong secret is not let in
	_, err = c.ListV2LoggingLevels(ctx, &iot.ListV2LoggingLevelsInput{})
	var api interface{ ErrorCode() string }
	if !errors.As(err, &api) || api.ErrorCode() != "UnknownOperationException" || !strings.Contains(err.Error(), "ListV2LoggingLevels is not served") {
		t.Errorf("an unknown operation: %v", err)
	}
	wrong := c.Options()
	wrong.HTTPSignerV4, wrong.AuthSchemes = nil, nil // they remember the keys they have derived
	good, err := wrong.Credentials.Retrieve(ctx)
	if err != nil {
		t.Fatal(err)
	}
	good.SecretAccessKey += "x"
	wrong.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return good, nil })
	_, err = iot.New(wrong).ListThings(ctx, &iot.ListThingsInput{})
	if !errors.As(err, &api) || api.ErrorCode() != "InvalidSignatureException" {
		t.Errorf("a wrong secret: %v", err)
	}
}

// dataErrors checks that errors of the data plane have the types of its model.
func dataErrors(t *testing.T, c *iotdataplane.Client, shadow func(doc string) error) {
	t.Helper()
	ctx := t.Context()
	_, err := c.GetThingShadow(ctx, &iotdataplane.GetThingShadowInput{ThingName: aws.String("none")})
	refused[*datatypes.ResourceNotFoundException](t, "no such shadow", err, 404)
	refused[*datatypes.ConflictException](t, "another version", shadow(`{"state":{"desired":{"on":false}},"version":9}`), 409)
	refused[*datatypes.InvalidRequestException](t, "no document", shadow(`{"state":`), 400)
	refused[*datatypes.RequestEntityTooLargeException](t, "too long a document", shadow(`{"state":{"desired":{"x":"`+strings.Repeat("x", 9000)+`"}}}`), 413)
	_, err = c.GetRetainedMessage(ctx, &iotdataplane.GetRetainedMessageInput{Topic: aws.String("none")})
	refused[*datatypes.ResourceNotFoundException](t, "nothing retained", err, 404)
	_, err = c.Publish(ctx, &iotdataplane.PublishInput{Topic: aws.String("a/+")})
	refused[*datatypes.InvalidRequestException](t, "a filter as a topic", err, 400)
}
