package agent_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/breakwater-mesh/breakwater/internal/testkit/pki"
	"github.com/breakwater-mesh/breakwater/internal/testkit/ports"
	"github.com/breakwater-mesh/breakwater/pkg/agent"
)

// plane is a control plane without resources. It counts its streams, and notes whose certificate each has shown.
type plane struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	streams atomic.Int64
	cut     chan struct{}
}

func (p *plane) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	p.streams.Add(1)
	go func() {
		for {
			req, err := s.Recv()
			if err != nil {
				return
			}
			if req.GetResponseNonce() == "" {
				_ = s.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: req.GetTypeUrl(), Nonce: "1"})
			}
		}
	}()
	select {
	case <-p.cut:
	case <-s.Context().Done():
	}
	return nil
}

// TestTheControlPlaneIsSpokenToOverTLS connects by flags to a server that wants a certificate, and again when all certificates have
// been replaced by those of another authority.
func TestTheControlPlaneIsSpokenToOverTLS(t *testing.T) {
	dir := t.TempDir()
	var served atomic.Pointer[tls.Config]
	issue := func() {
		authority := pki.NewAuthority(t)
		own := authority.Issue(t, "agent.shop")
		pki.Write(t, dir, "ca.pem", authority.PEM)
		pki.Write(t, dir, "cert.pem", own.Chain)
		pki.Write(t, dir, "key.pem", own.Key)
		served.Store(&tls.Config{
			Certificates: []tls.Certificate{authority.Issue(t, "control.shop").TLS(t)},
			ClientCAs:    authority.Pool(), ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"h2"},
		})
	}
	issue()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{cut: make(chan struct{})}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return served.Load(), nil },
	})))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, p)
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(l) })
	defer running.Wait()
	defer server.Stop()

	c := valid(t)
	c.ListenAdmin, c.XDS = ports.Closed(), []string{l.Addr().String()}
	c.XDSCA, c.XDSCert, c.XDSKey, c.XDSServerName = dir+"/ca.pem", dir+"/cert.pem", dir+"/key.pem", "control.shop"
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- agent.Run(ctx, c, hclog.NewNullLogger()) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("end: %v", err)
		}
	}()
	connected := func(streams int64) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); p.streams.Load() < streams || !strings.Contains(stats(c.ListenAdmin), "control_plane.connected_state: 1"); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("stream %d not within 20 s", streams)
			}
		}
	}
	connected(1)
	issue()
	p.cut <- struct{}{}
	connected(2)
}

// stats are the agent's statistics, "" while it is not up.
func stats(admin string) string {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + admin + "/stats")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

// TestTLSFlags names the flag of whatever is wrong.
func TestTLSFlags(t *testing.T) {
	dir, authority := t.TempDir(), pki.NewAuthority(t)
	own, other := authority.Issue(t, "agent.shop"), authority.Issue(t, "other.shop")
	ca, cert := pki.Write(t, dir, "ca.pem", authority.PEM), pki.Write(t, dir, "cert.pem", own.Chain)
	key, wrong := pki.Write(t, dir, "key.pem", own.Key), pki.Write(t, dir, "other.pem", other.Key)
	for _, tt := range []struct{ want, ca, cert, key, name string }{
		{"", ca, "", "", ""},
		{"", ca, cert, key, "control.shop"},
		{"--xds-ca: stat " + dir + "/absent", dir + "/absent", "", "", ""},
		{"--xds-ca: " + key, key, "", "", ""},
		{"--xds-key: must be given", ca, cert, "", ""},
		{"--xds-cert: must be given", ca, "", key, ""},
		{"--xds-cert, --xds-key: " + cert, ca, cert, wrong, ""},
		{"--xds-cert: needs --xds-ca", "", cert, key, ""},
		{"--xds-server-name: needs --xds-ca", "", "", "", "control.shop"},
	} {
		c := valid(t)
		c.XDSCA, c.XDSCert, c.XDSKey, c.XDSServerName = tt.ca, tt.cert, tt.key, tt.name
		err := c.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
}
