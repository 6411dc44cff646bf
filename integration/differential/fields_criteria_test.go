package differential_test

import (
	"slices"
	"time"
)

// criteriaFields are scenarios for what counts as a failure, and for admission control, as policyFields.
func criteriaFields() []*scenario {
	criteria := func(fields string) string { return "failureCriteria: {" + fields + "}" }
	again := "retry: {numRetries: 1, retryOn: [failure-criteria], backOff: {base: 1ms, max: 2ms}}"
	wrong := behaviour{header: map[string]string{"x-app-error": "true"}, body: "wrong"}
	grpc := func(status string) behaviour {
		return behaviour{header: map[string]string{"content-type": "application/grpc", "grpc-status": status}}
	}
	// sure leaves next to nothing to chance: whatever is shed at all is shed nearly always.
	const sure = "aggression: 1000, maxRejectionPercent: 100, successRatePercent: 100, window: 2m"
	admission := func(fields string) string { return "admissionControl: {" + fields + "}" }
	shed := func(sc *scenario) *scenario {
		sc.stats = []string{"cluster.shop/$NAME.admission_control.rq_rejected", "cluster.shop/$NAME.admission_control.rq_success", "cluster.shop/$NAME.admission_control.rq_failure"}
		sc.ignore = []string{"upstream_rq_total", "upstream_rq_tx_reset", "upstream_rq_pending_failure_eject"} // see docs/agent-fidelity.md
		sc.markSlack = time.Second
		return sc
	}
	return []*scenario{
		{name: "field-criteria", policy: []string{criteria(`http: {statuses: ["5xx", 429], exceptStatuses: [501], headers: [{name: x-app-error, exact: "true"}]}`), again},
			script: []behaviour{{status: 429}, {}, {status: 501}, {status: 503}, {}, wrong, {}, resets, {}}, traffic: get(5),
			variants: []string{"failureCriteria: {disabled: true}", criteria(`http: {statuses: [429], exceptStatuses: [501], headers: [{name: x-app-error, exact: "true"}]}`), criteria(`http: {statuses: ["5xx", 429], headers: [{name: x-app-error, exact: "true"}]}`),
				criteria(`http: {statuses: ["5xx", 429], exceptStatuses: [501], headers: [{name: x-app-error, exact: "false"}]}`), criteria(`http: {statuses: ["5xx", 429], exceptStatuses: [501], headers: [{name: x-other, present: true}]}`)}},
		{name: "field-criteria-default", policy: []string{again}, script: answers(500, 200, 429, 503, 200), traffic: get(3), variants: []string{criteria("http: {exceptStatuses: [500]}")}},
		{name: "field-criteria-post", policy: []string{again}, script: []behaviour{{status: 503}, {}}, traffic: mixed(request{method: "POST", body: "x"}, request{}), variants: []string{"retry: {methods: all}"}},
		{name: "field-criteria-eject", policy: append(eject("consecutive5xx: 2, useFailureCriteria: true, maxEjectionPercent: 100"), criteria("http: {statuses: [429]}"), panics("0")), markSlack: time.Second,
			script: answers(503, 503, 429, 429), traffic: func(s *side) { s.get(4); s.statIs(active, 1); s.get(1) },
			variants: []string{"outlierDetection: {useFailureCriteria: false}", criteria("http: {statuses: [418]}")}},
		{name: "field-criteria-grpc", protocol: "http2", policy: []string{criteria("grpc: {codes: [internal, unavailable]}"), again}, script: []behaviour{grpc("13"), grpc("0"), grpc("8"), grpc("14"), grpc("0")},
			traffic:  mixed(request{header: map[string]string{"content-type": "application/grpc"}}, request{header: map[string]string{"content-type": "application/grpc"}}, request{header: map[string]string{"content-type": "application/grpc"}}),
			variants: []string{criteria("grpc: {codes: [unavailable]}")}},
		{name: "field-adaptive", policy: []string{"adaptiveConcurrency: {minLatency: {concurrency: 2}}"}, script: []behaviour{{hold: true, body: "held"}}, traffic: func(s *side) { s.hold(2); s.get(2); s.free() },
			longest: patience, variants: []string{"adaptiveConcurrency: {disabled: true}", "adaptiveConcurrency: {minLatency: {concurrency: 1}}"}},
		// From 2 the limit grows to 4, and never comes down: the gradient is a half at least. Without the buffer, calls that take twice the least
		// hold it at 2, for as few intervals as do not have the least measured anew, which are four.
		{name: "field-adaptive-limit", policy: []string{"adaptiveConcurrency: {maxConcurrency: 4, updateInterval: 300ms, minLatency: {interval: 1h, requests: 5, concurrency: 2, bufferPercent: 100}}"},
			script:  append(append(slices.Repeat([]behaviour{{delay: 20 * ms}}, 5), slices.Repeat([]behaviour{{delay: 38 * ms}}, 25)...), behaviour{hold: true}),
			traffic: func(s *side) { s.get(30); s.rest(100 * ms); s.hold(4); s.get(1); s.free() }, longest: patience, markSlack: time.Second,
			variants: []string{"adaptiveConcurrency: {maxConcurrency: 6}", "adaptiveConcurrency: {updateInterval: 1h}",
				"adaptiveConcurrency: {minLatency: {interval: 20ms, requests: 5, concurrency: 2, bufferPercent: 100}}",
				"adaptiveConcurrency: {minLatency: {interval: 1h, requests: 5000, concurrency: 2, bufferPercent: 100}}",
				"adaptiveConcurrency: {minLatency: {interval: 1h, requests: 5, concurrency: 2, bufferPercent: 0}}"}},
		{name: "field-adaptive-percentile", policy: []string{"adaptiveConcurrency: {maxConcurrency: 4, updateInterval: 350ms, percentile: 50, minLatency: {interval: 1h, requests: 6, concurrency: 2}}"},
			script:  append(append(slices.Repeat([]behaviour{{delay: 10 * ms}}, 6), slices.Repeat([]behaviour{{delay: 10 * ms}, {delay: 10 * ms}, {delay: 40 * ms}}, 15)...), behaviour{hold: true}),
			traffic: func(s *side) { s.get(51); s.hold(4); s.get(1); s.free() }, longest: patience, markSlack: time.Second,
			variants: []string{"adaptiveConcurrency: {percentile: 100}"}},
		shed(&scenario{name: "field-admission", policy: []string{admission(sure)}, script: answers(503, 200), traffic: func(s *side) { s.get(1); s.rest(2500 * ms); s.get(2) },
			variants: []string{"admissionControl: {disabled: true}", admission("maxRejectionPercent: 0"), admission("rpsThreshold: 1000"), admission("window: 1s")}}),
		shed(&scenario{name: "field-admission-rate", policy: []string{admission(sure)}, script: answers(200, 503, 200), traffic: get(4), variants: []string{admission("successRatePercent: 40")}}),
		shed(&scenario{name: "field-admission-aggression", policy: []string{admission(sure)}, script: answers(200, 200, 200, 200, 200, 200, 200, 200, 200, 503, 200), traffic: get(13), variants: []string{admission("aggression: 1")}}),
		shed(&scenario{name: "field-admission-criteria", policy: []string{admission(sure), criteria("http: {statuses: [404]}")}, script: answers(503, 503, 404, 200), traffic: get(5), variants: []string{"failureCriteria: {disabled: true}"}}),
	}
}
