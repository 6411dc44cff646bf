package integration_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
)

// ledger is one host of a gRPC service.
type ledger struct {
	grpc_health_v1.UnimplementedHealthServer
	address string
	calls   atomic.Int64
	answer  atomic.Uint32 // a status code, of three calls in four; the fourth is OK
	hangs   atomic.Bool   // until the caller gives up
	left    atomic.Int64  // time that the last call came with, in ms; 0: any time
}

func (l *ledger) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	n := l.calls.Add(1)
	l.left.Store(0)
	if deadline, ok := ctx.Deadline(); ok {
		l.left.Store(time.Until(deadline).Milliseconds())
	}
	if l.hangs.Load() {
		<-ctx.Done()
	}
	if code := codes.Code(l.answer.Load()); code != codes.OK && n%4 != 0 {
		return nil, status.Error(code, "as told")
	}
	return &grpc_health_v1.HealthCheckResponse{}, nil
}

func startLedger(t *testing.T) *ledger {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &ledger{address: listener.Addr().String()}
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, l)
	go func() { _ = s.Serve(listener) }()
	t.Cleanup(s.Stop)
	return l
}

// grpcClient is a proxyless client of shop/orders that dials a host.
func (m *mesh) grpcClient(host string) grpc_health_v1.HealthClient {
	m.t.Helper()
	return m.grpcClientOf(host, m.grpcBootstrap(m.cp.XDS))
}

// grpcBootstrap is the file of a client whose control planes are at the addresses.
func (m *mesh) grpcBootstrap(xds ...string) []byte {
	m.t.Helper()
	text, err := bootstrap.GRPC(bootstrap.Options{XDS: xds, Namespace: "shop", Service: "orders", NodeID: "orders-grpc"})
	if err != nil {
		m.t.Fatal(err)
	}
	return text
}

func (m *mesh) grpcClientOf(host string, text []byte) grpc_health_v1.HealthClient {
	m.t.Helper()
	resolver, err := xds.NewXDSResolverWithConfigForTesting(text)
	if err != nil {
		m.t.Fatal(err)
	}
	conn, err := grpc.NewClient("xds:///"+host, grpc.WithResolvers(resolver), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = conn.Close() })
	return grpc_health_v1.NewHealthClient(conn)
}

// check makes one call, which fails rather than wait for long.
func check(t *testing.T, c grpc_health_v1.HealthClient) codes.Code {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := c.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return status.Code(err)
}

// checks makes n calls and counts those that fail.
func checks(t *testing.T, c grpc_health_v1.HealthClient, n int) (failed int) {
	t.Helper()
	for range n {
		if check(t, c) != codes.OK {
			failed++
		}
	}
	return failed
}

// ledgerMesh is a gRPC service with n hosts, and a client of it.
func ledgerMesh(t *testing.T, n int) (*mesh, []*ledger, grpc_health_v1.HealthClient) {
	t.Helper()
	m := newMesh(t)
	hosts := m.ledgers(n)
	c := m.grpcClient("ledger.shop")
	answers(t, c)
	return m, hosts, c
}

// answers waits until the client's calls are answered.
func answers(t *testing.T, c grpc_health_v1.HealthClient) {
	t.Helper()
	eventually(t, func() error {
		if code := check(t, c); code != codes.OK {
			return fmt.Errorf("the first call ends with %s", code)
		}
		return nil
	})
}

// ledgers are a gRPC service with n hosts, and orders that calls it.
func (m *mesh) ledgers(n int) (hosts []*ledger) {
	var manifest strings.Builder
	manifest.WriteString("apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: ledger}\nspec:\n  protocol: grpc\n  endpoints:\n")
	for range n {
		h := startLedger(m.t)
		hosts = append(hosts, h)
		ip, port, _ := strings.Cut(h.address, ":")
		fmt.Fprintf(&manifest, "  - {address: %s, port: %s}\n", ip, port)
	}
	m.apply(manifest.String(), "apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: orders}\nspec: {protocol: grpc}\n")
	return hosts
}

// rejections are what connected proxies rejected.
func (m *mesh) rejections() []api.Rejection {
	m.t.Helper()
	var all []api.Rejection
	for _, p := range must(m.proxies())(m.t) {
		for _, typ := range p.Types {
			all = append(all, typ.Rejected...)
		}
	}
	return all
}

