// Package crash holds the tests that take the ground away from under the gateway while it works: kill -9 at any moment, power
// cuts at any point of the disk's own record, failing and full disks, damaged files. Each asserts the same: the gateway starts
// again; every message it acknowledged is delivered upstream and to the persistent subscriber at least once, in order per
// publisher; what could not be kept is in the loss ledger.
//
// `go test` runs a short form; `make crash` the long one (flag -long). Root, /dev/fuse and loop devices are needed for the
// power cuts; without them the tests fail and say so.
package crash
