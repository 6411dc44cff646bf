package differential_test

// routes are scenarios of services with routes and subsets, and of policies for those.
func routes() []*scenario {
	const (
		two    = "subsets: {one: {host: h0}, two: {host: h1}}"
		urgent = "routes: [{name: urgent, priority: high}]"
	)
	by := func(routes string) string { return two + "\nroutes: [" + routes + "]" }
	named := [][]behaviour{{{body: "first"}}, {{body: "second"}}}
	bad := [][]behaviour{{always503}, {always503}}
	held := []behaviour{{hold: true}}
	with := func(name, value string) request { return request{header: map[string]string{name: value}} }
	at := func(path string) request { return request{path: path} }
	long := func(sc *scenario) *scenario { sc.longest = patience; return sc }
	over := func(n, more int) func(*side) { return func(s *side) { s.hold(n); s.get(more); s.free() } }
	total := []string{"cluster.shop/$NAME|one.upstream_rq_total", "cluster.shop/$NAME|two.upstream_rq_total"}
	return []*scenario{
		{name: "route-paths", hosts: 2, byHost: named, stats: total,
			spec: by("{name: a, match: {path: {exact: /a}}, backends: [{subset: one}]}, {name: b, match: {path: {prefix: /a}}, backends: [{subset: two}]}," +
				`{name: c, match: {path: {regex: "/c/[0-9]+"}}, backends: [{subset: one}]}, {name: d, match: {path: {prefix: /}}, backends: [{subset: two}]}`),
			traffic: mixed(at("/a"), at("/a?b=c"), at("/a/"), at("/about"), at("/c/12"), at("/c/12x"), at("/c/1?d"), at("/C/1"), at("/"))},
		{name: "route-methods", hosts: 2, byHost: named, stats: total,
			spec:    by("{name: reads, match: {methods: [GET, HEAD]}, backends: [{subset: one}]}, {name: rest, backends: [{subset: two}]}"),
			traffic: mixed(request{}, request{method: "HEAD"}, request{method: "POST", body: "x"}, request{method: "DELETE"})},
		{name: "route-headers", hosts: 2, byHost: named, stats: total,
			spec: by("{name: a, match: {headers: [{name: x-a, exact: yes-please}]}, backends: [{subset: one}]}, {name: b, match: {headers: [{name: x-b, prefix: be}, {name: x-c, present: false}]}, backends: [{subset: one}]}," +
				`{name: d, match: {headers: [{name: x-d, regex: "[a-z]+"}, {name: x-e, present: true}]}, backends: [{subset: one}]}, {name: rest, backends: [{subset: two}]}`),
			traffic: mixed(with("x-a", "yes-please"), with("x-a", "yes"), with("x-b", "better"), with("x-b", "b"), request{header: map[string]string{"x-b": "be", "x-c": ""}},
				request{header: map[string]string{"x-d": "abc", "x-e": "1"}}, with("x-d", "abc"), request{header: map[string]string{"x-d": "a1", "x-e": "1"}}, request{})},
		{name: "route-weights", hosts: 2, byHost: named, spec: by("{name: a, backends: [{subset: one, weight: 0}, {subset: two, weight: 3}]}"), traffic: get(6), stats: total},
		{name: "route-timeout", script: []behaviour{{delay: 400 * ms}}, spec: "routes: [{name: slow, match: {path: {prefix: /slow}}}]", policy: []string{"timeout: {request: 200ms}"},
			parts: []partOf{{"route: slow", []string{"timeout: {request: 2s}"}}}, traffic: mixed(at("/slow"), at("/")), mutant: "timeout: {request: 3s}"},
		{name: "route-retry", script: []behaviour{always503}, spec: "routes: [{name: again, match: {path: {prefix: /again}}}]",
			parts: []partOf{{"route: again", retry("numRetries: 2, retryOn: [gateway-error]")}}, traffic: mixed(at("/again"), at("/"), request{method: "POST", path: "/again", body: "x"}),
			mutant: "retry: {numRetries: 1, retryOn: [gateway-error]}"},
		{name: "route-default", script: []behaviour{always503}, spec: "routes: [{name: other, match: {path: {prefix: /other}}}]", policy: retry("numRetries: 2, retryOn: [gateway-error]"),
			parts: []partOf{{"route: default", []string{"retry: {disabled: true}"}}}, traffic: mixed(at("/other"), at("/")), mutant: "retry: {numRetries: 1}"},
		long(&scenario{name: "subset-limits", script: held, hosts: 2, spec: by("{name: a, backends: [{subset: one}]}"), policy: []string{"limits: {maxRequests: 1}"},
			parts: []partOf{{"subset: one", []string{"limits: {maxRequests: 3}"}}}, traffic: over(3, 2), stats: append(total, "cluster.shop/$NAME|one.upstream_rq_active_overflow")}),
		{name: "subset-ejects", hosts: 2, byHost: bad, spec: by("{name: a, match: {path: {prefix: /one}}, backends: [{subset: one}]}, {name: b, backends: [{subset: two}]}"),
			parts: []partOf{{"subset: one", append(eject("consecutive5xx: 2, maxEjectionPercent: 100"), panics("0"))}},
			traffic: func(s *side) {
				for range 2 {
					s.send(at("/one"))
				}
				s.until("the subset's host is ejected", func() bool {
					stats, err := s.proxy.stats("cluster.shop/" + s.service + "|one.")
					return err == nil && stats[active] == 1
				})
				for range 3 {
					s.send(at("/one"))
					s.send(at("/"))
				}
			}, stats: []string{"cluster.shop/$NAME|one." + active, "cluster.shop/$NAME|two." + active}},
		long(&scenario{name: "high-requests", script: held, spec: urgent, policy: []string{"limits: {maxRequests: 1, high: {maxRequests: 3}}"}, traffic: over(3, 2), mutant: "limits: {high: {maxRequests: 2}}"}),
		long(&scenario{name: "high-pending", script: held, spec: urgent, policy: []string{"limits: {high: {maxConnections: 1, maxPendingRequests: 0}}"}, traffic: get(1),
			variants: []string{"limits: {high: {maxConnections: 1, maxPendingRequests: 5}}"}}),
		long(&scenario{name: "high-connections", script: held, spec: urgent, policy: []string{"limits: {high: {maxConnections: 1, maxPendingRequests: 5}}"},
			traffic: func(s *side) {
				s.hold(1)
				s.send(request{patience: 400 * ms})
				s.statIs("upstream_rq_pending_active", 0)
				s.free()
			}, variants: []string{"limits: {high: {maxConnections: 5}}"}}),
		{name: "high-retries", script: []behaviour{always503}, spec: urgent, policy: append(retry("numRetries: 2, retryOn: [gateway-error]"), "limits: {high: {maxRetries: 0}}"), traffic: get(2),
			mutant: "limits: {high: {maxRetries: 5}}"},
		long(&scenario{name: "high-pools", script: held, hosts: 2, spec: urgent, policy: []string{"limits: {high: {maxConnectionPools: 1}}"}, traffic: func(s *side) { s.hold(1); s.get(1); s.free() }, anyHost: true,
			variants: []string{"limits: {high: {maxConnectionPools: 5}}"}}),
	}
}