func TestGRPCClientObeysPolicies(t *testing.T) {
	t.Parallel()
	m, hosts, c := ledgerMesh(t, 3)
	if failed := checks(t, c, 30); failed > 0 {
		t.Fatalf("%d of 30 calls failed", failed)
	}
	for i, h := range hosts {
		if h.calls.Load() < 5 {
			t.Errorf("host %d got %d calls of 30, want about 10", i, h.calls.Load())
		}
	}

	// Retries.
	hosts[0].answer.Store(uint32(codes.Unavailable))
	if checks(t, c, 12) < 2 {
		t.Fatal("without retries the failing host did no harm")
	}
	m.apply(policyFor("p", "ledger", "retry: {numRetries: 3, retryOn: [unavailable], backOff: {base: 1ms, max: 2ms}}"))
	eventually(t, func() error {
		if failed := checks(t, c, 12); failed > 0 {
			return fmt.Errorf("%d of 12 calls fail under retries", failed)
		}
		return nil
	})

	// Ejection by failure percentage: afterwards the failing host gets nothing.
	m.apply(policyFor("p", "ledger", "outlierDetection: {failurePercentage: {threshold: 50, minimumHosts: 3, requestVolume: 5}, interval: 200ms, baseEjectionTime: 60s, maxEjectionPercent: 50}"))
	eventually(t, func() error {
		before := hosts[0].calls.Load()
		if failed := checks(t, c, 30); failed > 0 {
			return fmt.Errorf("%d of 30 calls reach the failing host", failed)
		}
		if got := hosts[0].calls.Load() - before; got > 0 {
			return fmt.Errorf("the ejected host got %d calls", got)
		}
		return nil
	})
	hosts[0].answer.Store(uint32(codes.OK))

	// The timeout of the whole call.
	for _, h := range hosts {
		h.hangs.Store(true)
	}
	m.apply(policyFor("p", "ledger", "timeout: {request: 200ms}"))
	eventually(t, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		start := time.Now()
		_, err := c.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		if took := time.Since(start); status.Code(err) != codes.DeadlineExceeded || took < 150*time.Millisecond || took > 2*time.Second {
			return fmt.Errorf("the call ends with %v after %s, want DeadlineExceeded after 200 ms", err, took)
		}
		return nil
	})

	// Limits: while two calls hang, a third one is refused at once.
	m.apply(policyFor("p", "ledger", "limits: {maxRequests: 2}"))
	ctx, release := context.WithCancel(context.Background())
	defer release()
	eventually(t, func() error {
		round, end := context.WithTimeout(ctx, 2*time.Second)
		defer end()
		ended := make(chan error, 3)
		for range 3 {
			go func() {
				_, err := c.Check(round, &grpc_health_v1.HealthCheckRequest{})
				ended <- err
			}()
		}
		if err := <-ended; status.Code(err) != codes.Unavailable {
			return fmt.Errorf("the first of three calls to end does so with %v, want Unavailable", err)
		}
		return nil
	})
	if r := m.rejections(); len(r) > 0 {
		t.Errorf("the client rejects %v", r)
	}
}

// Of the deadline that the caller itself sets and the policy's the earlier one holds, and the host is told it.
func TestGRPCClientHonoursTheEarlierDeadline(t *testing.T) {
	t.Parallel()
	m, hosts, c := ledgerMesh(t, 1)
	call := func(own time.Duration) (told time.Duration, code codes.Code) {
		ctx, cancel := context.WithTimeout(context.Background(), own)
		defer cancel()
		_, err := c.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		return time.Duration(hosts[0].left.Load()) * time.Millisecond, status.Code(err)
	}
	if told, code := call(time.Hour); code != codes.OK || told < time.Minute {
		t.Fatalf("without a policy: %v, and the host is told %v; want OK and an hour", code, told)
	}
	m.apply(policyFor("p", "ledger", "timeout: {request: 20s}"))
	eventually(t, func() error {
		if told, code := call(time.Hour); code != codes.OK || told <= 0 || told > 20*time.Second {
			return fmt.Errorf("under the policy: %v, and the host is told %v; want OK and at most 20 s", code, told)
		}
		return nil
	})
	if told, code := call(5 * time.Second); code != codes.OK || told <= 0 || told > 5*time.Second {
		t.Errorf("a caller in more of a hurry: %v, and the host is told %v; want OK and at most 5 s", code, told)
	}
	hosts[0].hangs.Store(true)
	if _, code := call(200 * time.Millisecond); code != codes.DeadlineExceeded {
		t.Errorf("a host that hangs: %v, want DeadlineExceeded", code)
	}
}

// A fault hits a gRPC client's calls before its retries: no host sees them, and they are not tried again.
func TestGRPCClientInjectsFaults(t *testing.T) {
	t.Parallel()
	m, hosts, c := ledgerMesh(t, 1)
	const ends = "expiresAt: 2099-01-01T00:00:00Z"
	m.apply(policyFor("p", "ledger", "fault: {abort: {grpcStatus: resource-exhausted}}", ends, "retry: {numRetries: 2, retryOn: [resource-exhausted]}"))
	eventually(t, func() error {
		before := hosts[0].calls.Load()
		if code, calls := check(t, c), hosts[0].calls.Load()-before; code != codes.ResourceExhausted || calls != 0 {
			return fmt.Errorf("%s, and %d calls at the host; want ResourceExhausted and none", code, calls)
		}
		return nil
	})
	m.apply(policyFor("p", "ledger", "fault: {delay: {duration: 300ms}}", ends))
	eventually(t, func() error {
		begun := time.Now()
		if code, took := check(t, c), time.Since(begun); code != codes.OK || took < 300*time.Millisecond {
			return fmt.Errorf("%s after %v, want OK after 300 ms", code, took)
		}
		return nil
	})
	m.apply(policyFor("p", "ledger", "fault: {disabled: true}"))
	eventually(t, func() error {
		begun := time.Now()
		if code, took := check(t, c), time.Since(begun); code != codes.OK || took > 200*time.Millisecond {
			return fmt.Errorf("%s after %v, want OK at once", code, took)
		}
		return nil
	})
	if r := m.rejections(); len(r) > 0 {
		t.Errorf("the client rejects %v", r)
	}
}
