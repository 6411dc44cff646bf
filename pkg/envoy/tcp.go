package envoy

import (
	"net/netip"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// loopback is where applications reach tcp services.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// tcp reports whether the service has connections and no calls.
func (in input) tcp() bool { return in.protocol == catalog.TCP }

// tcpListener takes connections at a port of loopback and hands them to the cluster. No policy is in it.
func (in input) tcpListener(port uint32) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:            in.name,
		Address:         socketAddress(netip.AddrPortFrom(loopback, uint16(port))),
		EnableReusePort: wrapperspb.Bool(false), // as that of the other listener
		FilterChains: []*listenerv3.FilterChain{{
			Filters: []*listenerv3.Filter{{
				Name: "envoy.filters.network.tcp_proxy",
				ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(&tcpv3.TcpProxy{
					StatPrefix:       in.name,
					ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: in.name},
					IdleTimeout:      durationpb.New(0), // Envoy's own hour would be a limit that nobody asked for
				})},
			}},
		}},
	}
}

const onlyConnects = "of a tcp service only connections that can't be opened are failures"

// ofConnections are the fields that mean something where there are connections alone, with what is said of them there.
var ofConnections = []Fidelity{
	{Field: "timeout.connect", Level: Exact},
	{Field: "limits.maxConnections", Level: Exact},
	{Field: "limits.perHost", Level: Exact},
	{Field: "limits.maxPendingRequests", Level: Approximate, Reason: "it counts connections that are being opened"},
	{Field: "outlierDetection.detectDegradedHosts", Level: Unsupported, Reason: "a tcp service answers with no headers"},
	{Field: "outlierDetection.consecutive5xx", Level: Approximate, Reason: onlyConnects},
	{Field: "outlierDetection.consecutiveGatewayFailure", Level: Approximate, Reason: onlyConnects},
	{Field: "outlierDetection.successRate", Level: Approximate, Reason: onlyConnects},
	{Field: "outlierDetection.failurePercentage", Level: Approximate, Reason: onlyConnects},
	{Field: "outlierDetection", Level: Exact},
	{Field: "loadBalancing", Level: Exact},
	{Field: "healthCheck", Level: Exact},
}

// tcpFidelity speaks of a field of a policy for a tcp service.
func tcpFidelity(f policy.Field) (Fidelity, bool) {
	for _, d := range ofConnections {
		if below(f.Path, d.Field) {
			d.Field = f.Path
			return d, !f.Origin.Default
		}
	}
	d := Fidelity{Field: f.Path, Level: Unsupported, Reason: "a tcp service has connections, and no calls"}
	if strings.HasPrefix(f.Path, "limits.") {
		d.Instead = "limits.maxConnections"
	}
	return d, !f.Origin.Default
}
