package reserved

import "tidegate/gateway/fault"

// statuses are the codes of the shadow's error documents (spec/shadow.md §7).
var statuses = map[fault.Code]int{
	fault.Internal:      500,
	fault.Invalid:       400,
	fault.Unauthorized:  401,
	fault.Forbidden:     403,
	fault.NotFound:      404,
	fault.Conflict:      409,
	fault.Exists:        409,
	fault.TooLarge:      413,
	fault.Unsupported:   415,
	fault.Throttled:     429,
	fault.LimitExceeded: 429,
	fault.Full:          503,
	fault.Unavailable:   503,
	fault.Timeout:       503,
}

func status(err error) int { return statuses[fault.Of(err)] }
