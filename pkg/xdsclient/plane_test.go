package xdsclient

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/reconcile"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
	"github.com/breakwater-mesh/breakwater/pkg/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network connects clients to whatever listens under a name.
type network struct {
	mu    sync.Mutex
	peers map[string]*bufconn.Listener
	dials []string
}

func (n *network) listen(name string) *bufconn.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.peers == nil {
		n.peers = make(map[string]*bufconn.Listener)
	}
	n.peers[name] = bufconn.Listen(1 << 20)
	return n.peers[name]
}

func (n *network) hangUp(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.peers, name)
}

func (n *network) dial(ctx context.Context, name string) (net.Conn, error) {
	n.mu.Lock()
	n.dials = append(n.dials, name)
	peer := n.peers[name]
	n.mu.Unlock()
	if peer == nil {
		return nil, errors.New("connection refused")
	}
	return peer.DialContext(ctx)
}

// dialled is how often a connection was tried.
func (n *network) dialled() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.dials)
}

// counter counts what a server sends.
type counter struct {
	mu        sync.Mutex
	resources map[view.Type]int
	acked     int
	rejected  int
}

func (c *counter) Stream(string, string, int)            {}
func (c *counter) CaughtUp(time.Duration, time.Duration) {}
func (c *counter) Sent(t view.Type, n, _ int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resources == nil {
		c.resources = make(map[view.Type]int)
	}
	c.resources[t] += n
}
func (c *counter) Acked(view.Type, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acked++
}
func (c *counter) Refused(string) {}
func (c *counter) Rejected(view.Type, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rejected++
}

func (c *counter) sent() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, k := range c.resources {
		n += k
	}
	return n
}

// plane is a replica of the real control plane: its reconcile loop and xDS server over a store.
type plane struct {
	counter
	loop   *reconcile.Loop
	server *xds.Server
	stop   func()
}

func startPlane(t *testing.T, n *network, name string, kv store.KV) *plane {
	t.Helper()
	p := &plane{loop: reconcile.New(kv, hclog.NewNullLogger(), nil)}
	p.server = xds.New(xds.Config{Classes: p.loop, Confirm: p.loop.Confirm, Metrics: &p.counter})
	g := grpc.NewServer(xds.ServerOptions()...)
	p.server.Register(g)
	lis := n.listen(name)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = p.loop.Run(ctx) })
	running.Go(func() { _ = p.server.Run(ctx) })
	running.Go(func() { _ = g.Serve(lis) })
	p.stop = sync.OnceFunc(func() {
		n.hangUp(name)
		g.Stop()
		cancel()
		running.Wait()
	})
	t.Cleanup(p.stop)
	return p
}

func put[S any](t *testing.T, kv store.KV, key string, o *manifest.Object[S]) {
	t.Helper()
	data, err := manifest.Encode(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Commit(context.Background(), store.Txn{Ops: []store.Op{{Key: key, Value: data}}}); err != nil {
		t.Fatal(err)
	}
}

func putService(t *testing.T, kv store.KV, name string, addresses ...string) {
	t.Helper()
	s := &catalog.Service{APIVersion: manifest.APIVersion, Kind: catalog.Kind, Metadata: manifest.Meta{Namespace: "shop", Name: name}}
	s.Spec.Port = new(uint32(8080))
	for _, a := range addresses {
		s.Spec.Endpoints = append(s.Spec.Endpoints, catalog.EndpointSpec{Address: a})
	}
	put(t, kv, store.ServiceKey("shop", name), s)
}

func putTimeout(t *testing.T, kv store.KV, service string, d time.Duration) {
	t.Helper()
	p := &policy.Policy{APIVersion: manifest.APIVersion, Kind: policy.Kind, Metadata: manifest.Meta{Namespace: "shop", Name: service + "-timeout"}}
	p.Spec.To.Service = service
	p.Spec.Timeout = &policy.Timeout{Request: new(manifest.Duration(d.String()))}
	put(t, kv, store.PolicyKey("shop", service+"-timeout"), p)
}

// consumer is what a data plane does with what it is given.
type consumer struct {
	mu     sync.Mutex
	table  *dataplane.Table
	calls  int
	refuse func(dataplane.Resources) []dataplane.Fault
}

func (c *consumer) apply(r dataplane.Resources) []dataplane.Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if c.refuse != nil {
		if faults := c.refuse(r); len(faults) > 0 {
			return faults
		}
	}
	table, faults := dataplane.Compile(r, c.table)
	if len(faults) == 0 {
		c.table = table
	}
	return faults
}

