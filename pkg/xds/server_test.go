package xds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"go.uber.org/goleak"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeClasses hands out one class for each key, all with the same first head.
type fakeClasses struct {
	mu      sync.Mutex
	head    *world.Head
	classes map[world.ClassKey]*world.Class
	joined  int
	err     error
}

func (f *fakeClasses) Join(_ context.Context, key world.ClassKey) (*world.Class, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	f.joined++
	if f.classes[key] == nil {
		f.classes[key] = world.NewClass(key, f.head)
	}
	return f.classes[key], nil
}

func (f *fakeClasses) Leave(*world.Class) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.joined--
}

func (f *fakeClasses) publish(h *world.Head) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head = h
	for _, c := range f.classes {
		c.Publish(h)
	}
}

// rig is a server on an in-memory listener.
type rig struct {
	t       *testing.T
	server  *Server
	classes *fakeClasses
	conn    *grpc.ClientConn
	gate    *gate
}

// gate stops what the client writes, as a network does that has gone.
type gate struct {
	mu    sync.Mutex
	wait  chan struct{} // nil: open
	heard []byte        // all that the server wrote
}

type gated struct {
	net.Conn
	gate *gate
}

func (g gated) Write(b []byte) (int, error) {
	g.gate.mu.Lock()
	wait := g.gate.wait
	g.gate.mu.Unlock()
	if wait != nil {
		<-wait
	}
	return g.Conn.Write(b)
}

func (g gated) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	g.gate.mu.Lock()
	defer g.gate.mu.Unlock()
	g.gate.heard = append(g.gate.heard, b[:n]...)
	return n, err
}

func (r *rig) freeze() {
	r.gate.mu.Lock()
	defer r.gate.mu.Unlock()
	r.gate.wait = make(chan struct{})
}

func (r *rig) thaw() {
	r.gate.mu.Lock()
	defer r.gate.mu.Unlock()
	close(r.gate.wait)
	r.gate.wait = nil
}

func newRig(t *testing.T, head *world.Head, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t, gate: &gate{}, classes: &fakeClasses{head: head, classes: map[world.ClassKey]*world.Class{}}}
	cfg.Classes = r.classes
	if cfg.Linger == 0 {
		cfg.Linger = time.Nanosecond // a test that is about it says so
	}
	r.server = New(cfg)
	g := grpc.NewServer(ServerOptions()...)
	r.server.Register(g)
	r.server.RegisterStatus(g)
	lis := bufconn.Listen(1 << 20)
	var running sync.WaitGroup
	running.Go(func() { _ = g.Serve(lis) })
	ctx, stop := context.WithCancel(context.Background())
	running.Go(func() { _ = r.server.Run(ctx) })
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			c, err := lis.DialContext(ctx)
			return gated{c, r.gate}, err
		}))
	if err != nil {
		t.Fatal(err)
	}
	r.conn = conn
	t.Cleanup(func() {
		stop()
		_ = conn.Close()
		g.Stop()
		running.Wait()
		if r.classes.joined != 0 {
			t.Errorf("%d streams have not left their class", r.classes.joined)
		}
	})
	return r
}

// client is one stream of a scripted proxy.
type client struct {
	t      *testing.T
	server *Server
	node   *corev3.Node
	s      grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
	stop   context.CancelFunc
}

func (r *rig) connect() *client {
	r.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Minute)
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(r.conn).DeltaAggregatedResources(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(stop)
	return &client{t: r.t, server: r.server, node: ordersNode(), s: s, stop: stop}
}

func ordersNode() *corev3.Node {
	return &corev3.Node{
		Id: "orders-1", Cluster: "orders.shop", UserAgentName: "envoy",
		UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{
			Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40}}},
	}
}

func (c *client) send(m *discoveryv3.DeltaDiscoveryRequest) {
	c.t.Helper()
	m.Node = c.node
	c.node = nil // said once, as our bootstrap has it
	if err := c.s.Send(m); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) subscribe(t view.Type, names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: t.URL(), ResourceNamesSubscribe: names})
}

func (c *client) ack(m *discoveryv3.DeltaDiscoveryResponse) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.TypeUrl, ResponseNonce: m.Nonce})
}

