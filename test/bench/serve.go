package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	nats "github.com/nats-io/nats-server/v2/server"
)

// serve is the child: it runs a peer, prints its address and stays until it is ended.
func serve(name string, args []string) {
	var addr string
	var err error
	var secure *tls.Config
	if k := keys(args[2]); k != "" {
		secure, err = k.tls("server")
	}
	switch {
	case err != nil:
	case name == "nats":
		addr, err = serveNats(args[0], args[1] == "true", secure)
	case name == "mochi":
		addr, err = serveMochi(secure)
	default:
		err = fmt.Errorf("no broker is called %q", name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench serve:", err)
		os.Exit(1)
	}
	fmt.Println(addr)
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
	<-c
}

func serveNats(dir string, syncAlways bool, secure *tls.Config) (string, error) {
	o := &nats.Options{
		ServerName: "bench", Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true,
		JetStream: true, StoreDir: dir, SyncAlways: syncAlways,
		MQTT: nats.MQTTOpts{Host: "127.0.0.1", Port: -1, MaxAckPending: 65535, TLSConfig: secure},
	}
	s, err := nats.NewServer(o)
	if err != nil {
		return "", err
	}
	go s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		return "", fmt.Errorf("nats-server is not ready after 30 s")
	}
	return fmt.Sprintf("127.0.0.1:%d", o.MQTT.Port), nil
}

func serveMochi(secure *tls.Config) (string, error) {
	s := mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := s.AddHook(new(letIn), nil); err != nil {
		return "", err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	addr := ln.Addr().String()
	if secure != nil {
		ln = tls.NewListener(ln, secure)
	}
	if err := s.AddListener(listeners.NewNet("bench", ln)); err != nil {
		return "", err
	}
	return addr, s.Serve()
}

// letIn allows everybody everything.
type letIn struct{ mochi.HookBase }

// ID names the hook.
func (*letIn) ID() string { return "let-in" }

// Provides says which questions it answers.
func (*letIn) Provides(b byte) bool {
	return bytes.Contains([]byte{mochi.OnConnectAuthenticate, mochi.OnACLCheck}, []byte{b})
}

// OnConnectAuthenticate says yes.
func (*letIn) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }

// OnACLCheck says yes.
func (*letIn) OnACLCheck(*mochi.Client, string, bool) bool { return true }
