package ejections

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	metricsv1 "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// connected has one proxy, and what it said last.
type connected struct {
	proxy Proxy

	mu      sync.Mutex
	ejected map[string]int // nil: nothing
	reports int
}

func (c *connected) Report(id, namespace, service string, ejected map[string]int) bool {
	if (Proxy{id, namespace, service}) != c.proxy {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ejected = ejected
	c.reports++
	return true
}

var orders = Proxy{ID: "orders-1", Namespace: "shop", Service: "orders"}

// serve is a connection to a receiver.
func serve(t *testing.T, proxies Proxies, log hclog.Logger) *grpc.ClientConn {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	NewReceiver(proxies, log).Register(g)
	go func() { _ = g.Serve(lis) }()
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(); g.Stop() })
	return conn
}

func export1(conn *grpc.ClientConn, m *metricsv1.MetricsData) error {
	return conn.Invoke(context.Background(), "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", m, &emptypb.Empty{})
}

func TestWhatAProxySaysReplacesWhatItSaidBefore(t *testing.T) {
	proxies := &connected{proxy: orders}
	conn := serve(t, proxies, nil)
	for _, ejected := range []map[string]int{{"shop/payments": 2, "shop/payments|v2": 1, "a.b:80": 3}, {"shop/payments": 1}, {}} {
		m := say(orders, ejected)
		m.ResourceMetrics[0].ScopeMetrics[0].Metrics = append(m.ResourceMetrics[0].ScopeMetrics[0].Metrics,
			&metricsv1.Metric{Name: "server.live"}, &metricsv1.Metric{Name: "cluster.x.outlier_detection.ejections_overflow"})
		if err := export1(conn, m); err != nil {
			t.Fatal(err)
		}
		want := make(map[string]int)
		for name, n := range ejected {
			want[StatName(name)] = n
		}
		if !maps.Equal(proxies.ejected, want) {
			t.Errorf("got %v, want %v", proxies.ejected, want)
		}
	}
}

// What can't be read, or is too much, changes nothing, and an address is named once.
func TestBadReportsAreRefused(t *testing.T) {
	many := make(map[string]int)
	for i := range maxClusters + 1 {
		many[fmt.Sprint("shop/s", i)] = 1
	}
	twice := say(orders, nil)
	twice.ResourceMetrics = append(twice.ResourceMetrics, twice.ResourceMetrics...)
	var text bytes.Buffer
	proxies := &connected{proxy: orders}
	conn := serve(t, proxies, hclog.New(&hclog.LoggerOptions{Output: &text, Level: hclog.Debug}))
	for want, m := range map[string]*metricsv1.MetricsData{
		"0 resources, want the proxy alone":           {},
		"2 resources, want the proxy alone":           twice,
		"the resource has no service.instance.id":     say(Proxy{Namespace: "shop", Service: "orders"}, nil),
		"the resource has no service.namespace":       say(Proxy{ID: "orders-1", Service: "orders"}, nil),
		"the resource has no service.name":            say(Proxy{ID: "orders-1", Namespace: "shop"}, nil),
		"too many clusters":                           say(orders, many),
		"-1 ejected hosts of cluster shop/payments":   say(orders, map[string]int{"shop/payments": -1}),
		"1048577 ejected hosts of cluster shop/x":     say(orders, map[string]int{"shop/x": maxEjected + 1}),
		"the name of a cluster is empty, has control": say(orders, map[string]int{"shop/\x1b[2J": 1}),
		"the name of a cluster is empty, has contro":  say(orders, map[string]int{"": 1}),
		"the name of a cluster is empty, has contr":   say(orders, map[string]int{strings.Repeat("x", maxName+1): 1}),
	} {
		if err := export1(conn, m); status.Code(err) != codes.InvalidArgument || !strings.Contains(status.Convert(err).Message(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if proxies.reports != 0 {
		t.Errorf("%d of them were taken", proxies.reports)
	}
	if n := strings.Count(text.String(), "can't be read"); n != 1 {
		t.Errorf("the log names the address %d times, want once:\n%s", n, text.String())
	}
	for _, other := range []Proxy{{"orders-2", "shop", "orders"}, {"orders-1", "other", "orders"}, {"orders-1", "shop", "payments"}} {
		if err := export1(conn, say(other, nil)); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%v: got %v, want a refusal", other, err)
		}
	}
}

// The log's memory has an end, however many addresses there are.
func TestOffendersAreBounded(t *testing.T) {
	r := NewReceiver(&connected{}, nil)
	for i := range maxOffenders {
		r.offenders[fmt.Sprint(i)] = true
	}
	if err := r.take(peer.NewContext(context.Background(), &peer.Peer{Addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:1"))}), &metricsv1.MetricsData{}); err == nil || len(r.offenders) > maxOffenders {
		t.Errorf("%v, and %d offenders are kept, want %d", err, len(r.offenders), maxOffenders)
	}
}

// server answers as it is told to, and has something ejected beside it.
type server struct {
	mu      sync.Mutex
	answer  error
	said    []map[string]int
	ejected map[string]int
}

// becomes sets what there is to say, and how that is answered.
func (s *server) becomes(ejected map[string]int, answer error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ejected, s.answer = ejected, answer
}

func (s *server) present() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ejected
}

func (s *server) Invoke(_ context.Context, _ string, in, _ any, _ ...grpc.CallOption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answer == nil {
		_, ejected, err := read(proto.CloneOf(in.(*metricsv1.MetricsData)))
		if err != nil {
			return err
		}
		s.said = append(s.said, ejected)
	}
	return s.answer
}

func (s *server) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("no streams")
}

// An agent says it once, and then when it changes; it tries again where it was not heard, and ends where nobody listens.
func TestReporterSaysWhatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := &server{}
		r := Reporter{Proxy: orders, Ejected: asked.present, Log: hclog.NewNullLogger()}
		ended := make(chan struct{})
		go func() { defer close(ended); r.Run(t.Context(), asked) }()
		want := func(n int, last map[string]int) {
			t.Helper()
			synctest.Wait()
			asked.mu.Lock()
			defer asked.mu.Unlock()
			if len(asked.said) != n || !maps.Equal(asked.said[n-1], last) {
				t.Fatalf("it said %v, want %d times, %v at last", asked.said, n, last)
			}
		}
		none, one := map[string]int{}, map[string]int{"shop/payments": 1}
		want(1, none)
		time.Sleep(time.Minute)
		want(1, none)
		asked.becomes(one, nil)
		time.Sleep(lookEvery)
		want(2, one)
		asked.becomes(none, status.Error(codes.FailedPrecondition, "who?"))
		time.Sleep(5 * time.Minute)
		want(2, one)
		asked.becomes(none, nil)
		time.Sleep(longestWait)
		want(3, none)
		asked.becomes(one, status.Error(codes.Unimplemented, "what?"))
		<-ended
	})
}