func (c *client) nack(m *discoveryv3.DeltaDiscoveryResponse, text string) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.TypeUrl, ResponseNonce: m.Nonce,
		ErrorDetail: &rpcstatus.Status{Code: 3, Message: text}})
}

func (c *client) recv() *discoveryv3.DeltaDiscoveryResponse {
	c.t.Helper()
	m, err := c.s.Recv()
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

// say reads a response as one line: its type, the names it sets, and with a minus those it removes.
func say(m *discoveryv3.DeltaDiscoveryResponse) string {
	t, _ := view.FromURL(m.TypeUrl)
	var names []string
	for _, r := range m.Resources {
		names = append(names, r.Name)
	}
	for _, n := range m.RemovedResources {
		names = append(names, "-"+n)
	}
	slices.Sort(names)
	return strings.TrimSpace(t.String() + " " + strings.Join(names, " "))
}

// want receives one response and accepts it.
func (c *client) want(line string) *discoveryv3.DeltaDiscoveryResponse {
	c.t.Helper()
	m := c.expect(line)
	c.ack(m)
	return m
}

// expect receives one response and does not answer it.
func (c *client) expect(line string) *discoveryv3.DeltaDiscoveryResponse {
	c.t.Helper()
	m := c.recv()
	if got := say(m); got != line {
		c.t.Fatalf("got %q, want %q", got, line)
	}
	return m
}

// quiet checks that the server has nothing more to say: the answer to a question of its own comes next, and nothing after that. Runtime
// comes first of all, so that the answer alone would show little.
func (c *client) quiet() {
	c.t.Helper()
	probe := fmt.Sprint("probe-", time.Now().UnixNano())
	c.subscribe(view.RTDS, probe)
	m := c.expect("RTDS " + probe)
	c.silent(m.Nonce)
	c.ack(m)
}

// silent checks that the server said last what has that nonce, and has nothing to say after it.
func (c *client) silent(nonce string) {
	c.t.Helper()
	for _, st := range c.server.list() {
		if last, next := st.silence(); last == nonce && next == nil {
			return
		} else if last == nonce {
			c.t.Fatalf("the server is about to say %s %s", next.typ, describe(next))
		}
	}
	c.t.Fatal("the server has said more")
}

// silence is the nonce of what was said last, and what would be said next.
func (st *stream) silence() (last string, next *response) {
	st.mu.Lock()
	defer st.mu.Unlock()
	again, snap := *st.state, &snapshot{head: st.class.Head()}
	snap.copy(st.state)
	again.subs = snap.subs
	for t := range again.subs {
		again.subs[t].held, again.subs[t].births = maps.Clone(st.state.subs[t].held), maps.Clone(st.state.subs[t].births)
	}
	return st.state.nonce(), again.next(snap.head, time.Now())
}

// ended waits for the end of the stream and checks its status.
func (c *client) ended(code codes.Code, text string) {
	c.t.Helper()
	for {
		_, err := c.s.Recv()
		if err == nil {
			continue
		}
		if status.Code(err) != code || !strings.Contains(err.Error(), text) {
			c.t.Errorf("the stream ended with %v, want %v and %q", err, code, text)
		}
		return
	}
}

// shop is a head with payments and billing: content is what to change in them.
type shop map[string]string

func (s shop) head(rev int64) *world.Head {
	var all [view.NumTypes][]*view.Resource
	for _, name := range []string{"shop/payments", "shop/billing"} {
		if s[name] == "gone" {
			continue
		}
		for _, t := range []view.Type{view.CDS, view.EDS, view.RDS} {
			var needs []view.ID
			if t == view.RDS {
				needs = []view.ID{{Type: view.CDS, Name: name}}
			}
			all[t] = append(all[t], view.New(t, name, cluster(name, s[t.String()+" "+name]), needs))
		}
		_, short, _ := strings.Cut(name, "/")
		all[view.SRDS] = append(all[view.SRDS], view.New(view.SRDS, short+".shop", nil, []view.ID{{Type: view.RDS, Name: name}}))
	}
	all[view.LDS] = []*view.Resource{view.New(view.LDS, "outbound", nil, nil)}
	all[view.RTDS] = []*view.Resource{view.New(view.RTDS, "limits-0", cluster("limits-0", s["limits"]), nil)}
	h := &world.Head{Rev: rev}
	for t := range view.NumTypes {
		h.Views[t] = view.Of(all[t]...)
	}
	return h
}

// cluster is some valid message.
func cluster(name, content string) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(&clusterv3.Cluster{Name: name, AltStatName: content})
	if err != nil {
		panic(err)
	}
	return b
}

