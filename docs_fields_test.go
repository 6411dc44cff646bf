package breakwater_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// What carries a field to Envoy.
const (
	cluster = "Cluster"
	route   = "Route"
	runtime = "Runtime"

	listener = "Listener"
	nothing  = "nothing" // Envoy gets no part of it
)

// carried says what Envoy gets of a field. TestDocsFields holds it against the compiler: setting the field and changing it must change
// that carrier, at that place, and no other.
type carried struct {
	field   string
	carrier string
	at      string // the path in the carrier
	first   string // a value that is not the default, as YAML
	second  string // another one
}

var carriers = []carried{
	{"failureCriteria.http.statuses", route, "retry_policy.retriable_headers", "[5xx, 429]", "[429]"},
	{"failureCriteria.http.exceptStatuses", route, "retry_policy.retriable_headers", "[501]", "[500]"},
	{"failureCriteria.http.headers", route, "retry_policy.retriable_headers", "[{name: a, present: true}]", "[{name: a, exact: b}]"},
	{"failureCriteria.grpc.codes", route, "retry_policy.retriable_headers", "[internal]", "[unavailable]"},

	{"timeout.request", route, "route.timeout", "1s", "2s"},
	{"timeout.perTry", route, "retry_policy.per_try_timeout", "1s", "2s"},
	{"timeout.perTryIdle", route, "retry_policy.per_try_idle_timeout", "1s", "2s"},
	{"timeout.deadline.keepPercent", route, "header.value", "80", "70"},
	{"timeout.deadline.minimum", route, "header.value", "6ms", "7ms"},
	{"timeout.maxStream", route, "max_stream_duration.max_stream_duration", "1s", "2s"},
	{"timeout.connect", cluster, "connect_timeout", "1s", "2s"},
	{"timeout.connectionIdle", cluster, "common_http_protocol_options.idle_timeout", "1s", "none"},

	{"retry.numRetries", route, "retry_policy.num_retries", "2", "3"},
	{"retry.retryOn", route, "retry_policy.retry_on", "[5xx]", "[gateway-error]"},
	{"retry.retriableStatusCodes", route, "retry_policy.retriable_status_codes", "[503]", "[429]"},
	{"retry.retriableHeaders", route, "retry_policy.retriable_headers", "[{name: a, present: true}]", "[{name: a, exact: b}]"},
	{"retry.methods", route, "match.headers", "safe", "[GET]"},
	{"retry.backOff.base", route, "retry_back_off.base_interval", "10ms", "20ms"},
	{"retry.backOff.max", route, "retry_back_off.max_interval", "1s", "2s"},
	{"retry.rateLimitedBackOff.resetHeaders", route, "rate_limited_retry_back_off.reset_headers", "[{name: a}]", "[{name: a, format: unix-timestamp}]"},
	{"retry.rateLimitedBackOff.max", route, "rate_limited_retry_back_off.max_interval", "1s", "2s"},
	{"retry.avoidPreviousHosts", route, "retry_host_predicate", "true", "false"},
	{"retry.hostSelectionAttempts", route, "host_selection_retry_max_attempts", "4", "5"},
	{"retry.avoidPreviousPriorities", route, "retry_priority", "true", "false"},
	{"retry.bufferBytes", route, "request_body_buffer_limit", "10", "20"},
	{"retry.budget.percent", runtime, "default.retry_budget.budget_percent", "10", "30"},
	{"retry.budget.minConcurrent", runtime, "default.retry_budget.min_retry_concurrency", "1", "2"},
	{"retry.budget.interval", cluster, "retry_budget.budget_interval", "1s", "2s"},

	{"limits.maxConnections", runtime, "default.max_connections", "1", "2"},
	{"limits.maxPendingRequests", runtime, "default.max_pending_requests", "1", "2"},
	{"limits.maxRequests", runtime, "default.max_requests", "1", "2"},
	{"limits.maxRetries", runtime, "default.max_retries", "1", "2"},
	{"limits.maxConnectionPools", runtime, "default.max_connection_pools", "1", "2"},
	{"limits.perHost.maxConnections", cluster, "per_host_thresholds.max_connections", "1", "2"},
	{"limits.high.maxConnections", runtime, "high.max_connections", "1", "2"},
	{"limits.high.maxPendingRequests", runtime, "high.max_pending_requests", "1", "2"},
	{"limits.high.maxRequests", runtime, "high.max_requests", "1", "2"},
	{"limits.high.maxRetries", runtime, "high.max_retries", "1", "2"},
	{"limits.high.maxConnectionPools", runtime, "high.max_connection_pools", "1", "2"},

	{"bulkhead.maxConcurrent", runtime, "default.max_requests", "3", "4"},
	{"bulkhead.maxWaiting", runtime, "default.max_pending_requests", "5", "6"},

	{"outlierDetection.consecutive5xx", cluster, "outlier_detection.consecutive_5xx", "3", "4"},
	{"outlierDetection.consecutiveGatewayFailure", cluster, "outlier_detection.consecutive_gateway_failure", "3", "4"},
	{"outlierDetection.consecutiveLocalOriginFailure", cluster, "outlier_detection.consecutive_local_origin_failure", "3", "4"},
	{"outlierDetection.splitLocalOriginErrors", cluster, "outlier_detection.split_external_local_origin_errors", "true", "false"},
	{"outlierDetection.successRate.minimumHosts", cluster, "outlier_detection.success_rate_minimum_hosts", "3", "4"},
	{"outlierDetection.successRate.requestVolume", cluster, "outlier_detection.success_rate_request_volume", "3", "4"},
	{"outlierDetection.successRate.stdevFactor", cluster, "outlier_detection.success_rate_stdev_factor", "3", "4"},
	{"outlierDetection.failurePercentage.threshold", cluster, "outlier_detection.failure_percentage_threshold", "3", "4"},
	{"outlierDetection.failurePercentage.minimumHosts", cluster, "outlier_detection.failure_percentage_minimum_hosts", "3", "4"},
	{"outlierDetection.failurePercentage.requestVolume", cluster, "outlier_detection.failure_percentage_request_volume", "3", "4"},
	{"outlierDetection.interval", cluster, "outlier_detection.interval", "3s", "4s"},
	{"outlierDetection.baseEjectionTime", cluster, "outlier_detection.base_ejection_time", "3s", "4s"},
	{"outlierDetection.maxEjectionTime", cluster, "outlier_detection.max_ejection_time", "40s", "50s"},
	{"outlierDetection.maxEjectionTimeJitter", cluster, "outlier_detection.max_ejection_time_jitter", "3s", "4s"},
	{"outlierDetection.maxEjectionPercent", cluster, "outlier_detection.max_ejection_percent", "3", "4"},
	{"outlierDetection.alwaysEjectOneHost", cluster, "outlier_detection.always_eject_one_host", "false", "true"},
	{"outlierDetection.enforcingPercent.consecutive5xx", cluster, "outlier_detection.enforcing_consecutive_5xx", "3", "4"},
	{"outlierDetection.enforcingPercent.consecutiveGatewayFailure", cluster, "outlier_detection.enforcing_consecutive_gateway_failure", "3", "4"},
	{"outlierDetection.enforcingPercent.consecutiveLocalOriginFailure", cluster, "outlier_detection.enforcing_consecutive_local_origin_failure", "3", "4"},
	{"outlierDetection.enforcingPercent.successRate", cluster, "outlier_detection.enforcing_success_rate", "3", "4"},
	{"outlierDetection.enforcingPercent.failurePercentage", cluster, "outlier_detection.enforcing_failure_percentage", "3", "4"},
	{"outlierDetection.unejectOnHealthCheck", cluster, "outlier_detection.successful_active_health_check_uneject_host", "false", "true"},
	{"outlierDetection.useFailureCriteria", cluster, "outlier_detection.error_matcher", "true", "false"},
	{"outlierDetection.detectDegradedHosts", cluster, "outlier_detection.detect_degraded_hosts", "true", "false"},

	{"circuitBreaker.failureThreshold", cluster, "outlier_detection.consecutive_5xx", "3", "4"},
	{"circuitBreaker.recoveryTimeout", cluster, "outlier_detection.base_ejection_time", "3s", "4s"},
	{"circuitBreaker.scope", nothing, "", "service", "host"},
	{"circuitBreaker.gatewayErrorsOnly", cluster, "outlier_detection.consecutive_gateway_failure", "true", "false"},
	{"circuitBreaker.halfOpen.probe", nothing, "", "true", "false"},
	{"circuitBreaker.halfOpen.maxProbes", nothing, "", "2", "3"},
	{"circuitBreaker.halfOpen.successes", nothing, "", "2", "3"},

	{"loadBalancing.algorithm", cluster, "lb_policy", "random", "least-request"},
	{"loadBalancing.panicThreshold", cluster, "common_lb_config.healthy_panic_threshold", "3", "4"},

	{"loadBalancing.hashOn", route, "hash_policy", "[{header: a}]", "[{header: a, terminal: true}, {cookie: {name: b, ttl: 1s}}, {queryParameter: c}, {sourceAddress: true}]"},
	{"loadBalancing.failTrafficOnPanic", cluster, "zone_aware_lb_config.fail_traffic_on_panic", "true", "false"},
	{"loadBalancing.slowStart.window", cluster, "slow_start_config.slow_start_window", "3s", "4s"},
	{"loadBalancing.slowStart.aggression", cluster, "slow_start_config.aggression", "3", "4.5"},
	{"loadBalancing.slowStart.minWeightPercent", cluster, "slow_start_config.min_weight_percent", "3", "4"},
	{"loadBalancing.localityWeighted", cluster, "locality_weighted_lb_config", "true", "false"},

	{"admissionControl.successRatePercent", cluster, "http_filters.typed_config.sr_threshold", "3", "4"},
	{"admissionControl.window", cluster, "http_filters.typed_config.sampling_window", "3s", "4s"},
	{"admissionControl.aggression", cluster, "http_filters.typed_config.aggression", "3", "4.5"},
	{"admissionControl.maxRejectionPercent", cluster, "http_filters.typed_config.max_rejection_probability", "3", "4"},
	{"admissionControl.rpsThreshold", cluster, "http_filters.typed_config.rps_threshold", "3", "4"},

	{"adaptiveConcurrency.maxConcurrency", listener, "gradient_controller_config", "30", "40"},
	{"adaptiveConcurrency.updateInterval", listener, "gradient_controller_config", "3s", "4s"},
	{"adaptiveConcurrency.percentile", listener, "gradient_controller_config", "3", "4"},
	{"adaptiveConcurrency.minLatency.interval", listener, "gradient_controller_config", "3s", "4s"},
	{"adaptiveConcurrency.minLatency.requests", listener, "gradient_controller_config", "4", "5"},
	{"adaptiveConcurrency.minLatency.concurrency", listener, "gradient_controller_config", "4", "5"},
	{"adaptiveConcurrency.minLatency.jitterPercent", listener, "gradient_controller_config", "4", "5"},
	{"adaptiveConcurrency.minLatency.bufferPercent", listener, "gradient_controller_config", "4", "5"},

	{"healthCheck.http.path", cluster, "http_health_check.path", "/a", "/b"},
	{"healthCheck.http.host", cluster, "http_health_check.host", "a", "b"},
	{"healthCheck.http.method", cluster, "http_health_check.method", "HEAD", "POST"},
	{"healthCheck.http.expectedStatuses", cluster, "http_health_check.expected_statuses", "[201]", "[2xx]"},
	{"healthCheck.grpc.service", cluster, "grpc_health_check.service_name", "a", "b"},
	{"healthCheck.grpc.authority", cluster, "grpc_health_check.authority", "a", "b"},
	{"healthCheck.tcp.send", cluster, "tcp_health_check.send", "a", "b"},
	{"healthCheck.tcp.receive", cluster, "tcp_health_check.receive", "[a]", "[b]"},
	{"healthCheck.interval", cluster, "health_checks.interval", "3s", "4s"},
	{"healthCheck.timeout", cluster, "health_checks.timeout", "3s", "4s"},
	{"healthCheck.healthyThreshold", cluster, "health_checks.healthy_threshold", "3", "4"},
	{"healthCheck.unhealthyThreshold", cluster, "health_checks.unhealthy_threshold", "4", "5"},
	{"healthCheck.jitter", cluster, "health_checks.interval_jitter", "3s", "4s"},
	{"healthCheck.noTrafficInterval", cluster, "health_checks.no_traffic_interval", "3s", "4s"},
	{"hedge.onPerTryTimeout", route, "hedge_on_per_try_timeout", "true", "false"},

	{"rateLimit.requests", route, "token_bucket.tokens_per_fill", "5", "6"},
	{"rateLimit.interval", route, "token_bucket.fill_interval", "2s", "3s"},
	{"rateLimit.burst", route, "token_bucket.max_tokens", "20", "30"},

	{"fallback.service", route, "route.cluster", "queue", "depot/queue"},
	{"fallback.response.status", route, "status_code", "404", "503"},
	{"fallback.response.body", route, "body.inline_string", "a", "b"},
	{"fallback.response.contentType", route, "header.value", "text/html", "text/css"},
	{"fallback.when", route, "custom_response_matcher", "[gateway-error]", "[5xx]"},

	{"errorMapping.gateway", route, "breakwater.errors", "true", "false"},

	{"fault.abort.status", route, "abort.http_status", "502", "504"},
	{"fault.abort.grpcStatus", route, "abort.grpc_status", "internal", "unavailable"},
	{"fault.abort.percent", route, "abort.percentage", "5", "6"},
	{"fault.delay.duration", route, "delay.fixed_delay", "1s", "2s"},
	{"fault.delay.percent", route, "delay.percentage", "5", "6"},
}

