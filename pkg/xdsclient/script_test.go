package xdsclient

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// script is a server that says what a test tells it to.
type script struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	t      *testing.T
	greets bool // says an empty answer for clusters at the beginning of each stream

	mu       sync.Mutex
	streams  int
	stream   grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse] // the present one
	end      chan struct{}
	requests []*discoveryv3.DeltaDiscoveryRequest // of the present stream
	nonce    int
}

func startScript(t *testing.T, n *network, name string, options ...grpc.ServerOption) *script {
	t.Helper()
	s := &script{t: t}
	g := grpc.NewServer(options...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
	lis := n.listen(name)
	var running sync.WaitGroup
	running.Go(func() { _ = g.Serve(lis) })
	t.Cleanup(func() { g.Stop(); running.Wait() })
	return s
}

func (s *script) DeltaAggregatedResources(g grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) error {
	end := make(chan struct{})
	if s.greets {
		if err := g.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: view.CDS.URL(), Nonce: "greeting"}); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.stream, s.end, s.requests = g, end, nil
	s.streams++
	s.mu.Unlock()
	go func() {
		for {
			m, err := g.Recv()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.requests = append(s.requests, m)
			s.mu.Unlock()
		}
	}()
	select {
	case <-end:
		return status.Error(codes.Unavailable, "told to hang up")
	case <-g.Context().Done():
		return nil
	}
}

func (s *script) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.end)
}

// asked are the requests of a type on the present stream.
func (s *script) asked(t view.Type) []*discoveryv3.DeltaDiscoveryRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*discoveryv3.DeltaDiscoveryRequest
	for _, m := range s.requests {
		if m.GetTypeUrl() == t.URL() {
			list = append(list, m)
		}
	}
	return list
}

// say sends one response and returns the text with which it is rejected, "" where it is accepted.
func (s *script) say(typ view.Type, gone []string, messages ...named) string {
	s.t.Helper()
	s.nonce++
	m := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typ.URL(), Nonce: fmt.Sprint(s.nonce), RemovedResources: gone}
	for _, r := range messages {
		body, err := anypb.New(r.message)
		if err != nil {
			s.t.Fatal(err)
		}
		m.Resources = append(m.Resources, &discoveryv3.Resource{Name: r.name, Version: r.version, Resource: body})
	}
	if err := s.stream.Send(m); err != nil {
		s.t.Fatal(err)
	}
	synctest.Wait()
	for _, q := range s.asked(typ) {
		if q.GetResponseNonce() == m.Nonce {
			return q.GetErrorDetail().GetMessage()
		}
	}
	s.t.Fatalf("%s: no answer", typ)
	return ""
}

func (s *script) mustSay(typ view.Type, gone []string, messages ...named) {
	s.t.Helper()
	if text := s.say(typ, gone, messages...); text != "" {
		s.t.Fatalf("%s is rejected: %s", typ, text)
	}
}

type named struct {
	name, version string
	message       proto.Message
}

func source() *corev3.ConfigSource {
	return &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
}

func clusterOf(name string, connect time.Duration) named {
	return named{name, connect.String(), &clusterv3.Cluster{
		Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}, ConnectTimeout: durationpb.New(connect),
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: source()},
	}}
}

func hostsOf(name string, ports ...uint32) named {
	a := &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{}}}
	for _, p := range ports {
		address := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: "10.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: p}}}}
		a.Endpoints[0].LbEndpoints = append(a.Endpoints[0].LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}}})
	}
	return named{name, fmt.Sprint(ports), a}
}

func routesOf(name string, clusters ...string) named {
	c := &routev3.RouteConfiguration{Name: name}
	for _, cluster := range clusters {
		c.VirtualHosts = append(c.VirtualHosts, &routev3.VirtualHost{Name: cluster, Domains: []string{cluster}, Routes: []*routev3.Route{{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}}},
		}}})
	}
	return named{name, strings.Join(clusters, "+"), c}
}

