package differential_test

import (
	"os"
	"slices"
	"strings"
	"time"
)

const ms = time.Millisecond

// sampled: of the raw scenarios one in so many runs without BREAKWATER_DIFFERENTIAL.
const sampled = 6

// scenarios are all of them where BREAKWATER_DIFFERENTIAL=all asks for it, else those of policies and a sample of the raw ones, without those whose
// outcome hangs on where in an interval of outlier detection or of health checks a request falls: on a busy machine that differs between two
// proxies that behave alike. Any other value asks for the scenarios whose names begin so.
func scenarios() []*scenario {
	all := allScenarios()
	switch prefix := os.Getenv("BREAKWATER_DIFFERENTIAL"); prefix {
	case "":
	case "all":
		return all
	default:
		return slices.DeleteFunc(all, func(sc *scenario) bool { return !strings.HasPrefix(sc.name, prefix) })
	}
	slices.SortFunc(all, func(a, b *scenario) int { return strings.Compare(a.name, b.name) })
	raw := 0
	return slices.DeleteFunc(all, func(sc *scenario) bool {
		if sc.concurrent || sc.markSlack > 0 || sc.raw != nil && (sc.longest > 0 || len(sc.checks) > 0) {
			return true
		}
		if sc.raw == nil {
			return false
		}
		raw++
		return raw%sampled != 1
	})
}

func allScenarios() []*scenario {
	return slices.Concat(
		transparency(), timeouts(), retryConditions(), retryRules(), limits(), detectors(), ejections(), policyFields(), checkFields(), balanceFields(), criteriaFields(), routeSections(),
		routes(),
		rawRoutes(), rawPaths(), rawOrigins(), rawTimeouts(), rawRetries(), rawHedges(), rawFilters(), rawBalance(), rawChecks(),
		rawGRPC(), rawMatches(), rawTCP(), rawWire(), rawOutliers(), rawPeers(), rawDNS(),
	)
}

func get(n int) func(*side) { return func(s *side) { s.get(n) } }

// mixed sends one request of each kind.
func mixed(requests ...request) func(*side) {
	return func(s *side) {
		for _, r := range requests {
			s.send(r)
		}
	}
}

// answers is a script of statuses.
func answers(statuses ...int) []behaviour {
	script := make([]behaviour, len(statuses))
	for i, status := range statuses {
		script[i] = behaviour{status: status}
	}
	return script
}

// Hosts that always do the same.
var (
	always503 = behaviour{status: 503, body: "sorry"}
	always200 = behaviour{body: "fine"}
	resets    = behaviour{reset: true}
	hangs     = behaviour{hang: true}
)

func transparency() []*scenario {
	return []*scenario{
		{name: "plain", script: []behaviour{{body: "hello", header: map[string]string{"x-one": "1", "content-type": "text/plain"}}},
			traffic: mixed(request{}, request{path: "/a/b?c=d&e=%20f"}, request{method: "HEAD"}, request{method: "DELETE"}, request{method: "OPTIONS"})},
		{name: "bodies", script: []behaviour{{status: 201, body: "made"}},
			traffic: mixed(request{method: "POST", body: "abc"}, request{method: "PUT", body: "def"}, request{method: "PATCH", body: "ghi"})},
		{name: "request-headers", traffic: mixed(request{header: map[string]string{
			"X-Custom": "v", "Accept": "a/b", "Te": "trailers", "X-Forwarded-For": "1.2.3.4", "X-Request-Id": "mine", "Connection": "keep-alive",
			"X-Envoy-Retry-On": "5xx", "X-Envoy-Max-Retries": "3", "X-Envoy-Upstream-Rq-Timeout-Ms": "5", "Authorization": "Bearer x", "Cookie": "a=b"}})},
		{name: "statuses", script: answers(200, 204, 301, 304, 400, 404, 429, 500, 502, 503, 504), traffic: get(11)},
		{name: "unknown-host", traffic: mixed(request{host: "nobody"}, request{host: "nobody.shop:99"}, request{method: "POST", host: "nobody", body: "x"})},
		{name: "aliases", traffic: mixed(request{host: "aliases.shop"}, request{host: "aliases:8080"}, request{host: "aliases.shop:1"}, request{host: "ALIASES"})},
		{name: "response-headers", script: []behaviour{{header: map[string]string{"x-envoy-overloaded": "true", "server": "mine", "cache-control": "no-store",
			"set-cookie": "a=b", "x-envoy-upstream-service-time": "7", "via": "1.1 x"}}}, traffic: get(1)},
		{name: "big-body", script: []behaviour{{body: string(make([]byte, 300_000))}}, traffic: mixed(request{method: "POST", body: string(make([]byte, 200_000))})},
		{name: "reset", script: []behaviour{resets}, traffic: get(2)},
		{name: "closed", script: []behaviour{{close: true}}, traffic: get(2)},
		{name: "refused", refusing: 1, traffic: mixed(request{}, request{method: "POST", body: "x"}, request{method: "HEAD"})},
		{name: "cut-short", script: []behaviour{{cut: true, body: "half"}}, traffic: get(1)},
		{name: "http2-not-spoken", protocol: "http2", onlyHTTP1: true, traffic: get(2)},
		{name: "http2", protocol: "http2", script: answers(200, 404, 503), traffic: get(3)},
	}
}

