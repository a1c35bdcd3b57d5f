// Package conformance holds the broker to MQTT 3.1.1, MQTT 5 and AWS IoT Core's rules.
//
// Its tests start a broker on the real store, journal and road, and speak to it over TCP as
// a client would: byte by byte, with a client of their own that shares no code with the
// gateway, and with mosquitto's and Eclipse Paho's. Each clause is cited where it is
// checked, [MQTT-x.y.z-n]; without a version it is MQTT 5's, whose numbers mostly are
// those of 3.1.1 as well. What Eclipse Paho's interoperability suites ask of a server is
// all here. A model plays random histories in which the gateway is killed with SIGKILL.
//
//	go test ./test/conformance
//	go test ./test/conformance -run Model -args -long    # for an hour
package conformance