// around is what must stand beside a field for it to count.
var around = map[string]string{
	"timeout": "{}", "retry": "{numRetries: 1}", "limits": "{}", "bulkhead": "{maxConcurrent: 2}", "circuitBreaker": "{failureThreshold: 5}", "loadBalancing": "{}",
	"timeout.deadline.keepPercent": "{request: 1s}", "timeout.deadline.minimum": "{request: 1s}", "fallback.service": "{}", "hedge": "{}", "rateLimit": "{requests: 9}", "fallback": "{response: {status: 201}}", "errorMapping": "{}",
	"fault": "{delay: {duration: 3s}}", "fault.abort.percent": "{abort: {status: 503}}",
	"outlierDetection":             "{consecutive5xx: 5}",
	"healthCheck":                  "{tcp: {}}",
	"adaptiveConcurrency":          "{percentile: 50}",
	"admissionControl":             "{window: 1s}",
	"failureCriteria":              "{}",
	"loadBalancing.hashOn":         "{algorithm: maglev, hashOn: [{header: z}]}",
	"loadBalancing.slowStart":      "{slowStart: {window: 1s}}",
	"healthCheck.http":             "{http: {path: /}}",
	"healthCheck.grpc":             "{grpc: {}}",
	"retry.retriableStatusCodes":   "{retryOn: [retriable-status-codes], retriableStatusCodes: [500]}",
	"retry.retriableHeaders":       "{retryOn: [retriable-headers], retriableHeaders: [{name: z, present: true}]}",
	"retry.methods":                "{retryOn: [5xx]}",
	"retry.rateLimitedBackOff.max": "{rateLimitedBackOff: {resetHeaders: [{name: a}]}}",
	"retry.hostSelectionAttempts":  "{avoidPreviousHosts: true}",
	"outlierDetection.enforcingPercent.consecutiveGatewayFailure":     "{consecutiveGatewayFailure: 5}",
	"outlierDetection.enforcingPercent.consecutiveLocalOriginFailure": "{splitLocalOriginErrors: true, consecutiveLocalOriginFailure: 5}",
	"outlierDetection.consecutiveLocalOriginFailure":                  "{splitLocalOriginErrors: true, consecutive5xx: 5}",
	"outlierDetection.enforcingPercent.successRate":                   "{successRate: {minimumHosts: 3}}",
	"outlierDetection.enforcingPercent.failurePercentage":             "{failurePercentage: {minimumHosts: 3}}",
}

