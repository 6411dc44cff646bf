package differential_test

import "time"

// again is a retry policy that waits no longer than it must.
func again(fields string) string {
	return `{retry_policy: {retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}, ` + fields + `}}`
}

func rawRetries() []*scenario {
	twice := func(b behaviour) []behaviour { return []behaviour{b, always200, b, always200} }
	off := []resources{{action: `{retry_policy: {retry_on: null}}`}}
	on := func(name, fields string, bad behaviour) *scenario {
		return &scenario{name: "raw-on-" + name, raw: &resources{action: again(`num_retries: 1, ` + fields)}, script: twice(bad), traffic: get(2), mutants: off}
	}
	not := func(name, fields string, bad behaviour) *scenario {
		sc := on(name+"-not", fields, bad)
		sc.mutants = nil
		return sc
	}
	limited := behaviour{status: 429, header: map[string]string{"x-envoy-ratelimited": "true"}}
	said := behaviour{header: map[string]string{"x-say": "come again"}}
	wait := func(value string) behaviour {
		return behaviour{status: 503, header: map[string]string{"retry-after": value}}
	}
	fail := []behaviour{always503}
	post := func(n int) request { return request{method: "POST", body: string(make([]byte, n))} }
	return []*scenario{
		on("5xx", `retry_on: 5xx`, behaviour{status: 500}),
		on("5xx-599", `retry_on: 5xx`, behaviour{status: 599}),
		on("5xx-close", `retry_on: 5xx`, behaviour{close: true}),
		on("gateway", `retry_on: gateway-error`, behaviour{status: 502}),
		not("gateway-500", `retry_on: gateway-error`, behaviour{status: 500}),
		on("reset", `retry_on: reset`, resets),
		not("reset-503", `retry_on: reset`, always503),
		not("connect", `retry_on: connect-failure`, resets),
		not("before", `retry_on: reset-before-request`, resets),
		on("409", `retry_on: retriable-4xx`, behaviour{status: 409}),
		not("404", `retry_on: retriable-4xx`, behaviour{status: 404}),
		on("codes", `retry_on: retriable-status-codes, retriable_status_codes: [418, 429]`, behaviour{status: 429}),
		not("codes-without-word", `retry_on: reset, retriable_status_codes: [418, 429]`, behaviour{status: 429}),
		on("limited", `retry_on: envoy-ratelimited`, limited),
		not("limited-5xx", `retry_on: "5xx,retriable-status-codes", retriable_status_codes: [429]`, limited),
		on("header", `retry_on: retriable-headers, retriable_headers: [{name: x-say, string_match: {contains: again}}]`, said),
		on("header-prefix", `retry_on: retriable-headers, retriable_headers: [{name: x-say, string_match: {prefix: come}}]`, said),
		on("header-suffix", `retry_on: retriable-headers, retriable_headers: [{name: x-say, string_match: {suffix: AGAIN, ignore_case: true}}]`, said),
		on("header-regex", `retry_on: retriable-headers, retriable_headers: [{name: x-say, string_match: {safe_regex: {regex: "come .*"}}}]`, said),
		on("header-status", `retry_on: retriable-headers, retriable_headers: [{name: ":status", string_match: {exact: "418"}}]`, behaviour{status: 418}),
		not("header-invert", `retry_on: retriable-headers, retriable_headers: [{name: x-say, string_match: {contains: again}, invert_match: true}]`, said),
		on("several", `retry_on: " reset , unknown,5xx"`, always503),

		{name: "raw-retry-host", raw: &resources{host: again(`num_retries: 1, retry_on: 5xx`)}, script: fail, traffic: get(1), mutants: []resources{{host: `{retry_policy: null}`}}},
		{name: "raw-retry-route-over-host", raw: &resources{host: again(`num_retries: 3, retry_on: 5xx`), action: again(`num_retries: 1, retry_on: 5xx`)}, script: fail, traffic: get(1)},
		{name: "raw-retry-cluster", raw: &resources{options: again(`num_retries: 1, retry_on: 5xx`), action: again(`num_retries: 3, retry_on: 5xx`)}, script: fail, traffic: get(1),
			mutants: []resources{{options: `{retry_policy: {num_retries: 2}}`}, {options: `{retry_policy: {retry_on: reset}}`}}},
		{name: "raw-retry-cluster-none", raw: &resources{options: `{retry_policy: {}}`, action: again(`num_retries: 3, retry_on: 5xx`)}, script: fail, traffic: get(1)},
		{name: "raw-retry-cluster-per-try", raw: &resources{options: again(`num_retries: 1, retry_on: reset, per_try_timeout: 0.1s`), action: `{timeout: 0.4s}`}, script: []behaviour{hangs}, traffic: get(1)},
		{name: "raw-retry-none", raw: &resources{action: again(`num_retries: 0, retry_on: 5xx`)}, script: fail, traffic: get(1)},
		{name: "raw-retry-default", raw: &resources{action: again(`retry_on: 5xx`)}, script: fail, traffic: get(1)},
		{name: "raw-request-headers", raw: &resources{action: again(`num_retries: 1, retry_on: 5xx, retriable_request_headers: [{name: ":method", string_match: {exact: GET}}, {name: x-again, present_match: true}]`)},
			script: fail, traffic: mixed(request{}, request{method: "POST", body: "x"}, request{method: "POST", body: "x", header: map[string]string{"X-Again": "1"}}),
			mutants: []resources{{action: `{retry_policy: {retriable_request_headers: null}}`}}},
		{name: "raw-refused", raw: &resources{action: again(`num_retries: 2, retry_on: connect-failure`)}, refusing: 2, traffic: get(2), anyHost: true, mutants: off},
		{name: "raw-refused-before", raw: &resources{action: again(`num_retries: 1, retry_on: reset-before-request`)}, hosts: 1, refusing: 1, traffic: get(4), anyHost: true, concurrent: true,
			ignore: []string{"upstream_rq_retry", "upstream_rq_retry_success", "upstream_rq_retry_backoff_exponential", "upstream_cx_connect_fail", "upstream_rq_pending_failure_eject", "attempts"}},
		{name: "raw-refused-reset", raw: &resources{action: again(`num_retries: 1, retry_on: reset`)}, refusing: 1, traffic: get(1)},
		{name: "raw-refused-none", raw: &resources{}, refusing: 1, traffic: get(2)},
		{name: "raw-back-off", raw: &resources{action: `{retry_policy: {retry_on: 5xx, num_retries: 4, retry_back_off: {base_interval: 0.1s, max_interval: 0.15s}}}`}, script: fail, traffic: get(3),
			longest: 550 * ms, mutants: []resources{{action: `{retry_policy: {retry_back_off: {base_interval: 3s, max_interval: 3s}}}`}}},
		{name: "raw-limited-seconds", raw: &resources{action: again(`num_retries: 1, retry_on: 5xx, rate_limited_retry_back_off: {max_interval: 10s, reset_headers: [{name: retry-after, format: SECONDS}]}`)},
			script: []behaviour{wait("1"), always200}, traffic: get(1), shortest: time.Second, longest: 1500 * ms,
			mutants: []resources{{action: `{retry_policy: {rate_limited_retry_back_off: {max_interval: 0.5s}}}`}, {action: `{retry_policy: {rate_limited_retry_back_off: null}}`},
				{action: `{retry_policy: {rate_limited_retry_back_off: {reset_headers: [{name: x-other, format: SECONDS}]}}}`},
				{action: `{retry_policy: {rate_limited_retry_back_off: {reset_headers: [{name: retry-after, format: UNIX_TIMESTAMP}]}}}`}}},
		{name: "raw-limited-nonsense", raw: &resources{action: again(`num_retries: 1, retry_on: 5xx, rate_limited_retry_back_off: {reset_headers: [{name: retry-after, format: SECONDS}]}`)},
			script: []behaviour{wait("soon"), always200}, traffic: get(1)},
		{name: "raw-limited-zero", raw: &resources{action: again(`num_retries: 1, retry_on: 5xx, rate_limited_retry_back_off: {reset_headers: [{name: retry-after, format: SECONDS}]}`)},
			script: []behaviour{wait("0"), always200}, traffic: get(1)},
		{name: "raw-buffer-route", raw: &resources{route: `{request_body_buffer_limit: 1000}`, action: again(`num_retries: 1, retry_on: 5xx`)}, script: fail, traffic: mixed(post(100), post(5000)),
			mutants: []resources{{route: `{request_body_buffer_limit: 50}`}, {route: `{request_body_buffer_limit: 9000}`}}},
		{name: "raw-buffer-host", raw: &resources{host: `{request_body_buffer_limit: 1000}`, action: again(`num_retries: 1, retry_on: 5xx`)}, script: fail, traffic: mixed(post(100), post(5000)),
			mutants: []resources{{host: `{request_body_buffer_limit: 9000}`}}},
		{name: "raw-buffer-old", raw: &resources{route: `{per_request_buffer_limit_bytes: 1000}`, action: again(`num_retries: 1, retry_on: 5xx`)}, script: fail, traffic: mixed(post(100), post(5000)),
			mutants: []resources{{route: `{per_request_buffer_limit_bytes: 9000}`}}},
		{name: "raw-buffer-listener", raw: &resources{listener: `{per_connection_buffer_limit_bytes: 20000}`, action: again(`num_retries: 1, retry_on: 5xx`)}, script: fail, traffic: mixed(post(100), post(90000)),
			mutants: []resources{{listener: `{per_connection_buffer_limit_bytes: 2000000}`}}},
		{name: "raw-retry-while-uploading", raw: &resources{action: again(`num_retries: 1, retry_on: 5xx`)}, script: []behaviour{{echo: true}}, traffic: mixed(request{method: "POST", body: "slowly", slow: 300 * ms})},
		{name: "raw-high", raw: &resources{action: `{priority: HIGH}`, cluster: `{circuit_breakers: {thresholds: [{priority: HIGH, max_requests: 2}, {max_requests: 9}]}}`}, script: []behaviour{{hold: true}},
			traffic: func(s *side) { s.hold(2); s.get(2); s.free() }, longest: patience, mutants: []resources{{action: `{priority: null}`}, {cluster: `{circuit_breakers: {thresholds: [{priority: HIGH, max_requests: 1}]}}`}}},
		{name: "raw-pools", raw: &resources{cluster: `{circuit_breakers: {thresholds: [{max_connection_pools: 1}]}}`}, hosts: 2, script: []behaviour{{hold: true}}, anyHost: true,
			traffic: func(s *side) { s.hold(1); s.get(1); s.free(); s.hold(1); s.free() }, longest: patience, mutants: []resources{{cluster: `{circuit_breakers: {thresholds: [{max_connection_pools: 2}]}}`}}},
		{name: "raw-pending-none", raw: &resources{cluster: `{circuit_breakers: {thresholds: [{max_connections: 1, max_pending_requests: 0}]}}`}, traffic: get(1),
			mutants: []resources{{cluster: `{circuit_breakers: {thresholds: [{max_connections: 1, max_pending_requests: 1}]}}`}}},
		{name: "raw-connections", raw: &resources{cluster: `{circuit_breakers: {thresholds: [{max_connections: 1}]}}`}, script: []behaviour{{hold: true}}, longest: patience, markSlack: time.Second,
			traffic: func(s *side) {
				s.hold(1)
				s.send(request{patience: 400 * ms})
				s.statIs("upstream_rq_pending_active", 0)
				s.free()
			}, mutants: []resources{{cluster: `{circuit_breakers: {thresholds: [{max_connections: 2}]}}`}}},
		{name: "raw-codes-changed", raw: &resources{action: again(`num_retries: 1, retry_on: "retriable-status-codes,retriable-headers", retriable_status_codes: [429], retriable_headers: [{name: x-say, present_match: true}]`)},
			script: []behaviour{{status: 429}, always200, said, always200}, traffic: get(2),
			mutants: []resources{{action: `{retry_policy: {retriable_status_codes: [418]}}`}, {action: `{retry_policy: {retriable_headers: [{name: x-other, present_match: true}]}}`}}},
		{name: "raw-avoid", raw: &resources{action: again(`num_retries: 1, retry_on: 5xx, host_selection_retry_max_attempts: 30, retry_host_predicate: [{name: previous, typed_config: {"@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}]`),
			cluster: `{lb_policy: RANDOM}`}, hosts: 2, byHost: [][]behaviour{{always503}, {always200}}, traffic: get(40), concurrent: true, anyHost: true,
			ignore:  []string{"requests upstream", "upstream_rq_total", "upstream_rq_retry", "upstream_rq_retry_success", "upstream_rq_retry_backoff_exponential", "attempts"},
			mutants: []resources{{action: `{retry_policy: {retry_host_predicate: null}}`}, {action: `{retry_policy: {host_selection_retry_max_attempts: 1}}`}}},
		{name: "raw-connect-timeout", raw: &resources{cluster: `{connect_timeout: 0.3s}`}, silent: 1, traffic: get(1), mutants: []resources{{cluster: `{connect_timeout: 1.2s}`}}},
		{name: "raw-max-retries", raw: &resources{action: again(`num_retries: 2, retry_on: 5xx`), cluster: `{circuit_breakers: {thresholds: [{max_retries: 0}]}}`}, script: fail, traffic: get(2),
			mutants: []resources{{cluster: `{circuit_breakers: {thresholds: [{max_retries: 5}]}}`}}},
		{name: "raw-budget", raw: &resources{action: again(`num_retries: 2, retry_on: 5xx`), cluster: `{circuit_breakers: {thresholds: [{retry_budget: {budget_percent: {value: 0}, min_retry_concurrency: 0}}]}}`},
			script: fail, traffic: get(2), mutants: []resources{{cluster: `{circuit_breakers: {thresholds: [{retry_budget: {budget_percent: {value: 100}, min_retry_concurrency: 0}}]}}`},
				{cluster: `{circuit_breakers: {thresholds: [{retry_budget: {budget_percent: {value: 0}, min_retry_concurrency: 3}}]}}`}}},
		{name: "raw-budget-interval", raw: &resources{action: again(`num_retries: 1, retry_on: 5xx`),
			cluster: `{circuit_breakers: {thresholds: [{retry_budget: {budget_percent: {value: 10}, min_retry_concurrency: 0, budget_interval: 30s}}]}}`},
			script: append(make([]behaviour, 12), always503), traffic: get(14), mutants: []resources{{cluster: `{circuit_breakers: {thresholds: [{retry_budget: {budget_percent: {value: 10}, min_retry_concurrency: 0}}]}}`}}},
		{name: "raw-runtime", raw: &resources{action: again(`num_retries: 2, retry_on: 5xx`), cluster: `{circuit_breakers: {thresholds: [{max_retries: 5}]}}`, runtime: `{circuit_breakers.$NAME.default.max_retries: 0}`},
			script: fail, traffic: get(1)},
		{name: "raw-runtime-budget", raw: &resources{action: again(`num_retries: 2, retry_on: 5xx`), runtime: `{circuit_breakers.$NAME.default.retry_budget.min_retry_concurrency: 0, circuit_breakers.$NAME.default.retry_budget.budget_percent: 0}`},
			script: fail, traffic: get(1)},
		{name: "raw-runtime-requests", raw: &resources{runtime: `{circuit_breakers.$NAME.default.max_requests: 0}`}, traffic: get(2)},
		{name: "raw-maintenance", raw: &resources{runtime: `{upstream.maintenance_mode.$NAME: 100}`}, traffic: mixed(request{}, request{method: "HEAD"})},
		{name: "raw-drop", raw: &resources{eds: true, more: `[{"@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment, cluster_name: $NAME,
  endpoints: [{locality: {region: here}, lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: $PORT0}}}}]}],
  policy: {drop_overloads: [{category: lots, drop_percentage: {numerator: 100}}]}}]`}, traffic: get(2),
			mutants: []resources{{more: `[{"@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment, cluster_name: $NAME,
  endpoints: [{locality: {region: here}, lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: $PORT0}}}}]}]}]`}}},
		{name: "raw-drop-most", raw: &resources{eds: true, more: `[{"@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment, cluster_name: $NAME,
  endpoints: [{locality: {region: here}, lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: $PORT0}}}}]}],
  policy: {drop_overloads: [{category: lots, drop_percentage: {numerator: 999999, denominator: MILLION}}]}}]`}, traffic: get(2)},
	}
}

