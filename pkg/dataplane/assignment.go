package dataplane

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

const maxPriority = 128

// assignment is the hosts of a cluster.
type assignment struct {
	hosts            []Host // by priority, else as they come
	drop             float64
	overprovisioning uint32 // 0: the default
	weightedHealth   bool

	lookups []Lookup // in place of the addresses of hosts, by their order; nil: the hosts have addresses
}

// give puts a into the cluster, of which balancing is said already.
func (a *assignment) give(p *clusterPiece, c *Cluster) {
	c.Hosts, c.DropPercent = p.balance.keys(a.hosts), a.drop
	c.Balancing.Overprovisioning, c.Balancing.WeightedHealth = a.overprovisioning, a.weightedHealth
}

func (r *reader) assignment(path string, a *endpointv3.ClusterLoadAssignment) *assignment {
	if a.GetClusterName() != r.id.Name {
		r.fault(path+".cluster_name", "is %q, and the resource's name is %q", a.GetClusterName(), r.id.Name)
	}
	return r.hosts(path, a)
}

// hosts reads a, which may be nil. An address that comes twice counts once, as in Envoy.
func (r *reader) hosts(path string, a *endpointv3.ClusterLoadAssignment) *assignment {
	seen := make(map[netip.AddrPort]bool)
	return r.endpoints(path, a, func(path string, e *corev3.Address, h *Host) bool {
		h.Address = r.endpoint(path, e)
		if seen[h.Address] {
			return false
		}
		seen[h.Address] = true
		return true
	})
}

// endpoints reads a; locate reads where a host is, and says whether it is one more.
func (r *reader) endpoints(path string, a *endpointv3.ClusterLoadAssignment, locate func(path string, e *corev3.Address, h *Host) bool) *assignment {
	out := &assignment{drop: r.drop(path+".policy", a.GetPolicy()), weightedHealth: a.GetPolicy().GetWeightedPriorityHealth()}
	if f := a.GetPolicy().GetOverprovisioningFactor().GetValue(); f != overprovisioning {
		out.overprovisioning = f
	}
	weights := localityWeights(a)
	for i, group := range a.GetEndpoints() {
		at := fmt.Sprintf("%s.endpoints[%d]", path, i)
		if group.GetPriority() > maxPriority {
			r.fault(at+".priority", "is more than %d", maxPriority)
		}
		locality := localityName(group.GetLocality())
		for j, e := range group.GetLbEndpoints() {
			at := fmt.Sprintf("%s.lb_endpoints[%d]", at, j)
			h := Host{
				Priority: group.GetPriority(), Locality: locality, LocalityWeight: weights[localityAt{group.GetPriority(), locality}],
				Weight: orValue(e.GetLoadBalancingWeight(), 1), Name: e.GetEndpoint().GetHostname(), HashKey: hashKey(e.GetMetadata()),
			}
			more := locate(at+".endpoint.address", e.GetEndpoint().GetAddress(), &h)
			r.checkOf(at+".endpoint.health_check_config", e.GetEndpoint(), &h)
			h.Health = r.health(at+".health_status", e.GetHealthStatus())
			if more {
				out.hosts = append(out.hosts, h)
			}
		}
	}
	slices.SortStableFunc(out.hosts, func(a, b Host) int { return cmp.Compare(a.Priority, b.Priority) })
	return out
}

// endpoint is an address, or that of a listener of this process.
func (r *reader) endpoint(path string, a *corev3.Address) netip.AddrPort {
	i := a.GetEnvoyInternalAddress()
	if i == nil {
		return r.address(path, a)
	}
	if i.GetServerListenerName() == "" {
		r.fault(path+".envoy_internal_address.server_listener_name", "is empty")
		return netip.AddrPort{}
	}
	return Inside(i.GetServerListenerName(), i.GetEndpointId())
}

// Inside stands for a listener of this process in the place of an address: the unspecified one, with the listener's name and the
// endpoint's id as its zone.
func Inside(listener, endpoint string) netip.AddrPort {
	return netip.AddrPortFrom(netip.IPv6Unspecified().WithZone(listener+"\x00"+endpoint), 0)
}

