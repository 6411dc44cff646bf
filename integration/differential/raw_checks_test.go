package differential_test

import (
	"strings"
	"time"
)

// checked is a cluster with health checks; each has the fields of one. It is checked at checkPath where a check does not say otherwise.
func checked(checks ...string) string {
	var b strings.Builder
	b.WriteString("{health_checks: [")
	for _, check := range checks {
		for field, value := range map[string]string{" timeout:": "15s", " interval:": "3600s", " no_traffic_interval:": "3600s", " healthy_threshold:": "1", " unhealthy_threshold:": "1", "_health_check:": ""} {
			switch {
			case strings.Contains(" "+check, field):
			case value == "":
				check = byHTTP("") + ", " + check
			default:
				check = field + " " + value + ", " + check
			}
		}
		b.WriteString("{" + check + "},")
	}
	b.WriteString("]}")
	return b.String()
}

func byHTTP(more string) string {
	return `http_health_check: {path: /check, request_headers_to_add: [{header: {key: x-side, value: $SIDE}}], ` + more + `}`
}

// rawChecks are active health checks.
func rawChecks() []*scenario {
	ok, down := behaviour{}, behaviour{status: 503}
	counts := []string{"health_check.attempt", "health_check.success", "health_check.failure", "health_check.network_failure"} // of fast checks
	const paced = `interval: 0.1s, no_traffic_interval: 0.1s, unhealthy_edge_interval: 0.7s, unhealthy_interval: 1.5s, healthy_edge_interval: 2.4s, `
	grpc := func(body string, status string) behaviour {
		return behaviour{body: body, header: map[string]string{"Content-Type": "application/grpc", "Trailer:Grpc-Status": status}}
	}
	gaps := func(n int) func(*side) { return func(s *side) { s.get(1); s.gaps(n) } }
	edges := func(checks ...behaviour) [][]behaviour { return [][]behaviour{checks} }
	return []*scenario{
		{name: "raw-check-first", raw: &resources{cluster: checked("")}, hosts: 2, byHost: named(2), checks: [][]behaviour{{ok}, {down}}, traffic: get(4),
			mutants: []resources{{cluster: `{health_checks: null}`}, {cluster: checked(byHTTP(`expected_statuses: [{start: 200, end: 600}]`))}}},
		{name: "raw-check-panic", raw: &resources{cluster: checked("")}, hosts: 2, checks: [][]behaviour{{down}, {down}}, traffic: get(4), ignore: logs(4)},
		{name: "raw-check-request", raw: &resources{cluster: checked(`http_health_check: {path: "/how?a=b", host: a.example, method: OPTIONS, request_headers_to_add: [{header: {key: x-side, value: $SIDE}}, {header: {key: X-More, value: "1"}}]}`)},
			hosts: 1, traffic: get(1), mutants: []resources{{cluster: checked(byHTTP(""))}}},
		{name: "raw-check-request-h2", raw: &resources{cluster: checked(`http_health_check: {path: "/how", codec_client_type: HTTP2, request_headers_to_add: [{header: {key: x-side, value: $SIDE}}]}`)},
			hosts: 1, traffic: get(1)},
		{name: "raw-check-expected", raw: &resources{cluster: checked(byHTTP(`expected_statuses: [{start: 201, end: 203}]`))}, hosts: 2, byHost: named(2),
			checks: [][]behaviour{{{status: 203}}, {{status: 201}}}, traffic: get(4)},
		{name: "raw-check-unexpected-at-once", raw: &resources{cluster: checked(paced + "unhealthy_threshold: 3")}, hosts: 1, checks: edges(ok, ok, ok, down), traffic: gaps(5), ignore: counts,
			mutants: []resources{{cluster: checked(paced + "unhealthy_threshold: 3, " + byHTTP("retriable_statuses: [{start: 503, end: 504}]"))}}},
		{name: "raw-check-network", raw: &resources{cluster: checked(paced + "unhealthy_threshold: 4")}, hosts: 1, checks: edges(ok, ok, behaviour{reset: true}), traffic: gaps(6), ignore: counts,
			mutants: []resources{{cluster: checked(paced + "unhealthy_threshold: 3")}}},
		{name: "raw-check-retriable", raw: &resources{cluster: checked(paced + "unhealthy_threshold: 3, " + byHTTP("retriable_statuses: [{start: 503, end: 504}]"))}, hosts: 1, checks: edges(ok, down),
			traffic: gaps(4), ignore: counts, mutants: []resources{{cluster: checked(paced + "unhealthy_threshold: 4, " + byHTTP("retriable_statuses: [{start: 503, end: 504}]"))}}},
		{name: "raw-check-timeout", raw: &resources{cluster: checked(paced + "timeout: 0.9s, unhealthy_threshold: 2")}, hosts: 1, checks: edges(ok, behaviour{hang: true}), traffic: gaps(3), ignore: counts,
			mutants: []resources{{cluster: checked(paced + "timeout: 0.1s, unhealthy_threshold: 2")}}},
		{name: "raw-check-healthy-threshold", raw: &resources{cluster: checked(paced + "healthy_threshold: 3")}, hosts: 1, checks: edges(down, down, ok), traffic: gaps(5), ignore: counts,
			mutants: []resources{{cluster: checked(paced + "healthy_threshold: 4")}}},
		{name: "raw-check-default-edges", raw: &resources{cluster: checked("interval: 0.1s, no_traffic_interval: 0.1s, unhealthy_interval: 0.9s, unhealthy_threshold: 3, healthy_threshold: 3")},
			hosts: 1, checks: edges(ok, behaviour{reset: true}, behaviour{reset: true}, behaviour{reset: true}, behaviour{reset: true}, ok), traffic: gaps(9), ignore: counts,
			mutants: []resources{{cluster: checked(paced + "unhealthy_threshold: 3, healthy_threshold: 3")}}},
		{name: "raw-check-degraded", raw: &resources{cluster: checked("") + "\n---\n{common_lb_config: {healthy_panic_threshold: {value: 0}}}"}, hosts: 3, byHost: named(3),
			checks: [][]behaviour{{{header: map[string]string{"x-envoy-degraded": "1"}}}, {down}, {down}}, traffic: get(4)},
		{name: "raw-check-service", raw: &resources{cluster: checked(byHTTP(`service_name_matcher: {prefix: pay}`))}, hosts: 2, byHost: named(2),
			checks: [][]behaviour{{{header: map[string]string{"x-envoy-upstream-healthchecked-cluster": "payments"}}}, {ok}}, traffic: get(4)},
		{name: "raw-check-immediate", raw: &resources{cluster: checked("")}, hosts: 1, script: []behaviour{{header: map[string]string{"x-envoy-immediate-health-check-fail": "1"}}, ok},
			traffic: func(s *side) { s.get(1); s.statIs("membership_excluded", 1); s.get(2) }, mutants: []resources{{cluster: `{health_checks: null}`}}},
		{name: "raw-check-immediate-in-check", raw: &resources{cluster: checked("")}, hosts: 2, byHost: named(2),
			checks: [][]behaviour{{{status: 503, header: map[string]string{"x-envoy-immediate-health-check-fail": "1"}}}, {ok}}, traffic: get(4)},
		{name: "raw-check-uneject", raw: &resources{cluster: checked("interval: 1s, no_traffic_interval: 1s") + "\n---\n{common_lb_config: {healthy_panic_threshold: {value: 0}, update_merge_window: 0s}, outlier_detection: {consecutive_5xx: 1, interval: 60s, max_ejection_percent: 100}}"}, hosts: 1,
			script: answers(503, 200), traffic: func(s *side) {
				s.get(1)
				s.statIs("outlier_detection.ejections_enforced_total", 1)
				s.statIs("outlier_detection.ejections_active", 0)
				s.get(1)
			},
			ignore: counts, markSlack: time.Second, mutants: []resources{{cluster: `{outlier_detection: {successful_active_health_check_uneject_host: false}}`}}},
		{name: "raw-check-two", raw: &resources{cluster: checked("name: one", "name: two, "+byHTTP("expected_statuses: [{start: 200, end: 202}]"))}, hosts: 2, byHost: named(2),
			checks: [][]behaviour{{{status: 201}}, {ok}}, traffic: get(4)},
		{name: "raw-check-endpoint", raw: &resources{cluster: checked(`http_health_check: {path: "/how", host: a, request_headers_to_add: [{header: {key: x-side, value: $SIDE}}]}`), endpoints: `[{lb_endpoints: [
			{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: $PORT0}}, health_check_config: {port_value: $PORT1, hostname: b}}},
			{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: $PORT2}}, health_check_config: {disable_active_health_check: true}}}]}]`}, hosts: 3, traffic: get(4), ignore: logs(4),
			mutants: []resources{{endpoints: localities("locality: {}||")}}},
		{name: "raw-check-tcp", raw: &resources{cluster: checked("tcp_health_check: {}")}, hosts: 1, refusing: 1, byHost: named(1), traffic: get(4)},
		{name: "raw-check-tcp-says", raw: &resources{cluster: checked(`tcp_health_check: {send: {text: "474554202f7761726d20485454502f312e310d0a486f73743a20610d0a0d0a"}, receive: [{text: "343138"}, {binary: bm8=}]}`)}, // GET /warm, 418, no
			hosts: 1, traffic: get(2), mutants: []resources{{cluster: checked(`tcp_health_check: {send: {text: "474554202f7761726d20485454502f312e310d0a486f73743a20610d0a0d0a"}, receive: [{text: "343139"}]}`)}}},
		{name: "raw-check-grpc", raw: &resources{options: `{explicit_http_config: {http2_protocol_options: {}, http_protocol_options: null}}`, cluster: checked(`grpc_health_check: {service_name: s, authority: a.b, initial_metadata: [{header: {key: x-side, value: $SIDE}}]}`)},
			hosts: 2, byHost: [][]behaviour{{grpc("\x00\x00\x00\x00\x02\x08\x01", "0"), {body: "host0"}}, {grpc("\x00\x00\x00\x00\x02\x08\x02", "0"), {body: "host1"}}}, traffic: get(4),
			ignore: []string{"requests upstream"}},
	}
}
