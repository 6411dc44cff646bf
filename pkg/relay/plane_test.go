package relay

import (
	"context"
	"fmt"
	"maps"
	"net"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/xdsclient"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// eventually polls f, on real sockets, until it says nothing.
func eventually(t *testing.T, f func() string) {
	t.Helper()
	var said string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if said = f(); said == "" {
			return
		}
	}
	t.Fatal(said)
}

// plane is a control plane that can be taken away and brought back under one address.
type plane struct {
	t       *testing.T
	address string
	service discoveryv3.AggregatedDiscoveryServiceServer
	stop    func() // nil while it is away
}

func newPlane(t *testing.T, service discoveryv3.AggregatedDiscoveryServiceServer) *plane {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{t: t, address: lis.Addr().String(), service: service}
	p.serve(lis)
	t.Cleanup(p.leave)
	return p
}

func (p *plane) serve(lis net.Listener) {
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, p.service)
	var running sync.WaitGroup
	running.Go(func() { _ = g.Serve(lis) })
	p.stop = func() { g.Stop(); running.Wait() }
}

func (p *plane) leave() {
	if p.stop != nil {
		p.stop()
		p.stop = nil
	}
}

func (p *plane) comeBack() {
	p.t.Helper()
	lis, err := net.Listen("tcp", p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.serve(lis)
}

// world is what the plane of a test says: go-control-plane's server, and how many resources it sent.
type world struct {
	cache cache.SnapshotCache

	mu    sync.Mutex
	sent  int
	first map[string]string // type -> version that the last stream of the state-of-the-world dialect began with
}

func newWorld(t *testing.T) (*world, *plane) {
	w := &world{cache: cache.NewSnapshotCache(false, cache.IDHash{}, nil), first: map[string]string{}}
	count := func(n int) { w.mu.Lock(); w.sent += n; w.mu.Unlock() }
	s := server.NewServer(t.Context(), w.cache, server.CallbackFuncs{
		StreamRequestFunc: func(_ int64, q *discoveryv3.DiscoveryRequest) error {
			if q.GetResponseNonce() == "" {
				w.mu.Lock()
				w.first[q.GetTypeUrl()] = q.GetVersionInfo()
				w.mu.Unlock()
			}
			return nil
		},
		StreamResponseFunc: func(_ context.Context, _ int64, _ *discoveryv3.DiscoveryRequest, m *discoveryv3.DiscoveryResponse) {
			count(len(m.GetResources()))
		},
		StreamDeltaResponseFunc: func(_ int64, _ *discoveryv3.DeltaDiscoveryRequest, m *discoveryv3.DeltaDiscoveryResponse) {
			count(len(m.GetResources()) + len(m.GetRemovedResources()))
		},
	})
	return w, newPlane(t, s)
}

func (w *world) takeSent() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.sent
	w.sent = 0
	return n
}

// begun are the versions that a stream began with.
func (w *world) begun() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.first)
}

// set makes the clusters with their connect timeouts in seconds, and an assignment for each, what the node gets.
func (w *world) set(t *testing.T, node, version string, clusters map[string]int64) {
	t.Helper()
	resources := map[resource.Type][]types.Resource{}
	for name, seconds := range clusters {
		resources[resource.ClusterType] = append(resources[resource.ClusterType], clusterOf(name, seconds))
		resources[resource.EndpointType] = append(resources[resource.EndpointType], &endpointv3.ClusterLoadAssignment{ClusterName: name})
	}
	snapshot, err := cache.NewSnapshot(version, resources)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cache.SetSnapshot(t.Context(), node, snapshot); err != nil {
		t.Fatal(err)
	}
}

func clusterOf(name string, seconds int64) *clusterv3.Cluster {
	return &clusterv3.Cluster{Name: name, ConnectTimeout: &durationpb.Duration{Seconds: seconds}}
}

// running is a relay that can be stopped and started anew.
type running struct {
	*Relay
	address string
	stop    func()
}