// AddressText is a as Envoy writes it, for a listener of this process too.
func AddressText(a netip.AddrPort) string {
	listener, endpoint, inside := strings.Cut(a.Addr().Zone(), "\x00")
	if !inside {
		return a.String()
	}
	return "envoy://" + listener + "/" + endpoint
}

// InsideOf is the listener that Inside made a for, as String wrote it.
func InsideOf(a string) (listener string, ok bool) {
	zone, ok := strings.CutPrefix(a, "[::%")
	listener, _, of := strings.Cut(zone, "\x00")
	return listener, ok && of
}

// overprovisioning is Envoy's factor, in percent.
const overprovisioning = 140

func localityName(l *corev3.Locality) string {
	if l.GetRegion() == "" && l.GetZone() == "" && l.GetSubZone() == "" {
		return ""
	}
	return l.GetRegion() + "/" + l.GetZone() + "/" + l.GetSubZone()
}

type localityAt struct {
	priority uint32
	name     string
}

// localityWeights are the weights of localities by priority; of several for one the last holds, and a group without locality has none.
func localityWeights(a *endpointv3.ClusterLoadAssignment) map[localityAt]uint32 {
	weights := make(map[localityAt]uint32)
	for _, group := range a.GetEndpoints() {
		if group.GetLocality() != nil && group.GetLoadBalancingWeight() != nil {
			weights[localityAt{group.GetPriority(), localityName(group.GetLocality())}] = group.GetLoadBalancingWeight().GetValue()
		}
	}
	return weights
}

// hashKey is what a host wants to be hashed by.
func hashKey(m *corev3.Metadata) string {
	return m.GetFilterMetadata()["envoy.lb"].GetFields()["hash_key"].GetStringValue()
}

func (r *reader) address(path string, a *corev3.Address) netip.AddrPort {
	s := a.GetSocketAddress()
	path += ".socket_address"
	port := r.port(path, s)
	ip, err := netip.ParseAddr(s.GetAddress())
	if err != nil {
		r.fault(path+".address", "%q is no IP address", s.GetAddress())
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip.Unmap(), port)
}

func (r *reader) port(path string, s *corev3.SocketAddress) uint16 {
	if s.GetProtocol() != corev3.SocketAddress_TCP {
		r.fault(path+".protocol", "%v is not enforced by this agent", s.GetProtocol())
	}
	port := s.GetPortValue()
	if port == 0 || port > 65535 {
		r.fault(path+".port_value", "is not between 1 and 65535")
	}
	return uint16(port)
}

func (r *reader) health(path string, s corev3.HealthStatus) Health {
	switch s {
	case corev3.HealthStatus_UNKNOWN, corev3.HealthStatus_HEALTHY:
		return Healthy
	case corev3.HealthStatus_DEGRADED:
		return Degraded
	case corev3.HealthStatus_UNHEALTHY, corev3.HealthStatus_TIMEOUT:
		return Unhealthy
	case corev3.HealthStatus_DRAINING:
		return Draining
	}
	r.fault(path, "is not known")
	return Unhealthy
}

// drop is the percentage of requests to drop.
func (r *reader) drop(path string, p *endpointv3.ClusterLoadAssignment_Policy) float64 {
	drops := p.GetDropOverloads()
	if len(drops) > 1 {
		r.fault(path+".drop_overloads", "more than one is not enforced")
	}
	if len(drops) != 1 {
		return 0
	}
	f := drops[0].GetDropPercentage()
	per := 100.0
	switch f.GetDenominator() {
	case typev3.FractionalPercent_HUNDRED:
	case typev3.FractionalPercent_TEN_THOUSAND:
		per = 10_000
	case typev3.FractionalPercent_MILLION:
		per = 1_000_000
	default:
		r.fault(path+".drop_overloads[0].drop_percentage.denominator", "is not known")
	}
	return min(100, float64(f.GetNumerator())*100/per)
}
