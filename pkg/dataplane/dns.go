package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
)

// Envoy's defaults of asking DNS.
const (
	defaultRefresh      = 5 * time.Second
	defaultQueryTimeout = 5 * time.Second
	defaultQueryTries   = 4
)

// Family is which addresses of a name count.
type Family uint8

// The families.
const (
	PreferIPv6 Family = iota // those of IPv6, or where there is none, of IPv4
	PreferIPv4
	OnlyIPv4
	OnlyIPv6
	BothFamilies
)

// families are Envoy's words for them, in the extension and before; the others mean PreferIPv6.
var families = map[string]Family{"V4_ONLY": OnlyIPv4, "V6_ONLY": OnlyIPv6, "V4_PREFERRED": PreferIPv4, "ALL": BothFamilies}

// Name is a name that hosts of a cluster are found by.
type Name struct{ Cluster, Host string }

// Lookup is how a name is asked for, again and again. Two are equal where nothing differs.
type Lookup struct {
	Name
	Servers string // name servers, each as ip:port, with commas between them; "": those of the machine
	Family  Family
	Timeout time.Duration // of the first try at a server
	Tries   uint32
	Logical bool // the name is one host, and an answer without addresses is none

	Refresh    time.Duration // after an answer
	Jitter     time.Duration // up to which is added to that
	RespectTTL bool          // the answer says how long, where it is not 0
	AgainBase  time.Duration // after no answer: uniform up to this, which doubles up to AgainMax; 0: Refresh
	AgainMax   time.Duration
}

// Answers are the addresses of names, as far as it is known that they have some or none. They are never changed.
type Answers struct{ addresses map[Name][]netip.Addr }

// With is n, which may be nil, with the addresses of one more name, or of one name anew. It keeps list.
func (n *Answers) With(name Name, list []netip.Addr) *Answers {
	next := &Answers{addresses: map[Name][]netip.Addr{name: list}}
	if n != nil {
		for other, list := range n.addresses {
			if other != name {
				next.addresses[other] = list
			}
		}
	}
	return next
}

// Without is n without the names that keep says no to.
func (n *Answers) Without(keep func(Name) bool) *Answers {
	next := &Answers{addresses: map[Name][]netip.Addr{}}
	if n != nil {
		for name, list := range n.addresses {
			if keep(name) {
				next.addresses[name] = list
			}
		}
	}
	return next
}

// Of are the addresses of a name; known is false where nobody has asked for it, or was told nothing yet.
func (n *Answers) Of(name Name) (list []netip.Addr, known bool) {
	if n == nil {
		return nil, false
	}
	list, known = n.addresses[name]
	return list, known
}

// sameAnswers reports whether two say the same of all names of a cluster.
func (p *clusterPiece) sameAnswers(a, b *Answers) bool {
	if p.named == nil || a == b {
		return true
	}
	for _, l := range p.named.lookups {
		x, knownX := a.Of(l.Name)
		y, knownY := b.Of(l.Name)
		if knownX != knownY || !slices.Equal(x, y) {
			return false
		}
	}
	return true
}

// found is the assignment with an address for each that the names have; false where one of them is not known yet.
func (a *assignment) found(dns *Answers) (*assignment, bool) {
	out := *a
	out.hosts, out.lookups = nil, nil
	seen := make(map[netip.AddrPort]bool)
	for i, h := range a.hosts {
		list, known := dns.Of(a.lookups[i].Name)
		if !known {
			return nil, false
		}
		if a.lookups[i].Logical && len(list) > 1 {
			list = list[:1]
		}
		for _, ip := range list {
			at := h.at(ip)
			if !seen[at.Address] {
				seen[at.Address] = true
				out.hosts = append(out.hosts, at)
			}
		}
	}
	return &out, true
}

// at is the host, of which the port is known, at an address.
func (h Host) at(ip netip.Addr) Host {
	h.Address = netip.AddrPortFrom(ip.Unmap(), h.Address.Port())
	if check := h.CheckAddress; check.Port() != 0 && !check.IsValid() {
		h.CheckAddress = netip.AddrPortFrom(h.Address.Addr(), check.Port())
	}
	return h
}

// resolved makes the hosts of c what the names of p have. Until the names are known they are those of before, or there are none.
func (p *clusterPiece) resolved(c *Cluster, dns *Answers, before *Cluster) {
	if a, known := p.named.found(dns); known {
		a.give(p, c)
		return
	}
	if before == nil || before.Unresolved {
		c.Unresolved = true
		return
	}
	p.named.give(p, c)
	c.Hosts = before.Hosts
}

