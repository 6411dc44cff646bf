package differential_test

import (
	"strings"
	"time"
)

// spare is a service that always answers with its name.
const spare = "spare"

// routeSections are scenarios of the sections that stand on a route beside timeouts and retries.
func routeSections() []*scenario {
	fail := []behaviour{always503}
	slow := []behaviour{{delay: 900 * ms, body: "late"}, always200}
	fallback := func(fields string) []string { return []string{"fallback: {" + fields + "}"} }
	fixed := `response: {status: 203, body: '{"items":[]}', contentType: text/plain}`
	deadline := func(fields string) string { return "timeout: {request: 1s, deadline: {" + fields + "}}" }
	budgets := with("X-Breakwater-Budget-Ms", "", "1000", "556", "555", "5", "1", "0", "-5", "junk", "1e3", "1.5", "0x10", "+700", "0700", "99999999999999999999",
		"9223372036854775807", "102481911520608620", "102481911520608621")
	deadlines := with("X-Breakwater-Deadline-Ms", "1", "-1", "0", "junk", "99999999999999", "9223372036854775807")
	grpc := with("Grpc-Timeout", "", "800m", "4m", "1S", "900000u", "800000000n", "1M", "99999999H", "0S", "junk", "5", "mm")
	elsewhere := fallback("service: " + spare)
	each := mixed(request{}, request{method: "HEAD"}, request{method: "POST", body: "x"})
	const detections = "outlier_detection.ejections_detected_consecutive_5xx"
	detected := inTurn(until(2, detections, 1, 2), until(0, detections, 2, 1)) // Envoy counts from anew only once its main thread has noted one
	const rates = "shop/$NAME.observed.http_local_rate_limit."
	return []*scenario{
		{name: "policy-observe-ejection", policy: []string{"outlierDetection: {observe: true, consecutive5xx: 2, interval: 1s, maxEjectionPercent: 100}", panics("0")}, script: fail, traffic: detected,
			variants: []string{"outlierDetection: {consecutive5xx: 2, maxEjectionPercent: 100}", "outlierDetection: {observe: true, consecutive5xx: 3}", "outlierDetection: {disabled: true}"}},
		{name: "policy-observe-breaker", policy: []string{"circuitBreaker: {observe: true, failureThreshold: 2}"}, script: fail, traffic: detected,
			variants: []string{"circuitBreaker: {failureThreshold: 2}", "circuitBreaker: {observe: true, failureThreshold: 3}"}},
		{name: "policy-observe-rate", policy: []string{"rateLimit: {observe: true, requests: 1, interval: 60s, burst: 3}"}, traffic: get(5), stats: []string{rates + "enabled", rates + "ok", rates + "rate_limited", rates + "enforced"},
			variants: []string{"rateLimit: {requests: 1, interval: 60s, burst: 3}", "rateLimit: {observe: true, burst: 4}"}},
		{name: "policy-observe-nothing", policy: []string{"timeout: {observe: true, request: 50ms}", "retry: {observe: true, numRetries: 2, retryOn: [5xx]}", "limits: {observe: true, maxRequests: 0}"},
			script: []behaviour{{status: 503, delay: 200 * ms}}, traffic: get(2), mutant: "retry: {numRetries: 2, retryOn: [5xx]}"},
		{name: "policy-deadline", policy: []string{deadline("minimum: 500ms")}, traffic: inTurn(mixed(budgets...), mixed(deadlines...)),
			variants: []string{deadline("keepPercent: 50"), deadline("minimum: 400ms"), "timeout: {request: 900ms}", "timeout: {disabled: true}"}},
		{name: "policy-deadline-over", policy: []string{deadline("minimum: 5ms")}, script: []behaviour{hangs}, traffic: mixed(with("X-Breakwater-Budget-Ms", "", "300", "-5", "junk")...),
			mutant: "timeout: {request: 600ms}"},
		{name: "policy-deadline-mapped", policy: []string{deadline("minimum: 50ms"), "errorMapping: {gateway: true}"}, traffic: mixed(with("X-Breakwater-Budget-Ms", "50", "70")...)},
		{name: "policy-deadline-retried", policy: append(retry("numRetries: 1, retryOn: [gateway-error]"), deadline("minimum: 5ms")), script: []behaviour{{status: 503, delay: 200 * ms}, always200}, traffic: get(1)},
		{name: "policy-deadline-grpc", protocol: "grpc", policy: []string{deadline("minimum: 5ms")}, traffic: mixed(grpc...), mutant: deadline("keepPercent: 50")},
		{name: "policy-hedge", policy: append(retry("numRetries: 1, retryOn: [connect-failure]"), "hedge: {onPerTryTimeout: true}", "timeout: {request: 3s, perTry: 200ms}"),
			script: slow, traffic: get(1), longest: 700 * ms, variants: []string{"hedge: {disabled: true}", "hedge: {onPerTryTimeout: false}"}},
		{name: "policy-rate-limit", policy: []string{"rateLimit: {requests: 1, interval: 60s, burst: 3}"}, traffic: get(5),
			variants: []string{"rateLimit: {disabled: true}", "rateLimit: {burst: 4}"}},
		{name: "policy-rate-limit-edited-beside", policy: []string{"rateLimit: {requests: 1, interval: 3600s, burst: 2}"}, traffic: get(3), edit: "rateLimit: {requests: 1, interval: 3600s, burst: 2}\nlimits: {maxRequests: 50}",
			after: get(1)},
		{name: "policy-rate-limit-edited-route", policy: []string{"rateLimit: {requests: 1, interval: 3600s, burst: 2}"}, traffic: get(3), edit: "rateLimit: {requests: 1, interval: 3600s, burst: 2}\ntimeout: {request: 7s}",
			after: get(1)},
		{name: "policy-rate-limit-edited", policy: []string{"rateLimit: {requests: 1, interval: 3600s, burst: 1}"}, traffic: get(2), edit: "rateLimit: {requests: 1, interval: 3600s, burst: 2}", after: get(3)},
		{name: "policy-rate-limit-fills", policy: []string{"rateLimit: {requests: 2, interval: 1s}"}, traffic: func(s *side) { s.get(3); s.rest(1500 * ms); s.get(1) },
			variants: []string{"rateLimit: {interval: 20s}", "rateLimit: {requests: 3}"}},
		{name: "policy-fallback-response", policy: append(fallback(fixed), retry("numRetries: 1, retryOn: [5xx]")...), script: fail, traffic: each,
			variants: []string{"fallback: {disabled: true}", "fallback: {response: {status: 200, body: '{\"items\":[]}', contentType: text/plain}}",
				"fallback: {response: {status: 203, body: none, contentType: text/plain}}", "fallback: {response: {status: 203, body: '{\"items\":[]}'}}"}},
		{name: "policy-fallback-response-when", policy: fallback(fixed + ", when: [gateway-error]"), script: answers(500, 502, 503, 504, 404), traffic: get(5),
			variants: []string{"fallback: {when: [5xx]}", "fallback: {when: [connect-failure]}"}},
		{name: "policy-fallback-response-refused", policy: fallback(fixed), refusing: 1, traffic: each},
		{name: "policy-fallback-response-timeout", policy: append(fallback(fixed), "timeout: {request: 200ms}"), script: []behaviour{hangs}, traffic: get(1), mutant: "fallback: {when: [connect-failure]}"},
		{name: "policy-fallback-response-limit", policy: append(fallback(fixed), "limits: {maxRequests: 0, maxPendingRequests: 0}"), traffic: get(1)},
		{name: "policy-fallback-service", policy: append(elsewhere, retry("numRetries: 2, retryOn: [connect-failure]")...), script: fail, traffic: each,
			variants: []string{"fallback: {disabled: true}", "fallback: {when: [connect-failure]}", "fallback: {service: " + left + "}", "retry: {disabled: true}"}},
		{name: "policy-fallback-service-once", policy: elsewhere, script: answers(500, 200, 503, 404), traffic: get(3)},
		{name: "policy-fallback-service-reset", policy: elsewhere, script: []behaviour{resets}, traffic: each},
		{name: "policy-fallback-service-refused", policy: append(elsewhere, retry("numRetries: 1")...), refusing: 1, traffic: each},
		{name: "policy-fallback-service-stall", policy: append(elsewhere, "timeout: {request: 3s, perTry: 150ms}"), script: []behaviour{hangs}, traffic: get(2), mutant: "timeout: {request: 900ms, perTry: none}"},
		{name: "policy-fallback-service-full", policy: append(elsewhere, "limits: {maxRequests: 0, maxPendingRequests: 0}"), traffic: get(2)},
		{name: "policy-fallback-service-ejected", policy: append(elsewhere, eject("consecutive5xx: 2, maxEjectionPercent: 100")[0], panics("0")), script: fail, traffic: until(2, active, 1, 3), markSlack: 2000 * ms},
		{name: "policy-mapped-refused", policy: []string{"errorMapping: {gateway: true}"}, refusing: 1, traffic: each, variants: []string{"errorMapping: {disabled: true}", "errorMapping: {gateway: false}"}},
		{name: "policy-mapped-timeout", policy: []string{"errorMapping: {gateway: true}", "timeout: {request: 200ms}"}, script: []behaviour{hangs}, traffic: get(1), mutant: "errorMapping: {disabled: true}"},
		{name: "policy-mapped-connect", policy: []string{"errorMapping: {gateway: true}", "timeout: {connect: 300ms}"}, silent: 1, traffic: get(1), mutant: "errorMapping: {disabled: true}"},
		{name: "policy-mapped-reset", policy: []string{"errorMapping: {gateway: true}"}, script: []behaviour{resets}, traffic: get(1), mutant: "errorMapping: {disabled: true}"},
		{name: "policy-mapped-limit", policy: []string{"errorMapping: {gateway: true}", "limits: {maxRequests: 0, maxPendingRequests: 0}"}, traffic: get(1), mutant: "errorMapping: {disabled: true}"},
		faulty("policy-fault-abort", append(retry("numRetries: 2, retryOn: [gateway-error]"), injects("abort: {status: 503}")...), each,
			"fault: {abort: {status: 504}}", "fault: {abort: {status: 501}}", "fault: {abort: {grpcStatus: internal}}", "fault: {abort: {status: 503, percent: 1}}", "fault: {disabled: true}", "retry: {disabled: true}"),
		taking(250*ms, 800*ms, faulty("policy-fault-delay", append(injects("delay: {duration: 300ms}"), "timeout: {request: 5s}"), each,
			"fault: {delay: {duration: 3s}}", "fault: {delay: {duration: 300ms, percent: 1}}", "fault: {disabled: true}", "timeout: {request: 200ms}")),
		faulty("policy-fault-try", append(retry("numRetries: 1, retryOn: [gateway-error]"), append(injects("delay: {duration: 900ms}"), "timeout: {request: 2s, perTry: 200ms}")...), get(2), "timeout: {request: 2s, perTry: 1500ms}"),
		faulty("policy-fault-both", injects("delay: {duration: 100ms}, abort: {status: 502}"), each),
		faulty("policy-fault-limit", append(injects("abort: {status: 503}"), "limits: {maxRequests: 0, maxPendingRequests: 0}"), get(2), "limits: {disabled: true}"),
		faulty("policy-fault-fallback", append(injects("abort: {status: 503}"), append(elsewhere, retry("numRetries: 1, retryOn: [5xx]")...)...), each, "fallback: {disabled: true}"),
		faulty("policy-fault-mapped", append(injects("abort: {status: 503}"), "errorMapping: {gateway: true}", "timeout: {request: 1s}"), get(1)),
		faulty("policy-fault-criteria", append(injects("abort: {status: 429}"), "failureCriteria: {http: {statuses: [429]}}", eject("consecutive5xx: 2, maxEjectionPercent: 100, useFailureCriteria: true")[0], panics("0")),
			func(s *side) {
				s.get(2)
				s.until("the faults eject", func() bool { return s.faulty("outlier_detection.ejections_active") == 1 })
				s.get(1)
			}),
		onGRPC(faulty("policy-fault-grpc", append(injects("abort: {grpcStatus: unavailable}"), "retry: {numRetries: 1, retryOn: [unavailable], backOff: {base: 1ms, max: 2ms}}"), mixed(grpc[0]),
			"fault: {abort: {grpcStatus: internal}}")),
		{name: "policy-mapped-not-its-own", policy: []string{"errorMapping: {gateway: true}"}, script: fail, traffic: get(1)},
	}
}