// besides are the other sections that must stand beside a field for it to count.
var besides = map[string]string{
	"outlierDetection.unejectOnHealthCheck": "healthCheck: {tcp: {}}",
	"outlierDetection.useFailureCriteria":   "failureCriteria: {http: {statuses: [429]}}",
	"failureCriteria.http.statuses":         "retry: {retryOn: [failure-criteria]}",
	"failureCriteria.http.exceptStatuses":   "retry: {retryOn: [failure-criteria]}",
	"failureCriteria.http.headers":          "retry: {retryOn: [failure-criteria]}",
	"failureCriteria.grpc.codes":            "retry: {retryOn: [failure-criteria]}",
}

// further are the other places that the fields of a section reach, each with what must stand beside them; there they rebuild the cluster.
var further = map[string][]struct{ at, with string }{
	"failureCriteria": {
		{"outlier_detection.error_matcher", "outlierDetection: {consecutive5xx: 5, useFailureCriteria: true}"},
		{"http_filters.typed_config.success_criteria", "admissionControl: {window: 1s}"},
	},
}

// alsoIn holds a field against one of them.
func (c carried) alsoIn(t *testing.T, at, with, beside string) {
	t.Helper()
	section, _, _ := strings.Cut(c.field, ".")
	of := func(value string) map[string]map[string]string {
		spec := sections(t, section, beside, c.field, value)
		if err := yaml.Unmarshal([]byte(with), &spec); err != nil {
			t.Fatal(err)
		}
		return resources(t, catalog.HTTP, spec)
	}
	changed := differing(of(c.first)[cluster], of(c.second)[cluster])
	if c.field == "failureCriteria.http.headers" && strings.HasPrefix(with, "admissionControl") {
		if len(changed) > 0 {
			t.Errorf("%v changed, though admission control looks at no headers", changed)
		}
		return
	}
	if !slices.ContainsFunc(changed, func(p string) bool { return strings.Contains(p, at) }) {
		t.Errorf("beside %s %v changed, want %s", with, changed, at)
	}
}

