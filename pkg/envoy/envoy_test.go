package envoy

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

func payments(protocol catalog.Protocol) *catalog.Service {
	s := &catalog.Service{Metadata: manifest.Meta{Namespace: "shop", Name: "payments"}}
	s.Spec.Protocol = protocol
	return s
}

func compile(t *testing.T, target Target, s policy.Sections) Compiled {
	t.Helper()
	c, err := Service(target, payments(catalog.HTTP), &policy.Effective{Sections: s})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var sidecar = Target{Profile: "sidecar", Version: "1.40", Runtime: true}

func TestTrap25_SameInputSameBytes(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		g := readGolden(t, archive)
		first, err := Service(g.target, g.service, g.effective())
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			rand.Shuffle(len(g.policies), func(i, j int) { g.policies[i], g.policies[j] = g.policies[j], g.policies[i] })
			again, err := Service(g.target, g.service, g.effective())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first.Cluster.Wire, again.Cluster.Wire) || !bytes.Equal(wire(first.Route), wire(again.Route)) ||
				!slices.Equal(first.Limits, again.Limits) ||
				!slices.Equal(Report(g.target, g.service, g.effective()), Report(g.target, g.service, g.effective())) {
				t.Fatalf("%s: another result from the same input", file)
			}
		}
	}
}

// wire is what a resource has on the wire; nothing for none.
func wire(r *view.Resource) []byte {
	if r == nil {
		return nil
	}
	return r.Wire
}

func TestAssignmentDoesNotHangOnOrder(t *testing.T) {
	svc := payments(catalog.HTTP)
	svc.Spec.Port = new(uint32(80))
	var endpoints []catalog.Endpoint
	for i := range 40 {
		spec := catalog.EndpointSpec{Address: fmt.Sprintf("10.0.0.%d", i), Locality: &catalog.Locality{Zone: fmt.Sprint("z", i%3)}}
		endpoints = append(endpoints, catalog.Endpoint{ID: fmt.Sprint(i), Spec: spec})
	}
	// One address under two ids: the lowest id counts, whatever the order.
	endpoints = append(endpoints, catalog.Endpoint{ID: "zz", Spec: catalog.EndpointSpec{Address: "10.0.0.7", Health: catalog.Unhealthy}})
	first, err := Assignment(svc, endpoints)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		rand.Shuffle(len(endpoints), func(i, j int) { endpoints[i], endpoints[j] = endpoints[j], endpoints[i] })
		if again, err := Assignment(svc, endpoints); err != nil || !bytes.Equal(first.Wire, again.Wire) {
			t.Fatalf("another assignment from the same endpoints: %v", err)
		}
	}
	cla := messageOf(t, first).(*endpointv3.ClusterLoadAssignment)
	if got := len(cla.Endpoints); got != 3 {
		t.Errorf("%d localities, want 3", got)
	}
	total := 0
	for _, group := range cla.Endpoints {
		total += len(group.LbEndpoints)
	}
	if total != 40 {
		t.Errorf("%d endpoints, want 40", total)
	}
}

func TestAssignmentPrefersTheRegisteredEndpoint(t *testing.T) {
	svc := payments(catalog.HTTP)
	svc.Spec.Port = new(uint32(80))
	svc.Spec.Endpoints = []catalog.EndpointSpec{{Address: "10.0.0.1", Health: catalog.Healthy}}
	r, err := Assignment(svc, []catalog.Endpoint{{ID: "a", Spec: catalog.EndpointSpec{Address: "10.0.0.1", Port: new(uint32(80)), Health: catalog.Draining}}})
	if err != nil {
		t.Fatal(err)
	}
	hosts := messageOf(t, r).(*endpointv3.ClusterLoadAssignment).Endpoints[0].LbEndpoints
	if len(hosts) != 1 || hosts[0].HealthStatus.String() != "DRAINING" {
		t.Errorf("got %v, want the registered one alone", hosts)
	}
}

func TestAssignmentNamesTheBadEndpoint(t *testing.T) {
	for _, tt := range []struct {
		spec catalog.EndpointSpec
		want string
	}{
		{catalog.EndpointSpec{Address: "payments.local", Port: new(uint32(80))}, `endpoint "payments.local": the address is no IP address`},
		{catalog.EndpointSpec{Address: "10.0.0.1"}, "endpoint 10.0.0.1: it needs a port from 1 to 65535, its own or its service's"},
		{catalog.EndpointSpec{Address: "10.0.0.1", Port: new(uint32(70000))}, "endpoint 10.0.0.1: it needs a port from 1 to 65535, its own or its service's"},
	} {
		_, err := Assignment(payments(catalog.HTTP), []catalog.Endpoint{{ID: "a", Spec: tt.spec}})
		if err == nil || err.Error() != tt.want {
			t.Errorf("%+v: got %v, want %s", tt.spec, err, tt.want)
		}
	}
}

