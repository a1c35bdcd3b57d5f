package node

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"tidegate/gateway/store"
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

// readFile takes the values of a YAML file.
func (s *settings) readFile(file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		s.no("", "", "the configuration file cannot be read: %v", err)
		return
	}
	f, err := parser.ParseBytes(b, 0)
	var ye yaml.Error
	switch {
	case errors.As(err, &ye):
		line := ""
		if t := ye.GetToken(); t != nil {
			line = fmt.Sprintf(":%d", t.Position.Line)
		}
		s.no(file+line, "", "not YAML: %s", ye.GetMessage())
		return
	case err != nil:
		s.no(file, "", "not YAML: %v", err)
		return
	}
	if len(f.Docs) > 1 {
		s.no(file, "", "holds %d documents, expected one", len(f.Docs))
		return
	}
	r := reader{settings: s, file: file, anchors: map[string]ast.Node{}}
	for _, d := range f.Docs {
		if d.Body != nil {
			r.value("", d.Body, s.root)
		}
	}
}

// reader walks a parsed file and the configuration side by side.
type reader struct {
	*settings
	file    string
	anchors map[string]ast.Node
}

func (r *reader) value(path string, n ast.Node, v reflect.Value) {
	switch t := n.(type) {
	case *ast.AnchorNode:
		r.anchors[t.Name.String()] = t.Value
		r.value(path, t.Value, v)
		return
	case *ast.AliasNode:
		to, ok := r.anchors[t.Value.String()]
		if !ok {
			r.no(r.at(n), path, "*%s refers to nothing before it", t.Value)
			return
		}
		r.value(path, to, v)
		return
	case *ast.TagNode:
		r.value(path, t.Value, v)
		return
	case *ast.NullNode: // a key without a value keeps its default
		return
	}
	if _, ok := r.place[path]; !ok { // else the key stands for it
		r.place[path] = r.at(n)
	}
	if text, ok := scalar(n); ok && isScalar(v.Type()) {
		if err := set(v, text, n.Type() == ast.StringType || n.Type() == ast.LiteralType); err != nil {
			r.no(r.at(n), path, "%v", err)
		}
		return
	}
	switch {
	case isScalar(v.Type()):
		r.no(r.at(n), path, "is %s, expected %s", describe(n), expected(v.Type()))
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		r.value(path, n, v.Elem())
	case v.Kind() == reflect.Struct:
		r.mapping(path, n, v.Type(), func(path, key string, kn, n ast.Node) {
			f, ok := field(path, v, key)
			if !ok {
				r.no(r.at(kn), join(path, key), "%s", unknown(key, keys(path, v)))
				return
			}
			r.value(join(path, key), n, f)
		})
	case v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String:
		m := reflect.MakeMap(v.Type())
		r.mapping(path, n, v.Type(), func(path, key string, _, n ast.Node) {
			e := reflect.New(v.Type().Elem()).Elem()
			r.value(join(path, key), n, e)
			m.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), e)
		})
		v.Set(m)
	case v.Kind() == reflect.Slice:
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			r.no(r.at(n), path, "is %s, expected %s", describe(n), expected(v.Type()))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
		for i, e := range seq.Values {
			r.value(fmt.Sprintf("%s[%d]", path, i), e, v.Index(i))
		}
	case v.Kind() == reflect.Interface:
		if err := yaml.NodeToValue(n, v.Addr().Interface()); err != nil {
			r.no(r.at(n), path, "%v", err)
		}
	default:
		panic("BUG: configuration field " + path + " has the type " + v.Type().String())
	}
}

// mapping calls each for every pair of the mapping n.
func (r *reader) mapping(path string, n ast.Node, t reflect.Type, each func(path, key string, kn, n ast.Node)) {
	var pairs []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		pairs = m.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{m}
	default:
		r.no(r.at(n), path, "is %s, expected %s", describe(n), expected(t))
		return
	}
	for _, p := range pairs {
		key := p.Key.GetToken().Value
		r.place[join(path, key)] = r.at(p.Key)
		each(path, key, p.Key, p.Value)
	}
}

func (r *reader) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", r.file, n.GetToken().Position.Line)
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

// fieldName is a field's key: its yaml tag, or its name in snake case. What only
// code can set (functions, loggers, key material) has none.
func fieldName(f reflect.StructField) (string, bool) {
	tag, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	switch {
	case tag == "-" || !f.IsExported():
		return "", false
	case tag != "":
		return tag, true
	}
	switch t := f.Type; {
	case t.Kind() == reflect.Func, t.Kind() == reflect.Interface, t.Kind() == reflect.Chan:
		return "", false
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct:
		return "", false
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return "", false
	}
	return snake(f.Name), true
}

// snake writes KeepAliveMax as keep_alive_max and ClientID as client_id.
func snake(s string) string {
	s = strings.NewReplacer("QoS", "Qos", "IDs", "Ids", "URLs", "Urls").Replace(s)
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		upper := c >= 'A' && c <= 'Z'
		if upper && i > 0 && (s[i-1] < 'A' || s[i-1] > 'Z' || i+1 < len(s) && s[i+1] >= 'a' && s[i+1] <= 'z') {
			b.WriteByte('_')
		}
		b.WriteByte(c | map[bool]byte{true: 0x20}[upper])
	}
	return b.String()
}