// speaks is what the service must speak for a field to count.
var speaks = map[string]catalog.Protocol{"healthCheck.grpc": catalog.HTTP2}

// gets is the documents' text for what Envoy gets of a field.
func gets(field string) string {
	for _, c := range carriers {
		switch {
		case c.field != field:
		case c.carrier == nothing:
			return "nothing: for the agent"
		default:
			return c.carrier + " `" + c.at + "`"
		}
	}
	return ""
}

// TestDocsFields holds what the documents say of a field (what Envoy gets, and what a change does to live traffic) against what the
// compiler does with it.
func TestDocsFields(t *testing.T) {
	known := make(map[string]bool)
	for _, c := range carriers {
		known[c.field] = true
		t.Run(c.field, c.check)
	}
	for _, d := range manifest.Describe[policy.Sections]("") {
		if d.Type != "object" && !strings.Contains(d.Path, "[]") && !mark(d.Path) && !known[d.Path] {
			t.Errorf("%s is missing in the list of what Envoy gets", d.Path)
		}
	}
}

func (c carried) check(t *testing.T) {
	tag := tagOf(t, reflect.TypeFor[policy.Sections](), c.field)
	// What is hashed belongs to the endpoints that are chosen by it, though Envoy asks the route.
	if scope := tag.Get("scope"); scope != "" && c.carrier != nothing && c.field != "loadBalancing.hashOn" && (scope == "route") != (c.carrier == route) {
		t.Errorf("scope %s, but Envoy gets it in the %s", scope, c.carrier)
	}
	section, beside := c.beside()
	with := func(field, value string) map[string]map[string]string {
		spec := sections(t, section, beside, field, value)
		if err := yaml.Unmarshal([]byte(besides[c.field]), &spec); err != nil {
			t.Fatal(err)
		}
		return resources(t, speaks[parentOf(c.field)], spec)
	}
	without, first, second := with("", ""), with(c.field, c.first), with(c.field, c.second)
	if others, ok := further[section]; ok {
		for _, f := range others {
			c.alsoIn(t, f.at, f.with, beside)
		}
	}
	c.compare(t, "set", tag.Get("effect"), without, first)
	c.compare(t, "changed", tag.Get("effect"), first, second)
}

