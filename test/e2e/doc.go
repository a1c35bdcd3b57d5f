// Package e2e walks through the whole gateway as its users meet it: the binary, a real mosquitto as the upstream, an
// independent Modbus slave and recorded NMEA on ptys, mosquitto's clients beside. Everything is seen from outside, through
// the contract: topics, exit codes, standard error, tidegate status.
//
// `go test` takes the short form; flag -long (`make soak`) sends a million messages through the black hole instead of fifty
// thousand.
package e2e
