package xds

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

func TestNodeBecomesAnIdentity(t *testing.T) {
	meta := func(m map[string]any) *structpb.Struct {
		s, err := structpb.NewStruct(m)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	base := world.ClassKey{Namespace: "shop", Service: "orders", Dialect: "envoy", Profile: "sidecar", Tier: "1.40", Outbound: "127.0.0.1:15001"}
	for _, tt := range []struct {
		name   string
		change func(*corev3.Node)
		want   func(*world.ClassKey)
	}{
		{"service and namespace", func(*corev3.Node) {}, func(*world.ClassKey) {}},
		{"service alone", func(n *corev3.Node) { n.Cluster = "web" }, func(k *world.ClassKey) { k.Service, k.Namespace = "web", "default" }},
		{"runtime layers", func(n *corev3.Node) { n.Metadata = meta(map[string]any{"breakwater.runtime": "8"}) }, func(k *world.ClassKey) { k.Runtime = true }},
		{"another number of layers", func(n *corev3.Node) { n.Metadata = meta(map[string]any{"breakwater.runtime": "4"}) }, func(*world.ClassKey) {}},
		{"profile and outbound", func(n *corev3.Node) {
			n.Metadata = meta(map[string]any{"breakwater.profile": "clusters-only", "breakwater.outbound": "127.0.0.1:9"})
		}, func(k *world.ClassKey) { k.Profile, k.Outbound = "clusters-only", "127.0.0.1:9" }},
		{"retries of the owner's", func(n *corev3.Node) {
			n.Metadata = meta(map[string]any{"breakwater.profile": "clusters-only", "breakwater.retry": "own"})
		}, func(k *world.ClassKey) { k.Profile, k.OwnRetries = "clusters-only", true }},
		{"retries of the owner's where the routes are ours", func(n *corev3.Node) { n.Metadata = meta(map[string]any{"breakwater.retry": "own"}) }, func(*world.ClassKey) {}},
		{"at the edge", func(n *corev3.Node) { n.Metadata = meta(map[string]any{"breakwater.edge": "true"}) }, func(k *world.ClassKey) { k.Edge = true }},
		{"at the edge, as YAML has it", func(n *corev3.Node) { n.Metadata = meta(map[string]any{"breakwater": map[string]any{"edge": true}}) }, func(k *world.ClassKey) { k.Edge = true }},
		{"not at the edge", func(n *corev3.Node) { n.Metadata = meta(map[string]any{"breakwater.edge": false}) }, func(*world.ClassKey) {}},
		{"at the edge with listeners of the owner's", func(n *corev3.Node) {
			n.Metadata = meta(map[string]any{"breakwater.profile": "clusters-only", "breakwater.edge": true})
		}, func(k *world.ClassKey) { k.Profile = "clusters-only" }},
		{"nested metadata", func(n *corev3.Node) {
			n.Metadata = meta(map[string]any{"breakwater": map[string]any{"runtime": "8", "outbound": "127.0.0.1:9"}})
		}, func(k *world.ClassKey) { k.Runtime, k.Outbound = true, "127.0.0.1:9" }},
		{"metadata of another kind", func(n *corev3.Node) { n.Metadata = meta(map[string]any{"breakwater.profile": 7, "breakwater": "x"}) }, func(*world.ClassKey) {}},
		{"gRPC", func(n *corev3.Node) {
			n.UserAgentName = "gRPC Go"
			n.UserAgentVersionType = &corev3.Node_UserAgentVersion{UserAgentVersion: "1.85.0"}
		}, func(k *world.ClassKey) { k.Dialect, k.Profile, k.Tier = "grpc", "grpc", "1.85" }},
		{"agent", func(n *corev3.Node) {
			n.UserAgentName = "breakwater-agent"
			n.Metadata = meta(map[string]any{"breakwater.profile": "sidecar"})
		}, func(k *world.ClassKey) { k.Dialect, k.Profile = "agent", "agent" }},
		{"no version", func(n *corev3.Node) { n.UserAgentVersionType = nil }, func(k *world.ClassKey) { k.Tier = "" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, want := ordersNode(), base
			tt.change(n)
			tt.want(&want)
			got, err := identify(n)
			if err != nil || got.key != want {
				t.Errorf("identify = %+v, %v, want %+v", got.key, err, want)
			}
		})
	}
	if got, _ := identify(ordersNode()); got.version != "1.40.0" || got.node != "orders-1" {
		t.Errorf("identify = %+v, want version 1.40.0 of orders-1", got)
	}
}

func TestBadNodesAreRefusedByField(t *testing.T) {
	meta := func(key, value string) *structpb.Struct {
		return &structpb.Struct{Fields: map[string]*structpb.Value{key: structpb.NewStringValue(value)}}
	}
	for _, tt := range []struct {
		name   string
		change func(*corev3.Node)
		want   string
	}{
		{"no id", func(n *corev3.Node) { n.Id = "" }, "node.id is empty"},
		{"control characters", func(n *corev3.Node) { n.Id = "a\nb" }, "node.id"},
		{"long id", func(n *corev3.Node) { n.Id = strings.Repeat("x", 300) }, "node.id"},
		{"no cluster", func(n *corev3.Node) { n.Cluster = "" }, "node.cluster is empty"},
		{"three parts", func(n *corev3.Node) { n.Cluster = "a.b.c" }, "node.cluster"},
		{"empty namespace", func(n *corev3.Node) { n.Cluster = "orders." }, "node.cluster"},
		{"no label", func(n *corev3.Node) { n.Cluster = "../etc" }, "node.cluster"},
		{"another agent", func(n *corev3.Node) { n.UserAgentName = "curl" }, "node.user_agent_name"},
		{"another profile", func(n *corev3.Node) { n.Metadata = meta("breakwater.profile", "x") }, `"x" of node.metadata`},
		{"a gRPC client's profile", func(n *corev3.Node) { n.Metadata = meta("breakwater.profile", "grpc") }, `"grpc" of node.metadata`},
		{"no address", func(n *corev3.Node) { n.Metadata = meta("breakwater.outbound", "localhost:1") }, `"localhost:1" of node.metadata`},
		{"no port", func(n *corev3.Node) { n.Metadata = meta("breakwater.outbound", "127.0.0.1:0") }, `"127.0.0.1:0" of node.metadata`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := ordersNode()
			tt.change(n)
			_, err := identify(n)
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("identify = %v, want InvalidArgument and %q", err, tt.want)
			}
		})
	}
	if _, err := identify(nil); status.Code(err) != codes.InvalidArgument {
		t.Errorf("identify(nil) = %v, want InvalidArgument", err)
	}
}

func TestIdentityIsFixedForTheLifeOfAStream(t *testing.T) {
	for name, change := range map[string]func(*corev3.Node){
		"node.id":      func(n *corev3.Node) { n.Id = "payments-1" },
		"node.cluster": func(n *corev3.Node) { n.Cluster = "payments.shop" },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, shop{}.head(1), Config{})
			c := r.connect()
			c.subscribe(view.LDS)
			c.want("LDS outbound")
			c.node = ordersNode()
			c.subscribe(view.RTDS, "limits-0") // the same node once more is fine
			c.want("RTDS limits-0")
			c.node = ordersNode()
			change(c.node)
			c.subscribe(view.CDS)
			c.ended(codes.InvalidArgument, name+" changed from")
		})
	}
}

func TestAFirstRequestWithoutNodeIsRefused(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.node = nil
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: view.CDS.URL()})
	c.ended(codes.InvalidArgument, "no node")
}
