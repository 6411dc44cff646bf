package envoy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	internalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// A fault filter before the router would be seen by neither retries nor ejection. So a route with faults leads to another cluster,
// whose one host is a listener within the proxy; that one injects the faults, and sends on to the service's own cluster, which knows
// nothing of all this. Cluster, listener and its routes have one name. Only its routes hold the fault, so that an edit acts in place.

const (
	faultFilter = "breakwater.fault"
	faultSuffix = "~fault"
)

// faulty is the cluster that a route's calls to b go to: b's own, or where the route has faults the one by way of which they get them.
func (r routed) faulty(b backend) string {
	if r.sections.Fault == nil {
		return b.cluster
	}
	name := b.cluster + faultSuffix
	if r.apart {
		name += "~" + r.spec.Name
	}
	if service, _, _ := strings.Cut(b.cluster, "|"); service != r.name {
		name += "~" + r.name
	}
	r.faults[name] = b.cluster
	return name
}

// addFaults adds what carries the faults of routes, which must have been made.
func (out *Compiled) addFaults(t Target, clusters []input, routes []routed) error {
	seen := map[string]bool{}
	for _, r := range routes {
		for _, name := range slices.Sorted(maps.Keys(r.faults)) {
			if seen[name] {
				continue
			}
			seen[name] = true
			if err := out.addFault(t, clusters, routes, r, name); err != nil {
				return fmt.Errorf("fault %s: %w", name, err)
			}
		}
	}
	return nil
}

func (out *Compiled) addFault(t Target, clusters []input, routes []routed, r routed, name string) error {
	to := r.faults[name]
	in := r.input // of another service's cluster no more is known here
	if i := slices.IndexFunc(clusters, func(c input) bool { return c.name == to }); i >= 0 {
		in = clusters[i]
	}
	in.name = to
	in.leadHere(routes)
	in = in.standIn(name)
	for _, part := range []struct {
		typ   view.Type
		m     message
		needs []view.ID
	}{
		{view.CDS, in.faultCluster(), nil},
		{view.LDS, faultListener(name), []view.ID{{Type: view.CDS, Name: to}, {Type: view.RDS, Name: name}}},
		{view.RDS, r.faultRoutes(name, to), []view.ID{{Type: view.CDS, Name: to}}},
	} {
		made, err := t.resource(part.typ, name, part.m, part.needs...)
		if err != nil {
			return err
		}
		out.Faults = append(out.Faults, made)
	}
	out.Limits = append(out.Limits, in.limitKeys()...)
	return nil
}

// needFaults are what a route with faults needs to be there first.
func needFaults(routes []routed) []view.ID {
	var ids []view.ID
	for _, r := range routes {
		for name := range r.faults {
			for _, t := range []view.Type{view.CDS, view.LDS, view.RDS} {
				if id := (view.ID{Type: t, Name: name}); !slices.Contains(ids, id) {
					ids = append(ids, id)
				}
			}
		}
	}
	return ids
}

// standIn is the input of a cluster that stands in for in's: its limits, detectors and failures are the same, but of how to reach
// and choose hosts there is nothing.
func (in input) standIn(name string) input {
	in.name, in.tls, in.dns, in.sections.HealthCheck = name, nil, nil, nil
	if lb := in.sections.LoadBalancing; lb != nil {
		in.sections.LoadBalancing = &policy.LoadBalancing{PanicThreshold: lb.PanicThreshold, FailTrafficOnPanic: lb.FailTrafficOnPanic}
	}
	return in
}

// faultCluster has the listener of its name as its one host.
func (in input) faultCluster() *clusterv3.Cluster {
	c := in.cluster()
	c.ClusterDiscoveryType, c.EdsClusterConfig = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}, nil
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{ClusterName: in.name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
				AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: in.name},
			}}},
		}}}},
	}}}
	raw := socket("envoy.transport_sockets.raw_buffer", &rawv3.RawBuffer{})
	c.TransportSocket = socket("envoy.transport_sockets.internal_upstream", &internalv3.InternalUpstreamTransport{TransportSocket: raw})
	return c
}

func socket(name string, config proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{Name: name, ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(config)}}
}

// faultListener is as transparent as the one that applications call.
func faultListener(name string) *listenerv3.Listener {
	m := connectionManager(false, nil)
	m.StatPrefix, m.LocalReplyConfig = name, nil
	m.RouteSpecifier = &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads(), RouteConfigName: name}}
	m.HttpFilters = []*hcmv3.HttpFilter{
		httpFilter(faultFilter, &faultv3.HTTPFault{}),
		httpFilter("envoy.filters.http.header_mutation", restoreForwardedProto()),
		httpFilter("envoy.filters.http.router", &routerv3.Router{SuppressEnvoyHeaders: true}),
	}
	return &listenerv3.Listener{
		Name:              name,
		ListenerSpecifier: &listenerv3.Listener_InternalListener{InternalListener: &listenerv3.Listener_InternalListenerConfig{}},
		FilterChains: []*listenerv3.FilterChain{{
			Filters: []*listenerv3.Filter{{
				Name: "envoy.filters.network.http_connection_manager", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(m)},
			}},
		}},
	}
}

// faultRoutes send on what the fault lets through. What they do not say, the route of the call has said already.
func (r routed) faultRoutes(name, to string) *routev3.RouteConfiguration {
	action := &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: to}, Timeout: durationpb.New(0), HashPolicy: hashPolicy(r.hashOn),
	}
	if r.high() {
		action.Priority = corev3.RoutingPriority_HIGH
	}
	return &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{{
		Name: name, Domains: []string{"*"},
		Routes: []*routev3.Route{{
			Name: r.spec.Name, Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_Route{Route: action}, TypedPerFilterConfig: r.faultConfig(),
		}},
	}}}
}

// faultConfig is nil where there are no faults.
func (in input) faultConfig() configured {
	x := in.sections.Fault
	if x == nil {
		return nil
	}
	out := &faultv3.HTTPFault{}
	if a := x.Abort; a != nil {
		out.Abort = &faultv3.FaultAbort{Percentage: hundredths(a.Percent)}
		if a.GRPCStatus != nil {
			out.Abort.ErrorType = &faultv3.FaultAbort_GrpcStatus{GrpcStatus: policy.GRPCCode(*a.GRPCStatus)}
		} else {
			out.Abort.ErrorType = &faultv3.FaultAbort_HttpStatus{HttpStatus: orElse(a.Status, 503)}
		}
	}
	if d := x.Delay; d != nil {
		out.Delay = &commonv3.FaultDelay{
			FaultDelaySecifier: &commonv3.FaultDelay_FixedDelay{FixedDelay: duration(d.Duration)}, Percentage: hundredths(d.Percent),
		}
	}
	var c configured
	c.add(faultFilter, out)
	return c
}

func hundredths(percent *uint32) *typev3.FractionalPercent {
	return &typev3.FractionalPercent{Numerator: orElse(percent, 100), Denominator: typev3.FractionalPercent_HUNDRED}
}

var faultLines = []line{
	{field: "fault", on: clustersOnly, level: Unsupported, reason: ownersRoutes, instead: "a fault filter in the owner's listener, which neither retries nor ejection see"},
	{field: "fault", on: grpcClients, level: Approximate,
		reason: "it hits calls, not tries: nothing is retried or ejected because of it, and a delay is over before timeout.request begins"},
	{field: "fault", on: sidecars | agents, always: true, inherent: true, level: Approximate,
		reason: "while it is on, ejection sees the service as one host, and a host that can't be reached as one that answers 503"},
}