// start does what an Envoy does when it starts, up to holding everything.
func (c *client) start() {
	c.t.Helper()
	c.subscribe(view.CDS)
	m := c.expect("CDS shop/billing shop/payments")
	c.subscribe(view.EDS, "shop/billing", "shop/payments")
	c.want("EDS shop/billing shop/payments")
	c.ack(m)
	c.subscribe(view.LDS)
	c.want("LDS outbound")
	c.subscribe(view.SRDS)
	c.want("SRDS billing.shop payments.shop")
	c.subscribe(view.RDS, "shop/billing", "shop/payments")
	c.want("RDS shop/billing shop/payments")
	c.quiet()
}

func TestStartHoldsEverything(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.start()
	c.quiet()
}

func TestAnotherTypeEndsTheStream(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: "type.googleapis.com/envoy.x.Secret"})
	c.ended(codes.InvalidArgument, `type_url "type.googleapis.com/envoy.x.Secret" is not served`)
}

func TestNoClassIsUnavailable(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	r.classes.err = errors.New("no world yet")
	c := r.connect()
	c.subscribe(view.CDS)
	c.ended(codes.Unavailable, "no world yet")
}

func TestTrap34_ADrainEndsStreamsOneAfterAnother(t *testing.T) {
	const streams, drain = 20, 2 * time.Second
	s := New(Config{Classes: &fakeClasses{head: shop{}.head(1), classes: map[world.ClassKey]*world.Class{}}, Drain: drain})
	g, lis := grpc.NewServer(ServerOptions()...), bufconn.Listen(1<<20)
	s.Register(g)
	served := make(chan struct{})
	go func() { defer close(served); _ = g.Serve(lis) }()
	ended := make(chan time.Duration, streams)
	ctx, stop := context.WithCancel(t.Context())
	var begun time.Time
	for range streams {
		r := &rig{t: t, server: s, conn: bufferedConn(t, lis)}
		c := r.connect()
		c.subscribe(view.LDS)
		c.want("LDS outbound")
		go func() {
			if _, err := c.s.Recv(); status.Code(err) != codes.Unavailable {
				t.Errorf("a stream ended with %v, want Unavailable", err)
			}
			ended <- time.Since(begun)
		}()
	}
	begun = time.Now()
	stop()
	if err := s.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v, want Canceled", err)
	}
	var halves [2]int // of the drain
	for range streams {
		halves[min(1, int(2*<-ended/drain))]++
	}
	if halves[0] < streams/4 || halves[1] < streams/4 {
		t.Errorf("%d streams ended in the first half of the drain, %d in the second", halves[0], halves[1])
	}
	if took := time.Since(begun); took > drain+2*time.Second {
		t.Errorf("the drain took %v, want %v", took, drain)
	}
	g.GracefulStop()
	<-served
}

func bufferedConn(t *testing.T, lis *bufconn.Listener) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestShutdownEndsStreamsWithUnavailable(t *testing.T) {
	s := New(Config{Classes: &fakeClasses{head: shop{}.head(1), classes: map[world.ClassKey]*world.Class{}}})
	g := grpc.NewServer(ServerOptions()...)
	s.Register(g)
	lis := bufconn.Listen(1 << 20)
	served := make(chan struct{})
	go func() { defer close(served); _ = g.Serve(lis) }()
	r := &rig{t: t, server: s, conn: bufferedConn(t, lis)}
	c := r.connect()
	c.subscribe(view.LDS)
	c.want("LDS outbound")
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	stop()
	c.ended(codes.Unavailable, "shutting down")
	if err := <-ran; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v, want Canceled", err)
	}
	r.connect().ended(codes.Unavailable, "shutting down")
	g.Stop()
	<-served
}