// beside is the section of the field, and what must stand there with it.
func (c carried) beside() (section, beside string) {
	section, _, _ = strings.Cut(c.field, ".")
	for _, path := range []string{c.field, parentOf(c.field)} {
		if beside, ok := around[path]; ok {
			return section, beside
		}
	}
	return section, around[section]
}

// parentOf is the path without its last name.
func parentOf(path string) string { return path[:strings.LastIndex(path, ".")] }

// TestDocsDisabled looks at what switching a section off does: it rebuilds the cluster if a field that it takes away does.
func TestDocsDisabled(t *testing.T) {
	for _, c := range carriers {
		section, beside := c.beside()
		with := sections(t, section, beside, c.field, c.first)
		off := sections(t, section, "{disabled: true}", "", "")
		speak := speaks[parentOf(c.field)]
		before, after := resources(t, speak, with), resources(t, speak, with, off)
		rebuilt := len(differing(before[cluster], after[cluster])) > 0
		// A section of which any field rebuilds the cluster may need one for the others to count.
		want := c.carrier == cluster || section == "outlierDetection" || section == "circuitBreaker" || section == "loadBalancing"
		if rebuilt != want {
			t.Errorf("%s.disabled over %s: cluster rebuilt: %v, want %v", section, c.field, rebuilt, want)
		}
	}
}

