package streams

import (
	"encoding/base64"
	"encoding/hex"
	"math"
	"strconv"

	"github.com/fxamacker/cbor/v2"

	"tidegate/gateway/jsondoc"
)

// Format is how a device writes and reads.
type Format uint8

// The formats.
const (
	JSON Format = iota
	CBOR        // RFC 8949
)

// cborIn bounds what a device may send, cborOut writes the same bytes for the same
// content.
var cborIn, cborOut = func() (cbor.DecMode, cbor.EncMode) {
	in, err := cbor.DecOptions{MaxNestedLevels: 8, MaxArrayElements: 64, MaxMapPairs: 64, DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden}.DecMode()
	if err != nil {
		panic("BUG: " + err.Error())
	}
	out, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return in, out
}()

// members is a request taken apart: text, integers and bytes by name.
type members struct {
	text map[string]string
	ints map[string]int64
	odd  map[string]bool // of another kind
}

// beyond is the number for one too large to be kept: it is out of every range, and refused as that.
func beyond(negative bool) int64 {
	if negative {
		return math.MinInt64
	}
	return math.MaxInt64
}

// ParseGet reads a request for blocks, and the client's token, which is only given back
// when it may be echoed.
func ParseGet(f Format, b []byte) (q Request, token string, err error) {
	m, err := parse(f, b)
	if err != nil {
		return q, "", err
	}
	if token, err = m.token(); err != nil {
		return q, "", err
	}
	for name, to := range map[string]*int64{"f": &q.File, "l": &q.Block, "o": &q.Offset, "n": &q.Count} {
		*to = m.ints[name]
	}
	if v, ok := m.ints["s"]; ok {
		q.Version = &v
	}
	q.Bitmap = m.text["b"]
	for _, name := range []string{"s", "f", "l", "o", "n", "b"} {
		_, isInt := m.ints[name]
		_, isText := m.text[name]
		if m.odd[name] || name == "b" && isInt || name != "b" && isText {
			return q, token, refuse("InvalidRequest", "%s is of the wrong kind", name)
		}
	}
	for _, name := range []string{"f", "l"} {
		if _, ok := m.ints[name]; !ok {
			return q, token, refuse("InvalidRequest", "%s is missing", name)
		}
	}
	return q, token, nil
}

// ParseDescribe reads a request for a description.
func ParseDescribe(f Format, b []byte) (token string, err error) {
	if len(b) == 0 {
		return "", nil
	}
	m, err := parse(f, b)
	if err != nil {
		return "", err
	}
	return m.token()
}

func (m *members) token() (string, error) {
	token := m.text["c"]
	if _, isInt := m.ints["c"]; isInt || m.odd["c"] || len(token) > maxToken {
		return "", refuse("InvalidRequest", "the client token must be text of at most %d bytes", maxToken)
	}
	return token, nil
}

func parse(f Format, b []byte) (*members, error) {
	if len(b) > maxRequest {
		return nil, refuse("InvalidRequest", "the request has more than %d bytes", maxRequest)
	}
	m := &members{map[string]string{}, map[string]int64{}, map[string]bool{}}
	if f == CBOR {
		return m, m.cbor(b)
	}
	doc, err := jsondoc.Parse(b, jsondoc.Options{MaxDepth: 8})
	if err != nil {
		return nil, refuse("InvalidJson", "the request is not JSON")
	}
	if doc.Kind() != jsondoc.Object {
		return nil, refuse("InvalidRequest", "the request must be an object")
	}
	kids := doc.Kids()
	for i := range kids {
		k, v := kids[i].Key, &kids[i].Value
		n, isInt := v.Int()
		switch {
		case v.Kind() == jsondoc.Null:
		case v.Kind() == jsondoc.String:
			m.text[k] = v.Text()
		case isInt:
			m.ints[k] = n
		case v.Integer():
			m.ints[k] = beyond(v.Text()[0] == '-')
		default:
			m.odd[k] = true
		}
	}
	return m, nil
}

func (m *members) cbor(b []byte) error {
	var doc map[string]any
	if err := cborIn.Unmarshal(b, &doc); err != nil {
		return refuse("InvalidCbor", "the request is not a CBOR map with text keys")
	}
	for k, v := range doc {
		switch v := v.(type) {
		case nil:
		case string:
			m.text[k] = v
		case []byte: // a bitmap may come as it is
			m.text[k] = hex.EncodeToString(v)
		case uint64:
			if m.ints[k] = int64(v); int64(v) < 0 {
				m.ints[k] = beyond(false)
			}
		case int64:
			m.ints[k] = v
		default:
			m.odd[k] = true
		}
	}
	return nil
}

// Encode writes a block for a device.
func (b *Block) Encode(f Format, token string) []byte {
	if f == CBOR {
		return pairs(token, map[string]any{"f": b.File, "l": len(b.Data), "i": b.ID, "p": b.Data})
	}
	out := make([]byte, 0, 80+len(token)+base64.StdEncoding.EncodedLen(len(b.Data)))
	out = head(out, token)
	out = strconv.AppendInt(append(out, `"f":`...), b.File, 10)
	out = strconv.AppendInt(append(out, `,"l":`...), int64(len(b.Data)), 10)
	out = strconv.AppendInt(append(out, `,"i":`...), b.ID, 10)
	out = base64.StdEncoding.AppendEncode(append(out, `,"p":"`...), b.Data)
	return append(out, `"}`...)
}

// head begins an object with the token, if there is one.
func head(out []byte, token string) []byte {
	out = append(out, '{')
	if token != "" {
		out = append(jsondoc.AppendString(append(out, `"c":`...), token), ',')
	}
	return out
}

func pairs(token string, m map[string]any) []byte {
	if token != "" {
		m["c"] = token
	}
	b, err := cborOut.Marshal(m)
	if err != nil {
		panic("BUG: what cannot be CBOR: " + err.Error())
	}
	return b
}

// Encode writes the description of a stream for a device.
func (s *Stream) Encode(f Format, token string) []byte {
	if f == CBOR {
		files := []map[string]any{}
		for i := range s.Files {
			files = append(files, map[string]any{"f": s.Files[i].ID, "z": s.Files[i].Size})
		}
		return pairs(token, map[string]any{"s": s.Version, "d": s.Description, "r": files})
	}
	out := head(nil, token)
	out = strconv.AppendInt(append(out, `"s":`...), s.Version, 10)
	out = jsondoc.AppendString(append(out, `,"d":`...), s.Description)
	out = append(out, `,"r":[`...)
	for i := range s.Files {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendInt(append(out, `{"f":`...), int64(s.Files[i].ID), 10)
		out = strconv.AppendInt(append(out, `,"z":`...), s.Files[i].Size, 10)
		out = append(out, '}')
	}
	return append(out, `]}`...)
}

// EncodeRefusal writes why a request was refused for a device.
func EncodeRefusal(f Format, code, message, token string) []byte {
	if f == CBOR {
		return pairs(token, map[string]any{"o": code, "m": message})
	}
	out := head(nil, token)
	out = jsondoc.AppendString(append(out, `"o":`...), code)
	out = jsondoc.AppendString(append(out, `,"m":`...), message)
	return append(out, '}')
}
