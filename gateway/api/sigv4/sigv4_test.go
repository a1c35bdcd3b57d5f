package sigv4_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"tidegate/gateway/api/sigv4"
	"tidegate/gateway/fault"
)

var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

const (
	accessKey = "AKIDEXAMPLE"
	secret    = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

func verifier(at time.Time) *sigv4.Verifier {
	return &sigv4.Verifier{
		Now: func() time.Time { return at },
		Secret: func(key, token string) (string, error) {
			switch {
			case key != accessKey:
				return "", sigv4.ErrKey
			case token == "over":
				return "", sigv4.ErrToken
			}
			return secret, nil
		},
	}
}

// received sends the request over a real connection and gives it as a server
// sees it, with its body.
func received(t *testing.T, r *http.Request) (*http.Request, []byte) {
	t.Helper()
	var got *http.Request
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
		got = r.Clone(context.Background())
	}))
	defer srv.Close()
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(srv.URL, "http://")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	return got, body
}

func request(t *testing.T, method, target, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, "https://gw.local:8443"+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The example of the AWS general reference, "Create a signed request".
func TestPublishedExample(t *testing.T) {
	r := httptest.NewRequest("GET", "/?Action=ListUsers&Version=2010-05-08", nil)
	r.Host = "iam.amazonaws.com"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	r.Header.Set("X-Amz-Date", "20150830T123600Z")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7")
	id, err := verifier(time.Date(2015, 8, 30, 12, 40, 0, 0, time.UTC)).Verify(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if id.AccessKey != accessKey || id.Region != "us-east-1" || id.Service != "iam" || id.Presigned {
		t.Errorf("got %+v", id)
	}
}

var targets = []string{"/", "/things/a%3Ab", "/topics/a%2Fb%20c?qos=1", "/things/t/shadow?name=c%20d", "/x//y/../z?b=2&a=1&a=%C3%A9&empty", "/a+b?c=d+e", "/%24aws/*~-_.", "/things/%C3%A9?resourceArn=arn%3Aaws%3Aiot"}

func TestSignaturesOfTheSDKAreAccepted(t *testing.T) {
	for _, target := range targets {
		r := request(t, "POST", target, `{"a":1}`)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Amz-Meta", "  two   words ")
		sum := sha256.Sum256([]byte(`{"a":1}`))
		creds := aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secret, SessionToken: "tok"}
		if err := v4.NewSigner().SignHTTP(context.Background(), creds, r, hex.EncodeToString(sum[:]), "iot", "local-1", now); err != nil {
			t.Fatal(err)
		}
		got, body := received(t, r)
		id, err := verifier(now).Verify(got, body)
		if err != nil {
			t.Errorf("%s: %v", target, err)
			continue
		}
		if id.Service != "iot" || id.Token != "tok" || !id.Time.Equal(now) {
			t.Errorf("%s: got %+v", target, id)
		}
	}
}

func TestOwnSignaturesAreAccepted(t *testing.T) {
	for _, target := range targets {
		r := request(t, "PATCH", target, `{}`)
		sigv4.Sign(r, []byte(`{}`), sigv4.Credentials{AccessKey: accessKey, Secret: secret}, "local-1", "iotdata", now)
		got, body := received(t, r)
		if _, err := verifier(now).Verify(got, body); err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// botocore signs the path without empty and dot segments but sends it as it is.
func TestNormalizedPathIsAccepted(t *testing.T) {
	signed := request(t, "GET", "/topics/a/b", "")
	sigv4.Sign(signed, nil, sigv4.Credentials{AccessKey: accessKey, Secret: secret}, "local-1", "iotdata", now)
	sent := request(t, "GET", "/topics//a/./b", "")
	sent.Header = signed.Header
	got, body := received(t, sent)
	if _, err := verifier(now).Verify(got, body); err != nil {
		t.Error(err)
	}
}

func TestPresigned(t *testing.T) {
	u, _ := url.Parse("wss://gw.local:8443/mqtt?x-amz-customauthorizer-name=a%20b")
	for _, token := range []string{"", "a/b+c="} {
		signed := sigv4.Presign(u, sigv4.Credentials{AccessKey: accessKey, Secret: secret, Token: token}, "local-1", "iotdevicegateway", now, time.Hour)
		r := request(t, "GET", signed.RequestURI(), "")
		got, _ := received(t, r)
		for _, c := range []struct {
			at   time.Time
			want error
		}{{now, nil}, {now.Add(time.Hour), nil}, {now.Add(time.Hour + time.Second), sigv4.ErrTime}, {now.Add(-sigv4.Skew - time.Second), sigv4.ErrTime}} {
			id, err := verifier(c.at).Verify(got, nil)
			if !errors.Is(err, c.want) || err == nil && (!id.Presigned || id.Token != token || id.Service != "iotdevicegateway") {
				t.Errorf("token %q at %v: got %+v, %v, want %v", token, c.at, id, err, c.want)
			}
		}
	}
}

func TestPresignedBySDK(t *testing.T) {
	r := request(t, "GET", "/mqtt?X-Amz-Expires=60", "")
	uri, _, err := v4.NewSigner().PresignHTTP(context.Background(), aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secret, SessionToken: "in=side"}, r,
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "iotdevicegateway", "local-1", now)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(uri)
	got, _ := received(t, request(t, "GET", u.RequestURI(), ""))
	if _, err := verifier(now).Verify(got, nil); err != nil {
		t.Error(err)
	}
	if _, err := verifier(now.Add(61*time.Second)).Verify(got, nil); !errors.Is(err, sigv4.ErrTime) {
		t.Errorf("after its time: got %v, want ErrTime", err)
	}
}

func TestTamperingIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *http.Request, body *[]byte)
		want   error
	}{
		"body":                   {func(_ *http.Request, b *[]byte) { *b = []byte(`{"a":2}`) }, sigv4.ErrSignature},
		"method":                 {func(r *http.Request, _ *[]byte) { r.Method = "DELETE" }, sigv4.ErrSignature},
		"path":                   {func(r *http.Request, _ *[]byte) { r.RequestURI = "/things/b?x=1" }, sigv4.ErrSignature},
		"encoded slash":          {func(r *http.Request, _ *[]byte) { r.RequestURI = "/things%2Fa?x=1" }, sigv4.ErrSignature},
		"query":                  {func(r *http.Request, _ *[]byte) { r.URL.RawQuery = "x=2" }, sigv4.ErrSignature},
		"signed header":          {func(r *http.Request, _ *[]byte) { r.Header.Set("X-Amzn-Principal", "other") }, sigv4.ErrSignature},
		"host":                   {func(r *http.Request, _ *[]byte) { r.Host = "other" }, sigv4.ErrSignature},
		"date":                   {func(r *http.Request, _ *[]byte) { r.Header.Set("X-Amz-Date", "20260504T120100Z") }, sigv4.ErrSignature},
		"date of the day before": {func(r *http.Request, _ *[]byte) { r.Header.Set("X-Amz-Date", "20260503T235900Z") }, sigv4.ErrSignature},
		"unsigned payload": {func(r *http.Request, b *[]byte) {
			r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
			*b = []byte("other")
		}, sigv4.ErrSignature},
		"stated hash": {func(r *http.Request, b *[]byte) {
			r.Header.Set("X-Amz-Content-Sha256", strings.Repeat("0", 64))
		}, sigv4.ErrSignature},
		"other key":    {func(r *http.Request, _ *[]byte) { edit(r, accessKey, "AKIDOTHER") }, sigv4.ErrKey},
		"session over": {func(r *http.Request, _ *[]byte) { r.Header.Set("X-Amz-Security-Token", "over") }, sigv4.ErrToken},
		"service":      {func(r *http.Request, _ *[]byte) { edit(r, "/iot/", "/iotdata/") }, sigv4.ErrSignature},
		"region":       {func(r *http.Request, _ *[]byte) { edit(r, "local-1", "local-2") }, sigv4.ErrSignature},
		"no host":      {func(r *http.Request, _ *[]byte) { edit(r, "host;", "") }, sigv4.ErrMalformed},
		"no scope":     {func(r *http.Request, _ *[]byte) { edit(r, "aws4_request", "aws5_request") }, sigv4.ErrMalformed},
		"short signature": {func(r *http.Request, _ *[]byte) {
			h := r.Header.Get("Authorization")
			r.Header.Set("Authorization", h[:len(h)-2])
		}, sigv4.ErrMalformed},
		"no date":             {func(r *http.Request, _ *[]byte) { r.Header.Del("X-Amz-Date") }, sigv4.ErrMalformed},
		"another scheme":      {func(r *http.Request, _ *[]byte) { r.Header.Set("Authorization", "Basic eDp5") }, sigv4.ErrMalformed},
		"no signature at all": {func(r *http.Request, _ *[]byte) { r.Header.Del("Authorization") }, sigv4.ErrMissing},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, "PUT", "/things/a?x=1", `{"a":1}`)
			r.Header.Set("X-Amzn-Principal", "mine")
			sigv4.Sign(r, []byte(`{"a":1}`), sigv4.Credentials{AccessKey: accessKey, Secret: secret}, "local-1", "iot", now)
			got, body := received(t, r)
			if _, err := verifier(now).Verify(got, bytes.Clone(body)); err != nil {
				t.Fatalf("as it was sent: %v", err)
			}
			c.change(got, &body)
			if _, err := verifier(now).Verify(got, body); !errors.Is(err, c.want) || !fault.Is(err, fault.Unauthorized) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func edit(r *http.Request, from, to string) {
	r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), from, to, 1))
}

