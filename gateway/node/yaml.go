package node

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

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