func timeouts() []*scenario {
	per := func(more string) []string {
		return []string{"timeout: {request: 2s, " + more + "}", "retry: {numRetries: 2, retryOn: [gateway-error], backOff: {base: 1ms, max: 2ms}}"}
	}
	return []*scenario{
		{name: "request-timeout", policy: []string{"timeout: {request: 300ms}"}, script: []behaviour{hangs}, traffic: mixed(request{}, request{method: "POST", body: "x"}),
			mutant: "timeout: {request: 1600ms}"},
		{name: "request-timeout-met", policy: []string{"timeout: {request: 900ms}"}, script: []behaviour{{delay: 300 * ms}}, traffic: get(2),
			mutant: "timeout: {request: 100ms}"},
		{name: "request-timeout-in-body", policy: []string{"timeout: {request: 300ms}"}, script: []behaviour{{stall: true, body: "half"}}, traffic: get(1), markSlack: time.Second},
		{name: "no-timeout", script: []behaviour{{delay: 700 * ms}}, traffic: get(1), mutant: "timeout: {request: 200ms}"},
		{name: "per-try-retried", policy: per("perTry: 200ms"), script: []behaviour{hangs, hangs, always200}, traffic: get(1), mutant: "timeout: {perTry: 1600ms}"},
		{name: "per-try-exhausted", policy: per("perTry: 150ms"), script: []behaviour{hangs}, traffic: get(1), mutant: "retry: {numRetries: 1}"},
		{name: "per-try-alone", policy: []string{"timeout: {request: 2s, perTry: 200ms}"}, script: []behaviour{hangs}, traffic: get(1)},
		{name: "per-try-idle", policy: per("perTryIdle: 200ms"), script: []behaviour{hangs, always200}, traffic: get(1), mutant: "timeout: {perTryIdle: 1600ms}"},
		{name: "per-try-idle-exhausted", policy: per("perTryIdle: 150ms"), script: []behaviour{hangs}, traffic: get(1)},
		{name: "max-stream", policy: []string{"timeout: {maxStream: 300ms}"}, script: []behaviour{hangs}, traffic: get(1), mutant: "timeout: {maxStream: 1600ms}"},
		{name: "timeout-over-retries", policy: []string{"timeout: {request: 1s}", "retry: {numRetries: 9, retryOn: [5xx], backOff: {base: 1ms, max: 2ms}}"},
			script: []behaviour{{status: 503, delay: 400 * ms}}, traffic: get(1), mutant: "timeout: {request: 3s}"},
	}
}

// retry is a retry section that waits next to nothing.
func retry(fields string) []string {
	return []string{"retry: {backOff: {base: 1ms, max: 2ms}, " + fields + "}"}
}

