package node

import (
	"fmt"
	"reflect"
	"strings"
)

// settings fills a configuration from several sources, remembers where each value
// came from, and collects everything that is wrong instead of stopping at the first.
type settings struct {
	root  reflect.Value
	place map[string]string // path of a value ("upstreams[0].url") → where it was given
	errs  []error
}

// Problem is one thing that is wrong with the configuration.
type Problem struct {
	Place string // file and line, variable or flag; empty for a default
	Path  string // key, with dots and [n]
	Text  string // what was found and what was expected
}

// Error gives the problem on one line.
func (p *Problem) Error() string {
	var b strings.Builder
	for _, s := range []string{p.Place, p.Path} {
		if s != "" {
			b.WriteString(s + ": ")
		}
	}
	return b.String() + p.Text
}

func newSettings(cfg *Config) *settings {
	return &settings{root: reflect.ValueOf(cfg).Elem(), place: map[string]string{}}
}

func (s *settings) no(place, path, format string, args ...any) {
	s.errs = append(s.errs, &Problem{place, path, fmt.Sprintf(format, args...)})
}

// readEnv takes values from variables: TIDEGATE_LOG_LEVEL for log.level. Lists and
// maps cannot be given that way.
func (s *settings) readEnv(env func(string) string) {
	s.envStruct("TIDEGATE", "", s.root, env)
}

func (s *settings) envStruct(prefix, path string, v reflect.Value, env func(string) string) {
	fields(path, v, func(key string, f reflect.Value) {
		name, path := prefix+"_"+strings.ToUpper(key), join(path, key)
		switch {
		case isScalar(f.Type()):
			if text := env(name); text != "" {
				s.set(name, path, text, f)
			}
		case f.Kind() == reflect.Struct:
			s.envStruct(name, path, f, env)
		}
	})
}

// set gives a value from outside the file.
func (s *settings) set(place, path, text string, v reflect.Value) {
	s.place[path] = place
	if err := set(v, text, true); err != nil {
		s.no(place, path, "%v", err)
	}
}

// check takes up what a room found wrong with its part of the configuration: err
// is one error or several joined, each "key: what" or just "what".
func (s *settings) check(path string, err error) {
	if err == nil {
		return
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range j.Unwrap() {
			s.check(path, e)
		}
		return
	}
	text := err.Error()
	if key, rest, ok := strings.Cut(text, ": "); ok && isPath(key) {
		path, text = join(path, key), rest
	}
	for _, e := range s.errs { // what could not be read was not there for the room to check
		if p, ok := e.(*Problem); ok && p.Path == path {
			return
		}
	}
	s.no(s.placeOf(path), path, "%s", text)
}

// placeOf finds where path, or the nearest thing around it, was given.
func (s *settings) placeOf(path string) string {
	for path != "" {
		if p, ok := s.place[path]; ok {
			return p
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return ""
}

func isPath(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_.[]") == ""
}

func join(path, key string) string {
	if path == "" || strings.HasPrefix(key, "[") {
		return path + key
	}
	return path + "." + key
}
