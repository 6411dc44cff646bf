package envoy

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/types/known/wrapperspb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Assignments are the assignments of svc and then of its subsets, by name: see Assignment. There are none where the proxies find the
// endpoints by DNS.
func (t Target) Assignments(svc *catalog.Service, endpoints []catalog.Endpoint) ([]*view.Resource, error) {
	if catalog.DNSOf(svc) != nil {
		return nil, nil
	}
	hosts, err := hostsOf(svc, endpoints)
	if err != nil {
		return nil, err
	}
	own, err := assignment(t.ClusterName(svc, ""), hosts)
	list := []*view.Resource{own}
	for _, subset := range slices.Sorted(maps.Keys(svc.Spec.Subsets)) {
		of := slices.DeleteFunc(slices.Clone(hosts), func(h host) bool { return !catalog.Selects(svc.Spec.Subsets[subset], h.Labels) })
		r, fault := assignment(t.ClusterName(svc, subset), of)
		list, err = append(list, r), cmp.Or(err, fault)
	}
	return list, err
}

// Assignment holds the endpoints of svc: the static ones of its manifest and the registered ones. Where both, or two registered
// ones, name the same address and port, the registered one with the lowest id counts. No policy is in it, so endpoints come and go
// without waiting for policy. None at all is fine. An error names the endpoint that Envoy would refuse.
func Assignment(svc *catalog.Service, endpoints []catalog.Endpoint) (*view.Resource, error) {
	hosts, err := hostsOf(svc, endpoints)
	if err != nil {
		return nil, err
	}
	return assignment(svc.Key().String(), hosts)
}

func assignment(name string, hosts []host) (*view.Resource, error) {
	return resource(view.EDS, name, &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: localities(hosts)})
}

// host is one endpoint with its defaults filled in.
type host struct {
	catalog.EndpointSpec
	address  netip.AddrPort
	locality catalog.Locality
}

func hostsOf(svc *catalog.Service, endpoints []catalog.Endpoint) ([]host, error) {
	registered := slices.SortedFunc(slices.Values(endpoints), func(a, b catalog.Endpoint) int { return cmp.Compare(a.ID, b.ID) })
	specs := make([]catalog.EndpointSpec, 0, len(registered)+len(svc.Spec.Endpoints))
	for _, e := range registered {
		specs = append(specs, e.Spec)
	}
	specs = append(specs, svc.Spec.Endpoints...)

	seen := make(map[netip.AddrPort]bool, len(specs))
	hosts := make([]host, 0, len(specs))
	for _, spec := range specs {
		h, err := newHost(spec, svc.Spec.Port)
		if err != nil {
			return nil, err
		}
		if !seen[h.address] {
			seen[h.address] = true
			hosts = append(hosts, h)
		}
	}
	slices.SortFunc(hosts, func(a, b host) int {
		return cmp.Or(compareLocality(a.locality, b.locality), a.address.Compare(b.address))
	})
	return hosts, nil
}

func newHost(spec catalog.EndpointSpec, port *uint32) (host, error) {
	ip, err := netip.ParseAddr(spec.Address)
	if err != nil {
		return host{}, fmt.Errorf("endpoint %q: the address is no IP address", spec.Address)
	}
	p := cmp.Or(spec.Port, port)
	if p == nil || *p == 0 || *p > 65535 {
		return host{}, fmt.Errorf("endpoint %s: it needs a port from 1 to 65535, its own or its service's", spec.Address)
	}
	h := host{EndpointSpec: spec, address: netip.AddrPortFrom(ip.Unmap(), uint16(*p))}
	h.locality = orElse(spec.Locality, catalog.Locality{})
	return h, nil
}

func compareLocality(a, b catalog.Locality) int {
	return cmp.Or(cmp.Compare(a.Region, b.Region), cmp.Compare(a.Zone, b.Zone), cmp.Compare(a.SubZone, b.SubZone))
}

// localities groups hosts, which are sorted by locality. A locality weighs what its hosts weigh together: a gRPC client takes no host
// of one without a weight; Envoy looks at it only where localities are weighted.
func localities(hosts []host) []*endpointv3.LocalityLbEndpoints {
	var groups []*endpointv3.LocalityLbEndpoints
	for i, h := range hosts {
		if i == 0 || h.locality != hosts[i-1].locality {
			groups = append(groups, &endpointv3.LocalityLbEndpoints{
				Locality: &corev3.Locality{Region: h.locality.Region, Zone: h.locality.Zone, SubZone: h.locality.SubZone},
			})
		}
		last := groups[len(groups)-1]
		last.LbEndpoints = append(last.LbEndpoints, h.endpoint())
	}
	weigh(groups)
	return groups
}

// weigh gives each locality the weight of its endpoints together. It counts for clusters that balance by locality alone, where one
// without a weight would get nothing; it is always there, since no policy is in an assignment.
func weigh(groups []*endpointv3.LocalityLbEndpoints) {
	weights := make([]uint64, len(groups))
	var all uint64
	for i, group := range groups {
		for _, e := range group.LbEndpoints {
			weights[i] += uint64(max(e.GetLoadBalancingWeight().GetValue(), 1))
		}
		all += weights[i]
	}
	for i, group := range groups {
		// Envoy adds them up in 32 bits.
		group.LoadBalancingWeight = wrapperspb.UInt32(uint32(max(weights[i]/(all/math.MaxUint32+1), 1)))
	}
}

func (h host) endpoint() *endpointv3.LbEndpoint {
	e := &endpointv3.LbEndpoint{
		HealthStatus: healthStatus(h.Health),
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: socketAddress(h.address),
		}},
	}
	if h.Weight != nil {
		e.LoadBalancingWeight = wrapperspb.UInt32(*h.Weight)
	}
	return e
}

func socketAddress(a netip.AddrPort) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       a.Addr().String(),
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}

func healthStatus(h catalog.Health) corev3.HealthStatus {
	switch h {
	case catalog.Healthy:
		return corev3.HealthStatus_HEALTHY
	case catalog.Unhealthy:
		return corev3.HealthStatus_UNHEALTHY
	case catalog.Draining:
		return corev3.HealthStatus_DRAINING
	case catalog.Degraded:
		return corev3.HealthStatus_DEGRADED
	}
	return corev3.HealthStatus_UNKNOWN // as good as healthy, until something is known
}