func (c *consumer) now() *dataplane.Table {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.table == nil {
		return &dataplane.Table{}
	}
	return c.table
}

// agent is a running client and its consumer.
type agent struct {
	*Client
	consumer
	stop func()
}

func startAgent(t *testing.T, n *network, change func(*Config)) *agent {
	t.Helper()
	a := &agent{}
	cfg := Config{
		Servers: []string{"one:1"}, Layers: envoy.LayerNames(),
		Node:  Node{ID: "orders-1", Cluster: "orders.shop", Version: "0.1.0", Outbound: "127.0.0.1:15001"},
		Apply: a.consumer.apply, dial: n.dial,
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if a.Client, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = a.Run(ctx) })
	a.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(a.stop)
	return a
}

// settleDown lets everything that can happen now happen.
func settleDown() {
	synctest.Wait()
	time.Sleep(time.Second) // of the bubble's own time
	synctest.Wait()
}

func (a *agent) timeout(t *testing.T, host string) time.Duration {
	t.Helper()
	rc := a.now().Scopes[host]
	if rc == nil {
		t.Fatalf("no routes for %s; scopes %v", host, a.now().Scopes)
	}
	return rc.Hosts[0].Routes[0].Timeout
}

func TestConvergesFollowsEditsAndRemovals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, n := store.NewMemory(store.Limits{}), &network{}
		putService(t, kv, "payments", "10.0.0.1", "10.0.0.2")
		putService(t, kv, "billing", "10.0.1.1")
		p := startPlane(t, n, "one:1", kv)
		a := startAgent(t, n, nil)
		settleDown()

		table := a.now()
		if got := len(table.Clusters["shop/payments"].Hosts); got != 2 {
			t.Errorf("payments has %d hosts, want 2", got)
		}
		if l := table.Listeners[envoy.Outbound]; l == nil || !l.HTTP.Scoped || l.Address.Port() != 15001 {
			t.Errorf("outbound listener %+v", l)
		}
		if st := a.Status(); !st.Connected || st.Waiting != 0 || st.LastNACK != "" {
			t.Errorf("status %+v", st)
		}

		before, sent := table.Clusters["shop/billing"], p.sent()
		putTimeout(t, kv, "payments", 700*time.Millisecond)
		settleDown()
		if got := a.timeout(t, "payments.shop"); got != 700*time.Millisecond {
			t.Errorf("timeout %v, want 700ms", got)
		}
		if got := p.sent() - sent; got != 1 {
			t.Errorf("the edit sent %d resources, want 1", got)
		}
		if a.now().Clusters["shop/billing"] != before {
			t.Error("another service's cluster was built anew")
		}

		if _, err := kv.Commit(t.Context(), store.Txn{Ops: []store.Op{{Key: store.ServiceKey("shop", "billing"), Delete: true}}}); err != nil {
			t.Fatal(err)
		}
		settleDown()
		if _, there := a.now().Clusters["shop/billing"]; there || a.now().Scopes["billing.shop"] != nil || a.now().Routes["shop/billing"] != nil {
			t.Errorf("billing is still there: %v", a.now())
		}
		if p.rejected != 0 {
			t.Errorf("%d rejections", p.rejected)
		}
	})
}