// byName reads a cluster whose hosts are found by DNS, as l says but for the name.
func (r *reader) byName(path string, a *endpointv3.ClusterLoadAssignment, l Lookup, p *clusterPiece) {
	l.Cluster = p.cluster.Name
	var lookups []Lookup
	p.named = r.endpoints(path, a, func(path string, e *corev3.Address, h *Host) bool {
		s := e.GetSocketAddress()
		path += ".socket_address"
		if l.Host = s.GetAddress(); l.Host == "" {
			r.fault(path+".address", "is missing")
		}
		if h.Name == "" {
			h.Name = l.Host
		}
		h.Address = netip.AddrPortFrom(netip.Addr{}, r.port(path, s))
		lookups = append(lookups, l)
		return true
	})
	p.named.lookups = lookups
	if l.Logical && (len(lookups) != 1 || len(a.GetEndpoints()) != 1) {
		r.fault(path, "has to have one locality with one endpoint, which is all that a logical host is")
	}
	r.inOrder(path, p.named)
}

// inOrder refuses what the order of hosts, which is by priority, would tear apart from their names.
func (r *reader) inOrder(path string, a *assignment) {
	for i, h := range a.hosts {
		if i > 0 && h.Priority < a.hosts[i-1].Priority {
			r.fault(path+".endpoints", "have to be in the order of their priorities")
		}
	}
}

// dnsCluster reads the extension.
func (r *reader) dnsCluster(path string, c *clusterv3.Cluster, d *dnsv3.DnsCluster, p *clusterPiece) {
	l := Lookup{
		Logical: d.GetAllAddressesInSingleEndpoint(), Refresh: orDuration(d.GetDnsRefreshRate(), defaultRefresh),
		Jitter: d.GetDnsJitter().AsDuration(), RespectTTL: d.GetRespectDnsTtl(),
	}
	if f := d.GetDnsFailureRefreshRate(); f != nil {
		l.again(f.GetBaseInterval().AsDuration(), f.GetMaxInterval().AsDuration())
	}
	l.Family = families[d.GetDnsLookupFamily().String()]
	resolver := d.GetTypedDnsResolverConfig()
	if resolver == nil {
		resolver = c.GetTypedDnsResolverConfig()
	}
	r.nameServers(path+".typed_dns_resolver_config.typed_config", resolver, &l)
	r.byName("cluster.load_assignment", c.GetLoadAssignment(), l, p)
}

// oldDNS reads the types of a cluster that say the same with fields of its own, which are deprecated.
func (r *reader) oldDNS(path string, c *clusterv3.Cluster, p *clusterPiece) {
	l := Lookup{Logical: c.GetType() == clusterv3.Cluster_LOGICAL_DNS}
	//lint:ignore SA1019 servers still say it so
	l.Refresh, l.Jitter, l.RespectTTL = orDuration(c.GetDnsRefreshRate(), defaultRefresh), c.GetDnsJitter().AsDuration(), c.GetRespectDnsTtl()
	//lint:ignore SA1019 likewise
	if f := c.GetDnsFailureRefreshRate(); f != nil {
		l.again(f.GetBaseInterval().AsDuration(), f.GetMaxInterval().AsDuration())
	}
	l.Family = families[c.GetDnsLookupFamily().String()]
	r.nameServers(path+".typed_dns_resolver_config.typed_config", c.GetTypedDnsResolverConfig(), &l)
	r.byName(path+".load_assignment", c.GetLoadAssignment(), l, p)
}

// again is Envoy's rule for what a failure waits: at most ten times the base, where nothing more is said.
func (l *Lookup) again(base, most time.Duration) {
	l.AgainBase, l.AgainMax = base, most
	if most == 0 {
		l.AgainMax = 10 * base
	}
}

func (r *reader) nameServers(path string, c *corev3.TypedExtensionConfig, l *Lookup) {
	m, _ := unpackAny(c.GetTypedConfig()).(*caresv3.CaresDnsResolverConfig)
	l.Timeout, l.Tries = defaultQueryTimeout, orValue(m.GetQueryTries(), defaultQueryTries)
	if t := m.GetQueryTimeoutSeconds(); t != nil {
		l.Timeout = time.Duration(min(t.GetValue(), 3600)) * time.Second
	}
	var servers []string
	for i, at := range m.GetResolvers() {
		servers = append(servers, r.address(fmt.Sprintf("%s.resolvers[%d]", path, i), at).String())
	}
	l.Servers = strings.Join(servers, ",")
}

// dnsFields are what a cluster says of asking DNS by the extension.
func dnsFields() fields {
	return fields{
		"dns_refresh_rate": nil, "dns_failure_refresh_rate": {"base_interval": nil, "max_interval": nil}, "respect_dns_ttl": nil, "dns_jitter": nil,
		"dns_lookup_family": nil, "all_addresses_in_single_endpoint": nil, "typed_dns_resolver_config": nameServerFields(),
	}
}

func nameServerFields() fields {
	return fields{"name": nil, "typed_config": {"@envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig": fields{
		"resolvers": address(), "query_timeout_seconds": nil, "query_tries": nil,
	}.and("udp_max_queries", "rotate_nameservers", "edns0_max_payload_size", "max_udp_channel_duration", "reinit_channel_on_timeout")}} // how, and not what
}
