package fields

import "strings"

// All are the fields of the language that have values of their own.
var All = []Field{
	{"failureCriteria.http.statuses", Route, "retry_policy.retriable_headers", "[5xx, 429]", "[429]"},
	{"failureCriteria.http.exceptStatuses", Route, "retry_policy.retriable_headers", "[501]", "[500]"},
	{"failureCriteria.http.headers", Route, "retry_policy.retriable_headers", "[{name: a, present: true}]", "[{name: a, exact: b}]"},
	{"failureCriteria.grpc.codes", Route, "retry_policy.retriable_headers", "[internal]", "[unavailable]"},

	{"timeout.request", Route, "route.timeout", "1s", "2s"},
	{"timeout.perTry", Route, "retry_policy.per_try_timeout", "1s", "2s"},
	{"timeout.perTryIdle", Route, "retry_policy.per_try_idle_timeout", "1s", "2s"},
	{"timeout.deadline.keepPercent", Route, "header.value", "80", "70"},
	{"timeout.deadline.minimum", Route, "header.value", "6ms", "7ms"},
	{"timeout.maxStream", Route, "max_stream_duration.max_stream_duration", "1s", "2s"},
	{"timeout.connect", Cluster, "connect_timeout", "1s", "2s"},
	{"timeout.connectionIdle", Cluster, "common_http_protocol_options.idle_timeout", "1s", "none"},

	{"retry.numRetries", Route, "retry_policy.num_retries", "2", "3"},
	{"retry.retryOn", Route, "retry_policy.retry_on", "[5xx]", "[gateway-error]"},
	{"retry.retriableStatusCodes", Route, "retry_policy.retriable_status_codes", "[503]", "[429]"},
	{"retry.retriableHeaders", Route, "retry_policy.retriable_headers", "[{name: a, present: true}]", "[{name: a, exact: b}]"},
	{"retry.methods", Route, "match.headers", "safe", "[GET]"},
	{"retry.backOff.base", Route, "retry_back_off.base_interval", "10ms", "20ms"},
	{"retry.backOff.max", Route, "retry_back_off.max_interval", "1s", "2s"},
	{"retry.rateLimitedBackOff.resetHeaders", Route, "rate_limited_retry_back_off.reset_headers", "[{name: a}]", "[{name: a, format: unix-timestamp}]"},
	{"retry.rateLimitedBackOff.max", Route, "rate_limited_retry_back_off.max_interval", "1s", "2s"},
	{"retry.avoidPreviousHosts", Route, "retry_host_predicate", "true", "false"},
	{"retry.hostSelectionAttempts", Route, "host_selection_retry_max_attempts", "4", "5"},
	{"retry.avoidPreviousPriorities", Route, "retry_priority", "true", "false"},
	{"retry.bufferBytes", Route, "request_body_buffer_limit", "10", "20"},
	{"retry.budget.percent", Runtime, "default.retry_budget.budget_percent", "10", "30"},
	{"retry.budget.minConcurrent", Runtime, "default.retry_budget.min_retry_concurrency", "1", "2"},
	{"retry.budget.interval", Cluster, "retry_budget.budget_interval", "1s", "2s"},

	{"limits.maxConnections", Runtime, "default.max_connections", "1", "2"},
	{"limits.maxPendingRequests", Runtime, "default.max_pending_requests", "1", "2"},
	{"limits.maxRequests", Runtime, "default.max_requests", "1", "2"},
	{"limits.maxRetries", Runtime, "default.max_retries", "1", "2"},
	{"limits.maxConnectionPools", Runtime, "default.max_connection_pools", "1", "2"},
	{"limits.perHost.maxConnections", Cluster, "per_host_thresholds.max_connections", "1", "2"},
	{"limits.high.maxConnections", Runtime, "high.max_connections", "1", "2"},
	{"limits.high.maxPendingRequests", Runtime, "high.max_pending_requests", "1", "2"},
	{"limits.high.maxRequests", Runtime, "high.max_requests", "1", "2"},
	{"limits.high.maxRetries", Runtime, "high.max_retries", "1", "2"},
	{"limits.high.maxConnectionPools", Runtime, "high.max_connection_pools", "1", "2"},

	{"bulkhead.maxConcurrent", Runtime, "default.max_requests", "3", "4"},
	{"bulkhead.maxWaiting", Runtime, "default.max_pending_requests", "5", "6"},

	{"outlierDetection.consecutive5xx", Cluster, "outlier_detection.consecutive_5xx", "3", "4"},
	{"outlierDetection.consecutiveGatewayFailure", Cluster, "outlier_detection.consecutive_gateway_failure", "3", "4"},
	{"outlierDetection.consecutiveLocalOriginFailure", Cluster, "outlier_detection.consecutive_local_origin_failure", "3", "4"},
	{"outlierDetection.splitLocalOriginErrors", Cluster, "outlier_detection.split_external_local_origin_errors", "true", "false"},
	{"outlierDetection.successRate.minimumHosts", Cluster, "outlier_detection.success_rate_minimum_hosts", "3", "4"},
	{"outlierDetection.successRate.requestVolume", Cluster, "outlier_detection.success_rate_request_volume", "3", "4"},
	{"outlierDetection.successRate.stdevFactor", Cluster, "outlier_detection.success_rate_stdev_factor", "3", "4"},
	{"outlierDetection.failurePercentage.threshold", Cluster, "outlier_detection.failure_percentage_threshold", "3", "4"},
	{"outlierDetection.failurePercentage.minimumHosts", Cluster, "outlier_detection.failure_percentage_minimum_hosts", "3", "4"},
	{"outlierDetection.failurePercentage.requestVolume", Cluster, "outlier_detection.failure_percentage_request_volume", "3", "4"},
	{"outlierDetection.interval", Cluster, "outlier_detection.interval", "3s", "4s"},
	{"outlierDetection.baseEjectionTime", Cluster, "outlier_detection.base_ejection_time", "3s", "4s"},
	{"outlierDetection.maxEjectionTime", Cluster, "outlier_detection.max_ejection_time", "40s", "50s"},
	{"outlierDetection.maxEjectionTimeJitter", Cluster, "outlier_detection.max_ejection_time_jitter", "3s", "4s"},
	{"outlierDetection.maxEjectionPercent", Cluster, "outlier_detection.max_ejection_percent", "3", "4"},
	{"outlierDetection.alwaysEjectOneHost", Cluster, "outlier_detection.always_eject_one_host", "false", "true"},
	{"outlierDetection.enforcingPercent.consecutive5xx", Cluster, "outlier_detection.enforcing_consecutive_5xx", "3", "4"},
	{"outlierDetection.enforcingPercent.consecutiveGatewayFailure", Cluster, "outlier_detection.enforcing_consecutive_gateway_failure", "3", "4"},
	{"outlierDetection.enforcingPercent.consecutiveLocalOriginFailure", Cluster, "outlier_detection.enforcing_consecutive_local_origin_failure", "3", "4"},
	{"outlierDetection.enforcingPercent.successRate", Cluster, "outlier_detection.enforcing_success_rate", "3", "4"},
	{"outlierDetection.enforcingPercent.failurePercentage", Cluster, "outlier_detection.enforcing_failure_percentage", "3", "4"},
	{"outlierDetection.unejectOnHealthCheck", Cluster, "outlier_detection.successful_active_health_check_uneject_host", "false", "true"},
	{"outlierDetection.useFailureCriteria", Cluster, "outlier_detection.error_matcher", "true", "false"},
	{"outlierDetection.detectDegradedHosts", Cluster, "outlier_detection.detect_degraded_hosts", "true", "false"},

	{"circuitBreaker.failureThreshold", Cluster, "outlier_detection.consecutive_5xx", "3", "4"},
	{"circuitBreaker.recoveryTimeout", Cluster, "outlier_detection.base_ejection_time", "3s", "4s"},
	{"circuitBreaker.scope", Nothing, "", "service", "host"},
	{"circuitBreaker.gatewayErrorsOnly", Cluster, "outlier_detection.consecutive_gateway_failure", "true", "false"},
	{"circuitBreaker.halfOpen.probe", Nothing, "", "true", "false"},
	{"circuitBreaker.halfOpen.maxProbes", Nothing, "", "2", "3"},
	{"circuitBreaker.halfOpen.successes", Nothing, "", "2", "3"},

	{"loadBalancing.algorithm", Cluster, "lb_policy", "random", "least-request"},
	{"loadBalancing.panicThreshold", Cluster, "common_lb_config.healthy_panic_threshold", "3", "4"},

	{"loadBalancing.hashOn", Route, "hash_policy", "[{header: a}]", "[{header: a, terminal: true}, {cookie: {name: b, ttl: 1s}}, {queryParameter: c}, {sourceAddress: true}]"},
	{"loadBalancing.failTrafficOnPanic", Cluster, "zone_aware_lb_config.fail_traffic_on_panic", "true", "false"},
	{"loadBalancing.slowStart.window", Cluster, "slow_start_config.slow_start_window", "3s", "4s"},
	{"loadBalancing.slowStart.aggression", Cluster, "slow_start_config.aggression", "3", "4.5"},
	{"loadBalancing.slowStart.minWeightPercent", Cluster, "slow_start_config.min_weight_percent", "3", "4"},
	{"loadBalancing.localityWeighted", Cluster, "locality_weighted_lb_config", "true", "false"},

	{"admissionControl.successRatePercent", Cluster, "http_filters.typed_config.sr_threshold", "3", "4"},
	{"admissionControl.window", Cluster, "http_filters.typed_config.sampling_window", "3s", "4s"},
	{"admissionControl.aggression", Cluster, "http_filters.typed_config.aggression", "3", "4.5"},
	{"admissionControl.maxRejectionPercent", Cluster, "http_filters.typed_config.max_rejection_probability", "3", "4"},
	{"admissionControl.rpsThreshold", Cluster, "http_filters.typed_config.rps_threshold", "3", "4"},

	{"adaptiveConcurrency.maxConcurrency", Listener, "gradient_controller_config", "30", "40"},
	{"adaptiveConcurrency.updateInterval", Listener, "gradient_controller_config", "3s", "4s"},
	{"adaptiveConcurrency.percentile", Listener, "gradient_controller_config", "3", "4"},
	{"adaptiveConcurrency.minLatency.interval", Listener, "gradient_controller_config", "3s", "4s"},
	{"adaptiveConcurrency.minLatency.requests", Listener, "gradient_controller_config", "4", "5"},
	{"adaptiveConcurrency.minLatency.concurrency", Listener, "gradient_controller_config", "4", "5"},
	{"adaptiveConcurrency.minLatency.jitterPercent", Listener, "gradient_controller_config", "4", "5"},
	{"adaptiveConcurrency.minLatency.bufferPercent", Listener, "gradient_controller_config", "4", "5"},

	{"healthCheck.http.path", Cluster, "http_health_check.path", "/a", "/b"},
	{"healthCheck.http.host", Cluster, "http_health_check.host", "a", "b"},
	{"healthCheck.http.method", Cluster, "http_health_check.method", "HEAD", "POST"},
	{"healthCheck.http.expectedStatuses", Cluster, "http_health_check.expected_statuses", "[201]", "[2xx]"},
	{"healthCheck.grpc.service", Cluster, "grpc_health_check.service_name", "a", "b"},
	{"healthCheck.grpc.authority", Cluster, "grpc_health_check.authority", "a", "b"},
	{"healthCheck.tcp.send", Cluster, "tcp_health_check.send", "a", "b"},
	{"healthCheck.tcp.receive", Cluster, "tcp_health_check.receive", "[a]", "[b]"},
	{"healthCheck.interval", Cluster, "health_checks.interval", "3s", "4s"},
	{"healthCheck.timeout", Cluster, "health_checks.timeout", "3s", "4s"},
	{"healthCheck.healthyThreshold", Cluster, "health_checks.healthy_threshold", "3", "4"},
	{"healthCheck.unhealthyThreshold", Cluster, "health_checks.unhealthy_threshold", "4", "5"},
	{"healthCheck.jitter", Cluster, "health_checks.interval_jitter", "3s", "4s"},
	{"healthCheck.noTrafficInterval", Cluster, "health_checks.no_traffic_interval", "3s", "4s"},
	{"hedge.onPerTryTimeout", Route, "hedge_on_per_try_timeout", "true", "false"},

	{"rateLimit.requests", Route, "token_bucket.tokens_per_fill", "5", "6"},
	{"rateLimit.interval", Route, "token_bucket.fill_interval", "2s", "3s"},
	{"rateLimit.burst", Route, "token_bucket.max_tokens", "20", "30"},

	{"fallback.service", Route, "route.cluster", "queue", "depot/queue"},
	{"fallback.response.status", Route, "status_code", "404", "503"},
	{"fallback.response.body", Route, "body.inline_string", "a", "b"},
	{"fallback.response.contentType", Route, "header.value", "text/html", "text/css"},
	{"fallback.when", Route, "custom_response_matcher", "[gateway-error]", "[5xx]"},

	{"errorMapping.gateway", Route, "breakwater.errors", "true", "false"},

	{"fault.abort.status", Route, "abort.http_status", "502", "504"},
	{"fault.abort.grpcStatus", Route, "abort.grpc_status", "internal", "unavailable"},
	{"fault.abort.percent", Route, "abort.percentage", "5", "6"},
	{"fault.delay.duration", Route, "delay.fixed_delay", "1s", "2s"},
	{"fault.delay.percent", Route, "delay.percentage", "5", "6"},
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
	"healthCheck.tcp.receive":      "{tcp: {}, timeout: 100ms}", // a host that says nothing holds its cluster up so long
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

// Elsewhere are the other places that the fields of a section reach, by section.
var Elsewhere = map[string][]Place{
	"failureCriteria": {
		{"outlier_detection.error_matcher", "outlierDetection: {consecutive5xx: 5, useFailureCriteria: true}"},
		{"http_filters.typed_config.success_criteria", "admissionControl: {window: 1s}"},
	},
}

// Place is one where a field rebuilds the cluster, whatever its carrier is.
type Place struct {
	At   string
	With string // the section that must stand beside, as YAML
}

// In reports whether the place takes notice of the field: admission control looks at no headers.
func (f Field) In(p Place) bool {
	return f.Path != "failureCriteria.http.headers" || !strings.HasPrefix(p.With, "admissionControl")
}