func startRelay(t *testing.T, dir string, servers ...string) *running {
	t.Helper()
	s, err := xdsclient.NewServers(servers, nil)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Relay: New(Config{Servers: s, StateDir: dir, Logger: hclog.NewNullLogger()}), address: lis.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx, lis) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the relay ended: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *running) stat(name string) (value int64) {
	r.Stats(func(n string, v int64) {
		if n == name {
			value = v
		}
	})
	return value
}

// from waits until all clients are served from memory, or all by a server.
func (r *running) from(t *testing.T, memory bool) {
	t.Helper()
	eventually(t, func() string {
		for _, s := range r.Streams() {
			if (s.Server == "") != memory {
				return fmt.Sprintf("%+v; want from memory: %v", s, memory)
			}
		}
		if len(r.Streams()) == 0 {
			return "no stream"
		}
		return ""
	})
}

// deltaClient is one stream of a client that keeps what it accepted.
type deltaClient struct {
	t      *testing.T
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	has    map[string]map[string]string // type -> name -> version; the test passes it on to the next stream
	got    chan *discoveryv3.DeltaDiscoveryResponse
	end    chan error
	hangUp func()
}

func dialDelta(t *testing.T, address, node string, has map[string]map[string]string, urls ...string) *deltaClient {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if has == nil {
		has = map[string]map[string]string{}
	}
	c := &deltaClient{t: t, stream: g, has: has, got: make(chan *discoveryv3.DeltaDiscoveryResponse, 100), end: make(chan error, 1)}
	c.hangUp = sync.OnceFunc(func() { cancel(); _ = conn.Close() })
	t.Cleanup(c.hangUp)
	go func() {
		for {
			m, err := g.Recv()
			if err != nil {
				c.end <- err
				return
			}
			c.got <- m
		}
	}()
	for i, url := range urls {
		q := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, InitialResourceVersions: has[url]}
		if i == 0 {
			q.Node = &corev3.Node{Id: node}
		}
		if url != view.CDS.URL() && url != view.LDS.URL() {
			q.ResourceNamesSubscribe = []string{"a", "b"}
		}
		c.send(q)
	}
	return c
}

func (c *deltaClient) send(q *discoveryv3.DeltaDiscoveryRequest) {
	c.t.Helper()
	if err := c.stream.Send(q); err != nil {
		c.t.Fatal(err)
	}
}

// next is the next response.
func (c *deltaClient) next() *discoveryv3.DeltaDiscoveryResponse {
	c.t.Helper()
	select {
	case m := <-c.got:
		return m
	case err := <-c.end:
		c.t.Fatalf("the stream ended: %v", err)
	case <-time.After(patience):
		c.t.Fatal("no response")
	}
	return nil
}

// accept takes a response.
func (c *deltaClient) accept(m *discoveryv3.DeltaDiscoveryResponse) {
	c.t.Helper()
	if c.has[m.GetTypeUrl()] == nil {
		c.has[m.GetTypeUrl()] = map[string]string{}
	}
	for _, r := range m.GetResources() {
		c.has[m.GetTypeUrl()][r.GetName()] = r.GetVersion()
	}
	for _, name := range m.GetRemovedResources() {
		delete(c.has[m.GetTypeUrl()], name)
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce()})
}

func (c *deltaClient) reject(m *discoveryv3.DeltaDiscoveryResponse) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce(), ErrorDetail: &rpcstatus.Status{Code: 3, Message: "no"}})
}

// quiet checks that nothing more comes for a while.
func (c *deltaClient) quiet(d time.Duration) {
	c.t.Helper()
	select {
	case m := <-c.got:
		c.t.Errorf("unasked for: %v", m)
	case err := <-c.end:
		c.t.Errorf("the stream ended: %v", err)
	case <-time.After(d):
	}
}

// ended waits for the end of the stream.
func (c *deltaClient) ended() error {
	c.t.Helper()
	select {
	case err := <-c.end:
		return err
	case <-time.After(patience):
		c.t.Fatal("the stream goes on")
	}
	return nil
}