func listenerOf(name, routes string, port uint32) named {
	pack := func(m proto.Message) *anypb.Any { a, _ := anypb.New(m); return a }
	hcm := &hcmv3.HttpConnectionManager{
		StatPrefix:     name,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: source(), RouteConfigName: routes}},
		HttpFilters:    []*hcmv3.HttpFilter{{Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&routerv3.Router{})}}},
	}
	return named{name, routes, &listenerv3.Listener{
		Name: name,
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}}}},
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "hcm", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(hcm)}}}}},
	}}
}

// lenient takes pings as often as Envoy sends them.
func lenient() grpc.ServerOption {
	return grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 4 * time.Second, PermitWithoutStream: true})
}

// talking is a scripted server and an agent that follows it, without runtime layers.
func talking(t *testing.T, change func(*Config)) (*script, *agent, *network) {
	t.Helper()
	n := &network{}
	s := startScript(t, n, "one:1", lenient())
	a := startAgent(t, n, func(c *Config) {
		c.Layers = nil
		if change != nil {
			change(c)
		}
	})
	synctest.Wait()
	return s, a, n
}

// small is a world of one listener, its routes, and two clusters.
func (s *script) small() {
	s.t.Helper()
	s.mustSay(view.CDS, nil, clusterOf("a", time.Second), clusterOf("b", time.Second))
	s.mustSay(view.EDS, nil, hostsOf("a", 1), hostsOf("b", 2))
	s.mustSay(view.LDS, nil, listenerOf("in", "main", 1000))
	s.mustSay(view.RDS, nil, routesOf("main", "a", "b"))
}

func TestFirstMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, _ := talking(t, nil)
		s.small()
		first := s.requests[0]
		if n := first.GetNode(); n.GetId() != "orders-1" || n.GetUserAgentName() != "breakwater-agent" || n.GetCluster() != "orders.shop" {
			t.Errorf("node %v", n)
		}
		for _, m := range s.requests[1:] {
			if m.GetNode() != nil {
				t.Errorf("the node is said again, with %s", m.GetTypeUrl())
			}
		}
		if m := s.asked(view.CDS)[0]; len(m.GetResourceNamesSubscribe()) != 0 {
			t.Errorf("clusters are asked for by name: %v", m)
		}
		if m := s.asked(view.EDS)[0]; !slices.Equal(m.GetResourceNamesSubscribe(), []string{"a", "b"}) {
			t.Errorf("assignments asked for: %v", m)
		}
		if m := s.asked(view.RDS)[0]; !slices.Equal(m.GetResourceNamesSubscribe(), []string{"main"}) {
			t.Errorf("routes asked for: %v", m)
		}
		if table := a.now(); len(table.Clusters) != 2 || table.Listeners["in"].HTTP.Routes == nil {
			t.Errorf("table %+v", table)
		}
		s.hangUp()
		settleDown()
		for typ, want := range map[view.Type]int{view.CDS: 2, view.EDS: 2, view.LDS: 1, view.RDS: 1} {
			if m := s.asked(typ)[0]; len(m.GetInitialResourceVersions()) != want {
				t.Errorf("%s after a reconnect: versions %v", typ, m.GetInitialResourceVersions())
			}
		}
		if m := s.asked(view.RDS)[0]; m.GetInitialResourceVersions()["main"] != "a+b" {
			t.Errorf("versions %v", m.GetInitialResourceVersions())
		}
	})
}

func TestAFreshStreamEmptiesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, _ := talking(t, nil)
		s.small()
		table := a.now()
		s.hangUp()
		settleDown()
		s.mustSay(view.LDS, []string{"in"}) // a server that has read nothing yet
		s.mustSay(view.RDS, []string{"main"})
		settleDown()
		if a.now() != table {
			t.Fatalf("the table changed before the clusters were answered: %+v", a.now())
		}
		s.mustSay(view.CDS, []string{"a", "b"}) // it really means it
		settleDown()
		if got := a.now(); len(got.Listeners)+len(got.Clusters)+len(got.Routes) != 0 {
			t.Errorf("left over: %+v", got)
		}
	})
}

func TestAClusterInUseStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, _ := talking(t, nil)
		s.small()
		s.mustSay(view.CDS, []string{"b"})
		s.mustSay(view.EDS, []string{"b"})
		time.Sleep(time.Hour)
		if c := a.now().Clusters["b"]; c == nil || len(c.Hosts) != 1 {
			t.Fatalf("a cluster that routes lead to is gone or empty: %+v", c)
		}
		s.mustSay(view.RDS, nil, routesOf("main", "a"))
		settleDown()
		if a.now().Clusters["b"] != nil {
			t.Error("it is still there after the routes moved")
		}
		if last := s.asked(view.EDS); !slices.Contains(last[len(last)-1].GetResourceNamesUnsubscribe(), "b") {
			t.Errorf("its assignment is still subscribed: %v", last[len(last)-1])
		}
	})
}

func TestNewRoutesWaitForTheirClusters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, _ := talking(t, nil)
		s.small()
		s.mustSay(view.RDS, nil, routesOf("main", "a", "c"))
		settleDown()
		if got := len(a.now().Routes["main"].Hosts); got != 2 || a.now().Routes["main"].Hosts[1].Name != "b" {
			t.Errorf("routes lead to a cluster that is not there")
		}
		s.mustSay(view.CDS, nil, clusterOf("c", time.Second))
		if a.now().Clusters["c"] != nil {
			t.Error("a cluster is live without its hosts")
		}
		s.mustSay(view.EDS, nil, hostsOf("c", 3))
		if a.now().Clusters["c"] == nil || a.now().Routes["main"].Hosts[1].Name != "c" {
			t.Error("the routes did not follow")
		}
		s.mustSay(view.RDS, nil, routesOf("main", "a", "never"))
		time.Sleep(patience - time.Second)
		if a.now().Routes["main"].Hosts[1].Name != "c" {
			t.Error("not waited for")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if a.now().Routes["main"].Hosts[1].Name != "never" {
			t.Error("waited for too long")
		}
	})
}

func TestAChangedClusterIsUsedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, _ := talking(t, nil)
		s.small()
		other := a.now().Clusters["b"]
		s.mustSay(view.CDS, nil, clusterOf("a", 3*time.Second))
		c := a.now().Clusters["a"]
		if c.ConnectTimeout != 3*time.Second || len(c.Hosts) != 1 {
			t.Errorf("cluster %+v", c)
		}
		s.mustSay(view.EDS, nil, hostsOf("a", 1)) // as servers say it for Envoy
		if a.now().Clusters["a"] != c || a.now().Clusters["b"] != other {
			t.Error("an unchanged assignment built a cluster anew")
		}
	})
}

func TestAnAssignmentThatDoesNotExist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, _ := talking(t, nil)
		s.mustSay(view.CDS, nil, clusterOf("a", time.Second), clusterOf("b", time.Second))
		s.mustSay(view.EDS, []string{"a"})
		if a.now().Clusters["a"] == nil || a.now().Clusters["b"] != nil {
			t.Errorf("clusters %v", a.now().Clusters)
		}
		time.Sleep(patience + time.Second)
		if c := a.now().Clusters["b"]; c == nil || len(c.Hosts) != 0 {
			t.Errorf("a cluster whose assignment never came: %+v", c)
		}
	})
}

