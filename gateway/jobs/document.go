package jobs

import (
	"slices"
	"strings"

	"tidegate/gateway/jsondoc"
)

// The placeholders of documents.
const (
	parameterMark = "${aws:iot:parameter:"
	presignMark   = "${aws:iot:s3-presigned-url:"
	presignMarkV2 = "${aws:iot:s3-presigned-url-v2:"
)

// replace puts in a document what f gives for each placeholder that begins with mark.
// What f gives becomes part of a JSON string.
func replace(doc, mark string, f func(name string) (string, error)) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(doc, mark)
		name, behind, closed := strings.Cut(rest, "}")
		if !found || !closed {
			b.WriteString(doc)
			return b.String(), nil
		}
		v, err := f(name)
		if err != nil {
			return "", err
		}
		b.WriteString(before)
		quoted := jsondoc.AppendString(nil, v)
		b.Write(quoted[1 : len(quoted)-1])
		doc = behind
	}
}

// presign puts URLs in place of what they stand for.
func presign(doc string, f func(source string) (string, error)) (string, error) {
	doc, err := replace(doc, presignMark, f)
	if err != nil {
		return "", err
	}
	return replace(doc, presignMarkV2, f)
}

// parameters puts values in place of their names; one without a value is an error.
func parameters(doc string, values map[string]string) (string, error) {
	if len(values) > 50 {
		return "", invalid("documentParameters has %d entries, at most 50 are allowed", len(values))
	}
	var missing []string
	out, err := replace(doc, parameterMark, func(name string) (string, error) {
		v, ok := values[name]
		if !ok && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
		return v, nil
	})
	if err == nil && len(missing) > 0 {
		err = invalid("documentParameters lacks a value for %s", strings.Join(missing, ", "))
	}
	return out, err
}
