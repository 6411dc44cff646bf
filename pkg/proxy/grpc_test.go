package proxy_test

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// service answers as its functions say.
type service struct {
	grpc_testing.UnimplementedTestServiceServer
	unary  func(ctx context.Context) error
	duplex func(grpc_testing.TestService_FullDuplexCallServer) error
}

func (s *service) EmptyCall(ctx context.Context, _ *grpc_testing.Empty) (*grpc_testing.Empty, error) {
	return &grpc_testing.Empty{}, s.unary(ctx)
}

func (s *service) FullDuplexCall(stream grpc_testing.TestService_FullDuplexCallServer) error {
	return s.duplex(stream)
}

// grpcHost starts s and returns its address.
func grpcHost(t *testing.T, s *service, options ...grpc.ServerOption) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	grpc_testing.RegisterTestServiceServer(server, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return l.Addr().String()
}

// dialGRPC is a client of the service through the proxy.
func (f *fixture) dialGRPC() grpc_testing.TestServiceClient {
	return f.dialGRPCOver(insecure.NewCredentials())
}

func (f *fixture) dialGRPCOver(creds credentials.TransportCredentials) grpc_testing.TestServiceClient {
	f.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+f.address(), grpc.WithTransportCredentials(creds),
		grpc.WithAuthority("payments.shop"), grpc.WithDisableRetry())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	return grpc_testing.NewTestServiceClient(conn)
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func http2(f *fixture) { f.cluster.HTTP2 = true }

func TestGRPCStreamsBothWays(t *testing.T) {
	f := newFixture(t, http2, grpcHost(t, &service{duplex: echo}))
	converse(t, f.dialGRPC())
}

// echo sends every message back, and ends with a status of its own.
func echo(s grpc_testing.TestService_FullDuplexCallServer) error {
	for {
		in, err := s.Recv()
		if err == io.EOF {
			s.SetTrailer(metadata.Pairs("sum", "42"))
			return status.Error(codes.DataLoss, "at the end: 100 %")
		}
		if err != nil {
			return err
		}
		if err := s.Send(&grpc_testing.StreamingOutputCallResponse{Payload: in.GetPayload()}); err != nil {
			return err
		}
	}
}

// converse is a client of echo.
func converse(t *testing.T, client grpc_testing.TestServiceClient) {
	t.Helper()
	stream, err := client.FullDuplexCall(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // each waits for its answer: nothing may be held back
		body := make([]byte, i*i*100)
		if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: &grpc_testing.Payload{Body: body}}); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil || len(answer.GetPayload().GetBody()) != len(body) {
			t.Fatalf("message %d: %d bytes, %v", i, len(answer.GetPayload().GetBody()), err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	if s := status.Convert(err); s.Code() != codes.DataLoss || s.Message() != "at the end: 100 %" || stream.Trailer()["sum"][0] != "42" {
		t.Errorf("end: %v, trailers %v", err, stream.Trailer())
	}
}

func TestGRPCRetriesByStatus(t *testing.T) {
	var calls atomic.Int64
	f := newFixture(t, func(f *fixture) {
		http2(f)
		f.route.Retry = &resilience.Retry{On: resilience.OnGRPCUnavailable, NumRetries: 2}
	}, grpcHost(t, &service{unary: func(context.Context) error {
		if calls.Add(1) < 3 {
			return status.Error(codes.Unavailable, "not yet")
		}
		return nil
	}}))
	if _, err := f.dialGRPC().EmptyCall(within(t), &grpc_testing.Empty{}); err != nil || calls.Load() != 3 {
		t.Errorf("%v after %d calls, want success at the third", err, calls.Load())
	}
}

func TestGRPCLocalReplies(t *testing.T) {
	hang := grpcHost(t, &service{unary: func(ctx context.Context) error { <-ctx.Done(); return nil }})
	for name, tt := range map[string]struct {
		hosts []string
		want  string
	}{
		"no host": {nil, "rpc error: code = Unavailable desc = no healthy upstream"},
		"refused": {[]string{"127.0.0.1:1"}, "rpc error: code = Unavailable desc = upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"},
		"timeout": {[]string{hang}, "rpc error: code = DeadlineExceeded desc = upstream request timeout"},
	} {
		f := newFixture(t, func(f *fixture) {
			http2(f)
			f.route.Timeout = 50 * time.Millisecond
		}, tt.hosts...)
		if _, err := f.dialGRPC().EmptyCall(within(t), &grpc_testing.Empty{}); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
}

// TestAGRPCCallerThatGivesUp has the host learn of it.
func TestAGRPCCallerThatGivesUp(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan struct{})
	f := newFixture(t, http2, grpcHost(t, &service{unary: func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		close(ended)
		return nil
	}}))
	ctx, cancel := context.WithCancel(within(t))
	go func() {
		<-begun
		cancel()
	}()
	if _, err := f.dialGRPC().EmptyCall(ctx, &grpc_testing.Empty{}); status.Code(err) != codes.Canceled {
		t.Errorf("%v, want canceled", err)
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the host still works")
	}
	eventually(t, "nothing is active", func() bool { return f.stat("upstream_rq_active") == 0 })
}
