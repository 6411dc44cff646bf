package differential_test

import (
	"fmt"
	"strings"

	// clusters pack them
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/composite/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/maglev/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/ring_hash/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
)

// named hosts say who they are, so that the answers show who was chosen.
func named(n int, more ...[]behaviour) [][]behaviour {
	hosts := make([][]behaviour, n)
	for i := range hosts {
		hosts[i] = []behaviour{{body: fmt.Sprint("host", i)}}
	}
	copy(hosts, more)
	return hosts
}

// logs are the lines of an access log whose hosts begin anywhere in their turns.
func logs(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("log %d", i+1))
	}
	return names
}

// users are requests of n users.
func users(n int) func(*side) {
	return func(s *side) {
		for i := range n {
			s.send(request{header: map[string]string{"x-user": fmt.Sprint("user-", i)}})
		}
	}
}

func header(name, value string) request { return request{header: map[string]string{name: value}} }

// localities is an assignment: one locality for each text, which names its fields beside its hosts; %d are the next of the hosts.
func localities(texts ...string) string {
	var b strings.Builder
	host := 0
	for _, text := range texts {
		fields, hosts, _ := strings.Cut(text, "|")
		fmt.Fprintf(&b, "- %s\n  lb_endpoints:\n", strings.ReplaceAll(fields, "; ", "\n  "))
		for _, more := range strings.Split(hosts, "|") {
			fmt.Fprintf(&b, "  - {endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: $PORT%d}}, hostname: name%d}, %s}\n", host, host, more)
			host++
		}
	}
	return b.String()
}

const (
	byUser = `{hash_policy: [{header: {header_name: x-user}}]}`
	ring   = `{lb_policy: RING_HASH}`
	maglev = `{lb_policy: MAGLEV}`
)

