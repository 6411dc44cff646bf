package integration_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// An application may speak HTTP/2 without TLS, to a service that does too.
func TestEnvoyTransparentH2C(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 2)
	host := startHost(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen <- fmt.Sprint(r.Proto, r.Host, r.RequestURI, r.Header, string(body))
		w.Header().Set("Date", "x")
		w.WriteHeader(http.StatusTeapot)
	}))
	p := startProxy(t, compiled(t, service("payments", catalog.HTTP2), policy.Sections{}, host.Address)...)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	ask := func(address string) (string, http.Header) {
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
		transport := &http.Transport{Protocols: protocols, DialContext: dial}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Post("http://payments.shop/x?y", "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusTeapot {
			t.Errorf("through %s: %s %s", address, resp.Proto, resp.Status)
		}
		return <-seen, resp.Header
	}
	wantRequest, wantHeader := ask(host.Address)
	gotRequest, gotHeader := ask(p.outbound)
	if gotRequest != wantRequest {
		t.Errorf("the service sees\n%s\nwant\n%s", gotRequest, wantRequest)
	}
	if d := cmp.Diff(wantHeader, gotHeader); d != "" {
		t.Errorf("the application sees other headers (-want +got):\n%s", d)
	}
}

// healthServer answers gRPC calls with what it saw of them.
type healthServer struct {
	healthv1.UnimplementedHealthServer
	seen chan metadata.MD
}

func (h healthServer) Check(ctx context.Context, req *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	h.seen <- md
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "7"))
	if req.Service == "fail" {
		return nil, status.Error(codes.FailedPrecondition, "the reason: 100 %")
	}
	return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVING}, nil
}

func (h healthServer) Watch(_ *healthv1.HealthCheckRequest, s healthv1.Health_WatchServer) error {
	for range 3 {
		if err := s.Send(&healthv1.HealthCheckResponse{}); err != nil {
			return err
		}
	}
	<-s.Context().Done()
	return s.Context().Err()
}

func TestEnvoyTransparentGRPC(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := healthServer{seen: make(chan metadata.MD, 8)}
	server := grpc.NewServer()
	healthv1.RegisterHealthServer(server, h)
	go func() { _ = server.Serve(l) }() // ends with Stop
	t.Cleanup(server.Stop)
	p := startProxy(t, compiled(t, service("payments", catalog.GRPC), policy.Sections{}, l.Addr().String())...)

	ask := func(address, service string) (seen, trailer metadata.MD, st *status.Status) {
		conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("payments.shop"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-app", "kept", "bin-bin", "\x00\x01")
		_, err = healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: service}, grpc.Trailer(&trailer))
		return <-h.seen, trailer, status.Convert(err)
	}
	for _, name := range []string{"", "fail"} {
		wantSeen, wantTrailer, wantStatus := ask(l.Addr().String(), name)
		gotSeen, gotTrailer, gotStatus := ask(p.outbound, name)
		if d := cmp.Diff(wantSeen, gotSeen); d != "" {
			t.Errorf("call %q: the service sees something else (-want +got):\n%s", name, d)
		}
		delete(gotTrailer, "date") // which Envoy adds to responses without one, here one of trailers alone
		if d := cmp.Diff(wantTrailer, gotTrailer); d != "" {
			t.Errorf("call %q: the trailer differs (-want +got):\n%s", name, d)
		}
		if gotStatus.String() != wantStatus.String() {
			t.Errorf("call %q: status %v, want %v", name, gotStatus, wantStatus)
		}
	}

	conn, err := grpc.NewClient("passthrough:///"+p.outbound, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("payments.shop:50051"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	stream, err := healthv1.NewHealthClient(conn).Watch(ctx, &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := stream.Recv(); err != nil {
			t.Fatalf("an open stream: %v", err)
		}
	}
}

// A websocket is upgraded and carries bytes both ways.
func TestEnvoyTransparentWebsocket(t *testing.T) {
	t.Parallel()
	host := startHost(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-Websocket-Key") != "abc" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: xyz\r\n\r\n")
		_, _ = io.Copy(conn, rw)
	}))
	p := startProxy(t, compiled(t, service("payments", catalog.HTTP), policy.Sections{}, host.Address)...)
	conn, err := net.Dial("tcp", p.outbound)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprint(conn, "GET /chat HTTP/1.1\r\nHost: payments.shop\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: abc\r\n\r\n")
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-Websocket-Accept") != "xyz" {
		t.Fatalf("upgrade: %v %+v", err, resp)
	}
	for _, text := range []string{"ping", "pong"} {
		fmt.Fprint(conn, text)
		got := make([]byte, len(text))
		if _, err := io.ReadFull(br, got); err != nil || string(got) != text {
			t.Fatalf("echo of %q: %q, %v", text, got, err)
		}
	}
}

// An application that is given the sidecar as its HTTP proxy needs nothing else.
func TestEnvoyAsHTTPProxy(t *testing.T) {
	t.Parallel()
	host := startHost(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Host, r.RequestURI)
	}))
	p := startProxy(t, compiled(t, service("payments", catalog.HTTP), policy.Sections{}, host.Address)...)
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: p.outbound})}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Get("http://payments.shop:8080/a//b?c")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if got, want := string(body), "payments.shop:8080/a//b?c"; resp.StatusCode != 200 || got != want {
		t.Errorf("%s %q, want %q", resp.Status, got, want)
	}
	if c := harness.NewClient(p.outbound, time.Second).Get("unknown.shop", "/"); c.Status != http.StatusNotFound {
		t.Errorf("an unknown host: %+v, want 404", c)
	}
}

// The bootstrap that bwctl writes is one that Envoy takes, with one control plane or with several, by address or by name.
func TestEnvoyAcceptsBootstrap(t *testing.T) {
	t.Parallel()
	needEnvoy(t)
	binary := must(harness.EnvoyPath())(t)
	for name, xds := range map[string][]string{
		"one": {"127.0.0.1:18000"}, "several": {"127.0.0.1:18000", "10.0.0.2:18000"}, "names": {"breakwater-0.local:18000", "10.0.0.2:18000"}, "ipv6": {"[::1]:18000"},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := bootstrap.Envoy(bootstrap.Options{XDS: xds, Namespace: "shop", Service: "orders", NodeID: `a "quoted"\ id`})
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "envoy.yaml")
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), binary, "--mode", "validate", "-c", file, "--disable-hot-restart").CombinedOutput()
			if err != nil {
				t.Errorf("envoy --mode validate: %v\n%s\n%s", err, out, text)
			}
		})
	}
}
