package differential_test

import (
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	language "github.com/breakwater-mesh/breakwater/pkg/policy"
)

// policyFields are scenarios for the fields of the policy language that no other scenario changes: each variant is a mutant.
func policyFields() []*scenario {
	fail := []behaviour{always503}
	held := []behaviour{{hold: true}}
	wait := behaviour{status: 503, header: map[string]string{"retry-after": "1"}}
	again := behaviour{header: map[string]string{"x-try-again": "yes"}}
	ejected := func(fields string) []string {
		return append(eject(fields+", maxEjectionPercent: 100"), panics("0"))
	}
	// slow has intervals in which all that is sent falls into one.
	slow := func(fields string) []string {
		return []string{"outlierDetection: {interval: 5s, baseEjectionTime: 30s, maxEjectionPercent: 50, " + fields + "}"}
	}
	out := func(n int) func(*side) { return func(s *side) { s.get(n); s.statIs(active, 1); s.get(1) } }
	back := func(n int) func(*side) {
		return func(s *side) { s.get(n); s.statIs(active, 1); s.statIs(active, 0); s.get(1) }
	}
	// crowd holds n requests, and sends one more whose caller does not wait long.
	crowd := func(n int) func(*side) {
		return func(s *side) {
			s.hold(n)
			s.send(request{patience: 400 * ms})
			s.statIs("upstream_rq_pending_active", 0)
			s.free()
		}
	}
	long := func(sc *scenario) *scenario { sc.shortest, sc.longest = 0, patience; return sc }
	tick := func(sc *scenario) *scenario { sc.markSlack = time.Second; return sc }
	many := func(s *side) { s.get(60) }
	resetHeaders := func(name, format string) string {
		return "retry: {rateLimitedBackOff: {resetHeaders: [{name: " + name + ", format: " + format + "}]}}"
	}
	return []*scenario{
		{name: "field-timeout", policy: []string{"timeout: {request: 200ms}"}, script: []behaviour{{delay: 1200 * ms}}, traffic: get(1), variants: []string{"timeout: {disabled: true}", "timeout: {request: 2s}"}},
		{name: "field-connect", policy: []string{"timeout: {connect: 300ms}"}, silent: 1, traffic: get(1), variants: []string{"timeout: {connect: 1200ms}"}},
		{name: "field-connection-idle", policy: []string{"timeout: {connectionIdle: 300ms}"}, traffic: func(s *side) { s.get(1); s.statIs("upstream_cx_active", 0) }, variants: []string{"timeout: {connectionIdle: 60s}"}},
		{name: "field-retry-on", policy: retry("numRetries: 1, retryOn: [retriable-status-codes], retriableStatusCodes: [503]"), script: fail, traffic: get(1),
			variants: []string{"retry: {retryOn: [reset]}", "retry: {retryOn: [retriable-status-codes], retriableStatusCodes: [429]}", "retry: {numRetries: 2}"}},
		{name: "field-retriable-headers", policy: retry("numRetries: 1, retryOn: [retriable-headers], retriableHeaders: [{name: x-try-again, exact: 'yes'}]"), script: []behaviour{again}, traffic: get(1),
			variants: []string{"retry: {retryOn: [retriable-headers], retriableHeaders: [{name: x-other, exact: 'yes'}]}", "retry: {retryOn: [retriable-headers], retriableHeaders: [{name: x-try-again, exact: 'no'}]}", "retry: {retryOn: [retriable-headers], retriableHeaders: [{name: x-try-again, present: false}]}"}},
		{name: "field-methods", policy: retry("numRetries: 1, retryOn: [gateway-error], methods: [GET]"), script: fail, traffic: mixed(request{}, request{method: "POST", body: "x"}),
			variants: []string{"retry: {methods: [POST]}"}},
		{name: "field-back-off", policy: []string{"retry: {numRetries: 4, retryOn: [gateway-error], backOff: {base: 1ms, max: 2ms}}"}, script: fail, traffic: get(3), longest: 100 * ms,
			variants: []string{"retry: {backOff: {base: 600ms, max: 600ms}}", "retry: {backOff: {base: 300ms, max: 1200ms}}"}},
		{name: "field-rate-limited", policy: []string{"retry: {numRetries: 1, retryOn: [gateway-error], backOff: {base: 1ms, max: 2ms}, rateLimitedBackOff: {resetHeaders: [{name: retry-after, format: seconds}], max: 10s}}"},
			script: []behaviour{wait, always200}, traffic: get(1), shortest: time.Second, longest: 1500 * ms,
			variants: []string{resetHeaders("x-other", "seconds"), resetHeaders("retry-after", "unix-timestamp"), "retry: {rateLimitedBackOff: {resetHeaders: [{name: retry-after, format: seconds}], max: 500ms}}"}},
		{name: "field-host-attempts", hosts: 2, byHost: [][]behaviour{{always503}, {always200}}, traffic: get(40), anyHost: true,
			policy:   append(retry("numRetries: 1, retryOn: [gateway-error], avoidPreviousHosts: true, hostSelectionAttempts: 20"), "loadBalancing: {algorithm: random}"),
			ignore:   []string{"requests upstream", "upstream_rq_total", "upstream_rq_retry", "upstream_rq_retry_success", "upstream_rq_retry_backoff_exponential"},
			variants: []string{"retry: {avoidPreviousHosts: false}", "retry: {hostSelectionAttempts: 1}"}},
		{name: "field-budget", policy: retry("numRetries: 2, retryOn: [gateway-error], budget: {percent: 0, minConcurrent: 0}"), script: fail, traffic: get(2),
			variants: []string{"retry: {budget: {percent: 100}}", "retry: {budget: {minConcurrent: 3}}"}},
		{name: "field-budget-interval", policy: retry("numRetries: 1, retryOn: [gateway-error], budget: {percent: 10, minConcurrent: 0, interval: 30s}"), script: append(make([]behaviour, 12), always503), traffic: get(14),
			variants: []string{"retry: {budget: {percent: 10, minConcurrent: 0, interval: 1ms}}"}},
		long(&scenario{name: "field-connections", policy: []string{"limits: {maxConnections: 1, maxPendingRequests: 5}"}, script: held, traffic: crowd(1), variants: []string{"limits: {maxConnections: 5}", "limits: {disabled: true}"}}),
		long(&scenario{name: "field-pending", policy: []string{"limits: {maxConnections: 1, maxPendingRequests: 0}"}, script: held, traffic: get(1), variants: []string{"limits: {maxPendingRequests: 5}"}}),
		long(&scenario{name: "field-per-host", policy: []string{"limits: {perHost: {maxConnections: 1}, maxPendingRequests: 5}"}, script: held, traffic: crowd(1), variants: []string{"limits: {perHost: {maxConnections: 5}}"}}),
		long(&scenario{name: "field-pools", policy: []string{"limits: {maxConnectionPools: 1}"}, script: held, hosts: 2, traffic: func(s *side) { s.hold(1); s.get(1); s.free() }, anyHost: true,
			variants: []string{"limits: {maxConnectionPools: 5}"}}),
		{name: "field-max-retries", policy: append(retry("numRetries: 2, retryOn: [gateway-error]"), "limits: {maxRetries: 0}"), script: fail, traffic: get(1), variants: []string{"limits: {maxRetries: 5}"}},
		long(&scenario{name: "field-bulkhead", policy: []string{"bulkhead: {maxConcurrent: 2}"}, script: held, traffic: crowd(2), variants: []string{"bulkhead: {disabled: true}", "bulkhead: {maxConcurrent: 3}"}}),
		long(&scenario{name: "field-bulkhead-waiting", policy: []string{"bulkhead: {maxConcurrent: 1, maxWaiting: 2}", "limits: {maxConnections: 1}"}, script: held, markSlack: time.Second,
			traffic: func(s *side) { s.hold(1); s.impatient(2); s.statIs("upstream_rq_pending_active", 0); s.free() }, variants: []string{"bulkhead: {maxConcurrent: 1, maxWaiting: 1}"}}),
		tick(&scenario{name: "field-eject-off", policy: ejected("consecutive5xx: 3"), script: fail, traffic: out(3),
			variants: []string{"outlierDetection: {disabled: true}", "outlierDetection: {consecutive5xx: 9}", "outlierDetection: {enforcingPercent: {consecutive5xx: 0}}", "outlierDetection: {maxEjectionPercent: 0, alwaysEjectOneHost: false}",
				"loadBalancing: {panicThreshold: 50}"}}),
		tick(&scenario{name: "field-gateway", policy: ejected("consecutiveGatewayFailure: 3"), script: fail, traffic: out(3),
			variants: []string{"outlierDetection: {consecutiveGatewayFailure: 9}", "outlierDetection: {enforcingPercent: {consecutiveGatewayFailure: 0}}"}}),
		tick(&scenario{name: "field-local", policy: ejected("consecutiveLocalOriginFailure: 2, splitLocalOriginErrors: true"), refusing: 1, traffic: out(2),
			variants: []string{"outlierDetection: {splitLocalOriginErrors: true, consecutiveLocalOriginFailure: 9}", "outlierDetection: {enforcingPercent: {consecutiveLocalOriginFailure: 0}}"}}),
		{name: "field-split", policy: ejected("consecutive5xx: 2, splitLocalOriginErrors: true"), script: []behaviour{resets}, traffic: func(s *side) { s.get(4) }, variants: []string{"outlierDetection: {splitLocalOriginErrors: false}"}},
		tick(&scenario{name: "field-returns", policy: []string{"outlierDetection: {interval: 500ms, baseEjectionTime: 3s, maxEjectionTime: 3s, consecutive5xx: 2, maxEjectionPercent: 100}", panics("0")}, script: answers(503, 503, 200), traffic: back(2),
			variants: []string{"outlierDetection: {baseEjectionTime: 9s, maxEjectionTime: 9s}", "outlierDetection: {interval: 9s}", "outlierDetection: {maxEjectionTimeJitter: 1h}"}}),
		tick(&scenario{name: "field-one-always", policy: append(eject("consecutive5xx: 2, maxEjectionPercent: 0, alwaysEjectOneHost: true"), panics("0")), script: fail, traffic: out(2),
			variants: []string{"outlierDetection: {alwaysEjectOneHost: false}"}}),
		{name: "field-failure-percentage", policy: slow("failurePercentage: {threshold: 50, minimumHosts: 2, requestVolume: 5}"), hosts: 2, byHost: firstOf(always503, 2), concurrent: true, anyHost: true,
			traffic: until(20, active, 1, 4), markSlack: 5 * time.Second,
			variants: []string{"outlierDetection: {failurePercentage: {threshold: 100, minimumHosts: 3}}", "outlierDetection: {failurePercentage: {requestVolume: 500}}", "outlierDetection: {enforcingPercent: {failurePercentage: 0}}"}},
		{name: "field-success-rate", policy: slow("successRate: {minimumHosts: 3, requestVolume: 5, stdevFactor: 1000}"), hosts: 4, byHost: firstOf(always503, 4), concurrent: true, anyHost: true,
			traffic: until(40, active, 1, 4), markSlack: 5 * time.Second,
			variants: []string{"outlierDetection: {successRate: {minimumHosts: 5}}", "outlierDetection: {successRate: {requestVolume: 500}}", "outlierDetection: {successRate: {stdevFactor: 9000}}",
				"outlierDetection: {enforcingPercent: {successRate: 0}}"}},
		{name: "field-degraded", policy: eject("consecutive5xx: 5, detectDegradedHosts: true"), hosts: 4, byHost: firstOf(behaviour{header: map[string]string{"x-envoy-degraded": "1"}, body: "tired"}, 4), concurrent: true, anyHost: true, markSlack: time.Second,
			traffic: func(s *side) { s.get(4); s.statIs("membership_degraded", 1); s.get(8) }, variants: []string{"outlierDetection: {detectDegradedHosts: false}"}},
		tick(&scenario{name: "field-breaker", policy: []string{"circuitBreaker: {failureThreshold: 2, recoveryTimeout: 2s}"}, script: answers(503, 503, 200), traffic: back(2),
			variants: []string{"circuitBreaker: {disabled: true}", "circuitBreaker: {failureThreshold: 9}", "circuitBreaker: {recoveryTimeout: 9s}"}}),
		tick(&scenario{name: "field-breaker-gateway", policy: []string{"circuitBreaker: {failureThreshold: 2, recoveryTimeout: 30s}"}, script: answers(500), traffic: out(2), variants: []string{"circuitBreaker: {failureThreshold: 2, gatewayErrorsOnly: true}"}}),
		{name: "field-algorithm", policy: []string{"loadBalancing: {algorithm: round-robin}"}, hosts: 3, traffic: many, concurrent: true, variants: []string{"loadBalancing: {algorithm: random}"}},
	}
}