// fields calls fn for every key that the struct v has at path, with the value behind
// it. The fields of an embedded struct count as v's own.
func fields(path string, v reflect.Value, fn func(name string, f reflect.Value)) {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		if sf.Anonymous && sf.Type.Kind() == reflect.Struct {
			fields(path, v.Field(i), fn)
			continue
		}
		if name, ok := fieldName(sf); ok && !hidden[join(path, name)] {
			fn(name, v.Field(i))
		}
	}
}

func field(path string, v reflect.Value, key string) (found reflect.Value, ok bool) {
	fields(path, v, func(name string, f reflect.Value) {
		if name == key {
			found, ok = f, true
		}
	})
	return found, ok
}

func keys(path string, v reflect.Value) []string {
	var ks []string
	fields(path, v, func(name string, _ reflect.Value) { ks = append(ks, name) })
	slices.Sort(ks)
	return ks
}

func unknown(key string, known []string) string {
	best, at := "", 3
	for _, k := range known {
		if d := distance(key, k); d < at {
			best, at = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("there is no such key; did you mean %s?", best)
	}
	return "there is no such key; expected one of " + strings.Join(known, ", ")
}

// distance is how many letters must change to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diag
			if a[i] != b[j] {
				d = 1 + min(diag, row[j], row[j+1])
			}
			diag, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}

// scalar gives the text of a node that is a single value.
func scalar(n ast.Node) (string, bool) {
	switch t := n.(type) {
	case *ast.StringNode:
		return t.Value, true
	case *ast.LiteralNode:
		return t.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func describe(n ast.Node) string {
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "a group of keys"
	case ast.SequenceType:
		return "a list"
	}
	if text, ok := scalar(n); ok {
		return strconv.Quote(text)
	}
	return n.Type().YAMLName()
}

// parsers are the types that are written as one word but are none to Go.
var parsers = map[reflect.Type]struct {
	parse func(string) (any, error)
	want  string
}{
	reflect.TypeFor[store.SyncDelay](): {func(s string) (any, error) { return store.ParseSyncDelay(s) }, "a duration such as 5ms, or off"},
}

// hidden are keys that a room's Config has and the configuration does not: the node
// sets them, or they stand elsewhere.
var hidden = map[string]bool{"store.dir": true, "broker.limits": true}

var (
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// isScalar says whether values of type t are written as one word.
func isScalar(t reflect.Type) bool {
	if _, ok := parsers[t]; ok || reflect.PointerTo(t).Implements(textType) {
		return true
	}
	switch t.Kind() {
	case reflect.Pointer:
		return isScalar(t.Elem())
	case reflect.String, reflect.Bool, reflect.Float32, reflect.Float64:
		return true
	}
	return t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64
}

// expected says how a value of type t is written.
func expected(t reflect.Type) string {
	if p, ok := parsers[t]; ok {
		return p.want
	}
	switch k := t.Kind(); {
	case t == durationType:
		return "a duration such as 15s or 5m"
	case k == reflect.Pointer:
		return expected(t.Elem())
	case k == reflect.Bool:
		return "true or false"
	case k == reflect.Float32, k == reflect.Float64:
		return "a number"
	case k >= reflect.Int && k <= reflect.Uint64:
		return "a whole number, or a size such as 64KiB"
	case k == reflect.Slice:
		return "a list"
	case k == reflect.String || reflect.PointerTo(t).Implements(textType):
		return "text"
	}
	return "a group of keys"
}

// set parses text into v. quoted says that it was text in the file, too, and not a
// number or truth value.
func set(v reflect.Value, text string, quoted bool) error {
	t := v.Type()
	wrong := fmt.Errorf("is %q, expected %s", text, expected(t))
	if p, ok := parsers[t]; ok {
		x, err := p.parse(text)
		if err != nil {
			return wrong
		}
		v.Set(reflect.ValueOf(x))
		return nil
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			return fmt.Errorf("is %q: %w", text, err)
		}
		return nil
	}
	switch k := t.Kind(); {
	case t == durationType:
		d, err := time.ParseDuration(text)
		if err != nil || d == 0 && text != "0" && text != "0s" {
			return wrong
		}
		v.SetInt(int64(d))
	case k == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		return set(v.Elem(), text, quoted)
	case k == reflect.String:
		v.SetString(text)
	case k == reflect.Bool:
		if text != "true" && text != "false" {
			return wrong
		}
		v.SetBool(text == "true")
	case k == reflect.Float32 || k == reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return wrong
		}
		v.SetFloat(f)
	default:
		n, err := parseSize(text)
		if err != nil {
			return wrong
		}
		if k >= reflect.Uint {
			if n < 0 || v.OverflowUint(uint64(n)) {
				return fmt.Errorf("is %s, which is out of range", text)
			}
			v.SetUint(uint64(n))
			return nil
		}
		if v.OverflowInt(n) {
			return fmt.Errorf("is %s, which is out of range", text)
		}
		v.SetInt(n)
	}
	return nil
}

// parseSize reads a whole number, with a binary unit if there is one.
func parseSize(s string) (int64, error) {
	shift := 0
	for unit, by := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40} {
		if rest, ok := strings.CutSuffix(s, unit); ok {
			s, shift = strings.TrimSpace(rest), by
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil && (n<<shift)>>shift != n {
		err = strconv.ErrRange
	}
	return n << shift, err
}
