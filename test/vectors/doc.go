// Package vectors runs the conformance vectors: JSON files that say what the gateway must
// answer, independent of how it is built. Each vector is a subtest named by its id.
//
//	go test ./test/vectors/...                       # the copies in testdata
//	TIDEGATE_VECTORS=DIR go test ./test/vectors/...  # the files of the same names in DIR
//
// Sequences of shadows, jobs and streams are played twice: against the rooms they are about, and
// through the doors of a whole gateway, with MQTT over TCP and signed requests over HTTPS.
//
// A set that DIR does not hold is not run. The vectors are not ours to change: one that we
// hold to be wrong stands in the `disputed` table of its runner with the reason, and is
// still run, so that it is noticed when it begins to pass.
//
// The package holds nothing but tests; testdata/README.md describes the formats.
package vectors
