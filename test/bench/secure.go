package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/test/rawmqtt"
)

// keys is a folder with what both sides of mutual TLS need: ca.pem, server.pem and .key, device.pem and .key, all P-256.
type keys string

func (k keys) file(name string) string { return filepath.Join(string(k), name) }

// makeKeys makes them for the peers; the gateway has a CA of its own.
func (b *Bench) makeKeys() keys {
	k := keys(b.TempDir())
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	key := k.issue(b, "ca", ca, ca, nil)
	k.issue(b, "server", &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca, key)
	k.issue(b, "device", &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "device"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca, key)
	return k
}

// issue writes name.pem and name.key, signed with by, or with its own key when by is nil.
func (k keys) issue(b *Bench, name string, cert, ca *x509.Certificate, by *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatalf("%v", err)
	}
	if by == nil {
		by = key
	}
	cert.NotBefore, cert.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, cert, ca, &key.PublicKey, by)
	if err != nil {
		b.Fatalf("%v", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.Fatalf("%v", err)
	}
	for suffix, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(k.file(name+suffix), pem.EncodeToMemory(block), 0o600); err != nil {
			b.Fatalf("%v", err)
		}
	}
	return key
}

// tls is the configuration of the side called name, "server" or "device".
func (k keys) tls(name string) (*tls.Config, error) {
	ca, err := os.ReadFile(k.file("ca.pem"))
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(k.file(name+".pem"), k.file(name+".key"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, ServerName: "localhost"}, nil
}

const allowAll = `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}`

// startSecure starts the broker with a port that asks for certificates, and gives what a client needs.
func (b *Bench) startSecure() (*Broker, *tls.Config) {
	var br *Broker
	var k keys
	if b.Name == product {
		br = b.start(Start{})
		k = keys(b.TempDir())
		if err := os.WriteFile(k.file("policy.json"), []byte(allowAll), 0o600); err != nil {
			b.Fatalf("%v", err)
		}
		for _, args := range [][]string{{"policy", "create", "anything", "-f", k.file("policy.json")}, {"enroll", "bench", "--out", string(k), "--policy", "anything"}} {
			if out, errOut, code := br.g.CLI(args...); code != 0 {
				b.Fatalf("tidegate %v: exit %d: %s%s", args, code, out, errOut)
			}
		}
	} else {
		k = b.makeKeys()
		br = b.start(Start{Keys: k})
	}
	cfg, err := k.tls("device")
	if err != nil {
		b.Fatalf("%v", err)
	}
	return br, cfg
}

// secure is the address of the port with TLS.
func (br *Broker) secure() string {
	if br.g != nil {
		return br.g.MQTTS
	}
	return br.Addr
}

// dialSecure connects with a certificate and waits for the CONNACK, and thus for the tickets to resume with.
func dialSecure(addr string, cfg *tls.Config, id string) (*rawmqtt.Conn, error) {
	nc, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(10 * time.Second))
	tc := tls.Client(nc, cfg)
	c, _, err := rawmqtt.Handshake(tc, rawmqtt.Options{ClientID: id, Clean: true, ReadBuffer: 512, Timeout: 10 * time.Second})
	return c, err
}

// idleSecure is idleConnections over mutual TLS.
func idleSecure(b *Bench) Figures {
	const conns = 2000
	br, cfg := b.startSecure()
	if c, err := dialSecure(br.secure(), cfg, "first"); err != nil { // what TLS needs once
		b.Fatalf("%v", err)
	} else {
		c.Close()
	}
	time.Sleep(quiet)
	before := br.memory("VmRSS")
	for i := range conns {
		c, err := dialSecure(br.secure(), cfg, fmt.Sprintf("idle%d", i))
		if err != nil {
			b.Fatalf("connection %d: %v", i, err)
		}
		defer c.Conn.Close()
	}
	time.Sleep(quiet)
	return Figures{"value": float64(br.memory("VmRSS")-before) / conns / 1024}
}

// handshakes counts connections with mutual TLS and CONNECT per second of the broker's processor time; resumed says whether clients
// come back with a ticket.
func handshakes(resumed bool) func(*Bench) Figures {
	return func(b *Bench) Figures {
		br, cfg := b.startSecure()
		var done, again atomic.Int64
		var stop atomic.Bool
		var wg sync.WaitGroup
		for i := range 8 {
			own := cfg.Clone()
			if resumed {
				own.ClientSessionCache = tls.NewLRUClientSessionCache(4)
			}
			wg.Go(func() {
				for !stop.Load() {
					c, err := dialSecure(br.secure(), own, fmt.Sprintf("hand%d", i))
					if err != nil {
						b.Errorf("%s: %v", b.Name, err)
						return
					}
					if c.Conn.(*tls.Conn).ConnectionState().DidResume {
						again.Add(1)
					}
					done.Add(1)
					c.Close()
				}
			})
		}
		time.Sleep(settle)
		n0, c0, t0 := done.Load(), br.cpu(), time.Now()
		time.Sleep(b.Time)
		n, c, t := done.Load()-n0, br.cpu()-c0, time.Since(t0)
		stop.Store(true)
		wg.Wait()
		if n == 0 {
			b.Fatalf("stands still: nobody came in within %v", b.Time)
		}
		return Figures{"value": float64(n) / c.Seconds(), "wall": float64(n) / t.Seconds(), "busy": c.Seconds() / t.Seconds(), "resumed": float64(again.Load()) / float64(done.Load())}
	}
}
