package rawmqtt_test

import (
	"bytes"
	"net"
	"testing"

	"tidegate/test/rawmqtt"
)

// A server that answers CONNECT and then says what it is given, a few bytes at a time.
func serve(t *testing.T, connack []byte, then ...[]byte) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	t.Cleanup(func() { client.Close(); server.Close() })
	go func() {
		b := make([]byte, 512)
		if _, err := server.Read(b); err != nil {
			return
		}
		all := append(connack, bytes.Join(then, nil)...)
		for len(all) > 0 {
			n := min(3, len(all))
			if _, err := server.Write(all[:n]); err != nil {
				return
			}
			all = all[n:]
		}
	}()
	return client
}

func TestPacketsAreParsedAcrossReads(t *testing.T) {
	payload := bytes.Repeat([]byte("x"), 300)
	for _, v5 := range []bool{false, true} {
		connack := []byte{0x20, 2, 1, 0}
		suback := []byte{0x90, 3, 0, 9, 1}
		if v5 {
			connack = []byte{0x20, 3, 1, 0, 0}
			suback = []byte{0x90, 4, 0, 9, 0, 1}
		}
		nc := serve(t, connack,
			rawmqtt.AppendPublish(nil, v5, "a/b", payload, 1, 513, rawmqtt.Dup),
			rawmqtt.AppendPublish(nil, v5, "c", nil, 0, 0, rawmqtt.Retain),
			rawmqtt.AppendAck(nil, rawmqtt.Puback, 7),
			suback)
		c, present, err := rawmqtt.Handshake(nc, rawmqtt.Options{V5: v5})
		if err != nil || !present {
			t.Fatalf("v5 %v: session present %v, error %v", v5, present, err)
		}
		p, err := c.Next()
		if err != nil || p.Type != rawmqtt.Publish || string(p.Topic) != "a/b" || p.ID != 513 || p.QoS() != 1 || p.Flags&rawmqtt.Dup == 0 || !bytes.Equal(p.Payload, payload) {
			t.Errorf("v5 %v: first publish: %+v, %v", v5, p, err)
		}
		p, err = c.Next()
		if err != nil || string(p.Topic) != "c" || p.QoS() != 0 || p.Flags&rawmqtt.Retain == 0 || len(p.Payload) != 0 {
			t.Errorf("v5 %v: second publish: %+v, %v", v5, p, err)
		}
		if p, err = c.Next(); err != nil || p.Type != rawmqtt.Puback || p.ID != 7 || p.Code != 0 {
			t.Errorf("v5 %v: puback: %+v, %v", v5, p, err)
		}
		if p, err = c.Next(); err != nil || p.Type != rawmqtt.Suback || p.ID != 9 || p.Code != 1 {
			t.Errorf("v5 %v: suback: %+v, %v", v5, p, err)
		}
	}
}

func TestARefusalNamesTheCode(t *testing.T) {
	_, _, err := rawmqtt.Handshake(serve(t, []byte{0x20, 2, 0, 5}), rawmqtt.Options{ClientID: "x"})
	if err == nil || err.Error() != `rawmqtt: connect as "x": packet type 2 code 0x05` {
		t.Errorf("got %v", err)
	}
}
