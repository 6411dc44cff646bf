package reconcile

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/hashicorp/go-hclog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/breakwater-mesh/breakwater/internal/testkit/etcdcluster"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/store/etcd"
	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/xds"
)

// valve holds up what etcd says on watches, and nothing else.
type valve struct {
	mu   sync.Mutex
	shut chan struct{} // nil: open
}

func (v *valve) halt() (resume func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	shut := make(chan struct{})
	v.shut = shut
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.shut = nil
		close(shut)
	}
}

// intercept is a grpc.StreamClientInterceptor.
func (v *valve) intercept(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, s grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := s(ctx, d, cc, method, o...)
	if err != nil || !strings.HasSuffix(method, "/Watch") {
		return stream, err
	}
	return valved{stream, v}, nil
}

type valved struct {
	grpc.ClientStream
	valve *valve
}

func (s valved) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	s.valve.mu.Lock()
	shut := s.valve.shut
	s.valve.mu.Unlock()
	if shut != nil {
		select {
		case <-shut:
		case <-s.Context().Done():
		}
	}
	return err
}

// replica is what of a control plane serves proxies, with a client of etcd of its own.
type replica struct {
	t     *testing.T
	loop  *Loop
	kv    *etcd.Store
	watch valve
	conn  *grpc.ClientConn

	logging sync.Mutex
	log     strings.Builder // guarded by logging
}

func newReplica(t *testing.T, endpoints []string, wait, down time.Duration) *replica {
	t.Helper()
	r := &replica{t: t}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, Logger: zap.NewNop(), DialOptions: []grpc.DialOption{grpc.WithChainStreamInterceptor(r.watch.intercept)},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.kv = etcd.Wrap(client, store.Limits{})
	r.loop = New(r.kv, hclog.New(&hclog.LoggerOptions{Output: &r.log, Mutex: &r.logging}), nil)
	r.loop.confirm.wait, r.loop.confirm.down = wait, down
	server := xds.New(xds.Config{Classes: r.loop, Confirm: r.loop.Confirm})
	g, lis := grpc.NewServer(xds.ServerOptions()...), bufconn.Listen(1<<20)
	server.Register(g)
	r.conn, err = grpc.NewClient("passthrough:///replica", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = r.loop.Run(ctx) })
	running.Go(func() { _ = server.Run(ctx) })
	running.Go(func() { _ = g.Serve(lis) })
	t.Cleanup(func() {
		_ = r.conn.Close()
		g.Stop()
		cancel()
		running.Wait()
		_ = r.kv.Close()
	})
	r.wait(0)
	return r
}

func (r *replica) wait(revision int64) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	if err := r.loop.Wait(ctx, revision); err != nil {
		r.t.Fatal(err)
	}
}

// ask opens a stream as a proxy does that comes new, and returns the revision of its first answer.
func (r *replica) ask() (revision int64, err error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(r.conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return 0, err
	}
	err = s.Send(&discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: "orders-1", Cluster: "orders.shop", UserAgentName: "envoy"}, TypeUrl: view.CDS.URL(),
	})
	if err != nil && err != io.EOF {
		return 0, err
	}
	m, err := s.Recv()
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(m.SystemVersionInfo, 10, 64)
}

// served asks until there is an answer.
func (r *replica) served() (revision int64) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		revision, err := r.ask()
		if err == nil {
			return revision
		}
		if status.Code(err) != codes.Unavailable || time.Now().After(deadline) {
			r.t.Fatal(err)
		}
	}
}

// refused asks, and fails unless that is answered with Unavailable within the time that a stream may wait.
func (r *replica) refused() {
	r.t.Helper()
	begun := time.Now()
	revision, err := r.ask()
	if status.Code(err) != codes.Unavailable {
		r.t.Fatalf("a new stream got revision %d, %v; want Unavailable", revision, err)
	}
	if took := time.Since(begun); took > r.loop.confirm.wait+2*time.Second {
		r.t.Errorf("the refusal took %v, want about %v", took, r.loop.confirm.wait)
	}
}

func (r *replica) putService(name string) int64 {
	r.t.Helper()
	rev, err := r.tryPutService(name)
	if err != nil {
		r.t.Fatal(err)
	}
	return rev
}

func (r *replica) tryPutService(name string) (int64, error) {
	return r.kv.Commit(r.t.Context(), store.Txn{Ops: []store.Op{{Key: store.ServiceKey("shop", name), Value: service(r.t, name)}}})
}

func TestFirstAnswersOnEtcd(t *testing.T) {
	t.Parallel()
	cluster := etcdcluster.Start(t, 1)
	const wait, down = 300 * time.Millisecond, 2 * time.Second
	a, b := newReplica(t, cluster.Endpoints(), wait, down), newReplica(t, cluster.Endpoints(), wait, down)

	// A client that moves from one replica to the other never gets older state, however far that one lags.
	for i := range 20 {
		resume := b.watch.halt()
		a.putService(fmt.Sprintf("s%d", i))
		was := a.served()
		if i == 0 {
			b.refused()
		}
		time.AfterFunc(time.Duration(i)*time.Millisecond, resume)
		if now := b.served(); now < was {
			t.Fatalf("a client that had revision %d moved, and was given %d", was, now)
		}
	}

	// The store is gone: nobody waits for long, and after a while what there is, is served.
	last := max(a.served(), b.served())
	cluster.Kill(0)
	gone := time.Now()
	a.refused()
	if got := a.served(); got < last {
		t.Errorf("without a store revision %d was served, the last was %d", got, last)
	}
	if took := time.Since(gone); took < down {
		t.Errorf("served from old state after %v, want not before %v", took, down)
	}
	if a.loop.Stale() == nil {
		t.Error("served from old state without saying so")
	}
	cluster.Restart(0)
	cluster.WaitHealthy()
	rev := b.putService("after")
	if got := b.served(); got < rev {
		t.Errorf("with the store back revision %d was served, want %d", got, rev)
	}
	for deadline := time.Now().Add(20 * time.Second); a.loop.Stale() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the store is back, and %+v", a.loop.Stale())
		}
	}

	// The store went back, as from a backup: nothing waits for a revision that is no more, and what is served is what the store has now.
	cluster.Recreate(cluster.Token())
	rev = a.putService("restored")
	if got := a.served(); got >= last {
		t.Errorf("revision %d was served, of a store that has gone back from %d to %d", got, last, rev)
	}
	if _, ok := a.loop.World().Service(manifest.Key{Namespace: "shop", Name: "after"}); ok {
		t.Error("served with a service that the store has no more")
	}
}
