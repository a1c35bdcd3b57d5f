package modbus

import (
	"encoding/binary"
	"fmt"

	"tidegate/devices"
	"tidegate/devices/profile"
)

// Function codes (MODBUS Application Protocol 1.1b3, section 6).
const (
	readCoils           = 1
	readDiscretes       = 2
	readHoldings        = 3
	readInputs          = 4
	writeCoil           = 5
	writeRegister       = 6
	writeCoils          = 15
	writeRegisters      = 16
	exception      byte = 0x80
)

const (
	maxRegisters = 125  // in one read
	maxBits      = 2000 // in one read
)

// question is a request without unit and checksum.
type question struct {
	pdu []byte
	// data is how many bytes a good answer has behind its byte count; for writes, whose answer
	// repeats the first five bytes, it is not used.
	data int
}

func (q question) function() byte { return q.pdu[0] }

func (q question) reads() bool { return q.pdu[0] <= readInputs }

// answerLen is how long the pdu of a good answer is.
func (q question) answerLen() int {
	if q.reads() {
		return 2 + q.data
	}
	return 5
}

var readers = map[profile.Table]byte{profile.Coil: readCoils, profile.Discrete: readDiscretes, profile.Holding: readHoldings, profile.Input: readInputs}

// read asks for n bits or registers from address on.
func read(t profile.Table, address uint16, n int) question {
	q := question{pdu: []byte{readers[t], 0, 0, 0, 0}, data: 2 * n}
	if t.Bits() {
		q.data = (n + 7) / 8
	}
	binary.BigEndian.PutUint16(q.pdu[1:], address)
	binary.BigEndian.PutUint16(q.pdu[3:], uint16(n))
	return q
}

// writeBit sets one coil. Many says to use the function for several.
func writeBit(address uint16, on, many bool) question {
	if many {
		q := question{pdu: []byte{writeCoils, 0, 0, 0, 1, 1, 0}}
		binary.BigEndian.PutUint16(q.pdu[1:], address)
		if on {
			q.pdu[6] = 1
		}
		return q
	}
	q := question{pdu: []byte{writeCoil, 0, 0, 0, 0}}
	binary.BigEndian.PutUint16(q.pdu[1:], address)
	if on {
		q.pdu[3] = 0xFF
	}
	return q
}

// writeWords sets registers from address on.
func writeWords(address uint16, words []uint16, many bool) question {
	if len(words) == 1 && !many {
		q := question{pdu: []byte{writeRegister, 0, 0, 0, 0}}
		binary.BigEndian.PutUint16(q.pdu[1:], address)
		binary.BigEndian.PutUint16(q.pdu[3:], words[0])
		return q
	}
	pdu := []byte{writeRegisters, 0, 0, 0, byte(len(words)), byte(2 * len(words))}
	binary.BigEndian.PutUint16(pdu[1:], address)
	for _, w := range words {
		pdu = binary.BigEndian.AppendUint16(pdu, w)
	}
	return question{pdu: pdu}
}

// answers says whether pdu can be the answer to q: a refusal of the same function, or an
// answer of the right shape.
func (q question) answers(pdu []byte) bool {
	switch {
	case len(pdu) == 2 && pdu[0] == q.function()|exception:
		return pdu[1] != 0
	case len(pdu) != q.answerLen() || pdu[0] != q.function():
		return false
	case q.reads():
		return int(pdu[1]) == q.data
	}
	return string(pdu) == string(q.pdu[:5])
}

// Refusal is an exception a device answered with; errors.Is says it is devices.ErrRefused.
type Refusal struct {
	Function byte
	Code     byte
}

// exceptions are the codes of MODBUS Application Protocol 1.1b3, section 7.
var exceptions = map[byte]string{1: "illegal function", 2: "illegal data address", 3: "illegal data value", 4: "device failure", 5: "acknowledged, in progress",
	6: "device busy", 7: "negative acknowledge", 8: "memory parity error", 10: "gateway path unavailable", 11: "gateway target did not respond"}

// Error names the exception.
func (r *Refusal) Error() string {
	name := exceptions[r.Code]
	if name == "" {
		name = "a code of its own"
	}
	return fmt.Sprintf("%v: function %d, exception %d (%s)", devices.ErrRefused, r.Function, r.Code, name)
}

// Is says that a Refusal is devices.ErrRefused.
func (r *Refusal) Is(target error) bool { return target == devices.ErrRefused }

// passing says whether the same question may be answered a little later.
func (r *Refusal) passing() bool { return r.Code == 5 || r.Code == 6 }

// about says whether the refusal is about what was asked for, so that asking for less may do.
func (r *Refusal) about() bool { return r.Code >= 2 && r.Code <= 4 }

// refusal gives the exception in an answer, nil when there is none.
func refusal(pdu []byte) error {
	if len(pdu) == 2 && pdu[0]&exception != 0 {
		return &Refusal{Function: pdu[0] &^ exception, Code: pdu[1]}
	}
	return nil
}
