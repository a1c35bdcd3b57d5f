package iotsql

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
)

// hash makes a function that gives a digest of a text's UTF-8 bytes in lower-case hex. The
// weak ones are the language's; nothing here relies on them.
func hash(sum func([]byte) []byte) func(*Input, []value) value {
	return func(in *Input, args []value) value {
		s, ok := in.toText(args[0])
		if !ok {
			return undef
		}
		return in.built(hex.EncodeToString(sum([]byte(s))))
	}
}

func sumMD5(b []byte) []byte    { s := md5.Sum(b); return s[:] }
func sumSHA1(b []byte) []byte   { s := sha1.Sum(b); return s[:] }
func sumSHA224(b []byte) []byte { s := sha256.Sum224(b); return s[:] }
func sumSHA256(b []byte) []byte { s := sha256.Sum256(b); return s[:] }
func sumSHA384(b []byte) []byte { s := sha512.Sum384(b); return s[:] }
func sumSHA512(b []byte) []byte { s := sha512.Sum512(b); return s[:] }
func sumMD2(b []byte) []byte    { s := md2(b); return s[:] }
