package reserved

import (
	"encoding/json"
	"errors"
	"math"

	"github.com/fxamacker/cbor/v2"

	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/provision"
)

// codec is a form of the payloads of fleet provisioning. Both carry the same documents.
type codec struct {
	read  func([]byte, any) error
	write func(any) ([]byte, error)
	plain func(map[string]any) map[string]any // fits numbers of a template to the form
}

// cborReader refuses what has no place in a request: nesting, floods of members, a member
// twice.
var cborReader = func() cbor.DecMode {
	m, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: 8, MaxMapPairs: 1024, MaxArrayElements: 1024}.DecMode()
	if err != nil {
		panic("BUG: options of CBOR: " + err.Error())
	}
	return m
}()

var codecs = map[awstopic.Format]codec{
	awstopic.JSON: {json.Unmarshal, json.Marshal, func(m map[string]any) map[string]any { return m }},
	awstopic.CBOR: {cborReader.Unmarshal, cbor.Marshal, numbers},
}

var errPayload = errors.New("payload")

func (c codec) decode(payload []byte, v any) error {
	if err := c.read(payload, v); err != nil {
		return fault.Wrap(fault.Invalid, errors.Join(errPayload, err), "the payload is not a document of the expected shape")
	}
	return nil
}

func (c codec) encode(v any) ([]byte, error) { return c.write(v) }

// numbers turns the numbers of a JSON document, which keep their text, into numbers.
func numbers(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		if n, ok := v.(json.Number); ok {
			if i, err := n.Int64(); err == nil {
				v = i
			} else if f, err := n.Float64(); err == nil && !math.IsInf(f, 0) {
				v = f
			}
		}
		out[k] = v
	}
	return out
}

// rejection is the document on …/rejected.
type rejection struct {
	Status  int    `json:"statusCode"`
	Code    string `json:"errorCode"`
	Message string `json:"errorMessage"`
}

// provisionCodes are the names of refusals (spec/provisioning.md §5). A test checks that
// none is missing.
var provisionCodes = map[fault.Code]string{
	fault.Internal:      "InternalFailure",
	fault.Invalid:       "InvalidParameters",
	fault.Unauthorized:  "Unauthorized",
	fault.Forbidden:     "AccessDenied",
	fault.NotFound:      "ResourceNotFound",
	fault.Conflict:      "ConflictException",
	fault.Exists:        "ConflictException",
	fault.TooLarge:      "InvalidPayload",
	fault.Unsupported:   "InvalidPayload",
	fault.Throttled:     "ThrottlingException",
	fault.LimitExceeded: "ThrottlingException",
	fault.Full:          "ServiceUnavailable",
	fault.Unavailable:   "ServiceUnavailable",
	fault.Timeout:       "ServiceUnavailable",
}

// provisionReasons are the cases that share a code and have names of their own.
var provisionReasons = []struct {
	err  error
	name string
}{
	{errPayload, "InvalidPayload"},
	{provision.ErrToken, "InvalidCertificateOwnershipToken"},
	{provision.ErrCSR, "InvalidCertificateSigningRequest"},
}

func provisionRefusal(err error) rejection {
	r := rejection{status(err), provisionCodes[fault.Of(err)], shown(err)}
	for _, c := range provisionReasons {
		if errors.Is(err, c.err) {
			r.Code = c.name
		}
	}
	return r
}