// notChanged are the fields of the language that no mutant changes, each with why.
var notChanged = map[string]string{
	"adaptiveConcurrency.minLatency.jitterPercent": "chance decides when it is measured anew; the tests of pkg/resilience know its bounds",

	"circuitBreaker.scope":              "on Envoy each host counts alone, and the agent does as Envoy",
	"circuitBreaker.halfOpen.probe":     "only the agent enforces it",
	"circuitBreaker.halfOpen.maxProbes": "likewise",
	"circuitBreaker.halfOpen.successes": "likewise",
	"retry.avoidPreviousPriorities":     "services have hosts of one priority; raw-aggregate-retries has two",
}

// counted are the sections that proxies count while they observe; the others do nothing then, as policy-observe-nothing shows.
var counted = map[string]bool{"outlierDetection.observe": true, "circuitBreaker.observe": true, "rateLimit.observe": true}

// TestEveryFieldIsChanged: a mutant of some scenario changes each field of the policy language, so that the comparison is known to see it.
func TestEveryFieldIsChanged(t *testing.T) {
	changed := map[string]bool{}
	for _, sc := range allScenarios() {
		for _, sections := range sc.policyMutants() {
			var doc map[string]any
			if err := yaml.Unmarshal([]byte(sections), &doc); err != nil {
				t.Fatalf("%s: %v", sc.name, err)
			}
			leaves(doc, "", changed)
		}
	}
	for _, f := range manifest.Describe[language.Sections]("") {
		_, excepted := notChanged[f.Path]
		switch {
		case f.Type == "object" || f.Type == "list" && changed[f.Path+"[]"]:
		case strings.HasSuffix(f.Path, ".observe") && !changed[f.Path] && !counted[f.Path]:
		case !changed[f.Path] && !excepted:
			t.Errorf("no mutant changes %s: add one, or say in notChanged why there is none", f.Path)
		case changed[f.Path] && excepted:
			t.Errorf("%s is changed: take it out of notChanged", f.Path)
		}
	}
}

// leaves notes the paths of all that v sets, with [] for the items of a list.
func leaves(v any, path string, set map[string]bool) {
	set[path] = true
	switch v := v.(type) {
	case map[string]any:
		for name, below := range v {
			leaves(below, strings.TrimPrefix(path+"."+name, "."), set)
		}
	case []any:
		for _, item := range v {
			leaves(item, path+"[]", set)
		}
	}
}
