package proxy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/breakwater-mesh/breakwater/internal/testkit/pki"
	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/proxy"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// checker is a prober of address, and how often it has connected.
func checker(t *testing.T, address string, check *dataplane.HealthCheck) (engine.Prober, *atomic.Int32) {
	t.Helper()
	var dials atomic.Int32
	dial := func(ctx context.Context, address string) (net.Conn, error) {
		dials.Add(1)
		return proxy.TCP(ctx, address)
	}
	p := proxy.Probers(dial)(&engine.Host{CheckAddress: netip.MustParseAddrPort(address)}, &dataplane.Cluster{Name: "shop/payments|v2"}, check)
	t.Cleanup(func() { _ = p.Close() })
	return p, &dials
}

func probe(t *testing.T, p engine.Prober) engine.Probed {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return p.Probe(ctx)
}

func TestHTTPChecks(t *testing.T) {
	var last atomic.Pointer[http.Request]
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	host := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last.Store(r)
		switch r.URL.Path {
		case "/degraded":
			w.Header().Set("X-Envoy-Degraded", "1")
		case "/exclude":
			w.Header().Set("X-Envoy-Immediate-Health-Check-Fail", "1")
			w.WriteHeader(503)
		case "/retriable":
			w.WriteHeader(502)
		case "/named":
			w.Header().Set("X-Envoy-Upstream-Healthchecked-Cluster", "payments-2")
		case "/abort":
			panic(http.ErrAbortHandler)
		}
	}))
	host.Config.Protocols = protocols
	host.Start()
	defer host.Close()
	for _, tt := range []struct {
		path, service string
		want          engine.Probed
	}{
		{"/", "", engine.Probed{}},
		{"/degraded", "", engine.Probed{Result: resilience.CheckPassedDegraded}},
		{"/exclude", "", engine.Probed{Result: resilience.CheckFailed, Exclude: true}},
		{"/retriable", "", engine.Probed{Result: resilience.CheckRetriable}},
		{"/abort", "", engine.Probed{Result: resilience.CheckNetwork}},
		{"/named", "payments", engine.Probed{Verified: true}},
		{"/named", "orders", engine.Probed{Verified: true, Result: resilience.CheckFailed}},
		{"/", "payments", engine.Probed{Verified: true, Result: resilience.CheckFailed}},
	} {
		for _, http2 := range []bool{false, true} {
			check := &dataplane.HTTPCheck{Method: "OPTIONS", Path: tt.path + "?a=%41", HTTP2: http2, Header: []dataplane.HeaderField{{Name: "x-a", Value: "b"}},
				Expected: []dataplane.StatusRange{{Start: 200, End: 201}}, Retriable: []dataplane.StatusRange{{Start: 502, End: 503}}}
			if tt.service != "" {
				check.Service = &resilience.HeaderMatch{Name: "x-envoy-upstream-healthchecked-cluster", Kind: resilience.Prefix, Value: tt.service, TreatMissingAsEmpty: true}
			}
			p, dials := checker(t, host.Listener.Addr().String(), &dataplane.HealthCheck{Reuse: true, HTTP: check})
			for range 2 {
				if got := probe(t, p); got != tt.want {
					t.Errorf("%s of %q, HTTP/2 %v: %+v, want %+v", tt.path, tt.service, http2, got, tt.want)
				}
			}
			if n := dials.Load(); n != 1 && tt.path != "/abort" {
				t.Errorf("%s, HTTP/2 %v: %d connections for two checks, want 1", tt.path, http2, n)
			}
			seen := last.Load()
			if seen.Method != "OPTIONS" || seen.Host != "shop-payments-v2" || seen.RequestURI != tt.path+"?a=%41" || seen.UserAgent() != "Envoy/HC" || seen.Header.Get("X-A") != "b" || len(seen.Header)-len(seen.Header["Content-Length"]) != 2 {
				t.Errorf("the host saw %s %s %s %v", seen.Method, seen.Host, seen.RequestURI, seen.Header)
			}
		}
	}
}

