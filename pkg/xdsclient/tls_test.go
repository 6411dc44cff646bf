package xdsclient

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
)

// selfSigned is a certificate for 127.0.0.1 that is its own authority.
func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestMutualTLS talks over a real socket to a server that wants a certificate, with one and without.
func TestMutualTLS(t *testing.T) {
	cert, pool := selfSigned(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert})))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, &script{t: t, greets: true})
	var running sync.WaitGroup
	running.Go(func() { _ = g.Serve(lis) })
	defer running.Wait()
	defer g.Stop()

	for _, tt := range []struct {
		certificates []tls.Certificate
		connected    bool
	}{{[]tls.Certificate{cert}, true}, {nil, false}} {
		c, err := New(Config{
			Servers: []string{lis.Addr().String()}, Node: Node{ID: "orders-1", Cluster: "orders.shop"},
			TLS:   &tls.Config{RootCAs: pool, Certificates: tt.certificates},
			Apply: func(dataplane.Resources) []dataplane.Fault { return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		for ctx.Err() == nil && !c.Status().Connected && c.Status().LastError == "" {
			time.Sleep(time.Millisecond) // a real socket: poll
		}
		if st := c.Status(); st.Connected != tt.connected {
			t.Errorf("with %d certificates: %+v", len(tt.certificates), st)
		}
		cancel()
		<-ended
	}
}
