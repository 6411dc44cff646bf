package integration_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
	"github.com/breakwater-mesh/breakwater/pkg/xds"
)

// unchecked is the push engine without what keeps bad resources out: a test publishes what it likes.
type unchecked struct {
	mu      sync.Mutex
	builder *world.Builder // guarded by mu
	class   *world.Class   // of the one Envoy; guarded by mu
	server  *xds.Server
}

// Join implements xds.Classes.
func (u *unchecked) Join(_ context.Context, key world.ClassKey) (*world.Class, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.class == nil {
		u.class = world.NewClass(key, u.builder.Join(key).Head())
	}
	return u.class, nil
}

// Leave implements xds.Classes.
func (u *unchecked) Leave(*world.Class) {}

// publish gives Envoy what the builder makes of c, with some resources in the place of its own.
func (u *unchecked) publish(c world.Changes, spoilt ...*view.Resource) {
	u.mu.Lock()
	defer u.mu.Unlock()
	w := u.builder.World()
	u.builder.Update(w.With(w.Rev+1, c), c)
	if u.class == nil {
		return
	}
	head := *u.builder.Join(u.class.Key).Head()
	for _, r := range spoilt {
		head.Views[r.Type] = head.Views[r.Type].With([]view.Change{view.Put(r)})
	}
	u.class.Publish(&head)
}

// rejected are the resources that Envoy says it rejects, and how much it has not answered.
func (u *unchecked) rejected() (names []string, pending int) {
	for _, p := range u.server.Proxies() {
		for _, typ := range p.Types {
			pending += typ.Pending
			for _, r := range typ.Rejected {
				names = append(names, r.ID.String())
			}
		}
	}
	slices.Sort(names)
	return names, pending
}

// serve starts the server; mesh then starts Envoys that follow it.
func (u *unchecked) serve(t *testing.T) *mesh {
	u.server = xds.New(xds.Config{Classes: u})
	g := grpc.NewServer(xds.ServerOptions()...)
	u.server.Register(g)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = g.Serve(listener) })
	t.Cleanup(func() { g.Stop(); running.Wait() })
	return &mesh{t: t, cp: &harness.ControlPlane{XDS: listener.Addr().String()}, hosts: map[string][]*harness.Host{}}
}

// shopOf are services with one endpoint for each host.
func shopOf(hosts map[string][]*harness.Host) world.Changes {
	c := world.Changes{Services: map[manifest.Key]*catalog.Service{}, Hosts: map[string]*manifest.Key{}}
	for name, list := range hosts {
		s := &catalog.Service{APIVersion: manifest.APIVersion, Kind: catalog.Kind, Metadata: manifest.Meta{Namespace: "shop", Name: name}}
		s.Spec.Protocol = catalog.HTTP
		for _, h := range list {
			at := addressOf(h)
			s.Spec.Endpoints = append(s.Spec.Endpoints, catalog.EndpointSpec{Address: at.Addr().String(), Port: new(uint32(at.Port()))})
		}
		key := s.Key()
		c.Services[key], c.Hosts[name+".shop"] = s, &key
	}
	return c
}

func addressOf(h *harness.Host) netip.AddrPort { return netip.MustParseAddrPort(h.Address) }

// edited is a policy for shop/payments.
func edited(sections policy.Sections) world.Changes {
	key := manifest.Key{Namespace: "shop", Name: "edit"}
	p := &policy.Policy{APIVersion: manifest.APIVersion, Kind: policy.Kind, Metadata: manifest.Meta{Namespace: key.Namespace, Name: key.Name}, Spec: policy.Spec{To: policy.Target{Service: "payments"}, Sections: sections}}
	return world.Changes{Policies: map[manifest.Key]*policy.Compiled{key: policy.Compile(p)}}
}

func marshalled(t *testing.T, typ view.Type, name string, m proto.Message) *view.Resource {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return view.New(typ, name, data, nil)
}

// badAssignment is one that Envoy rejects; n makes it another one each time.
func badAssignment(t *testing.T, name string, n int) *view.Resource {
	return marshalled(t, view.EDS, name, &endpointv3.ClusterLoadAssignment{
		ClusterName: name,
		Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: fmt.Sprintf("no-address-%d", n), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 80},
			}}},
		}}}}}},
	})
}

// badRoutes are routes that Envoy rejects: two virtual hosts want one domain.
func badRoutes(t *testing.T, name string, n int) *view.Resource {
	host := func(i int) *routev3.VirtualHost {
		return &routev3.VirtualHost{Name: fmt.Sprintf("v%d-%d", n, i), Domains: []string{"*"}}
	}
	return marshalled(t, view.RDS, name, &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{host(0), host(1)}})
}

// TestRejectionsEmptyNoCluster rebuilds one service's cluster, or changes the listener, while Envoy rejects what it gets for another service.
// A rejection ends the warming of whatever warms, with what it has by then: nothing, unless it is told again. No
// request may be lost, of any service.
func TestRejectionsEmptyNoCluster(t *testing.T) {
	t.Parallel()
	checked := startHost(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			time.Sleep(50 * time.Millisecond) // so that the cluster warms for a while
		}
	}))
	hosts := map[string][]*harness.Host{"orders": nil, "payments": {checked, startHost(t, nil)}, "billing": {startHost(t, nil)}, "zeta": {startHost(t, nil)}}
	u := &unchecked{builder: world.NewBuilder()}
	u.publish(shopOf(hosts))
	m := u.serve(t)
	orders := m.envoy("orders")
	called := slices.DeleteFunc(slices.Sorted(maps.Keys(hosts)), func(name string) bool { return name == "orders" })
	for _, name := range called {
		orders.reaches(name, http.StatusOK)
	}

	ctx, stop := context.WithCancel(context.Background())
	var results harness.Results
	var load sync.WaitGroup
	for _, name := range called {
		load.Go(func() { harness.Load(ctx, 100, 20, &results, func() harness.Call { return orders.Get(name, "/") }) })
	}
	for i := range 24 {
		n := uint32(10 + i)
		s := policy.Sections{LoadBalancing: &policy.LoadBalancing{PanicThreshold: &n}}
		other := []string{"billing", "zeta"}[i/2%2] // before payments by name, and after it
		spoilt := badAssignment(t, "shop/"+other, i)
		switch i % 3 {
		case 1: // the cluster warms by a health check, with its assignment
			every := manifest.Duration("1s")
			path := "/healthz"
			s.HealthCheck = &policy.HealthCheck{HTTP: &policy.HTTPCheck{Path: &path}, Interval: &every}
		case 2: // a listener warms
			s = policy.Sections{AdaptiveConcurrency: &policy.AdaptiveConcurrency{MaxConcurrency: new(100 + n)}}
			spoilt = badRoutes(t, "shop/"+other, i)
		}
		u.publish(edited(s), spoilt)
		eventually(t, func() error {
			names, pending := u.rejected()
			if len(names) != 1 || names[0] != spoilt.ID().String() || pending > 0 {
				return fmt.Errorf("rejected are %v, %d are pending; want %s alone rejected", names, pending, spoilt.ID())
			}
			return nil
		})
	}
	u.publish(world.Changes{})
	eventually(t, func() error {
		if names, pending := u.rejected(); len(names) > 0 || pending > 0 {
			return fmt.Errorf("rejected are %v, %d are pending", names, pending)
		}
		return nil
	})
	for _, name := range called {
		orders.want(name, http.StatusOK)
	}
	stop()
	load.Wait()
	if sum := results.Take(); sum.SuccessPercent() < 100 {
		t.Errorf("of the calls %+v", sum)
	}
}