func retryConditions() []*scenario {
	tail := []behaviour{always200}
	with := func(b ...behaviour) []behaviour { return append(b, tail...) }
	twice := func(b behaviour) []behaviour { return []behaviour{b, always200, b, always200} }
	on := func(name, words string, script []behaviour, more ...string) *scenario {
		fields := "numRetries: 1, retryOn: [" + words + "]"
		for _, m := range more {
			fields += ", " + m
		}
		return &scenario{name: name, policy: retry(fields), script: script, traffic: get(2), mutant: "retry: {disabled: true}"}
	}
	unmatched := func(sc *scenario) *scenario { sc.mutant = ""; return sc }
	again := behaviour{status: 200, header: map[string]string{"x-try-again": "yes"}}
	return []*scenario{
		on("on-5xx", "5xx", twice(behaviour{status: 500})),
		on("on-5xx-reset", "5xx", twice(resets)),
		unmatched(on("on-5xx-not-404", "5xx", twice(behaviour{status: 404}))),
		on("on-gateway-error", "gateway-error", twice(behaviour{status: 502})),
		unmatched(on("on-gateway-error-not-500", "gateway-error", twice(behaviour{status: 500}))),
		on("on-gateway-error-reset", "gateway-error", twice(resets)),
		on("on-reset", "reset", twice(resets)),
		on("on-reset-close", "reset", twice(behaviour{close: true})),
		unmatched(on("on-reset-not-503", "reset", twice(always503))),
		{name: "on-reset-before-request-late", policy: append(retry("numRetries: 1, retryOn: [reset-before-request]"), "timeout: {request: 2s, perTry: 200ms}"),
			script: []behaviour{hangs, always200}, traffic: get(1)},
		unmatched(on("on-reset-before-request", "reset-before-request", twice(resets))),
		unmatched(on("on-connect-failure-not-reset", "connect-failure", twice(resets))),
		on("on-retriable-4xx", "retriable-4xx", twice(behaviour{status: 409})),
		unmatched(on("on-retriable-4xx-not-404", "retriable-4xx", twice(behaviour{status: 404}))),
		on("on-status-codes", "retriable-status-codes", twice(behaviour{status: 429}), "retriableStatusCodes: [429, 418]"),
		unmatched(on("on-status-codes-others", "retriable-status-codes", twice(behaviour{status: 503}), "retriableStatusCodes: [429]")),
		on("on-headers", "retriable-headers", twice(again), "retriableHeaders: [{name: x-try-again, exact: 'yes'}]"),
		unmatched(on("on-headers-others", "retriable-headers", twice(again), "retriableHeaders: [{name: x-try-again, exact: 'no'}]")),
		on("on-headers-present", "retriable-headers", twice(again), "retriableHeaders: [{name: x-try-again, present: true}]"),
		on("on-ratelimited", "envoy-ratelimited", twice(behaviour{status: 429, header: map[string]string{"x-envoy-ratelimited": "true"}})),
		{name: "on-connect-failure", policy: retry("numRetries: 2, retryOn: [connect-failure], avoidPreviousHosts: true, hostSelectionAttempts: 9"), hosts: 1, refusing: 1,
			traffic: get(4), anyHost: true, mutant: "retry: {disabled: true}",
			ignore: []string{"upstream_rq_retry", "upstream_rq_retry_success", "upstream_rq_retry_backoff_exponential", "upstream_cx_connect_fail", "upstream_rq_pending_failure_eject"}},
		{name: "on-refused-all", policy: retry("numRetries: 2, retryOn: [connect-failure]"), refusing: 2, traffic: get(2), mutant: "retry: {numRetries: 1}"},
		{name: "default-words", policy: retry("numRetries: 1"), script: with(always503), traffic: get(1)},
	}
}

