package data

import (
	"errors"

	"tidegate/gateway/api/restjson"
	"tidegate/gateway/api/sigv4"
	"tidegate/gateway/fault"
	"tidegate/gateway/jobs"
)

// codes gives every code of the house a name of the iot-data model. A test checks that
// none is missing.
var codes = map[fault.Code]restjson.Problem{
	fault.Internal:      {Status: 500, Name: "InternalFailureException"},
	fault.Invalid:       {Status: 400, Name: "InvalidRequestException"},
	fault.Unauthorized:  {Status: 401, Name: "UnauthorizedException"},
	fault.Forbidden:     {Status: 403, Name: "ForbiddenException"},
	fault.NotFound:      {Status: 404, Name: "ResourceNotFoundException"},
	fault.Conflict:      {Status: 409, Name: "ConflictException"},
	fault.Exists:        {Status: 409, Name: "ConflictException"},
	fault.TooLarge:      {Status: 413, Name: "RequestEntityTooLargeException"},
	fault.Unsupported:   {Status: 415, Name: "UnsupportedDocumentEncodingException"},
	fault.Throttled:     {Status: 429, Name: "ThrottlingException"},
	fault.LimitExceeded: {Status: 400, Name: "InvalidRequestException"},
	fault.Full:          {Status: 503, Name: "ServiceUnavailableException"},
	fault.Unavailable:   {Status: 503, Name: "ServiceUnavailableException"},
	fault.Timeout:       {Status: 503, Name: "ServiceUnavailableException"},
}

// reasons are the cases that share a code here and have names of their own there. Those of
// signatures are in spec/ops.md §7, those of jobs in spec/jobs.md §3.
var reasons = []struct {
	err    error
	status int
	name   string
}{
	{sigv4.ErrMissing, 403, "MissingAuthenticationTokenException"}, {sigv4.ErrMalformed, 403, "IncompleteSignatureException"},
	{sigv4.ErrSignature, 403, "InvalidSignatureException"}, {sigv4.ErrTime, 403, "InvalidSignatureException"},
	{sigv4.ErrKey, 403, "UnrecognizedClientException"}, {sigv4.ErrToken, 403, "ExpiredTokenException"},
	{errCertificate, 400, "CertificateValidationException"},
	{jobs.ErrTransition, 409, "InvalidStateTransitionException"}, {jobs.ErrVersion, 409, "InvalidStateTransitionException"}, {jobs.ErrTerminal, 410, "TerminalStateException"},
}

// dialect turns an error into what the wire shows.
func dialect(err error) restjson.Problem {
	p := codes[fault.Of(err)]
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			p = restjson.Problem{Status: r.status, Name: r.name}
		}
	}
	p.Message = fault.Message(err)
	return p
}
