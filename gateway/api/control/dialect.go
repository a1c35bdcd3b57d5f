package control

import (
	"errors"
	"net/http"

	"tidegate/gateway/api/restjson"
	"tidegate/gateway/api/sigv4"
	"tidegate/gateway/authz"
	"tidegate/gateway/fault"
	"tidegate/gateway/jobs"
	"tidegate/gateway/provision"
	"tidegate/gateway/registry"
	"tidegate/gateway/registry/indexquery"
)

// codes gives every code of the house a name of the iot model. A test checks that none
// is missing.
var codes = map[fault.Code]restjson.Problem{
	fault.Internal:      {Status: 500, Name: "InternalFailureException"},
	fault.Invalid:       {Status: 400, Name: "InvalidRequestException"},
	fault.Unauthorized:  {Status: 401, Name: "UnauthorizedException"},
	fault.Forbidden:     {Status: 403, Name: "AccessDeniedException"},
	fault.NotFound:      {Status: 404, Name: "ResourceNotFoundException"},
	fault.Conflict:      {Status: 409, Name: "ConflictException"},
	fault.Exists:        {Status: 409, Name: "ResourceAlreadyExistsException"},
	fault.TooLarge:      {Status: 400, Name: "InvalidRequestException"},
	fault.Unsupported:   {Status: 400, Name: "InvalidRequestException"},
	fault.Throttled:     {Status: 400, Name: "ThrottlingException"},
	fault.LimitExceeded: {Status: 410, Name: "LimitExceededException"},
	fault.Full:          {Status: 503, Name: "ServiceUnavailableException"},
	fault.Unavailable:   {Status: 503, Name: "ServiceUnavailableException"},
	fault.Timeout:       {Status: 503, Name: "ServiceUnavailableException"},
}

// reasons are the cases that share a code here and have names of their own there.
var reasons = []struct {
	err     error
	problem restjson.Problem
}{
	{sigv4.ErrMissing, restjson.Problem{Status: http.StatusForbidden, Name: "MissingAuthenticationTokenException"}},
	{sigv4.ErrMalformed, restjson.Problem{Status: http.StatusForbidden, Name: "IncompleteSignatureException"}},
	{sigv4.ErrSignature, restjson.Problem{Status: http.StatusForbidden, Name: "InvalidSignatureException"}},
	{sigv4.ErrTime, restjson.Problem{Status: http.StatusForbidden, Name: "InvalidSignatureException"}},
	{sigv4.ErrKey, restjson.Problem{Status: http.StatusForbidden, Name: "UnrecognizedClientException"}},
	{sigv4.ErrToken, restjson.Problem{Status: http.StatusForbidden, Name: "ExpiredTokenException"}},
	{provision.ErrConflict, restjson.Problem{Status: 409, Name: "ConflictingResourceUpdateException"}},
	{provision.ErrTaskExists, restjson.Problem{Status: 400, Name: "TaskAlreadyExistsException"}},
	{authz.ErrAnswer, restjson.Problem{Status: 400, Name: "InvalidResponseException"}},
	{errRegistration, restjson.Problem{Status: 400, Name: "ResourceRegistrationFailureException"}},
	{jobs.ErrTransition, restjson.Problem{Status: 409, Name: "InvalidStateTransitionException"}},
	{jobs.ErrVersion, restjson.Problem{Status: 409, Name: "VersionConflictException"}},
	{registry.ErrVersion, restjson.Problem{Status: 409, Name: "VersionConflictException"}},
	{registry.ErrInUse, restjson.Problem{Status: 409, Name: "DeleteConflictException"}},
	{registry.ErrVersions, restjson.Problem{Status: 409, Name: "VersionsLimitExceededException"}},
	{registry.ErrCertState, restjson.Problem{Status: 406, Name: "CertificateStateException"}},
	{registry.ErrCertConflict, restjson.Problem{Status: 409, Name: "CertificateConflictException"}},
	{registry.ErrCertificate, restjson.Problem{Status: 400, Name: "CertificateValidationException"}},
	{registry.ErrPolicy, restjson.Problem{Status: 400, Name: "MalformedPolicyException"}},
	{registry.ErrRegistration, restjson.Problem{Status: 400, Name: "RegistrationCodeValidationException"}},
	{registry.ErrIndex, restjson.Problem{Status: 400, Name: "IndexNotReadyException"}},
	{indexquery.ErrInvalid, restjson.Problem{Status: 400, Name: "InvalidQueryException"}},
}

// dialect turns an error into what the wire shows.
func dialect(err error) restjson.Problem {
	p := codes[fault.Of(err)]
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			p = r.problem
			break
		}
	}
	p.Message = fault.Message(err)
	var exists *registry.ExistsError
	if errors.As(err, &exists) {
		p.Members = map[string]any{"resourceId": exists.ID, "resourceArn": exists.ARN}
	}
	return p
}