func TestClockSkew(t *testing.T) {
	r := request(t, "GET", "/things", "")
	sigv4.Sign(r, nil, sigv4.Credentials{AccessKey: accessKey, Secret: secret}, "local-1", "iot", now)
	got, _ := received(t, r)
	for offset, ok := range map[time.Duration]bool{0: true, 5 * time.Minute: true, -5 * time.Minute: true, 6 * time.Minute: false, -6 * time.Minute: false} {
		if _, err := verifier(now.Add(offset)).Verify(got, nil); (err == nil) != ok || err != nil && !errors.Is(err, sigv4.ErrTime) {
			t.Errorf("%v off: got %v", offset, err)
		}
	}
	v := verifier(time.Unix(60, 0))
	v.Trusted = func() bool { return false }
	if _, err := v.Verify(got, nil); err != nil {
		t.Errorf("while the own clock is not trusted: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260504/local-1/iot/aws4_request, SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("0", 64), "X-Amz-Algorithm=AWS4-HMAC-SHA256", "20260504T120000Z")
	f.Fuzz(func(t *testing.T, auth, query, date string) {
		r := &http.Request{Method: "GET", Host: "h", URL: &url.URL{Path: "/a", RawQuery: query}, Header: http.Header{"Authorization": {auth}, "X-Amz-Date": {date}}}
		if _, err := verifier(now).Verify(r, nil); err == nil {
			t.Fatal("accepted")
		} else if !fault.Is(err, fault.Unauthorized) {
			t.Fatalf("a foreign error: %v", err)
		}
	})
}
