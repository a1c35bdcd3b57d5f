// Package sigv4 verifies AWS Signature Version 4 on HTTP requests, and signs.
//
// It keeps no keys and no nonces: who a key belongs to is asked of the caller,
// and a request may be replayed within its five minutes, as with AWS. It reads
// the request line and headers as they were sent; the body is handed in, for
// only the caller knows how much of one to accept.
//
//	v := sigv4.Verifier{Secret: operators.Secret, Now: clk.Now}
//	id, err := v.Verify(r, body)
//
// Source: "Signature Version 4 signing process" (AWS general reference) and what
// the SDKs send; where they differ (a path encoded once or twice, a session token
// added behind the signature) every form they use is accepted, each against the
// whole signature.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidegate/gateway/fault"
)

// Skew is how far a request's time may be from ours.
const Skew = 5 * time.Minute

// MaxExpires is how long a presigned request may last.
const MaxExpires = 7 * 24 * time.Hour

// The reasons of a refusal. Each stands in the chain of an error of code
// fault.Unauthorized; doors give it the name AWS uses.
var (
	ErrMissing   = errors.New("no signature")             // MissingAuthenticationTokenException
	ErrMalformed = errors.New("malformed signature")      // IncompleteSignatureException
	ErrSignature = errors.New("signature does not match") // InvalidSignatureException
	ErrTime      = errors.New("request time out of range")
	ErrKey       = errors.New("unknown access key") // UnrecognizedClientException
	ErrToken     = errors.New("session expired")    // ExpiredTokenException
)

func refuse(reason error, format string, args ...any) error {
	return fault.Wrap(fault.Unauthorized, reason, format, args...)
}

// Identity is what a valid signature says.
type Identity struct {
	AccessKey string
	Token     string // the session token, "" for lasting keys
	Region    string
	Service   string // the signing name: "iot", "iotdata", "iotdevicegateway" …
	Time      time.Time
	Presigned bool
}

// Verifier verifies signatures. It is safe for concurrent use when its functions
// are.
type Verifier struct {
	// Secret gives the secret key of an access key. token is the session token
	// the request carries, "" for none. An unknown key is [ErrKey], a session
	// that is over [ErrToken]; other errors are passed on.
	Secret func(accessKey, token string) (secret string, err error)
	// Now is the time requests are judged by.
	Now func() time.Time
	// Trusted says whether Now can be believed. While it cannot (a board that
	// boots in 1970 and has not found the time yet) the age of a request is not
	// judged, so that operators are not locked out of the box they must repair.
	// Nil means always.
	Trusted func() bool
}