// TestDocsObserve looks at what a section does that only observes: nothing, but for the two that proxies can count; and at what comes of
// enforcing it, which is what enforcing it from the start does.
func TestDocsObserve(t *testing.T) {
	none := resources(t, "", map[string]any{"to": map[string]any{"service": "payments"}})
	for _, c := range carriers {
		section, beside := c.beside()
		if section == "failureCriteria" || section == "fault" { // which do nothing by themselves, and nothing that could be counted
			continue
		}
		speak := speaks[parentOf(c.field)]
		observed := sections(t, section, beside, c.field, c.first)
		observed[section].(map[string]any)["observe"] = true
		counts, acts := resources(t, speak, observed), resources(t, speak, sections(t, section, beside, c.field, c.first))
		counted := section == "outlierDetection" || section == "circuitBreaker"
		if changed := len(differing(none[cluster], counts[cluster])) > 0; speak == "" && changed != counted {
			t.Errorf("%s, observed: it is in the cluster: %v, want %v", c.field, changed, counted)
		}
		if changed := len(differing(none[route], counts[route])) > 0; changed != (section == "rateLimit") || len(counts[runtime]) > 0 {
			t.Errorf("%s, observed: it is in the route: %v, and these limits are: %v", c.field, changed, counts[runtime])
		}
		rebuilt := len(differing(counts[cluster], acts[cluster])) > 0
		if want := c.carrier == cluster || section == "outlierDetection" || section == "circuitBreaker" || section == "loadBalancing" || section == "healthCheck" || section == "admissionControl"; rebuilt != want {
			t.Errorf("%s, observed and then enforced: cluster rebuilt: %v, want %v", c.field, rebuilt, want)
		}
	}
}

// compare looks at what a change of the field did to the carriers.
func (c carried) compare(t *testing.T, what, effect string, before, after map[string]map[string]string) {
	t.Helper()
	var touched []string
	for _, carrier := range []string{cluster, route, runtime, listener} {
		places := differing(before[carrier], after[carrier])
		if len(places) == 0 {
			continue
		}
		touched = append(touched, carrier)
		if carrier == c.carrier && !slices.ContainsFunc(places, func(p string) bool { return strings.Contains(p, c.at) }) {
			t.Errorf("%s: %s changed at %v, want %s", what, carrier, places, c.at)
		}
	}
	switch want := []string{c.carrier}; {
	case c.carrier == nothing && len(touched) == 0:
		return
	case !slices.Equal(touched, want):
		t.Errorf("%s: %v changed, want %v", what, touched, want)
	}
	if rebuilt := slices.Contains(touched, cluster); rebuilt != (effect == "rebuilds the cluster") {
		t.Errorf("%s: cluster rebuilt: %v, but the field says %q", what, rebuilt, effect)
	}
}