func TestRejectsByField(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, _ := talking(t, nil)
		s.small()
		bad := clusterOf("a", time.Second)
		bad.message.(*clusterv3.Cluster).LbPolicy = clusterv3.Cluster_LOAD_BALANCING_POLICY_CONFIG
		text := s.say(view.CDS, nil, bad, clusterOf("b", 9*time.Second))
		if want := "CDS a: cluster.lb_policy: LOAD_BALANCING_POLICY_CONFIG is not enforced by this agent"; text != want {
			t.Errorf("rejected with %q, want %q", text, want)
		}
		if a.now().Clusters["a"].ConnectTimeout != time.Second || a.now().Clusters["b"].ConnectTimeout != 9*time.Second {
			t.Error("the good one beside the bad one is not in force, or the bad one is")
		}
		if a.Status().LastNACK != text {
			t.Errorf("status %+v", a.Status())
		}
		s.hangUp()
		settleDown()
		if v := s.asked(view.CDS)[0].GetInitialResourceVersions(); v["a"] != "1s" || v["b"] != "9s" {
			t.Errorf("versions %v", v)
		}
		if text := s.say(view.CDS, nil, clusterOf("a", time.Second), clusterOf("a", time.Second)); !strings.Contains(text, "twice") {
			t.Errorf("a name that is there twice: %q", text)
		}
		if text := s.say(view.EDS, nil, clusterOf("a", time.Second)); !strings.Contains(text, "is of type") {
			t.Errorf("a cluster for an assignment: %q", text)
		}
	})
}

// TestRejectsWhatWaits has a fault in a cluster whose hosts are yet to come: its own response is the one that is rejected.
func TestRejectsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fault := dataplane.Fault{ID: view.ID{Type: view.CDS, Name: "c"}, Field: "transport_socket", Reason: "no such file"}
		s, a, _ := talking(t, func(c *Config) {
			c.Check = func(r dataplane.Resources) []dataplane.Fault {
				if r.Get(fault.ID) != nil {
					return []dataplane.Fault{fault}
				}
				return nil
			}
		})
		a.consumer.refuse = func(r dataplane.Resources) []dataplane.Fault {
			if r.Get(fault.ID) != nil {
				return []dataplane.Fault{fault}
			}
			return nil
		}
		s.small()
		if text := s.say(view.CDS, nil, clusterOf("c", time.Second), clusterOf("d", time.Second)); text != "CDS c: transport_socket: no such file" {
			t.Errorf("rejected with %q", text)
		}
		s.mustSay(view.EDS, nil, hostsOf("d", 3))
		if c := a.now().Clusters; c["c"] != nil || c["d"] == nil {
			t.Errorf("in force: c %v, d %v; want d alone", c["c"], c["d"])
		}
		if w := a.Status().Waiting; w != 0 {
			t.Errorf("%d resources wait, want none", w)
		}
		fault.ID.Name = "" // the file is there
		s.mustSay(view.CDS, nil, clusterOf("c", 2*time.Second))
		s.mustSay(view.EDS, nil, hostsOf("c", 4))
		if a.now().Clusters["c"] == nil {
			t.Error("the mended cluster is not in force")
		}
	})
}

// TestAConsumerThatBlamesNobody refuses a change without naming it.
func TestAConsumerThatBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusing := false
		s, a, _ := talking(t, func(c *Config) {
			apply := c.Apply
			c.Apply = func(r dataplane.Resources) []dataplane.Fault {
				if refusing {
					return []dataplane.Fault{{Field: "all", Reason: "no"}}
				}
				return apply(r)
			}
		})
		s.small()
		refusing = true
		if text := s.say(view.CDS, nil, clusterOf("a", 5*time.Second)); !strings.Contains(text, "all: no") {
			t.Errorf("rejected with %q", text)
		}
		refusing = false
		s.mustSay(view.CDS, nil, clusterOf("b", 6*time.Second))
		if c := a.now().Clusters; c["a"].ConnectTimeout != time.Second || c["b"].ConnectTimeout != 6*time.Second {
			t.Errorf("in force: a %v, b %v", c["a"].ConnectTimeout, c["b"].ConnectTimeout)
		}
	})
}

func TestGivesUpOnASilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{}
		silent, other := startScript(t, n, "one:1"), startScript(t, n, "two:1")
		a := startAgent(t, n, func(c *Config) { c.Layers, c.Servers = nil, []string{"one:1", "two:1"} })
		time.Sleep(quiet + time.Second)
		synctest.Wait()
		if silent.streams != 1 || other.streams != 1 || a.Status().Server != "two:1" || !strings.Contains(a.Status().LastError, "no answer") {
			t.Errorf("streams %d and %d, status %+v", silent.streams, other.streams, a.Status())
		}
		other.small()
		if !a.Status().Connected {
			t.Errorf("status %+v", a.Status())
		}
	})
}

// TestAnyOrder says the same world in every order that chance finds, in pieces and with detours, and wants the same table.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			s, a, _ := talking(t, nil)
			chance := rand.New(rand.NewPCG(seed, 7))
			type step struct {
				typ  view.Type
				gone []string
				set  []named
			}
			// The steps of one type keep their order, as a server's do.
			queues := [][]step{
				{{typ: view.CDS, set: []named{clusterOf("a", time.Second), clusterOf("old", time.Second)}}, {typ: view.CDS, set: []named{clusterOf("b", 2*time.Second)}},
					{typ: view.CDS, gone: []string{"old"}}},
				{{typ: view.EDS, set: []named{hostsOf("b", 2)}}, {typ: view.EDS, set: []named{hostsOf("a", 1), hostsOf("old", 9)}}, {typ: view.EDS, set: []named{hostsOf("a", 1, 3)}}},
				{{typ: view.LDS, set: []named{listenerOf("in", "main", 1000)}}, {typ: view.LDS, set: []named{listenerOf("two", "side", 1001)}}},
				{{typ: view.RDS, set: []named{routesOf("main", "a", "old")}}, {typ: view.RDS, set: []named{routesOf("side", "b"), routesOf("main", "a", "b")}}},
			}
			for left := 10; left > 0; left-- {
				i := chance.IntN(len(queues))
				for len(queues[i]) == 0 {
					i = (i + 1) % len(queues)
				}
				q := queues[i][0]
				queues[i] = queues[i][1:]
				s.mustSay(q.typ, q.gone, q.set...)
				if chance.IntN(4) == 0 {
					time.Sleep(time.Duration(chance.IntN(20)) * time.Second)
				}
			}
			time.Sleep(patience + time.Second)
			synctest.Wait()
			table := a.now()
			if len(table.Clusters) != 2 || len(table.Clusters["a"].Hosts) != 2 || len(table.Clusters["b"].Hosts) != 1 {
				t.Errorf("seed %d: clusters %v", seed, table.Clusters)
			}
			if len(table.Routes) != 2 || len(table.Routes["main"].Hosts) != 2 || table.Routes["main"].Hosts[1].Name != "b" {
				t.Errorf("seed %d: routes %v", seed, table.Routes)
			}
			if table.Listeners["in"].HTTP.Routes != table.Routes["main"] || table.Listeners["two"].HTTP.Routes != table.Routes["side"] {
				t.Errorf("seed %d: listeners %v", seed, table.Listeners)
			}
			if st := a.Status(); st.Waiting != 0 || st.LastNACK != "" {
				t.Errorf("seed %d: status %+v", seed, st)
			}
		})
	}
}

// TestPingsLessWhereTheServerAsks follows a server that takes a ping in five minutes, gRPC's default.
func TestPingsLessWhereTheServerAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{}
		s := startScript(t, n, "one:1")
		s.greets = true
		a := startAgent(t, n, func(c *Config) { c.Layers = nil })
		synctest.Wait()
		s.small()
		time.Sleep(time.Hour)
		synctest.Wait()
		streams := s.streams
		s.mustSay(view.CDS, nil, clusterOf("a", 7*time.Second))
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if s.streams != streams || a.now().Clusters["a"].ConnectTimeout != 7*time.Second {
			t.Errorf("%d streams, then %d", streams, s.streams)
		}
	})
}

func TestNewNamesEveryFault(t *testing.T) {
	_, err := New(Config{Servers: []string{"nowhere"}})
	for _, want := range []string{"nowhere", "node id", "node cluster", "applies"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}
