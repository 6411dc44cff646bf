package controlplane

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/breakwater-mesh/breakwater/pkg/telemetry"
	"github.com/breakwater-mesh/breakwater/pkg/xds"
)

// TestTheAdminPortServesCSDSBesideHTTP asks one port over gRPC and over HTTP/1, by address and by a foreign name.
func TestTheAdminPortServesCSDSBesideHTTP(t *testing.T) {
	g := grpc.NewServer()
	xds.New(xds.Config{}).RegisterStatus(g)
	server := adminServer(byAddress(withGRPC(adminPort(telemetry.NewMetrics().Handler(), func() (string, error) { return "", nil }), g), nil))
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(lis) }()
	dial := func(o ...grpc.DialOption) statusv3.ClientStatusDiscoveryServiceClient {
		conn, err := grpc.NewClient(lis.Addr().String(), append(o, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return statusv3.NewClientStatusDiscoveryServiceClient(conn)
	}
	answer, err := dial().FetchClientStatus(t.Context(), &statusv3.ClientStatusRequest{})
	if err != nil || len(answer.GetConfig()) != 0 {
		t.Errorf("%v, %v; want an answer that names nobody", answer, err)
	}
	if _, err := dial(grpc.WithAuthority("evil.example")).FetchClientStatus(t.Context(), &statusv3.ClientStatusRequest{}); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("by a foreign name: %v, want 403", err)
	}
	resp, err := http.Get("http://" + lis.Addr().String() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := io.ReadAll(resp.Body); string(text) != "ready\n" || resp.ProtoMajor != 1 {
		t.Errorf("over HTTP/1: %s %q", resp.Proto, text)
	}
	_ = resp.Body.Close()

	// An open stream does not hold up the end.
	stream, err := dial().StreamClientStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&statusv3.ClientStatusRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	g.Stop()
	if _, err := stream.Recv(); err == nil {
		t.Error("the stream goes on after the end of its server")
	}
	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != http.ErrServerClosed {
		t.Error(err)
	}
}