// sections are those of a policy with one section, and in it one field more.
func sections(t *testing.T, section, beside, field, value string) map[string]any {
	t.Helper()
	inner := map[string]any{}
	if err := yaml.Unmarshal([]byte(beside), &inner); err != nil {
		t.Fatal(err)
	}
	spec := map[string]any{section: inner, "to": map[string]any{"service": "payments"}}
	if section == "fault" {
		spec["expiresAt"] = "2030-01-01T00:00:00Z"
	}
	if field == "" {
		if len(inner) == 0 {
			delete(spec, section)
		}
		return spec
	}
	at := spec
	path := strings.Split(field, ".")
	for _, name := range path[:len(path)-1] {
		if at[name] == nil {
			at[name] = map[string]any{}
		}
		at = at[name].(map[string]any)
	}
	var v any
	if err := yaml.Unmarshal([]byte(value), &v); err != nil {
		t.Fatal(err)
	}
	at[path[len(path)-1]] = v
	return spec
}

// resources compiles policies of these sections, the least specific first; what comes out is place -> value, by carrier.
func resources(t *testing.T, protocol catalog.Protocol, specs ...map[string]any) map[string]map[string]string {
	t.Helper()
	var applied []*policy.Compiled
	for i, spec := range specs {
		applied = append(applied, policyOf(t, fmt.Sprintf("probe-%d", i), spec))
	}
	s := &catalog.Service{Metadata: manifest.Meta{Namespace: "shop", Name: "payments"}}
	s.Spec.Protocol = protocol
	c := compiled(t, s, applied)
	out := map[string]map[string]string{cluster: places(t, c.Cluster), route: places(t, c.Route), runtime: {}}
	frame, err := envoy.Target{Profile: envoy.Sidecar, Version: "1.40", Runtime: true}.Frame("127.0.0.1:15001", c.Filters...)
	if err != nil {
		t.Fatal(err)
	}
	out[listener] = places(t, frame[0])
	for _, k := range c.Limits {
		out[runtime][k.Key] = fmt.Sprint(k.Value)
	}
	for _, r := range c.Faults { // their routes hold the fault, and no part of them changes what is there without
		if r.Type == view.RDS {
			for place, value := range places(t, r) {
				out[route][r.Name+place] = value
			}
		}
	}
	return out
}

// policyOf reads a policy the way an apply does.
func policyOf(t *testing.T, name string, spec map[string]any) *policy.Compiled {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"apiVersion": manifest.APIVersion, "kind": policy.Kind, "metadata": map[string]string{"namespace": "shop", "name": name}, "spec": spec,
	})
	if err != nil {
		t.Fatal(err)
	}
	documents, faults := manifest.Decode("", text, manifest.JSON, manifest.Limits{})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	p, faults := manifest.Into[policy.Spec](documents[0])
	if faults = append(faults, policy.Validate(&p)...); len(faults) > 0 {
		t.Fatalf("%v in %s", faults, text)
	}
	return policy.Compile(&p)
}

// places are the scalars of a resource, by path without indices of lists.
func places(t *testing.T, r *view.Resource) map[string]string {
	t.Helper()
	a := new(anypb.Any)
	if err := proto.Unmarshal(r.Any(), a); err != nil {
		t.Fatal(err)
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	flat := make(map[string]string)
	flatten(flat, "", v)
	return flat
}

func flatten(into map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			into[path] += "{}; "
		}
		for name, inner := range v {
			flatten(into, path+"."+name, inner)
		}
	case []any:
		for _, inner := range v {
			flatten(into, path, inner)
		}
	default:
		into[path] += fmt.Sprint(v) + "; "
	}
}

// differing are the places at which two resources differ, sorted.
func differing(a, b map[string]string) []string {
	var list []string
	for place := range maps.Keys(a) {
		if a[place] != b[place] {
			list = append(list, place)
		}
	}
	for place := range maps.Keys(b) {
		if _, both := a[place]; !both {
			list = append(list, place)
		}
	}
	slices.Sort(list)
	return list
}
