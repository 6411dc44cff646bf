package dataplane_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// named is a cluster whose hosts are found by the names given, each at port 1; what differs is said in more.
func named(kind, more string, hosts ...string) string {
	var endpoints []string
	for _, h := range hosts {
		endpoints = append(endpoints, fmt.Sprintf(`{"endpoint": {"address": {"socket_address": {"address": %q, "port_value": 1}}}}`, h))
	}
	return fmt.Sprintf(`{"name": "x", "type": %q, "load_assignment": {"cluster_name": "x", "endpoints": [{"lb_endpoints": [%s]}]} %s}`,
		kind, strings.Join(endpoints, ", "), more)
}

func addresses(list ...string) []netip.Addr {
	all := []netip.Addr{}
	for _, a := range list {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

func hostsOf(table *dataplane.Table) string {
	c := table.Clusters["x"]
	var all []string
	for _, h := range c.Hosts {
		all = append(all, h.Name+"="+h.Address.String())
	}
	if c.Unresolved {
		all = append(all, "unresolved")
	}
	return strings.Join(all, " ")
}

func TestHostsOfNames(t *testing.T) {
	in := holds(mustResource(t, view.CDS, named("STRICT_DNS", "", "a.test", "b.test")))
	a, b := dataplane.Name{Cluster: "x", Host: "a.test"}, dataplane.Name{Cluster: "x", Host: "b.test"}
	var table *dataplane.Table
	for _, step := range []struct {
		dns  *dataplane.Answers
		want string
	}{
		{nil, "unresolved"},
		{in.DNS.With(a, addresses("10.0.0.1")), "unresolved"}, // as long as one name is not known
		{in.DNS.With(a, addresses("10.0.0.1", "10.0.0.2")).With(b, addresses("10.0.0.2", "10.0.0.3")), "a.test=10.0.0.1:1 a.test=10.0.0.2:1 b.test=10.0.0.3:1"},
		{in.DNS.With(a, nil).With(b, addresses("::1")), "b.test=[::1]:1"},
		{in.DNS.With(a, nil).With(b, nil), ""},
	} {
		in.DNS = step.dns
		table, _ = dataplane.Compile(in, table)
		if got := hostsOf(table); got != step.want {
			t.Errorf("hosts %q, want %q", got, step.want)
		}
	}
	again, _ := dataplane.Compile(in, table)
	in.DNS = in.DNS.With(dataplane.Name{Cluster: "other", Host: "a.test"}, addresses("10.9.9.9"))
	after, _ := dataplane.Compile(in, again)
	if again.Clusters["x"] != table.Clusters["x"] || after.Clusters["x"] != table.Clusters["x"] {
		t.Error("an answer of another cluster makes this one anew")
	}
	if len(after.Lookups) != 2 || after.Lookups[0].Name != a {
		t.Errorf("lookups %+v", after.Lookups)
	}
}

// A cluster that gets another name keeps its hosts until that one is known, as the old one serves in Envoy until the new one is warm.
func TestHostsStayUntilAnotherNameIsKnown(t *testing.T) {
	in := holds(mustResource(t, view.CDS, named("STRICT_DNS", "", "a.test")))
	in.DNS = in.DNS.With(dataplane.Name{Cluster: "x", Host: "a.test"}, addresses("10.0.0.1"))
	table, _ := dataplane.Compile(in, nil)
	next := holds(mustResource(t, view.CDS, named("STRICT_DNS", `, "connect_timeout": "9s"`, "b.test")))
	next.DNS = in.DNS
	table, _ = dataplane.Compile(next, table)
	if got := hostsOf(table); got != "a.test=10.0.0.1:1" || table.Clusters["x"].ConnectTimeout.Seconds() != 9 {
		t.Errorf("hosts %q", got)
	}
	next.DNS = next.DNS.With(dataplane.Name{Cluster: "x", Host: "b.test"}, nil)
	table, _ = dataplane.Compile(next, table)
	if got := hostsOf(table); got != "" {
		t.Errorf("hosts %q of a name without addresses", got)
	}
}

func TestLogicalHostIsOneAddress(t *testing.T) {
	in := holds(mustResource(t, view.CDS, named("LOGICAL_DNS", "", "a.test")))
	in.DNS = in.DNS.With(dataplane.Name{Cluster: "x", Host: "a.test"}, addresses("10.0.0.2", "10.0.0.1"))
	table, _ := dataplane.Compile(in, nil)
	if got := hostsOf(table); got != "a.test=10.0.0.2:1" {
		t.Errorf("hosts %q", got)
	}
	if !table.Lookups[0].Logical {
		t.Error("the lookup is not that of a logical host")
	}
}

func TestHowANameIsAskedFor(t *testing.T) {
	const resolver = `{"name": "r", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
		"resolvers": [{"socket_address": {"address": "10.0.0.1", "port_value": 53}}, {"socket_address": {"address": "::1", "port_value": 54}}], "query_timeout_seconds": 2, "query_tries": 3}}`
	old := named("STRICT_DNS", `, "dns_refresh_rate": "3s", "dns_jitter": "0.1s", "respect_dns_ttl": true, "dns_lookup_family": "V4_ONLY",
		"dns_failure_refresh_rate": {"base_interval": "0.2s"}, "typed_dns_resolver_config": `+resolver, "a.test")
	extension := strings.Replace(named("", `, "cluster_type": {"name": "envoy.clusters.dns", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster",
		"dns_refresh_rate": "3s", "dns_jitter": "0.1s", "respect_dns_ttl": true, "dns_lookup_family": "V4_ONLY",
		"dns_failure_refresh_rate": {"base_interval": "0.2s"}, "typed_dns_resolver_config": `+resolver+`}}`, "a.test"), `"type": "",`, "", 1)
	want := "{Name:{Cluster:x Host:a.test} Servers:10.0.0.1:53,[::1]:54 Family:2 Timeout:2s Tries:3 Logical:false Refresh:3s Jitter:100ms RespectTTL:true AgainBase:200ms AgainMax:2s}"
	plain := "{Name:{Cluster:x Host:a.test} Servers: Family:0 Timeout:5s Tries:4 Logical:false Refresh:5s Jitter:0s RespectTTL:false AgainBase:0s AgainMax:0s}"
	for text, want := range map[string]string{old: want, extension: want, named("STRICT_DNS", "", "a.test"): plain} {
		table := compile(t, holds(mustResource(t, view.CDS, text)))
		if got := fmt.Sprintf("%+v", table.Lookups[0]); got != want {
			t.Errorf("%s\n got  %s\n want %s", text, got, want)
		}
	}
}
