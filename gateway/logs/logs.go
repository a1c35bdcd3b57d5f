// Package logs makes the process's logger and names the keys every room uses.
//
// Messages are lower case and fixed, values go into attributes. Error means that
// a person must act, Warn that we coped and it may come back, Info is a change an
// operator would tell a colleague, Debug is per message. Secrets, keys and
// payloads are logged at no level.
//
//	log := logs.New(os.Stderr, logs.DefaultConfig())
//	log.With(logs.Client, id).Warn("client was cut off", logs.Err(err))
package logs

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// The keys of attributes. A value that has a key here is logged under no other.
const (
	Error     = "err"
	Thing     = "thing"
	Shadow    = "shadow"
	Device    = "device"
	Point     = "point"
	Client    = "client"
	Principal = "principal"
	Topic     = "topic"
	Rule      = "rule"
	Job       = "job"
	Port      = "port"
	Slot      = "slot"
	Bytes     = "bytes"
	Dur       = "dur"
	Attempt   = "attempt"
	Part      = "part"
	Upstream  = "upstream"
	Addr      = "addr"
)

// Config is how and how much is logged.
type Config struct {
	Level  string `yaml:"level"`  // debug, info, warn or error
	Format string `yaml:"format"` // text or json
}

// DefaultConfig logs from info on, as text.
func DefaultConfig() Config { return Config{Level: "info", Format: "text"} }

// Validate says everything that is wrong with c, each error starting with its key.
func (c Config) Validate() error {
	var errs []error
	if _, err := parse(c.Level); err != nil {
		errs = append(errs, fmt.Errorf("level: %w", err))
	}
	if c.Format != "text" && c.Format != "json" {
		errs = append(errs, fmt.Errorf("format: is %q, expected text or json", c.Format))
	}
	return errors.Join(errs...)
}

// New makes a logger that writes lines to w. A value of c that Validate would
// refuse counts as its default.
func New(w io.Writer, c Config) *slog.Logger {
	level := new(slog.LevelVar)
	if l, err := parse(c.Level); err == nil {
		level.Set(l)
	}
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(handler{slog.NewJSONHandler(w, opts), level})
	}
	return slog.New(handler{slog.NewTextHandler(w, opts), level})
}

// SetLevel changes the level of a logger made by New, and of all derived from
// it, while they are in use.
func SetLevel(log *slog.Logger, level string) error {
	l, err := parse(level)
	if err != nil {
		return err
	}
	h, ok := log.Handler().(handler)
	if !ok {
		return fmt.Errorf("the level of this logger cannot be changed")
	}
	h.level.Set(l)
	return nil
}

// Err is the attribute for an error; the empty attribute, which is not written,
// for nil.
func Err(err error) slog.Attr {
	if err == nil {
		return slog.Attr{}
	}
	return slog.String(Error, err.Error())
}

// Discard is a logger that writes nothing.
func Discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func parse(s string) (slog.Level, error) {
	var l slog.Level
	if strings.ContainsAny(s, "+-") || l.UnmarshalText([]byte(s)) != nil {
		return 0, fmt.Errorf("is %q, expected debug, info, warn or error", s)
	}
	return l, nil
}

// handler remembers the level variable, so that SetLevel finds it again.
type handler struct {
	slog.Handler
	level *slog.LevelVar
}

func (h handler) WithAttrs(as []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(as), h.level}
}
func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.level}
}