func retryRules() []*scenario {
	fail := []behaviour{always503}
	each := mixed(request{}, request{method: "HEAD"}, request{method: "PUT", body: "x"}, request{method: "DELETE"}, request{method: "POST", body: "x"},
		request{method: "PATCH", body: "x"}, request{method: "OPTIONS"})
	methods := func(name, value string, mutant string) *scenario {
		return &scenario{name: name, policy: retry("numRetries: 1, retryOn: [gateway-error], methods: " + value), script: fail, traffic: each, mutant: mutant}
	}
	wait := behaviour{status: 503, header: map[string]string{"retry-after": "1"}}
	return []*scenario{
		methods("methods-idempotent", "idempotent", "retry: {methods: all}"),
		methods("methods-safe", "safe", "retry: {methods: idempotent}"),
		methods("methods-all", "all", "retry: {methods: safe}"),
		methods("methods-list", "[POST, GET]", "retry: {methods: [GET]}"),
		{name: "post-refused", policy: retry("numRetries: 2, methods: idempotent, retryOn: [connect-failure, gateway-error]"), refusing: 2,
			traffic: mixed(request{method: "POST", body: "x"})},
		{name: "exhausted", policy: retry("numRetries: 3, retryOn: [gateway-error]"), script: answers(503, 502, 504, 503), traffic: get(1), mutant: "retry: {numRetries: 2}"},
		{name: "last-try-succeeds", policy: retry("numRetries: 3, retryOn: [gateway-error]"), script: answers(503, 502, 504, 200), traffic: get(1)},
		{name: "exhausted-reset", policy: retry("numRetries: 2, retryOn: [reset]"), script: []behaviour{resets}, traffic: get(1)},
		{name: "reset-then-503", policy: retry("numRetries: 1, retryOn: [reset]"), script: []behaviour{resets, always503}, traffic: get(1)},
		{name: "back-off", policy: []string{"retry: {numRetries: 4, retryOn: [gateway-error], backOff: {base: 100ms, max: 150ms}}"}, script: fail, traffic: get(3),
			longest: 550 * ms},
		{name: "rate-limited-back-off", policy: []string{"retry: {numRetries: 1, retryOn: [gateway-error], backOff: {base: 1ms, max: 2ms}, rateLimitedBackOff: {resetHeaders: [{name: retry-after, format: seconds}], max: 10s}}"},
			script: []behaviour{wait, always200}, traffic: get(1), shortest: time.Second, longest: 1500 * ms, mutant: "retry: {rateLimitedBackOff: {resetHeaders: [{name: x-other, format: seconds}]}}"},
		{name: "rate-limited-too-long", policy: []string{"retry: {numRetries: 1, retryOn: [gateway-error], backOff: {base: 1ms, max: 2ms}, rateLimitedBackOff: {resetHeaders: [{name: retry-after, format: seconds}], max: 500ms}}"},
			script: []behaviour{wait, always200}, traffic: get(1)},
		{name: "avoid-previous-hosts", hosts: 2, byHost: [][]behaviour{{always503}, {always200}}, traffic: get(40), anyHost: true, mutant: "retry: {avoidPreviousHosts: false}",
			policy: append(retry("numRetries: 1, retryOn: [gateway-error], avoidPreviousHosts: true, hostSelectionAttempts: 20"), "loadBalancing: {algorithm: random}"),
			ignore: []string{"requests upstream", "upstream_rq_total", "upstream_rq_retry", "upstream_rq_retry_success", "upstream_rq_retry_backoff_exponential"}},
		{name: "large-body-once", policy: retry("numRetries: 2, retryOn: [gateway-error], methods: all, bufferBytes: 1000"), script: fail,
			traffic: mixed(request{method: "POST", body: string(make([]byte, 100))}, request{method: "POST", body: string(make([]byte, 5000))}), mutant: "retry: {bufferBytes: 10000}"},
		{name: "cut-short-not-retried", policy: retry("numRetries: 2, retryOn: [5xx, reset]"), script: []behaviour{{cut: true, body: "half"}}, traffic: get(1)},
		{name: "max-retries-none", policy: append(retry("numRetries: 2, retryOn: [gateway-error]"), "limits: {maxRetries: 0}"), script: fail, traffic: get(2), mutant: "limits: {maxRetries: 5}"},
		{name: "budget-none", policy: retry("numRetries: 2, retryOn: [gateway-error], budget: {percent: 0, minConcurrent: 0}"), script: fail, traffic: get(2),
			mutant: "retry: {budget: {percent: 20, minConcurrent: 3}}"},
	}
}

