package listen

import "time"

// Bound makes a door's bounds small enough to be met in a test.
func (s *Secure) Bound(timeout time.Duration, total, each int, patience time.Duration) {
	s.timeout, s.gate = timeout, newShare(total, each, patience)
}

// Bound makes a server's bounds small enough to be met in a test.
func (w *Web) Bound(header time.Duration, total, each int) {
	w.srv.ReadHeaderTimeout, w.share = header, newShare(total, each, 0)
}
