package differential_test

import "time"

// rawOutliers are what counts as a failure of a host, and what becomes of a host that fails.
func rawOutliers() []*scenario {
	const base = `{common_lb_config: {healthy_panic_threshold: {value: 0}}, outlier_detection: {consecutive_5xx: 3, interval: 1s, base_ejection_time: 30s, max_ejection_percent: 100}}`
	outlier := func(fields string) string { return base + "\n---\n{outlier_detection: {" + fields + "}}" }
	matcher := func(predicate string) string { return `{outlier_detection: {error_matcher: ` + predicate + `}}` }
	status := func(code string) string {
		return `{http_response_headers_match: {headers: [{name: ":status", string_match: {exact: "` + code + `"}}]}}`
	}
	// ejects sends until the host is out, and then one more.
	ejects := func(n int) func(*side) { return func(s *side) { s.get(n); s.statIs(active, 1); s.get(1) } }
	errors := func(name, predicate string, bad behaviour, traffic func(*side), mutants ...string) *scenario {
		sc := &scenario{name: "raw-errors-" + name, raw: &resources{cluster: base, options: matcher(predicate)}, script: []behaviour{bad}, traffic: traffic, markSlack: time.Second}
		for _, m := range mutants {
			sc.mutants = append(sc.mutants, resources{options: matcher("null") + "\n---\n" + matcher(m)})
		}
		return sc
	}
	soft := behaviour{status: 200, header: map[string]string{"x-fault": "soft"}}
	named := `{http_response_headers_match: {headers: [{name: x-fault, string_match: {exact: soft}}]}}`
	grpcStatus := func(code string) behaviour {
		return behaviour{header: map[string]string{"content-type": "application/grpc", "grpc-status": code}}
	}
	grpc := func(sc *scenario, n int, ejected int64) *scenario {
		sc.raw.options += "\n---\n" + `{explicit_http_config: {http_protocol_options: null, http2_protocol_options: {}}}`
		sc.traffic = func(s *side) {
			for range n {
				s.send(grpcCall(nil))
			}
			s.statIs(active, ejected)
		}
		return sc
	}
	degraded := behaviour{header: map[string]string{"x-envoy-degraded": "1"}, body: "tired"}
	two := func(name, fields string, bad behaviour, traffic func(*side), mutants ...string) *scenario {
		sc := &scenario{name: "raw-outlier-" + name, raw: &resources{cluster: outlier(fields)}, hosts: 2, byHost: firstOf(bad, 2), concurrent: true, anyHost: true, traffic: traffic, markSlack: 5 * time.Second}
		for _, m := range mutants {
			sc.mutants = append(sc.mutants, resources{cluster: "{outlier_detection: {" + m + "}}"})
		}
		return sc
	}
	one := func(name, fields string, script []behaviour, traffic func(*side), mutants ...string) *scenario {
		sc := &scenario{name: "raw-outlier-" + name, raw: &resources{cluster: outlier(fields)}, script: script, traffic: traffic, markSlack: time.Second}
		for _, m := range mutants {
			sc.mutants = append(sc.mutants, resources{cluster: "{outlier_detection: {" + m + "}}"})
		}
		return sc
	}
	fail := []behaviour{always503}
	comesBack := func(s *side) { s.get(3); s.statIs(active, 1); s.statIs(active, 0); s.get(2) }
	return []*scenario{
		errors("429", status("429"), behaviour{status: 429}, ejects(3), status("418")),
		errors("200", named, soft, ejects(3), `{not_match: `+named+`}`),
		errors("503-kept", status("503"), always503, ejects(3), status("502")),
		errors("503-forgiven", status("429"), always503, get(6), `{any_match: true}`),
		errors("any", `{any_match: true}`, always200, ejects(3), `{not_match: {any_match: true}}`),
		errors("not", `{not_match: `+status("404")+`}`, always200, ejects(3), `{not_match: `+status("200")+`}`),
		errors("and", `{and_match: {rules: [`+status("200")+`, `+named+`]}}`, soft, ejects(3), `{and_match: {rules: [`+status("201")+`, `+named+`]}}`),
		errors("or", `{or_match: {rules: [`+status("404")+`, `+named+`]}}`, soft, ejects(3), `{or_match: {rules: [`+status("404")+`, `+status("405")+`]}}`),
		errors("reset", status("429"), resets, ejects(3)),
		grpc(errors("grpc-forgiven", status("404"), grpcStatus("14"), nil), 3, 1),
		grpc(errors("grpc-forgiven-13", status("404"), grpcStatus("13"), nil), 3, 1),
		grpc(errors("grpc-matched-5", `{http_response_headers_match: {headers: [{name: grpc-status, string_match: {exact: "5"}}]}}`, grpcStatus("5"), nil), 3, 0),
		grpc(errors("grpc-matched-0", `{http_response_headers_match: {headers: [{name: grpc-status, string_match: {exact: "0"}}]}}`, grpcStatus("0"), nil), 3, 0),
		grpc(errors("grpc-matched", `{http_response_headers_match: {headers: [{name: grpc-status, string_match: {exact: "14"}}]}}`, grpcStatus("14"), nil), 3, 1),
		one("5xx", "", []behaviour{{status: 500}}, ejects(3), "consecutive_5xx: 9", "enforcing_consecutive_5xx: 0", "max_ejection_percent: 0"),
		{name: "raw-outlier-panic", raw: &resources{cluster: base + "\n---\n{common_lb_config: {healthy_panic_threshold: {value: 50}}}"}, script: fail, traffic: ejects(3), markSlack: time.Second,
			mutants: []resources{{cluster: `{common_lb_config: {healthy_panic_threshold: {value: 0}}}`}, {cluster: `{common_lb_config: {zone_aware_lb_config: {fail_traffic_on_panic: true}}}`}}},
		one("gateway", "consecutive_5xx: 0, consecutive_gateway_failure: 3, enforcing_consecutive_gateway_failure: 100", []behaviour{{status: 502}}, ejects(3),
			"consecutive_gateway_failure: 9", "enforcing_consecutive_gateway_failure: 0"),
		one("gateway-not-enforced", "consecutive_5xx: 0, consecutive_gateway_failure: 3", fail, func(s *side) {
			s.get(3)
			s.statIs("outlier_detection.ejections_detected_consecutive_gateway_failure", 1)
			s.get(3)
			s.statIs("outlier_detection.ejections_detected_consecutive_gateway_failure", 2)
		}),
		one("returns", "base_ejection_time: 1s", append(answers(503, 503, 503), always200), comesBack, "base_ejection_time: 5s"),
		one("longest", "interval: 1s, base_ejection_time: 3s, max_ejection_time: 3s", answers(503, 503, 503, 200, 503, 503, 503, 200), func(s *side) {
			comesBack(s)
			s.get(2)
			s.statIs(active, 1)
			s.statIs(active, 0)
		}, "max_ejection_time: 20s"),
		one("one-always", "max_ejection_percent: 0, always_eject_one_host: true", fail, ejects(3), "always_eject_one_host: false"),
		{name: "raw-outlier-attempt-limit", raw: &resources{cluster: base, options: `{common_http_protocol_options: {max_stream_duration: 0.1s}}`}, script: []behaviour{hangs}, traffic: get(5)},
		{name: "raw-outlier-per-try", raw: &resources{cluster: base, action: `{retry_policy: {per_try_timeout: 0.1s}}`}, script: []behaviour{hangs}, traffic: ejects(3), markSlack: time.Second},
		{name: "raw-outlier-timeout", raw: &resources{cluster: base, action: `{timeout: 0.1s}`}, script: []behaviour{hangs}, traffic: ejects(3), markSlack: time.Second},
		{name: "raw-outlier-idle", raw: &resources{cluster: base, action: `{idle_timeout: 0.1s}`}, script: []behaviour{hangs}, traffic: get(5)},
		{name: "raw-outlier-split-refused", raw: &resources{cluster: outlier("split_external_local_origin_errors: true, consecutive_local_origin_failure: 2, consecutive_5xx: 9")}, refusing: 1, traffic: ejects(2), markSlack: time.Second,
			mutants: []resources{{cluster: "{outlier_detection: {consecutive_local_origin_failure: 9}}"}, {cluster: "{outlier_detection: {enforcing_consecutive_local_origin_failure: 0}}"},
				{cluster: "{outlier_detection: {split_external_local_origin_errors: false}}"}}},
		{name: "raw-outlier-split-reset", raw: &resources{cluster: outlier("split_external_local_origin_errors: true, consecutive_local_origin_failure: 2")}, script: []behaviour{resets}, traffic: get(6)},
		{name: "raw-outlier-split-503", raw: &resources{cluster: outlier("split_external_local_origin_errors: true")}, script: fail, traffic: ejects(3), markSlack: time.Second},
		{name: "raw-outlier-degraded", raw: &resources{cluster: outlier("detect_degraded_hosts: true")}, hosts: 4, byHost: firstOf(degraded, 4), concurrent: true, anyHost: true, markSlack: time.Second,
			traffic: func(s *side) { s.get(4); s.statIs("membership_degraded", 1); s.get(6) }, mutants: []resources{{cluster: "{outlier_detection: {detect_degraded_hosts: false}}"}}},
		two("failure-percentage", "interval: 5s, consecutive_5xx: 0, consecutive_gateway_failure: 0, failure_percentage_threshold: 50, enforcing_failure_percentage: 100, failure_percentage_minimum_hosts: 2, failure_percentage_request_volume: 5",
			always503, func(s *side) { s.atOnce(20); s.statIs(active, 1); s.get(4) }, "failure_percentage_minimum_hosts: 3", "failure_percentage_request_volume: 500", "enforcing_failure_percentage: 0",
			"failure_percentage_threshold: 101"),
		{name: "raw-outlier-success-rate", raw: &resources{cluster: outlier("interval: 5s, consecutive_5xx: 0, consecutive_gateway_failure: 0, success_rate_minimum_hosts: 3, success_rate_request_volume: 5, success_rate_stdev_factor: 1000")}, hosts: 4,
			byHost: firstOf(always503, 4), concurrent: true, anyHost: true, traffic: func(s *side) { s.atOnce(40); s.statIs(active, 1); s.get(4) }, markSlack: 5 * time.Second,
			mutants: []resources{{cluster: "{outlier_detection: {success_rate_minimum_hosts: 5}}"}, {cluster: "{outlier_detection: {success_rate_request_volume: 500}}"},
				{cluster: "{outlier_detection: {success_rate_stdev_factor: 9000}}"}, {cluster: "{outlier_detection: {enforcing_success_rate: 0}}"}}},
	}
}