func TestSameResourcesAsEnvoy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, n := store.NewMemory(store.Limits{}), &network{}
		putService(t, kv, "payments", "10.0.0.1")
		p := startPlane(t, n, "one:1", kv)
		a := startAgent(t, n, nil)
		settleDown()
		key := world.ClassKey{Namespace: "shop", Service: "orders", Dialect: "envoy", Profile: "sidecar", Tier: "1.40", Outbound: "127.0.0.1:15001", Runtime: true}
		class, err := p.loop.Join(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		defer p.loop.Leave(class)
		head, want := class.Head(), 0
		a.stop() // its state is the test's now
		for typ := range view.NumTypes {
			view.Diff(nil, head.Views[typ], func(_, r *view.Resource) {
				want++
				if got := a.state.inForce.Get(r.ID()); got == nil || got.Version != r.Version {
					t.Errorf("%s: the agent has %v, an Envoy %s", r.ID(), got, r.Version)
				}
			})
		}
		if got := a.state.inForce.Len(); got != want || want < 12 {
			t.Errorf("the agent has %d resources, an Envoy %d", got, want)
		}
	})
}

func TestServerChangeResendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, n := store.NewMemory(store.Limits{}), &network{}
		for _, name := range strings.Fields("payments billing email") {
			putService(t, kv, name, "10.0.0.1")
		}
		one, two := startPlane(t, n, "one:1", kv), startPlane(t, n, "two:1", kv)
		a := startAgent(t, n, func(c *Config) { c.Servers = []string{"one:1", "two:1"} })
		settleDown()
		table := a.now()
		one.stop()
		synctest.Wait()
		if st := a.Status(); st.Server != "two:1" || !st.Connected {
			t.Errorf("not moved at once: %+v", st)
		}
		settleDown()
		if got := two.sent(); got != 0 {
			t.Errorf("the second server sent %d resources (%v), want 0", got, two.resources)
		}
		if a.now() != table {
			t.Error("the table was replaced")
		}
		putTimeout(t, kv, "billing", 90*time.Millisecond)
		settleDown()
		if got := a.timeout(t, "billing.shop"); got != 90*time.Millisecond {
			t.Errorf("timeout %v after the change of servers", got)
		}
	})
}

func TestStartsFromDiskAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		kv, n := store.NewMemory(store.Limits{}), &network{}
		putService(t, kv, "payments", "10.0.0.1")
		putTimeout(t, kv, "payments", 123*time.Millisecond)
		p := startPlane(t, n, "one:1", kv)
		keep := func(c *Config) { c.StateDir = dir }
		a := startAgent(t, n, keep)
		settleDown()
		time.Sleep(30 * time.Minute) // without an edit, but confirmed
		synctest.Wait()
		a.stop()
		p.stop()

		time.Sleep(time.Hour)
		again := startAgent(t, n, keep)
		synctest.Wait()
		if got := again.timeout(t, "payments.shop"); got != 123*time.Millisecond {
			t.Errorf("timeout %v from disk", got)
		}
		if st := again.Status(); st.Saved.IsZero() || time.Since(st.Saved) < 59*time.Minute || time.Since(st.Saved) > 61*time.Minute || st.Connected {
			t.Errorf("status %+v", st)
		}
		time.Sleep(10 * time.Minute) // nobody is there for long
		p = startPlane(t, n, "one:1", kv)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if got := p.sent(); got != 0 {
			t.Errorf("%d resources were sent to an agent that had them all: %v", got, p.resources)
		}
		if st := again.Status(); !st.Saved.IsZero() || !st.Connected {
			t.Errorf("status %+v after the server came back", st)
		}
	})
}

// TestStartsFromDiskWithoutWhatIsRefused has a data plane that can't take one of the saved resources any more.
func TestStartsFromDiskWithoutWhatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		kv, n := store.NewMemory(store.Limits{}), &network{}
		putService(t, kv, "payments", "10.0.0.1")
		putService(t, kv, "billing", "10.0.0.2")
		p := startPlane(t, n, "one:1", kv)
		a := startAgent(t, n, func(c *Config) { c.StateDir = dir })
		settleDown()
		a.stop()
		p.stop()

		bad := view.ID{Type: view.CDS, Name: "shop/billing"}
		again := startAgent(t, n, func(c *Config) {
			apply := c.Apply
			c.StateDir, c.Apply = dir, func(r dataplane.Resources) []dataplane.Fault {
				if r.Get(bad) != nil {
					return []dataplane.Fault{{ID: bad, Field: "cluster", Reason: "no"}}
				}
				return apply(r)
			}
		})
		synctest.Wait()
		if c := again.now().Clusters; c["shop/payments"] == nil || c["shop/billing"] != nil {
			t.Errorf("clusters %v", c)
		}
	})
}

func TestRejectsAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, n := store.NewMemory(store.Limits{}), &network{}
		putService(t, kv, "payments", "10.0.0.1")
		putService(t, kv, "billing", "10.0.0.2")
		p := startPlane(t, n, "one:1", kv)
		a := startAgent(t, n, func(c *Config) {
			apply := c.Apply
			c.Apply = func(r dataplane.Resources) []dataplane.Fault {
				id := view.ID{Type: view.RDS, Name: "shop/payments"}
				if table, _ := dataplane.Compile(r, nil); table != nil && table.Routes[id.Name] != nil {
					if table.Routes[id.Name].Hosts[0].Routes[0].Timeout == 666*time.Millisecond {
						return []dataplane.Fault{{ID: id, Field: "route_configuration.virtual_hosts[0].routes[0].route.timeout", Reason: "is the number of the beast"}}
					}
				}
				return apply(r)
			}
		})
		settleDown()
		putTimeout(t, kv, "payments", 666*time.Millisecond)
		putTimeout(t, kv, "billing", 90*time.Millisecond)
		settleDown()
		if got := a.timeout(t, "payments.shop"); got != 0 {
			t.Errorf("payments: timeout %v, want the last good one", got)
		}
		if got := a.timeout(t, "billing.shop"); got != 90*time.Millisecond {
			t.Errorf("billing: timeout %v", got)
		}
		proxies := p.server.Proxies()
		if len(proxies) != 1 || proxies[0].Dialect != "agent" || proxies[0].Version != "0.1.0" {
			t.Fatalf("proxies %+v", proxies)
		}
		var text string
		for _, ts := range proxies[0].Types {
			for _, r := range ts.Rejected {
				text += r.ID.String() + " <- " + r.Text
			}
		}
		if want := "RDS shop/payments <- RDS shop/payments: route_configuration.virtual_hosts[0].routes[0].route.timeout: is the number of the beast"; text != want {
			t.Errorf("the server has %q\nwant %q", text, want)
		}
		rejected := p.rejected
		time.Sleep(10 * time.Minute)
		if p.rejected != rejected {
			t.Errorf("it was rejected %d times more: a loop", p.rejected-rejected)
		}
		putTimeout(t, kv, "payments", 5*time.Second)
		settleDown()
		if got := a.timeout(t, "payments.shop"); got != 5*time.Second {
			t.Errorf("timeout %v after the mend", got)
		}
	})
}

// What runs beside a conversation begins with the server's first answer and ends with it; another begins beside the next.
func TestBesideRunsWithTheConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, n := store.NewMemory(store.Limits{}), &network{}
		putService(t, kv, "payments", "10.0.0.1")
		one, two := startPlane(t, n, "one:1", kv), startPlane(t, n, "two:1", kv)
		begun, ended := 0, 0
		a := startAgent(t, n, func(c *Config) {
			c.Servers = []string{"one:1", "two:1"}
			c.Beside = func(ctx context.Context, conn grpc.ClientConnInterface) {
				if begun++; conn == nil || begun != ended+1 {
					t.Errorf("the %d. begins over %v after %d have ended", begun, conn, ended)
				}
				<-ctx.Done()
				time.Sleep(100 * time.Millisecond) // the next does not begin meanwhile
				ended++
			}
		})
		for i, stop := range []func(){one.stop, two.stop} {
			settleDown()
			if st := a.Status(); begun != i+1 || ended != i || !st.Connected {
				t.Errorf("%d begun and %d ended beside conversation %d: %+v", begun, ended, i+1, st)
			}
			stop()
		}
		settleDown()
		if begun != 2 || ended != 2 {
			t.Errorf("%d begun and %d ended though no server answers", begun, ended)
		}
		a.stop()
	})
}