// with are requests that differ in one header; an empty value is none.
func with(name string, values ...string) []request {
	var list []request
	for _, value := range values {
		r := request{header: map[string]string{"Content-Type": "application/grpc"}}
		if name != "Grpc-Timeout" {
			r.header = map[string]string{}
		}
		if value != "" {
			r.header[name] = value
		}
		list = append(list, r)
	}
	return list
}

// injects is a fault that does not end within the test.
func injects(fields string) []string { return []string{"fault: {" + fields + "}", neverEnds} }

const neverEnds = "expiresAt: 2099-01-01T00:00:00Z"

// faulty is a scenario of a fault, with what is counted of it. Mutants with a fault do not end either.
func faulty(name string, policy []string, traffic func(*side), mutants ...string) *scenario {
	sc := &scenario{name: name, policy: policy, traffic: traffic}
	for _, m := range mutants {
		if strings.HasPrefix(m, "fault:") && !strings.Contains(m, "disabled") {
			m += "\n" + neverEnds
		}
		sc.variants = append(sc.variants, m)
	}
	for _, stat := range []string{"upstream_rq_total", "upstream_rq_completed", "upstream_rq_5xx", "upstream_rq_retry", "upstream_rq_per_try_timeout", "upstream_rq_pending_overflow", "upstream_rq_active_overflow", "outlier_detection.ejections_active"} {
		sc.stats = append(sc.stats, "cluster.shop/$NAME~fault."+stat)
	}
	return sc
}

// faulty is a statistic of the cluster that stands in for the service's.
func (s *side) faulty(name string) int64 {
	stats, err := s.proxy.stats("cluster.shop/" + s.service + "~fault.")
	if err != nil {
		s.t.Error(err)
	}
	return stats[name]
}

func onGRPC(sc *scenario) *scenario { sc.protocol = "grpc"; return sc }

// taking bounds the time of every answer.
func taking(shortest, longest time.Duration, sc *scenario) *scenario {
	sc.shortest, sc.longest = shortest, longest
	return sc
}