func TestReporterAndReceiverUnderstandEachOther(t *testing.T) {
	proxies := &connected{proxy: orders}
	conn := serve(t, proxies, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		Reporter{Proxy: orders, Ejected: func() map[string]int { return map[string]int{"shop/payments": 2} }, Log: hclog.NewNullLogger()}.Run(ctx, conn)
	}()
	for ctx.Err() == nil {
		proxies.mu.Lock()
		n := proxies.ejected["shop/payments"]
		proxies.mu.Unlock()
		if n == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if ctx.Err() != nil {
		t.Error("nothing arrives")
	}
	cancel()
	<-done
}

// A relay passes on what its clients say, and the answer.
func TestRelayPassesOn(t *testing.T) {
	proxies := &connected{proxy: orders}
	there := serve(t, proxies, nil)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	t.Cleanup(g.Stop)
	Forward(g, func(id string) grpc.ClientConnInterface {
		if id == "lost" {
			return nil
		}
		return there
	})
	go func() { _ = g.Serve(lis) }()
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := export1(conn, say(orders, map[string]int{"shop/payments": 2})); err != nil || proxies.ejected["shop/payments"] != 2 {
		t.Errorf("%v, and %v arrives", err, proxies.ejected)
	}
	for code, m := range map[codes.Code]*metricsv1.MetricsData{
		codes.FailedPrecondition: say(Proxy{"lost", "shop", "orders"}, nil), codes.InvalidArgument: {},
	} {
		if err := export1(conn, m); status.Code(err) != code {
			t.Errorf("%v of %v, want %v", err, m, code)
		}
	}
	if err := export1(conn, say(Proxy{"orders-1", "shop", "other"}, nil)); status.Code(err) != codes.FailedPrecondition || proxies.reports != 1 {
		t.Errorf("%v, want what the control plane answers", err)
	}
}

// BenchmarkReceive is what a report costs the control plane, without the transport.
func BenchmarkReceive(b *testing.B) {
	r := NewReceiver(&connected{proxy: orders}, nil)
	text, err := proto.Marshal(say(orders, map[string]int{"shop/payments": 2}))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		m := new(metricsv1.MetricsData)
		if err := errors.Join(proto.Unmarshal(text, m), r.take(context.Background(), m)); err != nil {
			b.Fatal(err)
		}
	}
}
