package streams

import (
	"slices"
	"strings"

	"tidegate/gateway/fault"
	"tidegate/gateway/jsondoc"
)

// Refs is what a job document refers to.
type Refs struct {
	Streams []string // values of members whose name says that they are streams
	Hashes  []string // values that are the hash of content
	Objects []Object // in placeholders for URLs; only Bucket and Key are set
}

// placeholder begins what stands for the URL of an object, in both spellings.
const placeholder = "${aws:iot:s3-presigned-url"

// References reads a job document: {"stream":"fw-7"}, {"sha256":"…"} and
// "${aws:iot:s3-presigned-url:https://s3.amazonaws.com/b/k}" refer to something, wherever
// they stand. What is not JSON refers to nothing.
func References(document string) Refs {
	var r Refs
	doc, err := jsondoc.Parse([]byte(document), jsondoc.Options{})
	if err == nil {
		r.read("", &doc)
	}
	return r
}

func (r *Refs) read(name string, v *jsondoc.Value) {
	kids := v.Kids()
	for i := range kids {
		inner := kids[i].Key
		if v.Kind() != jsondoc.Object {
			inner = name
		}
		r.read(inner, &kids[i].Value)
	}
	if v.Kind() != jsondoc.String {
		return
	}
	text := v.Text()
	switch {
	case isHash(text):
		r.Hashes = add(r.Hashes, text)
	case named(text) && strings.Contains(strings.ToLower(name), "stream"):
		r.Streams = add(r.Streams, text)
	}
	for {
		_, rest, found := strings.Cut(text, placeholder)
		if !found {
			return
		}
		var source string
		source, text, found = strings.Cut(strings.TrimPrefix(strings.TrimPrefix(rest, "-v2"), ":"), "}")
		if bucket, key, ok := ParseURL(source); found && ok {
			r.Objects = add(r.Objects, Object{Bucket: bucket, Key: key})
		}
	}
}

func add[T comparable](list []T, x T) []T {
	if slices.Contains(list, x) {
		return list
	}
	return append(list, x)
}

// Refers says whether a job document refers to content: by its hash, by a stream that
// holds it, or by the name of an object that has it now.
func (r *Room) Refers(document, hash string) (bool, error) {
	refs := References(document)
	if slices.Contains(refs.Hashes, hash) {
		return true, nil
	}
	for _, id := range refs.Streams {
		s, err := r.Stream(r.db, id)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return false, err
		}
		if slices.ContainsFunc(s.Files, func(f File) bool { return f.Hash == hash }) {
			return true, nil
		}
	}
	for _, o := range refs.Objects {
		b, err := r.Object(r.db, o.Bucket, o.Key)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return false, err
		}
		if err == nil && b.Hash == hash {
			return true, nil
		}
	}
	return false, nil
}

// Named gives the content that an object has now.
func (r *Room) Named(bucket, key string) (Blob, error) { return r.Object(r.db, bucket, key) }