func limits() []*scenario {
	held := []behaviour{{hold: true}}
	over := func(n, more int) func(*side) {
		return func(s *side) { s.hold(n); s.get(more); s.free() }
	}
	return []*scenario{
		{name: "max-requests", policy: []string{"limits: {maxRequests: 3}"}, script: held, traffic: over(3, 2), longest: patience, mutant: "limits: {maxRequests: 2}"},
		{name: "max-requests-retried", policy: append(retry("numRetries: 2, retryOn: [5xx, gateway-error, reset]"), "limits: {maxRequests: 2}"), script: held, traffic: over(2, 2), longest: patience},
		{name: "bulkhead", policy: []string{"bulkhead: {maxConcurrent: 2}"}, script: held, traffic: over(2, 3), longest: patience},
		{name: "bulkhead-at-once", policy: []string{"bulkhead: {maxConcurrent: 3}"}, script: []behaviour{{delay: 600 * ms}}, traffic: func(s *side) { s.atOnce(8) }, concurrent: true,
			longest: 900 * ms, mutant: "bulkhead: {maxConcurrent: 4}", ignore: []string{"upstream_rq_pending_overflow", "upstream_rq_active_overflow"}},
		{name: "pending-none", policy: []string{"limits: {maxConnections: 1, maxPendingRequests: 0}"}, traffic: get(2)},
		{name: "limits-edited", policy: []string{"limits: {maxRequests: 9}"}, script: held, traffic: func(s *side) { s.hold(3) }, edit: "limits: {maxRequests: 3}",
			after: func(s *side) { s.get(2); s.free(); s.hold(3); s.get(1); s.free() }, longest: patience},
		{name: "timeout-edited", policy: []string{"timeout: {request: 900ms}"}, script: []behaviour{{delay: 400 * ms}}, traffic: get(1), edit: "timeout: {request: 200ms}", after: get(1)},
		{name: "retry-edited", policy: retry("numRetries: 1, retryOn: [gateway-error]"), script: []behaviour{always503}, traffic: get(1),
			edit: "retry: {numRetries: 3, retryOn: [gateway-error], backOff: {base: 1ms, max: 2ms}}", after: get(1)},
	}
}

// The statistics that ejections are waited for: Envoy ejects from its main thread, a moment after the answer that caused it.
const (
	active   = "outlier_detection.ejections_active"
	overflow = "outlier_detection.ejections_overflow"
	detected = "outlier_detection.ejections_detected_consecutive_5xx"
)

// until sends n requests, waits for a statistic, and sends m more.
func until(n int, stat string, want int64, m int) func(*side) {
	return func(s *side) { s.get(n); s.statIs(stat, want); s.get(m) }
}

// inTurn goes through several traffics.
func inTurn(parts ...func(*side)) func(*side) {
	return func(s *side) {
		for _, part := range parts {
			part(s)
		}
	}
}

func eject(fields string) []string {
	return []string{"outlierDetection: {interval: 1s, baseEjectionTime: 30s, " + fields + "}"}
}

func panics(threshold string) string { return "loadBalancing: {panicThreshold: " + threshold + "}" }

// firstOf are n hosts of which the first always does the same.
func firstOf(bad behaviour, n int) [][]behaviour {
	hosts := make([][]behaviour, n)
	hosts[0] = []behaviour{bad}
	return hosts
}

func detectors() []*scenario {
	all := "maxEjectionPercent: 100"
	split := "consecutiveLocalOriginFailure: 3, splitLocalOriginErrors: true, " + all
	one := func(name, fields string, bad behaviour, traffic func(*side), more ...string) *scenario {
		return &scenario{name: name, policy: append(eject(fields+", "+all), more...), hosts: 2, byHost: firstOf(bad, 2), concurrent: true, traffic: traffic, markSlack: time.Second}
	}
	mutant := func(sc *scenario, sections string) *scenario { sc.mutant = sections; return sc }
	slow := one("eject-timeout", "consecutiveGatewayFailure: 2", hangs, until(4, active, 1, 4), "timeout: {request: 150ms}")
	slow.longest = 250 * ms
	return []*scenario{
		mutant(one("eject-5xx", "consecutive5xx: 3", behaviour{status: 500}, until(6, active, 1, 10)), "outlierDetection: {maxEjectionPercent: 0}"),
		mutant(one("eject-5xx-of-503", "consecutive5xx: 3", always503, until(6, active, 1, 10)), "outlierDetection: {consecutive5xx: 9}"),
		one("eject-gateway", "consecutiveGatewayFailure: 3", behaviour{status: 502}, until(6, active, 1, 10)),
		one("eject-gateway-not-500", "consecutiveGatewayFailure: 3", behaviour{status: 500}, get(20)),
		{name: "eject-interrupted", policy: eject("consecutive5xx: 3, " + all), script: answers(500, 500, 200, 500, 500, 200, 500, 500, 200), traffic: get(9)},
		one("eject-reset", "consecutive5xx: 3", resets, until(6, active, 1, 10)),
		{name: "eject-refused", policy: eject("consecutive5xx: 3, " + all), hosts: 1, refusing: 1, concurrent: true, traffic: until(6, active, 1, 10), markSlack: time.Second},
		slow,
		{name: "eject-split-local", policy: eject(split), hosts: 1, refusing: 1, concurrent: true, traffic: until(6, active, 1, 10), markSlack: time.Second},
		{name: "eject-split-not-5xx", policy: eject(split), hosts: 2, byHost: firstOf(always503, 2), concurrent: true, traffic: get(20)},
		one("enforcing-none", "consecutive5xx: 3, enforcingPercent: {consecutive5xx: 0}", always503, inTurn(until(6, detected, 1, 6), until(0, detected, 2, 0))),
		one("breaker-per-host", "consecutive5xx: 5", always503, until(10, active, 1, 30)),
	}
}

