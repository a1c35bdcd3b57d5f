package sigv4

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// escape encodes every byte but the unreserved ones of RFC 3986 and those in
// keep.
func escape(s, keep string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 || strings.IndexByte(keep, c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}

// encodePath encodes a path that was encoded for the wire once more, as every
// service but S3 wants it.
func encodePath(wire string) string {
	if wire == "" {
		return "/"
	}
	return escape(wire, "/")
}

// canonicalPaths gives the forms of a path that signers use: encoded twice; the
// same without empty and dot segments (botocore); as it is on the wire.
func canonicalPaths(wire string) []string {
	paths := []string{encodePath(wire)}
	for _, p := range []string{encodePath(normalize(wire)), wire} {
		if p != "" && !slices.Contains(paths, p) {
			paths = append(paths, p)
		}
	}
	return paths
}

// normalize takes out empty and dot segments.
func normalize(path string) string {
	var out []string
	for _, s := range strings.Split(path, "/") {
		switch s {
		case "", ".":
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
		default:
			out = append(out, s)
		}
	}
	p := "/" + strings.Join(out, "/")
	if len(out) > 0 && strings.HasSuffix(path, "/") {
		p += "/"
	}
	return p
}

// canonicalQueries gives the forms of a query that signers use: decoded and
// encoded again, or its pieces as they are; and for presigned requests each with
// and without the session token, which the IoT SDKs add behind the signature.
func canonicalQueries(raw string, presigned bool) []string {
	drop := [][]string{nil}
	if presigned {
		drop = [][]string{{"X-Amz-Signature"}}
		if strings.Contains(raw, "X-Amz-Security-Token=") {
			drop = append(drop, []string{"X-Amz-Signature", "X-Amz-Security-Token"})
		}
	}
	var out []string
	for _, d := range drop {
		for _, q := range []string{encodedQuery(raw, d), rawQuery(raw, d)} {
			if !slices.Contains(out, q) {
				out = append(out, q)
			}
		}
	}
	return out
}

// pieces cuts a query into names and values, without the dropped names.
func pieces(raw string, drop []string, decode bool) [][2]string {
	var out [][2]string
	for _, piece := range strings.Split(raw, "&") {
		if piece == "" {
			continue
		}
		name, value, _ := strings.Cut(piece, "=")
		if slices.Contains(drop, name) {
			continue
		}
		if decode {
			if n, err := url.QueryUnescape(name); err == nil {
				name = n
			}
			if v, err := url.QueryUnescape(value); err == nil {
				value = v
			}
			name, value = escape(name, ""), escape(value, "")
		}
		out = append(out, [2]string{name, value})
	}
	return out
}

func encodedQuery(raw string, drop []string) string { return sorted(pieces(raw, drop, true)) }
func rawQuery(raw string, drop []string) string     { return sorted(pieces(raw, drop, false)) }

func sorted(p [][2]string) string {
	slices.SortFunc(p, func(a, b [2]string) int {
		if c := strings.Compare(a[0], b[0]); c != 0 {
			return c
		}
		return strings.Compare(a[1], b[1])
	})
	var b strings.Builder
	for i, e := range p {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(e[0] + "=" + e[1])
	}
	return b.String()
}

// canonicalHeaders gives the signed headers in the order they are named, each
// with a line end.
func canonicalHeaders(r *http.Request, names []string) string {
	var b strings.Builder
	for _, name := range names {
		b.WriteString(name)
		b.WriteByte(':')
		switch {
		case name == "host":
			host := r.Host
			if host == "" {
				host = r.URL.Host
			}
			b.WriteString(host)
		case name == "content-length" && r.Header.Get("Content-Length") == "":
			b.WriteString(strconv.FormatInt(r.ContentLength, 10))
		default:
			for i, v := range r.Header.Values(name) {
				if i > 0 {
					b.WriteByte(',')
				}
				b.WriteString(strings.Join(strings.Fields(v), " "))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}