func rawHedges() []*scenario {
	hedge := func(fields string) string {
		return again(`retry_on: 5xx, num_retries: 2, per_try_timeout: 0.2s`) + "\n---\n{hedge_policy: {hedge_on_per_try_timeout: true}, " + fields + "}"
	}
	late := behaviour{delay: 500 * ms, body: "late"}
	return []*scenario{
		{name: "raw-hedge", raw: &resources{action: hedge("timeout: 3s")}, script: []behaviour{late, {body: "second"}}, traffic: get(1), concurrent: true,
			mutants: []resources{{action: `{hedge_policy: null}`}}},
		{name: "raw-hedge-first-wins", raw: &resources{action: hedge("timeout: 3s")}, script: []behaviour{{delay: 300 * ms, body: "first"}, hangs}, traffic: get(1), concurrent: true},
		{name: "raw-hedge-bad-dropped", raw: &resources{action: hedge("timeout: 3s")}, script: []behaviour{late, {status: 404}}, traffic: get(1), concurrent: true},
		{name: "raw-hedge-all-bad", raw: &resources{action: hedge("timeout: 3s")}, script: []behaviour{{status: 503, delay: 300 * ms}}, traffic: get(1), concurrent: true},
		{name: "raw-hedge-timeout", raw: &resources{action: hedge("timeout: 0.75s, retry_policy: {per_try_timeout: 0.5s}")}, script: []behaviour{hangs}, traffic: get(1), concurrent: true},
		{name: "raw-hedge-exhausted", raw: &resources{action: hedge("timeout: 1s")}, script: []behaviour{hangs}, traffic: get(1), concurrent: true},
		{name: "raw-hedge-exhausted-late", raw: &resources{action: hedge("timeout: 3s")}, script: []behaviour{hangs, hangs, {delay: 400 * ms, body: "third"}}, traffic: get(1), concurrent: true},
		{name: "raw-hedge-exhausted-bad", raw: &resources{action: hedge("timeout: 3s")}, script: []behaviour{{delay: 900 * ms, body: "first"}, hangs, {delay: 100 * ms, status: 503}}, traffic: get(1), concurrent: true},
		{name: "raw-hedge-reset", raw: &resources{action: hedge("timeout: 3s")}, script: []behaviour{{delay: 600 * ms, body: "first"}, resets, hangs}, traffic: get(1), concurrent: true},
		{name: "raw-hedge-host", raw: &resources{host: `{hedge_policy: {hedge_on_per_try_timeout: true}}`, action: again(`retry_on: 5xx, num_retries: 1, per_try_timeout: 0.2s`)},
			script: []behaviour{late, {body: "second"}}, traffic: get(1), concurrent: true, mutants: []resources{{host: `{hedge_policy: null}`}}},
		{name: "raw-hedge-no-words", raw: &resources{action: `{hedge_policy: {hedge_on_per_try_timeout: true}, retry_policy: {num_retries: 2, per_try_timeout: 0.2s}}`}, script: []behaviour{late, {body: "second"}},
			traffic: get(1), concurrent: true},
	}
}
