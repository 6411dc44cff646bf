package differential_test

import "time"

// balanceFields are scenarios for the load balancing of policies, as policyFields.
func balanceFields() []*scenario {
	hash := func(algorithm, on string) string {
		return "loadBalancing: {algorithm: " + algorithm + ", hashOn: [" + on + "]}"
	}
	on := func(keys string) string { return "loadBalancing: {hashOn: [" + keys + "]}" }
	const parts = "{header: x-user}, {cookie: {name: session}, terminal: true}, {queryParameter: q}"
	// comes is a host that is out at first and then comes back, to one that has been there for longer than the window.
	comes := [][]behaviour{{{}}, {{status: 503}, {status: 503}, {}}}
	slow := func(fields string) string { return "loadBalancing: {slowStart: {" + fields + "}}" }
	return []*scenario{
		{name: "field-hash", policy: []string{hash("ring-hash", "{header: x-user}")}, hosts: 5, byHost: named(5), traffic: users(40),
			variants: []string{"loadBalancing: {algorithm: maglev}", on("{header: x-other}"), on("{sourceAddress: true}"), "loadBalancing: {disabled: true}"}},
		{name: "field-hash-parts", policy: []string{hash("maglev", parts)}, hosts: 7, byHost: named(7), traffic: mixed(
			header("x-user", "a"), header("x-user", "b"), header("cookie", "session=a"), request{path: "/p?q=1"}, request{path: "/p?q=2"},
			request{path: "/p?q=1", header: map[string]string{"x-user": "a", "cookie": "session=b"}}, request{path: "/p?q=2", header: map[string]string{"cookie": "session=b"}},
			request{path: "/p?q=3", header: map[string]string{"cookie": "session=b"}}, request{path: "/p?q=4", header: map[string]string{"cookie": "session=b"}}),
			variants: []string{on("{header: x-user}, {cookie: {name: session}}, {queryParameter: q}"), on("{header: x-user}, {cookie: {name: other}, terminal: true}, {queryParameter: q}"),
				on("{queryParameter: r}, {sourceAddress: true}")}},
		{name: "field-hash-cookie", policy: []string{hash("ring-hash", "{cookie: {name: session, ttl: 90s, path: /p}}")}, traffic: mixed(request{}, header("cookie", "session=a")),
			variants: []string{on("{cookie: {name: other, ttl: 90s, path: /p}}"), on("{cookie: {name: session, ttl: none, path: /p}}"), on("{cookie: {name: session, ttl: 90s, path: /q}}")}},
		{name: "field-panic-fails", policy: []string{"loadBalancing: {failTrafficOnPanic: true}"}, endpoints: []string{"", "health: unhealthy", "health: unhealthy"}, hosts: 3, traffic: get(6),
			variants: []string{"loadBalancing: {failTrafficOnPanic: false}"}},
		{name: "field-localities", policy: []string{"loadBalancing: {localityWeighted: true}"}, hosts: 3, byHost: named(3), traffic: get(32), concurrent: true,
			endpoints: []string{"locality: {region: a}", "locality: {region: b}", "locality: {region: b}, weight: 9, health: unhealthy"},
			variants:  []string{"loadBalancing: {localityWeighted: false}"}},
		{name: "field-slow-start", hosts: 2, byHost: named(2), checks: comes, concurrent: true, markSlack: time.Second,
			policy: []string{"loadBalancing: {slowStart: {window: 3s, aggression: 0.05, minWeightPercent: 25}}",
				"healthCheck: {http: {path: /check, host: $SIDE}, interval: 3500ms, noTrafficInterval: 3500ms, healthyThreshold: 1}"},
			ignore:  []string{"health_check.attempt", "health_check.success", "health_check.failure"},
			traffic: func(s *side) { s.get(1); s.statIs("membership_healthy", 2); s.get(20) },
			variants: []string{slow("window: 1ms, minWeightPercent: 25"), slow("window: 3s, aggression: 90, minWeightPercent: 25"),
				slow("window: 3s, aggression: 0.05, minWeightPercent: 100")}},
	}
}