const (
	algorithm  = "AWS4-HMAC-SHA256"
	timeLayout = "20060102T150405Z"
	unsigned   = "UNSIGNED-PAYLOAD"
	emptyHash  = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// claim is what a request says of its signature.
type claim struct {
	Identity
	date      string // the day of the scope
	amzDate   string
	headers   []string // names of the signed headers
	signature []byte
	expires   time.Duration
}

// Signed says whether the request carries a signature at all, in the header or
// in the query.
func Signed(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Authorization"), algorithm) || strings.Contains(r.URL.RawQuery, "X-Amz-Signature=")
}

// Verify checks the request's signature over the body that was read from it.
// Errors are fault.Unauthorized with one of the reasons above.
func (v *Verifier) Verify(r *http.Request, body []byte) (Identity, error) {
	c, err := readClaim(r)
	if err != nil {
		return Identity{}, err
	}
	if err := v.judgeTime(c); err != nil {
		return Identity{}, err
	}
	hash, err := payloadHash(r, body, c.Presigned)
	if err != nil {
		return Identity{}, err
	}
	secret, err := v.Secret(c.AccessKey, c.Token)
	if errors.Is(err, ErrKey) {
		return Identity{}, refuse(ErrKey, "the access key is not known here")
	} else if errors.Is(err, ErrToken) {
		return Identity{}, refuse(ErrToken, "the session of the access key is over")
	} else if err != nil {
		return Identity{}, err
	}
	key := signingKey(secret, c.date, c.Region, c.Service)
	headers := canonicalHeaders(r, c.headers)
	raw, _, _ := strings.Cut(requestTarget(r), "?")
	for _, path := range canonicalPaths(raw) {
		for _, query := range canonicalQueries(r.URL.RawQuery, c.Presigned) {
			canonical := r.Method + "\n" + path + "\n" + query + "\n" + headers + "\n" + strings.Join(c.headers, ";") + "\n" + hash
			if hmac.Equal(sign(key, c.amzDate, c.scope(), canonical), c.signature) {
				return c.Identity, nil
			}
		}
	}
	return Identity{}, refuse(ErrSignature, "the request signature does not match; check the secret access key and the signing method")
}

func (c *claim) scope() string {
	return c.date + "/" + c.Region + "/" + c.Service + "/aws4_request"
}

func (v *Verifier) judgeTime(c *claim) error {
	if v.Trusted != nil && !v.Trusted() {
		return nil
	}
	now := v.Now()
	if c.Time.After(now.Add(Skew)) {
		return refuse(ErrTime, "the signature is not yet current: it is of %s and it is %s here", c.amzDate, now.UTC().Format(timeLayout))
	}
	limit := Skew
	if c.Presigned {
		limit = c.expires
	}
	if now.After(c.Time.Add(limit)) {
		return refuse(ErrTime, "the signature has expired: it is of %s and it is %s here", c.amzDate, now.UTC().Format(timeLayout))
	}
	return nil
}

// readClaim takes the signature out of the Authorization header or the query.
func readClaim(r *http.Request) (*claim, error) {
	c := &claim{}
	var credential, signed, signature string
	auth := r.Header.Get("Authorization")
	if rest, ok := strings.CutPrefix(auth, algorithm); ok {
		for _, part := range strings.Split(rest, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			switch name {
			case "Credential":
				credential = value
			case "SignedHeaders":
				signed = value
			case "Signature":
				signature = value
			}
		}
		c.Token = r.Header.Get("X-Amz-Security-Token")
		if c.amzDate = r.Header.Get("X-Amz-Date"); c.amzDate == "" {
			if t, err := http.ParseTime(r.Header.Get("Date")); err == nil {
				c.amzDate = t.UTC().Format(timeLayout)
			}
		}
	} else if q := r.URL.Query(); q.Get("X-Amz-Signature") != "" {
		if q.Get("X-Amz-Algorithm") != algorithm {
			return nil, refuse(ErrMalformed, "X-Amz-Algorithm is not %s", algorithm)
		}
		c.Presigned = true
		credential, signed, signature = q.Get("X-Amz-Credential"), q.Get("X-Amz-SignedHeaders"), q.Get("X-Amz-Signature")
		c.amzDate, c.Token = q.Get("X-Amz-Date"), q.Get("X-Amz-Security-Token")
		c.expires = Skew
		if e := q.Get("X-Amz-Expires"); e != "" {
			n, err := strconv.ParseUint(e, 10, 31)
			c.expires = time.Duration(n) * time.Second
			if err != nil || n == 0 || c.expires > MaxExpires {
				return nil, refuse(ErrMalformed, "X-Amz-Expires is not between 1 and %d", int(MaxExpires.Seconds()))
			}
		}
	} else if auth != "" {
		return nil, refuse(ErrMalformed, "the Authorization header is not of the form %s Credential=…, SignedHeaders=…, Signature=…", algorithm)
	} else {
		return nil, refuse(ErrMissing, "the request is not signed")
	}
	scope := strings.Split(credential, "/")
	if n := len(scope); n < 5 || scope[n-1] != "aws4_request" {
		return nil, refuse(ErrMalformed, "the Credential is not of the form KEY/DATE/REGION/SERVICE/aws4_request")
	} else {
		c.AccessKey = strings.Join(scope[:n-4], "/")
		c.date, c.Region, c.Service = scope[n-4], scope[n-3], scope[n-2]
	}
	var err error
	if c.Time, err = time.Parse(timeLayout, c.amzDate); err != nil {
		return nil, refuse(ErrMalformed, "X-Amz-Date is missing or not of the form YYYYMMDDThhmmssZ")
	}
	if c.date != c.amzDate[:8] {
		return nil, refuse(ErrSignature, "the date of the Credential is not that of the request")
	}
	if c.signature, err = hex.DecodeString(signature); err != nil || len(c.signature) != sha256.Size {
		return nil, refuse(ErrMalformed, "the Signature is not 64 hexadecimal digits")
	}
	c.headers = strings.Split(signed, ";")
	if !slices.Contains(c.headers, "host") {
		return nil, refuse(ErrMalformed, "host is not among the SignedHeaders")
	}
	return c, nil
}

// payloadHash gives the hash that was signed: of the body, or the one the client
// states if it is that of the body. A presigned request covers an empty body or
// none.
func payloadHash(r *http.Request, body []byte, presigned bool) (string, error) {
	sum := sha256.Sum256(body)
	actual := hex.EncodeToString(sum[:])
	stated := r.Header.Get("X-Amz-Content-Sha256")
	if presigned && stated == "" {
		stated = r.URL.Query().Get("X-Amz-Content-Sha256")
	}
	switch stated {
	case "", actual, unsigned:
	default:
		return "", refuse(ErrSignature, "the body does not match X-Amz-Content-Sha256")
	}
	if stated == unsigned {
		return unsigned, nil
	}
	return actual, nil
}

// requestTarget gives path and query as they stood in the request line.
func requestTarget(r *http.Request) string {
	if r.RequestURI == "" || r.RequestURI[0] != '/' {
		return r.URL.RequestURI()
	}
	return r.RequestURI
}

// signingKey derives the key of a day, region and service.
func signingKey(secret, date, region, service string) []byte {
	key := []byte("AWS4" + secret)
	for _, part := range []string{date, region, service, "aws4_request"} {
		key = mac(key, part)
	}
	return key
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// sign makes the signature of a canonical request.
func sign(key []byte, amzDate, scope, canonical string) []byte {
	sum := sha256.Sum256([]byte(canonical))
	return mac(key, algorithm+"\n"+amzDate+"\n"+scope+"\n"+hex.EncodeToString(sum[:]))
}

// Credentials is a key pair to sign with.
type Credentials struct{ AccessKey, Secret, Token string }

// Sign signs the request over its body with an Authorization header. It sets
// X-Amz-Date and, with a session, X-Amz-Security-Token.
func Sign(r *http.Request, body []byte, c Credentials, region, service string, now time.Time) {
	amzDate := now.UTC().Format(timeLayout)
	r.Header.Set("X-Amz-Date", amzDate)
	if c.Token != "" {
		r.Header.Set("X-Amz-Security-Token", c.Token)
	}
	names := []string{"host"}
	for name := range r.Header {
		if l := strings.ToLower(name); strings.HasPrefix(l, "x-amz") || l == "content-type" {
			names = append(names, l)
		}
	}
	slices.Sort(names)
	sum := sha256.Sum256(body)
	scope := amzDate[:8] + "/" + region + "/" + service + "/aws4_request"
	canonical := r.Method + "\n" + encodePath(r.URL.EscapedPath()) + "\n" + encodedQuery(r.URL.RawQuery, nil) + "\n" +
		canonicalHeaders(r, names) + "\n" + strings.Join(names, ";") + "\n" + hex.EncodeToString(sum[:])
	signature := sign(signingKey(c.Secret, amzDate[:8], region, service), amzDate, scope, canonical)
	r.Header.Set("Authorization", algorithm+" Credential="+c.AccessKey+"/"+scope+", SignedHeaders="+strings.Join(names, ";")+
		", Signature="+hex.EncodeToString(signature))
}

// Presign gives the URL with a signature in its query, for a GET without a body
// (MQTT over WebSocket). The session token is added behind the signature, as the
// IoT SDKs do.
func Presign(u *url.URL, c Credentials, region, service string, now time.Time, expires time.Duration) *url.URL {
	amzDate := now.UTC().Format(timeLayout)
	scope := amzDate[:8] + "/" + region + "/" + service + "/aws4_request"
	q := u.Query()
	q.Set("X-Amz-Algorithm", algorithm)
	q.Set("X-Amz-Credential", c.AccessKey+"/"+scope)
	q.Set("X-Amz-Date", amzDate)
	q.Set("X-Amz-Expires", strconv.Itoa(int(expires.Seconds())))
	q.Set("X-Amz-SignedHeaders", "host")
	out := *u
	out.RawQuery = q.Encode()
	canonical := "GET\n" + encodePath(out.EscapedPath()) + "\n" + encodedQuery(out.RawQuery, nil) + "\nhost:" + out.Host + "\n\nhost\n" + emptyHash
	signature := hex.EncodeToString(sign(signingKey(c.Secret, amzDate[:8], region, service), amzDate, scope, canonical))
	out.RawQuery += "&X-Amz-Signature=" + signature
	if c.Token != "" {
		out.RawQuery += "&X-Amz-Security-Token=" + url.QueryEscape(c.Token)
	}
	return &out
}
