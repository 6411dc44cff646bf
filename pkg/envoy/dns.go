package envoy

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	familyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/common/dns/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"

	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// A name server that says nothing holds a cluster back while it warms, and with it every listener of a proxy that starts: with Envoy's
// 5 s and 4 tries, which grow, that is over a minute.
const (
	dnsTimeout = 1 // seconds, of the first try
	dnsTries   = 2
)

// dnsExtension is the first Envoy 1 in which DNS is an extension; older ones have fields of the cluster, which are deprecated.
const dnsExtension = 39

// discover says where the hosts come from.
func (in input) discover(c *clusterv3.Cluster) {
	switch {
	case in.dns == nil:
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
		// The fetch timeout stays at Envoy's 15 s: a cluster whose assignment is lost on the way goes live with the one it had.
		c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: in.name}
		return
	case in.target.audience() == grpcClients:
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_LOGICAL_DNS} // it refuses any other
	case in.target.minor() < dnsExtension:
		in.strictDNS(c)
	default:
		c.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name: "envoy.clusters.dns", TypedConfig: pack(in.dnsCluster()),
		}}
	}
	c.LoadAssignment = in.named()
}

// named is the one endpoint that stands for what the name has in DNS.
func (in input) named() *endpointv3.ClusterLoadAssignment {
	address := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: in.dns.Host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: orElse(in.dns.Port, 0)},
	}}}
	endpoint := &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}}}
	return &endpointv3.ClusterLoadAssignment{
		ClusterName: in.name, Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{endpoint}}},
	}
}

// dnsCluster makes every address a host of its own. A name that can't be asked for is asked for again soon: its hosts stay meanwhile.
func (in input) dnsCluster() *dnsv3.DnsCluster {
	every := in.dns.Every()
	return &dnsv3.DnsCluster{
		DnsRefreshRate: durationpb.New(every), RespectDnsTtl: orElse(in.dns.RespectTTL, false), DnsJitter: durationpb.New(dnsJitter(every)),
		DnsFailureRefreshRate:  &dnsv3.DnsCluster_RefreshRate{BaseInterval: durationpb.New(dnsAgain(every)), MaxInterval: durationpb.New(every)},
		DnsLookupFamily:        familyv3.DnsLookupFamily_V4_PREFERRED,
		TypedDnsResolverConfig: in.nameServers(),
	}
}

// strictDNS is dnsCluster in the words of old Envoys.
func (in input) strictDNS(c *clusterv3.Cluster) {
	d := in.dnsCluster()
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
	c.DnsLookupFamily = clusterv3.Cluster_V4_PREFERRED
	c.TypedDnsResolverConfig = d.TypedDnsResolverConfig
	//lint:ignore SA1019 the Envoys that this is for know no other
	c.DnsRefreshRate, c.RespectDnsTtl, c.DnsJitter = d.DnsRefreshRate, d.RespectDnsTtl, d.DnsJitter
	//lint:ignore SA1019 likewise
	c.DnsFailureRefreshRate = &clusterv3.Cluster_RefreshRate{BaseInterval: d.DnsFailureRefreshRate.BaseInterval, MaxInterval: d.DnsFailureRefreshRate.MaxInterval}
}

// dnsJitter is how much later than every a name may be asked for: a tenth, of at least what Envoy can count.
func dnsJitter(every time.Duration) time.Duration {
	return max((every / 10).Truncate(time.Millisecond), time.Millisecond)
}

// dnsAgain is after how long at first a name is asked for again that could not be asked for.
func dnsAgain(every time.Duration) time.Duration { return min(time.Second, every) }

// nameServers is nil where the owner of the proxy has a say in it, unless the service names them.
func (in input) nameServers() *corev3.TypedExtensionConfig {
	if in.target.audience() == clustersOnly && len(in.dns.Resolvers) == 0 {
		return nil
	}
	c := &caresv3.CaresDnsResolverConfig{QueryTimeoutSeconds: wrapperspb.UInt64(dnsTimeout), QueryTries: wrapperspb.UInt32(dnsTries)}
	for _, at := range in.dns.Servers() {
		c.Resolvers = append(c.Resolvers, socketAddress(at))
	}
	return &corev3.TypedExtensionConfig{Name: "envoy.network.dns_resolver.cares", TypedConfig: pack(c)}
}

var dnsLines = []line{
	{field: "outlierDetection", on: grpcClients, when: foundByDNS, level: Unsupported, reason: oneLogicalHost, instead: endpointsInstead},
	{field: "circuitBreaker", on: grpcClients, when: foundByDNS, level: Unsupported, reason: oneLogicalHost, instead: endpointsInstead},
	{field: "loadBalancing", on: grpcClients, when: foundByDNS, level: Unsupported, reason: oneLogicalHost, instead: endpointsInstead},
}

const (
	oneLogicalHost   = "what DNS names is one host for a gRPC client, of whose addresses it uses one"
	endpointsInstead = "spec.endpoints in the Service, or endpoints that register"
)

func foundByDNS(in input, _ policy.Field) bool { return in.dns != nil }