func rawBalance() []*scenario {
	avoid := `{retry_policy: {retry_on: 5xx, num_retries: 2, retry_back_off: {base_interval: 0.001s}, host_selection_retry_max_attempts: 3,
		retry_host_predicate: [{name: p, typed_config: {"@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}]}}`
	bad := []behaviour{{status: 503, body: "bad"}}
	return []*scenario{
		{name: "raw-ring", raw: &resources{cluster: ring, action: byUser}, hosts: 5, byHost: named(5), traffic: users(40),
			mutants: []resources{{cluster: maglev}, {action: `{hash_policy: [{header: {header_name: x-other}}]}`}}},
		{name: "raw-ring-small", raw: &resources{cluster: ring + "\n---\n{ring_hash_lb_config: {minimum_ring_size: 7, maximum_ring_size: 9}}", action: byUser}, hosts: 4, byHost: named(4),
			traffic: users(40), mutants: []resources{{cluster: `{ring_hash_lb_config: {minimum_ring_size: 3}}`}}},
		{name: "raw-ring-murmur", raw: &resources{cluster: ring + "\n---\n{ring_hash_lb_config: {hash_function: MURMUR_HASH_2}}", action: byUser}, hosts: 5, byHost: named(5),
			traffic: users(40), mutants: []resources{{cluster: `{ring_hash_lb_config: {hash_function: XX_HASH}}`}}},
		{name: "raw-ring-weights", raw: &resources{cluster: ring, action: byUser, endpoints: localities(
			"locality: {zone: a}|load_balancing_weight: 3|load_balancing_weight: 1", "locality: {zone: b}|load_balancing_weight: 5")}, hosts: 3, byHost: named(3), traffic: users(40)},
		{name: "raw-ring-retry", raw: &resources{cluster: ring, action: byUser + "\n---\n" + avoid}, hosts: 5, byHost: named(5, bad, bad), traffic: users(40),
			mutants: []resources{{action: `{retry_policy: {host_selection_retry_max_attempts: 1}}`}}},
		{name: "raw-maglev", raw: &resources{cluster: maglev, action: byUser}, hosts: 5, byHost: named(5), traffic: users(40), mutants: []resources{{cluster: `{maglev_lb_config: {table_size: 11}}`}}},
		{name: "raw-maglev-retry", raw: &resources{cluster: maglev + "\n---\n{maglev_lb_config: {table_size: 251}}", action: byUser + "\n---\n" + avoid}, hosts: 5, byHost: named(5, bad, bad), traffic: users(40)},
		{name: "raw-maglev-keys", raw: &resources{cluster: maglev, action: byUser,
			endpoints: localities("locality: {zone: a}|load_balancing_weight: 3|load_balancing_weight: 1|metadata: {filter_metadata: {envoy.lb: {hash_key: key}}}")},
			hosts: 3, byHost: named(3), traffic: users(40), mutants: []resources{{endpoints: localities("locality: {zone: a}|load_balancing_weight: 3|load_balancing_weight: 1|")}}},
		{name: "raw-maglev-localities", raw: &resources{cluster: maglev + "\n---\n{common_lb_config: {locality_weighted_lb_config: {}}}", action: byUser, endpoints: localities(
			"locality: {zone: a}; load_balancing_weight: 3||", "locality: {zone: b}; load_balancing_weight: 1||", "locality: {zone: c}|")}, hosts: 5, byHost: named(5), traffic: users(40),
			mutants: []resources{{cluster: `{common_lb_config: {locality_weighted_lb_config: null}}`}}},
		{name: "raw-ring-policy", raw: &resources{action: byUser, cluster: `{load_balancing_policy: {policies: [{typed_extension_config: {name: ring, typed_config: {
			"@type": type.googleapis.com/envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash, minimum_ring_size: 64,
			consistent_hashing_lb_config: {use_hostname_for_hashing: true}}}}]}}`, endpoints: localities("locality: {zone: a}||||")}, hosts: 4, byHost: named(4), traffic: users(40)},
		{name: "raw-ring-degraded", raw: &resources{cluster: ring, action: byUser, endpoints: localities("locality: {zone: a}|health_status: DEGRADED|health_status: DEGRADED")}, hosts: 2,
			byHost: named(2), traffic: users(6)},
		{name: "raw-ring-panic", raw: &resources{cluster: ring + "\n---\n{common_lb_config: {zone_aware_lb_config: {fail_traffic_on_panic: true}}}", action: byUser,
			endpoints: localities("locality: {zone: a}||health_status: UNHEALTHY|health_status: UNHEALTHY")}, hosts: 3, byHost: named(3), traffic: users(10)},
		{name: "raw-ring-priorities", raw: &resources{cluster: ring, action: byUser, endpoints: localities(
			"locality: {zone: a}||health_status: UNHEALTHY", "locality: {zone: a}; priority: 1||")}, hosts: 4, byHost: named(4), traffic: users(40)},
		{name: "raw-ring-bounded", raw: &resources{cluster: ring + "\n---\n{common_lb_config: {consistent_hashing_lb_config: {hash_balance_factor: 110}}}", action: `{hash_policy: [{header: {header_name: user-agent}}]}`}, hosts: 4,
			byHost: [][]behaviour{{{hold: true}}, {{hold: true}}, {{hold: true}}, {{hold: true}}}, concurrent: true,
			traffic: func(s *side) { s.hold(12); s.free() },
			mutants: []resources{{cluster: `{common_lb_config: {consistent_hashing_lb_config: {hash_balance_factor: 200}}}`}}},

		{name: "raw-hash-policies", raw: &resources{cluster: maglev, action: `{hash_policy: [{header: {header_name: x-user}}, {cookie: {name: session}, terminal: true},
			{query_parameter: {name: q}}, {header: {header_name: ":path"}}]}`}, hosts: 7, byHost: named(7), traffic: mixed(
			header("x-user", "a"), header("x-user", "b"), header("cookie", "session=a"), header("cookie", `x=1; session="a" ; y=2`), header("Cookie", "session=;x=b"),
			request{path: "/p?q=1&q=2"}, request{path: "/p?q=2#x"}, request{path: "/p?r=2"}, request{path: "/p?q"}, request{path: "/p?x&q=%41"}, request{path: "/other"},
			request{path: "/p?q=1", header: map[string]string{"x-user": "a", "cookie": "session=b"}}, request{path: "/p?q=1", header: map[string]string{"x-user": "a"}}),
			mutants: []resources{{action: `{hash_policy: [{header: {header_name: x-user}}, {cookie: {name: session}}, {query_parameter: {name: q}}, {header: {header_name: ":path"}}]}`}}},
		{name: "raw-hash-source", raw: &resources{cluster: ring, action: `{hash_policy: [{connection_properties: {source_ip: true}}]}`}, hosts: 5, byHost: named(5), traffic: get(3)},
		{name: "raw-hash-cookie", raw: &resources{cluster: ring, action: `{hash_policy: [{cookie: {name: session, ttl: 90.5s, path: /p, attributes: [{name: SameSite, value: Lax}, {name: Secure}]}}]}`},
			hosts: 1, byHost: named(1), traffic: mixed(request{}, header("cookie", "session=a"), header("cookie", "session="))},
		{name: "raw-hash-cookie-retry", raw: &resources{cluster: ring, action: `{hash_policy: [{cookie: {name: session, ttl: 0s}}]}` + "\n---\n" + avoid},
			hosts: 1, script: answers(503, 503, 200), traffic: get(1)},
		{name: "raw-hash-cookie-local", raw: &resources{cluster: ring, action: `{hash_policy: [{cookie: {name: session, ttl: 0s}}]}`}, refusing: 1, traffic: get(1)},

		{name: "raw-balance-localities", raw: &resources{cluster: `{common_lb_config: {locality_weighted_lb_config: {}}}`, endpoints: localities(
			"locality: {zone: a}; load_balancing_weight: 3|", "locality: {zone: b}; load_balancing_weight: 1|", "locality: {zone: c}|")}, hosts: 3, traffic: get(12), ignore: logs(12),
			mutants: []resources{{cluster: `{common_lb_config: {locality_weighted_lb_config: null}}`}}},
		{name: "raw-balance-overprovisioning", raw: &resources{cluster: `{load_assignment: {policy: {overprovisioning_factor: 200}}}`, endpoints: localities(
			"locality: {zone: a}||health_status: UNHEALTHY", "locality: {zone: a}; priority: 1|")}, hosts: 3, traffic: get(30),
			mutants: []resources{{cluster: `{load_assignment: {policy: null}}`}}},
		{name: "raw-balance-weighted-health", raw: &resources{cluster: `{load_assignment: {policy: {weighted_priority_health: true}}}`, endpoints: localities(
			"locality: {zone: a}|load_balancing_weight: 9|health_status: UNHEALTHY", "locality: {zone: a}; priority: 1|")}, hosts: 3, traffic: get(30),
			mutants: []resources{{cluster: `{load_assignment: {policy: null}}`}}},
		{name: "raw-balance-full-scan", raw: &resources{cluster: `{load_balancing_policy: {policies: [{typed_extension_config: {name: least, typed_config: {
			"@type": type.googleapis.com/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest, selection_method: FULL_SCAN}}}]}}`}, hosts: 12,
			script: []behaviour{{hold: true}}, concurrent: true, traffic: func(s *side) { s.hold(12); s.free() },
			mutants: []resources{{cluster: `{load_balancing_policy: {policies: [{typed_extension_config: {name: least, typed_config: {
			"@type": type.googleapis.com/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest}}}]}}`}}},
		{name: "raw-balance-bias", raw: &resources{cluster: `{lb_policy: LEAST_REQUEST, least_request_lb_config: {active_request_bias: {default_value: 0, runtime_key: k}}}`,
			endpoints: localities("locality: {zone: a}|load_balancing_weight: 3|load_balancing_weight: 1")}, hosts: 2, script: []behaviour{{hold: true}}, concurrent: true,
			traffic: func(s *side) { s.hold(12); s.free() }, mutants: []resources{{cluster: `{least_request_lb_config: {active_request_bias: {default_value: 2}}}`}}},
		{name: "raw-balance-slow-start", raw: &resources{cluster: `{round_robin_lb_config: {slow_start_config: {slow_start_window: 3600s}}}`,
			endpoints: localities("locality: {zone: a}|load_balancing_weight: 3|load_balancing_weight: 1")}, hosts: 2, traffic: get(8), ignore: logs(8),
			mutants: []resources{{endpoints: localities("locality: {zone: a}|load_balancing_weight: 1|load_balancing_weight: 1")}}},
		{name: "raw-balance-empty", raw: &resources{endpoints: "[]"}, hosts: 1, traffic: get(2)},

		{name: "raw-aggregate", raw: &resources{cluster: aggregate("{}"), more: members(``, ``)}, hosts: 2, byHost: named(2), traffic: get(4),
			mutants: []resources{{more: members(`health_status: UNHEALTHY`, ``)}}},
		{name: "raw-aggregate-spills", raw: &resources{cluster: aggregate("{}"), more: members(`health_status: UNHEALTHY`, ``)}, hosts: 2, byHost: named(2), traffic: get(4),
			mutants: []resources{{more: members(``, ``)}}},
		{name: "raw-aggregate-panics", raw: &resources{cluster: aggregate("{}"), more: members(`health_status: UNHEALTHY`, `health_status: UNHEALTHY`)}, hosts: 2, traffic: get(2), anyHost: true},
		{name: "raw-aggregate-no-panic", raw: &resources{cluster: aggregate("{healthy_panic_threshold: {value: 0}}"), more: members(`health_status: UNHEALTHY`, `health_status: UNHEALTHY`)}, hosts: 2,
			traffic: get(2), anyHost: true},
		{name: "raw-aggregate-retries", raw: &resources{cluster: aggregate("{}"), more: members(``, ``), action: `{retry_policy: {retry_on: 5xx, num_retries: 2,
			retry_back_off: {base_interval: 0.001s}, retry_priority: {name: p, typed_config: {
			"@type": type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig, update_frequency: 1}}}}`},
			hosts: 2, byHost: named(2, bad), traffic: get(4), mutants: []resources{{action: `{retry_policy: {retry_priority: null}}`}}},
		{name: "raw-aggregate-missing", raw: &resources{cluster: aggregate("{}"), more: "[]"}, hosts: 1, traffic: get(2)},
	}
}

// aggregate is a cluster of $NAME-a and $NAME-b.
func aggregate(common string) string {
	return `{type: null, load_assignment: null, lb_policy: CLUSTER_PROVIDED, common_lb_config: ` + common + `, cluster_type: {name: envoy.clusters.aggregate, typed_config: {
		"@type": type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig, clusters: [$NAME-a, $NAME-b]}}}`
}

// members are $NAME-a and $NAME-b, each with one host.
func members(a, b string) string {
	text := ""
	for i, fields := range []string{a, b} {
		text += fmt.Sprintf(`
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: $NAME-%c
  type: STATIC
  load_assignment: {cluster_name: $NAME-%c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: $PORT%d}}}, %s}]}]}
`, 'a'+i, 'a'+i, i, fields)
	}
	return text
}