func ejections() []*scenario {
	allBad := [][]behaviour{{always503}, {always503}}
	threeBad := [][]behaviour{{always503}, {always503}, {always503}}
	opens := func(n int) func(*side) { return inTurn(until(n, active, 1, 2), until(0, active, 0, 2)) }
	bothOut := inTurn(until(3, active, 1, 1), until(0, active, 2, 4))
	return []*scenario{
		{name: "max-ejection-percent", policy: append(eject("consecutive5xx: 2, maxEjectionPercent: 50"), panics("0")), hosts: 2, byHost: allBad, anyHost: true,
			traffic: inTurn(until(3, active, 1, 1), until(0, overflow, 1, 2), until(0, overflow, 2, 0)), markSlack: time.Second},
		{name: "max-ejection-percent-small", policy: eject("consecutive5xx: 2, maxEjectionPercent: 10"), hosts: 3, byHost: threeBad, traffic: until(6, overflow, 3, 0), markSlack: time.Second},
		{name: "always-eject-one", policy: eject("consecutive5xx: 2"), hosts: 3, byHost: threeBad, anyHost: true,
			traffic: inTurn(until(4, active, 1, 2), until(0, overflow, 2, 0)), markSlack: time.Second},
		{name: "all-ejected-no-panic", policy: append(eject("consecutive5xx: 2, maxEjectionPercent: 100"), panics("0")), hosts: 2, byHost: allBad,
			traffic: inTurn(bothOut, mixed(request{method: "HEAD"}, request{method: "POST", body: "x"})), mutant: panics("50"), markSlack: time.Second},
		{name: "all-ejected-panic", policy: append(eject("consecutive5xx: 2, maxEjectionPercent: 100"), panics("50")), hosts: 2, byHost: allBad, traffic: bothOut, markSlack: time.Second},
		{name: "ejected-comes-back", policy: append([]string{"outlierDetection: {interval: 500ms, baseEjectionTime: 1s, consecutive5xx: 2, maxEjectionPercent: 100}"}, panics("0")),
			script: answers(503, 503, 200), traffic: opens(2), markSlack: 500 * ms},
		{name: "breaker", policy: []string{"circuitBreaker: {failureThreshold: 3, recoveryTimeout: 2s}"}, script: answers(503, 503, 503, 200), traffic: opens(3), markSlack: time.Second,
			mutant: "circuitBreaker: {failureThreshold: 3, recoveryTimeout: 6s}"},
		{name: "breaker-opens-again", policy: []string{"circuitBreaker: {failureThreshold: 2, recoveryTimeout: 1s}"}, script: answers(503, 503, 503, 503, 200), markSlack: time.Second,
			traffic: inTurn(opens(2), until(0, active, 1, 0), until(0, active, 0, 2))},
		{name: "host-removed", hosts: 3, traffic: get(9), removeLast: true, after: get(8), ignore: []string{"upstream_rq_total", "upstream_rq_completed", "upstream_rq_200"}, anyHost: true},
	}
}