func TestChecksConnectAnewWithoutReuse(t *testing.T) {
	host := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer host.Close()
	p, dials := checker(t, host.Listener.Addr().String(), &dataplane.HealthCheck{HTTP: &dataplane.HTTPCheck{Method: "GET", Path: "/", Expected: []dataplane.StatusRange{{Start: 200, End: 201}}}})
	for range 3 {
		if got := probe(t, p); got.Result != resilience.CheckPassed {
			t.Errorf("got %+v", got)
		}
	}
	if n := dials.Load(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
}

func TestGRPCChecks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, state := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, state)
	go func() { _ = server.Serve(l) }() // ends with Stop
	defer server.Stop()
	state.SetServingStatus("up", grpc_health_v1.HealthCheckResponse_SERVING)
	state.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	for service, want := range map[string]resilience.CheckResult{
		"": resilience.CheckPassed, "up": resilience.CheckPassed, "down": resilience.CheckFailed, "unknown": resilience.CheckFailed,
	} {
		p, dials := checker(t, l.Addr().String(), &dataplane.HealthCheck{Reuse: true, Check: resilience.Check{Timeout: time.Second}, GRPC: &dataplane.GRPCCheck{Service: service}})
		for range 2 {
			if got := probe(t, p); got.Result != want {
				t.Errorf("service %q: %+v, want %v", service, got, want)
			}
		}
		if n := dials.Load(); n != 1 {
			t.Errorf("service %q: %d connections, want 1", service, n)
		}
	}
}

func TestTCPChecks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	for _, tt := range []struct {
		name  string
		check dataplane.TCPCheck
		want  resilience.CheckResult
		dials int32 // of two checks
	}{
		{"a connection is enough", dataplane.TCPCheck{}, resilience.CheckPassed, 2},
		{"parts in order", dataplane.TCPCheck{Send: []byte("a ping b"), Receive: [][]byte{[]byte("a"), []byte("b")}}, resilience.CheckPassed, 1},
		{"out of order", dataplane.TCPCheck{Send: []byte("b a"), Receive: [][]byte{[]byte("a"), []byte("b")}}, resilience.CheckNetwork, 2},
	} {
		p, dials := checker(t, l.Addr().String(), &dataplane.HealthCheck{Reuse: true, TCP: &tt.check})
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			if got := p.Probe(ctx); got.Result != tt.want {
				t.Errorf("%s: %+v, want %v", tt.name, got, tt.want)
			}
			cancel()
		}
		if n := dials.Load(); n != tt.dials {
			t.Errorf("%s: %d connections, want %d", tt.name, n, tt.dials)
		}
	}
	p, _ := checker(t, "127.0.0.1:1", &dataplane.HealthCheck{TCP: &dataplane.TCPCheck{}})
	if got := probe(t, p); got.Result != resilience.CheckNetwork {
		t.Errorf("a host that refuses: %+v", got)
	}
}

// TestChecksOfATLSClusterAreMadeOverTLS and say so: a host of HTTP/2 goes by what :scheme says.
func TestChecksOfATLSClusterAreMadeOverTLS(t *testing.T) {
	authority := pki.NewAuthority(t)
	for _, http2 := range []bool{false, true} {
		saw := make(chan string, 1)
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case saw <- fmt.Sprint(r.Method, " ", r.Host, " ", r.RequestURI, " ", r.Proto, " secure: ", r.TLS != nil):
			default: // nobody looks any more
			}
		}))
		s.TLS, s.EnableHTTP2 = &tls.Config{Certificates: []tls.Certificate{authority.Issue(t, "x").TLS(t)}}, true
		s.StartTLS()
		t.Cleanup(s.Close)
		f := newFixture(t, func(f *fixture) {
			f.cluster.TLS = trusting(authority)
			f.cluster.TLS.ALPN = []string{"http/1.1"}
			if http2 {
				f.cluster.TLS.ALPN = []string{"h2"}
			}
			f.cluster.Checks = []*dataplane.HealthCheck{{
				Check: resilience.Check{Timeout: patience, Interval: time.Minute, HealthyEdge: time.Minute, Unhealthy: time.Minute, UnhealthyEdge: time.Minute,
					NoTraffic: time.Minute, NoTrafficHealthy: time.Minute, UnhealthyThreshold: 1, HealthyThreshold: 1},
				HTTP: &dataplane.HTTPCheck{Method: "GET", Path: "/up", Host: "checked", HTTP2: http2, Expected: []dataplane.StatusRange{{Start: 200, End: 201}}},
			}}
		}, s.Listener.Addr().String())
		want := map[bool]string{false: "GET checked /up HTTP/1.1 secure: true", true: "GET checked /up HTTP/2.0 secure: true"}[http2]
		select {
		case got := <-saw:
			if got != want {
				t.Errorf("the host saw %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Error("no check came")
		}
		eventually(t, "the host passes", func() bool { return f.stat("health_check.success") > 0 })
	}
}
