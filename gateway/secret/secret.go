// Package secret is a value that must not be shown: it is read where it is needed
// and prints as dots.
//
// In a configuration a secret stands as `file:PATH` (the file's content without
// the line end), as `env:NAME`, or as the value itself. Reading it anew at every
// use means that a secret that was changed on disk needs no restart.
//
//	password, err := cfg.Password.Reveal(os.Getenv)
package secret

import (
	"os"
	"strings"

	"tidegate/gateway/fault"
)

// Text is a secret or where to find it. The zero value is the empty secret.
type Text string

// maxSize is the largest secret file that is read, in bytes.
const maxSize = 64 << 10

// Reveal gives the secret itself. env looks up environment variables. An error
// names the file or variable and is safe to show.
func (t Text) Reveal(env func(string) string) (string, error) {
	switch kind, where, _ := strings.Cut(string(t), ":"); kind {
	case "file":
		b, err := os.ReadFile(where)
		if err != nil {
			return "", fault.Wrap(fault.Unavailable, err, "the secret file %s cannot be read", where)
		}
		if len(b) > maxSize {
			return "", fault.New(fault.TooLarge, "the secret file %s is larger than 64 KiB", where)
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	case "env":
		v := env(where)
		if v == "" {
			return "", fault.New(fault.Unavailable, "the environment variable %s, which holds a secret, is not set", where)
		}
		return v, nil
	}
	return string(t), nil
}

// Set says whether there is a secret at all.
func (t Text) Set() bool { return t != "" }

// String hides the secret; where to find it may be seen.
func (t Text) String() string {
	if t == "" || strings.HasPrefix(string(t), "file:") || strings.HasPrefix(string(t), "env:") {
		return string(t)
	}
	return "•••"
}

// GoString hides the secret from %#v.
func (t Text) GoString() string { return t.String() }

// MarshalText hides the secret from encoders.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }
