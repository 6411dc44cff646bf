package xdsclient

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/breakwater-mesh/breakwater/internal/testkit/pki"
	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
)

// TestMutualTLS talks over a real socket to a server that wants a certificate, with one and without.
func TestMutualTLS(t *testing.T) {
	authority := pki.NewAuthority(t)
	cert, pool := authority.Issue(t, "127.0.0.1").TLS(t), authority.Pool()
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
			TLS:   func() (*tls.Config, error) { return &tls.Config{RootCAs: pool, Certificates: tt.certificates}, nil },
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
