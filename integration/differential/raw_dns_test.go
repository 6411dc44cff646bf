package differential_test

import (
	"fmt"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3" // clusters pack it
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// What DNS says of a name, to begin with and later.
func records(hosts ...int) *harness.Records {
	r := &harness.Records{TTL: time.Hour}
	for _, i := range hosts {
		r.Addresses = append(r.Addresses, fmt.Sprintf("127.0.0.%d", i+1))
	}
	return r
}

func broken() *harness.Records { return &harness.Records{Code: dnsmessage.RCodeServerFailure} }

// says changes what DNS says of the side's name.
func (s *side) says(r *harness.Records) { s.dns.Set(s.named(), *r) }

// named is the name of the scenario's hosts on this side, which resources call $SIDE.$NAME.test.
func (s *side) named() string { return s.name + "." + s.service + ".test" }

// asks waits until DNS has been asked n times more.
func (s *side) asks(n int) {
	before := s.dns.Asked(s.named())
	s.until(fmt.Sprintf("DNS is asked %d times", n), func() bool { return s.dns.Asked(s.named())-before >= n })
}

// heard waits until what DNS says by now is in force: the second answer from here on was asked for after this.
func (s *side) heard() {
	const answers = "update_success"
	before := s.stats()[answers]
	s.until("what DNS says is heard", func() bool { return s.stats()[answers]-before >= 2 })
}

// rawDNS are hosts that a name has in DNS, by each way to say so.
func rawDNS() []*scenario {
	const (
		resolver = `typed_dns_resolver_config: {name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig,
  resolvers: [{socket_address: {address: 127.0.0.1, port_value: $DNS}}], query_timeout_seconds: 1, query_tries: 1}}`
		endpoint = `[{lb_endpoints: [{endpoint: {address: {socket_address: {address: $SIDE.$NAME.test, port_value: $PORT0}}}}]}]`
		extended = "{type: null, cluster_type: {name: envoy.clusters.dns, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster}}}"
		outlier  = "{outlier_detection: {consecutive_5xx: 3, interval: 60s, base_ejection_time: 60s, max_ejection_percent: 100}, common_lb_config: {healthy_panic_threshold: {value: 0}}}"
	)
	// Both ways say the same: fields of the cluster, and the same fields of the extension.
	old := func(kind, fields string) string {
		return "{type: " + kind + "}\n---\n" + resolver + "\n---\n{" + fields + "}"
	}
	extension := func(fields string) string {
		return extended + "\n---\n{cluster_type: {typed_config: {" + resolver + "}}}\n---\n{cluster_type: {typed_config: {" + fields + "}}}"
	}
	scenarioOf := func(name, cluster string, traffic func(*side), mutants ...string) *scenario {
		sc := &scenario{
			name: "raw-dns-" + name, raw: &resources{cluster: cluster, endpoints: endpoint}, hosts: 3, atOnePort: true, dns: records(0, 1),
			anyHost: true, concurrent: true, markSlack: 2 * time.Second, script: []behaviour{{body: "hello"}}, traffic: traffic,
		}
		for _, m := range mutants {
			sc.mutants = append(sc.mutants, resources{cluster: m})
		}
		return sc
	}
	const members = "membership_total"
	follows := func(s *side) {
		s.get(4)
		s.says(records(1))
		s.statIs(members, 1)
		s.get(2)
		s.says(records(1, 2, 0, 0))
		s.statIs(members, 3)
		s.get(3)
		s.says(broken())
		s.asks(4)
		s.get(3)
		s.says(records())
		s.statIs(members, 0)
		s.get(1)
		s.says(records(0))
		s.statIs(members, 1)
		s.says(&harness.Records{Code: dnsmessage.RCodeNameError})
		s.statIs(members, 0)
		s.get(1)
	}
	// One host whatever comes; it moves, and stays where nothing is said of it.
	logical := func(s *side) {
		s.get(2)
		s.says(records(1, 0))
		s.asks(2)
		s.get(2)
		s.says(records())
		s.asks(3)
		s.get(1)
		s.says(broken())
		s.asks(3)
		s.get(1)
	}
	ejects := func(s *side) {
		s.get(8)
		s.statIs(active, 1)
		s.asks(3)
		s.get(2)
		s.says(records(0, 1, 2))
		s.statIs(members, 3)
		s.get(4)
		s.says(records(0))
		s.statIs(members, 1)
		s.get(1)
		s.says(records(1))
		s.heard()
		s.get(1)
	}
	moves := func(s *side) {
		s.get(1)
		s.says(records(2))
		s.statIs(members, 1)
		s.get(1)
	}
	recovers := func(s *side) {
		s.get(1)
		s.says(records(2))
		s.statIs(members, 1)
		s.get(1)
	}
	const fast = "dns_refresh_rate: 0.2s, dns_lookup_family: V4_ONLY"
	shortLived := func(sc *scenario) *scenario {
		sc.dns.TTL = time.Second
		return sc
	}
	begins := func(r *harness.Records, sc *scenario) *scenario {
		sc.dns = r
		return sc
	}
	failsAt := func(which int, sc *scenario) *scenario {
		sc.byHost = firstOf(always503, 3)
		return sc
	}
	const again = ", dns_failure_refresh_rate: {base_interval: 0.2s, max_interval: 0.4s}"
	return []*scenario{
		scenarioOf("strict-type", old("STRICT_DNS", fast), follows, "{dns_refresh_rate: 3600s}", "{dns_lookup_family: V6_ONLY}", "{type: LOGICAL_DNS}", "{typed_dns_resolver_config: null}"),
		scenarioOf("strict", extension(fast), follows, "{cluster_type: {typed_config: {dns_refresh_rate: 3600s}}}", "{cluster_type: {typed_config: {dns_lookup_family: V6_ONLY}}}",
			"{cluster_type: {typed_config: {all_addresses_in_single_endpoint: true}}}"),
		scenarioOf("prefers-4", extension("dns_refresh_rate: 0.2s, dns_lookup_family: V4_PREFERRED"), follows),
		scenarioOf("prefers-6", old("STRICT_DNS", "dns_refresh_rate: 0.2s"), follows),
		scenarioOf("all-families", extension("dns_refresh_rate: 0.2s, dns_lookup_family: ALL"), moves),
		scenarioOf("logical-type", old("LOGICAL_DNS", fast), logical, "{dns_refresh_rate: 3600s}", "{type: STRICT_DNS}"),
		scenarioOf("logical", extension(fast+", all_addresses_in_single_endpoint: true"), logical, "{cluster_type: {typed_config: {all_addresses_in_single_endpoint: false}}}"),
		failsAt(0, scenarioOf("ejection", extension(fast)+"\n---\n"+outlier, ejects, "{outlier_detection: null}")),
		failsAt(0, scenarioOf("ejection-type", old("STRICT_DNS", fast)+"\n---\n"+outlier, ejects)),
		shortLived(scenarioOf("time-to-live", extension("dns_refresh_rate: 3600s, respect_dns_ttl: true, dns_jitter: 0.05s"), moves, "{cluster_type: {typed_config: {respect_dns_ttl: false}}}",
			"{cluster_type: {typed_config: {dns_jitter: 500000s}}}")),
		shortLived(scenarioOf("time-to-live-type", old("STRICT_DNS", "dns_refresh_rate: 3600s, respect_dns_ttl: true, dns_jitter: 0.05s"), moves, "{respect_dns_ttl: false}", "{dns_jitter: 500000s}")),
		begins(broken(), scenarioOf("fails-at-first", extension("dns_refresh_rate: 3600s"+again), recovers, "{cluster_type: {typed_config: {dns_failure_refresh_rate: null}}}",
			"{cluster_type: {typed_config: {dns_failure_refresh_rate: {base_interval: 86400s, max_interval: 86400s}}}}")),
		begins(broken(), scenarioOf("fails-at-first-type", old("STRICT_DNS", "dns_refresh_rate: 3600s"+again), recovers, "{dns_failure_refresh_rate: null}")),
		begins(records(), scenarioOf("empty-at-first", extension(fast), recovers)),
		begins(records(8), scenarioOf("refuses", extension(fast), func(s *side) {
			s.get(1)
			s.says(records(2))
			s.heard()
			s.get(1)
		})),
	}
}