func TestNoEndpointsIsFine(t *testing.T) {
	r, err := Assignment(payments(catalog.HTTP), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.ID().String(); got != "EDS shop/payments" {
		t.Errorf("got %s", got)
	}
}

func TestResourcesNeedWhatTheyReferTo(t *testing.T) {
	c := compile(t, sidecar, policy.Sections{})
	if want := []view.ID{{Type: view.CDS, Name: "shop/payments"}}; !slices.Equal(c.Route.Needs, want) {
		t.Errorf("the route configuration needs %v, want %v", c.Route.Needs, want)
	}
	if len(c.Cluster.Needs) > 0 {
		t.Errorf("the cluster needs %v", c.Cluster.Needs)
	}
	scope := Scope("payments.shop", payments(catalog.HTTP).Key())
	if want := []view.ID{{Type: view.RDS, Name: "shop/payments"}}; !slices.Equal(scope.Needs, want) {
		t.Errorf("the scope needs %v, want %v", scope.Needs, want)
	}
	if scope.Name != "payments.shop" {
		t.Errorf("the scope is called %s", scope.Name)
	}
}

// An edit that has a gentler carrier must leave the Cluster's bytes alone: any changed byte costs ejections and connections.
func TestWhatLeavesTheClusterAlone(t *testing.T) {
	plain := compile(t, sidecar, policy.Sections{})
	d := func(s string) *manifest.Duration { return new(manifest.Duration(s)) }
	n := func(c uint32) *manifest.Count { return new(manifest.Count(c)) }
	for name, s := range map[string]policy.Sections{
		"limits":              {Limits: &policy.Limits{MaxRequests: n(5), MaxConnections: n(6), High: &policy.HighLimits{MaxRequests: n(7)}}},
		"budget":              {Retry: &policy.Retry{NumRetries: new(uint32(2)), Budget: &policy.Budget{Percent: new(uint32(50)), MinConcurrent: new(uint32(9))}}},
		"timeouts":            {Timeout: &policy.Timeout{Request: d("1s"), PerTry: d("100ms")}},
		"Envoy's own, stated": {Timeout: &policy.Timeout{Connect: d("5s"), ConnectionIdle: d("1h")}, LoadBalancing: &policy.LoadBalancing{Algorithm: new("round-robin"), PanicThreshold: new(uint32(50))}},
		"switched off":        {OutlierDetection: &policy.OutlierDetection{Disabled: new(true)}, Limits: &policy.Limits{Disabled: new(true), PerHost: &policy.PerHostLimits{MaxConnections: n(1)}}},
	} {
		if got := compile(t, sidecar, s); got.Cluster.Version != plain.Cluster.Version {
			t.Errorf("%s: the cluster changes:\n%s", name, cmp.Diff(string(jsonOf(t, plain.Cluster)), string(jsonOf(t, got.Cluster))))
		}
	}
	for name, s := range map[string]policy.Sections{
		"limits per host": {Limits: &policy.Limits{PerHost: &policy.PerHostLimits{MaxConnections: n(1)}}},
		"budget interval": {Retry: &policy.Retry{Budget: &policy.Budget{Interval: d("10s")}}},
		"connect timeout": {Timeout: &policy.Timeout{Connect: d("1s")}},
	} {
		if got := compile(t, sidecar, s); got.Cluster.Version == plain.Cluster.Version {
			t.Errorf("%s: the cluster stays, but nothing else carries it", name)
		}
	}
}

func TestBudgetEditUnderAnIntervalIsInPlace(t *testing.T) {
	budget := func(percent uint32) Compiled {
		return compile(t, sidecar, policy.Sections{Retry: &policy.Retry{Budget: &policy.Budget{Percent: &percent, Interval: new(manifest.Duration("10s"))}}})
	}
	a, b := budget(10), budget(40)
	if a.Cluster.Version != b.Cluster.Version {
		t.Error("the cluster changes with the percentage")
	}
	if slices.Equal(a.Limits, b.Limits) {
		t.Error("the runtime keys don't change with the percentage")
	}
}

func TestLayers(t *testing.T) {
	if got, want := strings.Join(LayerNames(), " "), "limits-0 limits-1 limits-2 limits-3 limits-4 limits-5 limits-6 limits-7"; got != want {
		t.Errorf("LayerNames = %s, want %s", got, want)
	}
	// FNV-1a 32 is part of the contract between versions: the same cluster must stay in its layer.
	for cluster, want := range map[string]int{"": 2166136261 % 8, "a": 0xe40c292c % 8, "foobar": 0xbf9cf968 % 8} {
		if got := LayerOf(cluster); got != want {
			t.Errorf("LayerOf(%q) = %d, want %d", cluster, got, want)
		}
	}
	r, err := Layer(3, []RuntimeKey{{"b", 2}, {"a", 4294967295}})
	if err != nil {
		t.Fatal(err)
	}
	m := messageOf(t, r).(*runtimev3.Runtime)
	if m.Name != "limits-3" || m.Layer.Fields["a"].GetNumberValue() != 4294967295 || m.Layer.Fields["b"].GetNumberValue() != 2 {
		t.Errorf("got %v", m)
	}
	for _, bad := range []int{-1, Layers} {
		if _, err := Layer(bad, nil); err == nil {
			t.Errorf("layer %d exists", bad)
		}
	}
	if _, err := Layer(0, []RuntimeKey{{"a", 1}, {"a", 2}}); err == nil {
		t.Error("a key was taken twice")
	}
	if r, err := Layer(0, nil); err != nil || r.Name != "limits-0" {
		t.Errorf("an empty layer: %v, %v", r, err)
	}
}

// A layer that is written by hand is what the generated code writes.
func TestLayerIsARuntime(t *testing.T) {
	for _, keys := range [][]RuntimeKey{nil, {{"a", 0}}, {{"b", 1}, {"c.d", math.MaxUint32}, {"a", 1024}}} {
		want := &runtimev3.Runtime{Name: "limits-7", Layer: &structpb.Struct{Fields: map[string]*structpb.Value{}}}
		for _, k := range keys {
			want.Layer.Fields[k.Key] = structpb.NewNumberValue(float64(k.Value))
		}
		made, err := Layer(7, keys)
		if err != nil {
			t.Fatal(err)
		}
		through, err := resource(view.RTDS, "limits-7", want)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(made.Wire, through.Wire) {
			t.Errorf("Layer(%v) = %x, want %x", keys, made.Wire, through.Wire)
		}
	}
}

func TestListenerAddress(t *testing.T) {
	for _, good := range []string{"127.0.0.1:15001", "[::1]:15001"} {
		if r, err := Listener(sidecar, good); err != nil || r.Name != Outbound {
			t.Errorf("Listener(%q): %v", good, err)
		}
	}
	for _, bad := range []string{"", "15001", "localhost:15001", "127.0.0.1:0", "127.0.0.1:70000", "127.0.0.1"} {
		if _, err := Listener(sidecar, bad); err == nil {
			t.Errorf("Listener(%q) is taken", bad)
		}
	}
}

func TestNothingInvalidBecomesAResource(t *testing.T) {
	good := func() *clusterv3.Cluster {
		return messageOf(t, compile(t, sidecar, policy.Sections{OutlierDetection: &policy.OutlierDetection{}}).Cluster).(*clusterv3.Cluster)
	}
	if _, err := resource(view.CDS, "a", good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*clusterv3.Cluster){
		"no name":           func(c *clusterv3.Cluster) { c.Name = "" },
		"percent over 100":  func(c *clusterv3.Cluster) { c.OutlierDetection.MaxEjectionPercent.Value = 101 },
		"negative duration": func(c *clusterv3.Cluster) { c.CommonLbConfig.UpdateMergeWindow = &durationpb.Duration{Seconds: -1} },
		"endless duration":  func(c *clusterv3.Cluster) { c.ConnectTimeout = &durationpb.Duration{Seconds: 9_300_000_000} },
		"overflowing nanos": func(c *clusterv3.Cluster) { c.ConnectTimeout = &durationpb.Duration{Seconds: 1, Nanos: 2_000_000_000} },
		"bad packed message": func(c *clusterv3.Cluster) {
			c.TypedExtensionProtocolOptions[httpProtocolOptions] = pack(&httpv3.HttpProtocolOptions{})
		},
		"negative duration, packed": func(c *clusterv3.Cluster) {
			options, err := c.TypedExtensionProtocolOptions[httpProtocolOptions].UnmarshalNew()
			if err != nil {
				t.Fatal(err)
			}
			options.(*httpv3.HttpProtocolOptions).CommonHttpProtocolOptions.IdleTimeout = &durationpb.Duration{Seconds: -1}
			c.TypedExtensionProtocolOptions[httpProtocolOptions] = pack(options)
		},
	} {
		c := good()
		if c.OutlierDetection.MaxEjectionPercent == nil {
			c.OutlierDetection.MaxEjectionPercent = threshold(new(uint32(1)))
		}
		spoil(c)
		if _, err := resource(view.CDS, "a", c); err == nil {
			t.Errorf("%s: became a resource", name)
		}
	}
	d := func(text string) *manifest.Duration { return new(manifest.Duration(text)) }
	for _, s := range []policy.Sections{
		{Retry: &policy.Retry{RetryOn: []string{"5xx"}, BackOff: &policy.BackOff{Base: d("2s"), Max: d("1s")}}},
		{OutlierDetection: &policy.OutlierDetection{BaseEjectionTime: d("2s"), MaxEjectionTime: d("1s")}},
	} {
		if _, err := Service(sidecar, payments(catalog.HTTP), &policy.Effective{Sections: s}); err == nil {
			t.Errorf("%+v: a maximum below its base became a resource", s)
		}
	}
	if _, err := Service(sidecar, &catalog.Service{}, &policy.Effective{Sections: policy.Sections{
		Timeout: &policy.Timeout{Request: new(manifest.Duration("-1s")), Connect: new(manifest.Duration("2562047h"))},
	}}); err != nil {
		t.Errorf("the longest connect timeout Go can hold: %v", err)
	}
}

func TestMethodsOfARoute(t *testing.T) {
	routes := func(retryOn []string, m policy.Methods) []*routev3.Route {
		c := compile(t, sidecar, policy.Sections{Retry: &policy.Retry{NumRetries: new(uint32(2)), RetryOn: retryOn, Methods: &m}})
		return messageOf(t, c.Route).(*routev3.RouteConfiguration).VirtualHosts[0].Routes
	}
	// What the second route may retry hangs on what the author asked for, never more.
	for token, want := range map[string]string{
		"5xx": "connect-failure,refused-stream", "gateway-error": "connect-failure,refused-stream", "reset": "connect-failure,refused-stream",
		"reset-before-request": "connect-failure,refused-stream", "retriable-4xx": "",
	} {
		got := routes([]string{token}, policy.Methods{Class: policy.MethodsSafe})
		if len(got) != 2 {
			t.Fatalf("%s: %d routes, want 2", token, len(got))
		}
		if on := got[1].GetRoute().GetRetryPolicy().GetRetryOn(); on != want {
			t.Errorf("%s: the other methods are retried on %q, want %q", token, on, want)
		}
		if !proto.Equal(got[0].Metadata, got[1].Metadata) || got[0].Name != got[1].Name {
			t.Errorf("%s: the two halves of a route differ in metadata or name", token)
		}
	}
	if got := routes([]string{"connect-failure", "refused-stream"}, policy.Methods{Class: policy.MethodsSafe}); len(got) != 1 {
		t.Errorf("%d routes though no condition needs a guard, want 1", len(got))
	}
	if got := routes([]string{"5xx"}, policy.Methods{Class: policy.MethodsAll}); len(got) != 1 {
		t.Errorf("%d routes for all methods, want 1", len(got))
	}
}

func BenchmarkService(b *testing.B) {
	sections := policy.Sections{
		Timeout:          &policy.Timeout{Request: new(manifest.Duration("1s"))},
		Retry:            &policy.Retry{NumRetries: new(uint32(2)), RetryOn: []string{"5xx"}, AvoidPreviousHosts: new(true), Methods: &policy.Methods{Class: policy.MethodsIdempotent}},
		OutlierDetection: &policy.OutlierDetection{Consecutive5xx: new(uint32(5))},
		Limits:           &policy.Limits{MaxRequests: new(manifest.Count(100))},
	}
	svc, eff := payments(catalog.HTTP), &policy.Effective{Sections: sections}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Service(sidecar, svc, eff); err != nil {
			b.Fatal(err)
		}
	}
}
