package differential_test

import (
	"strings"
	"time"
)

// checkFields are scenarios for the health checks of policies, as policyFields.
func checkFields() []*scenario {
	ok, down := behaviour{}, behaviour{status: 503}
	counts := []string{"health_check.attempt", "health_check.success", "health_check.failure", "health_check.network_failure"} // of fast checks
	check := func(fields ...string) string { return "healthCheck: {" + strings.Join(fields, ", ") + "}" }
	// once is a check that is not made again while a scenario runs; often one that is.
	const once, often = "interval: 1h, noTrafficInterval: 1h, timeout: 15s", "interval: 300ms, noTrafficInterval: 300ms"
	how := func(more string) string { return "http: {path: /check, host: $SIDE" + more + "}" }
	health := func(want ...int64) func(*side) {
		return func(s *side) {
			s.get(1)
			for _, n := range want {
				s.statIs("membership_healthy", n)
			}
		}
	}
	grpc := func(status string) []behaviour {
		return []behaviour{{body: "\x00\x00\x00\x00\x02\x08" + status, header: map[string]string{"Content-Type": "application/grpc", "Trailer:Grpc-Status": "0"}}, always200}
	}
	const asked = "GET /warm HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n" // is answered with 418
	return []*scenario{
		{name: "field-check", policy: []string{check(how(""), once)}, hosts: 2, byHost: named(2), checks: [][]behaviour{{ok}, {down}}, traffic: get(4),
			variants: []string{"healthCheck: {disabled: true}", check(how(", expectedStatuses: [503, 2xx]"))}},
		{name: "field-check-request", policy: []string{check(`http: {path: "/how?a=b", host: $SIDE, method: OPTIONS}`, once)}, traffic: get(1),
			variants: []string{check(`http: {path: "/why", host: $SIDE, method: OPTIONS}`), check(`http: {path: "/how?a=b", host: other, method: OPTIONS}`), check(`http: {path: "/how?a=b", host: $SIDE, method: POST}`)}},
		{name: "field-check-thresholds", policy: []string{check(how(""), often, "unhealthyThreshold: 2, healthyThreshold: 1"), panics("0")}, checks: [][]behaviour{{ok, ok, down, down, ok, down}}, ignore: counts,
			traffic: health(0, 1, 0), markSlack: time.Second, variants: []string{"healthCheck: {unhealthyThreshold: 99}", "healthCheck: {healthyThreshold: 2}"}},
		{name: "field-check-intervals", policy: []string{check(how(""), often)}, ignore: counts, traffic: func(s *side) { s.get(1); s.gaps(4) },
			variants: []string{"healthCheck: {interval: 20s}", "healthCheck: {noTrafficInterval: 10m}", "healthCheck: {jitter: 20s}"}},
		{name: "field-check-timeout", policy: []string{check(how(""), often, "timeout: 300ms, unhealthyThreshold: 1"), panics("0")}, checks: [][]behaviour{{ok, ok, hangs}}, ignore: counts,
			traffic: health(0), markSlack: time.Second, variants: []string{"healthCheck: {timeout: 20s}"}},
		{name: "field-check-uneject", policy: append(eject("consecutive5xx: 1, maxEjectionPercent: 100"), check(how(""), "interval: 1s, noTrafficInterval: 1s"), panics("0")), script: answers(503, 200), ignore: counts, markSlack: time.Second,
			traffic: func(s *side) {
				s.get(1)
				s.statIs("outlier_detection.ejections_enforced_total", 1)
				s.statIs(active, 0)
				s.get(1)
			}, variants: []string{"outlierDetection: {unejectOnHealthCheck: false, baseEjectionTime: 1m, maxEjectionTime: 1m}"}},
		{name: "field-check-tcp", policy: []string{check("tcp: {}", once)}, hosts: 1, refusing: 1, byHost: named(1), traffic: get(4), variants: []string{"healthCheck: {disabled: true}"}},
		{name: "field-check-tcp-says", policy: []string{check(`tcp: {send: "`+asked+`", receive: ["418", "no "]}`, once), panics("0")}, traffic: get(2),
			variants: []string{check(`tcp: {send: "`+asked+`", receive: ["419"]}`, once), check(`tcp: {send: "BREW\r\n\r\n", receive: ["418"]}`, once)}},
		{name: "field-check-grpc", protocol: "http2", policy: []string{check("grpc: {authority: $SIDE, service: a}", once)}, hosts: 2, byHost: [][]behaviour{grpc("\x01"), grpc("\x02")}, traffic: get(2),
			variants: []string{check("grpc: {authority: $SIDE, service: b}"), check("grpc: {authority: other, service: a}")}},
	}
}
