package differential_test

import (
	"fmt"
	"strings"

	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"                 // scenarios pack it
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/adaptive_concurrency/v3"          // likewise
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/admission_control/v3"             // likewise
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/custom_response/v3"               // likewise
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"                         // likewise
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"               // likewise
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"               // likewise
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"                // likewise
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/http/custom_response/local_response_policy/v3" // likewise
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"        // likewise
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"               // likewise
	_ "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"                                          // likewise
)

// httpFilters is a list of HTTP filters, each "name: Type {fields}", and the router after them.
func httpFilters(list ...string) string {
	return "http_filters: [" + strings.Join(append(list, `{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}`), ", ") + "]"
}

// packed is a message of an HTTP filter in an Any, with fields.
func packed(message, fields string) string {
	return `{"@type": type.googleapis.com/envoy.extensions.filters.http.` + message + `, ` + fields + `}`
}

func filterOf(name, message, fields string) string {
	return `{name: ` + name + `, typed_config: ` + packed(message, fields) + `}`
}

// perRoute is what a route says of a filter.
func perRoute(name, message, fields string) string {
	return `typed_per_filter_config: {` + name + `: ` + packed(message, fields) + `}`
}

// grpc is a call of gRPC as far as a proxy can tell.
var grpcRequest = request{method: "POST", header: map[string]string{"content-type": "application/grpc", "te": "trailers"}}

func rawFilters() []*scenario {
	hello := []behaviour{{body: "hello"}}
	var all []*scenario
	all = append(all, rateLimits(hello)...)
	all = append(all, faults(hello)...)
	all = append(all, localReplies(hello)...)
	all = append(all, tooLate()...)
	all = append(all, customResponses(hello)...)
	all = append(all, headerEdits(hello)...)
	all = append(all, admissions(hello)...)
	return append(all, adaptive(hello)...)
}

const (
	limiter      = "local_ratelimit.v3.LocalRateLimit"
	fault        = "fault.v3.HTTPFault"
	inForce      = `filter_enabled: {default_value: {numerator: 100}}, filter_enforced: {default_value: {numerator: 100}}`
	limiterStats = "$NAME.http_local_rate_limit."
)

func rateLimits(hello []behaviour) []*scenario {
	off := httpFilters(filterOf("limit", limiter, `stat_prefix: $NAME`))
	bucket := func(tokens int, more string) string {
		return fmt.Sprintf(`stat_prefix: $NAME, token_bucket: {max_tokens: %d, tokens_per_fill: %d, fill_interval: 3600s}, %s`, tokens, tokens, more)
	}
	stats := []string{limiterStats + "enabled", limiterStats + "ok", limiterStats + "rate_limited", limiterStats + "enforced"}
	return []*scenario{
		{name: "rate-limit", raw: &resources{hcm: off, route: perRoute("limit", limiter, bucket(3, inForce))}, script: hello, traffic: mixed(request{}, request{}, request{method: "POST", body: "x"}, request{}, grpcRequest, request{method: "HEAD"}), stats: stats,
			mutants: []resources{{route: perRoute("limit", limiter, bucket(2, inForce))}, {route: perRoute("limit", limiter, bucket(3, inForce)+`, rate_limited_as_resource_exhausted: true`)}}},
		{name: "rate-limit-listener", raw: &resources{hcm: httpFilters(filterOf("limit", limiter, bucket(1, inForce+`, rate_limited_as_resource_exhausted: true, status: {code: 503}, response_headers_to_add: [{header: {key: x-why, value: limit}}]`)))},
			script: hello, traffic: mixed(request{}, request{}, grpcRequest), stats: stats,
			mutants: []resources{{hcm: httpFilters(filterOf("limit", limiter, bucket(1, inForce+`, status: {code: 503}`)))}}},
		{name: "rate-limit-host", raw: &resources{hcm: off, host: perRoute("limit", limiter, bucket(2, inForce)), routes: `[{match: {path: /a}, route: {cluster: $NAME}}, {match: {path: /b}, route: {cluster: $NAME}, typed_per_filter_config: {limit: ` + packed(limiter, bucket(1, inForce)) + `}}, {match: {prefix: /}, route: {cluster: $NAME}}]`},
			script: hello, traffic: mixed(request{path: "/a"}, request{path: "/b"}, request{path: "/b"}, request{path: "/c"}, request{path: "/a"}), stats: stats,
			mutants: []resources{{host: "typed_per_filter_config: null"}}},
		{name: "rate-limit-nobody", raw: &resources{hcm: httpFilters(filterOf("limit", limiter, bucket(1, inForce))), routes: `[{match: {path: /a}, route: {cluster: $NAME}}]`},
			script: hello, traffic: mixed(request{path: "/b"}, request{path: "/b"}, request{path: "/a"}), stats: stats},
		{name: "rate-limit-direct", raw: &resources{hcm: httpFilters(filterOf("limit", limiter, bucket(1, inForce))), routes: `[{match: {prefix: /}, direct_response: {status: 203, body: {inline_string: hi}}}]`},
			traffic: get(2), stats: stats},
		{name: "rate-limit-not-enabled", raw: &resources{hcm: off, route: perRoute("limit", limiter, bucket(1, ""))}, script: hello, traffic: get(3), stats: stats,
			mutants: []resources{{route: perRoute("limit", limiter, bucket(1, inForce))}}},
		{name: "rate-limit-not-enforced", raw: &resources{hcm: off, route: perRoute("limit", limiter, bucket(1, `filter_enabled: {default_value: {numerator: 1000000, denominator: MILLION}}, request_headers_to_add_when_not_enforced: [{header: {key: x-over, value: "yes"}}]`))},
			script: hello, traffic: get(3), stats: stats, mutants: []resources{{route: perRoute("limit", limiter, bucket(1, `filter_enabled: {default_value: {numerator: 100}}`))}}},
		{name: "rate-limit-headers", raw: &resources{hcm: off, route: perRoute("limit", limiter, `stat_prefix: $NAME, enable_x_ratelimit_headers: DRAFT_VERSION_03, enable_retry_after_header: true, token_bucket: {max_tokens: 3, tokens_per_fill: 2, fill_interval: 7200s}, `+inForce)},
			script: hello, traffic: get(4), stats: stats, coarse: []string{"X-Ratelimit-Reset", "Retry-After"}, mutants: []resources{{route: perRoute("limit", limiter, `enable_x_ratelimit_headers: "OFF"`)}, {route: perRoute("limit", limiter, `enable_retry_after_header: false`)}}},
		{name: "rate-limit-refills", raw: &resources{hcm: off, route: perRoute("limit", limiter, `stat_prefix: $NAME, token_bucket: {max_tokens: 1, fill_interval: 1s}, `+inForce)},
			script: hello, traffic: func(s *side) { s.get(2); s.rest(1500 * ms); s.get(1) }, stats: stats,
			mutants: []resources{{route: perRoute("limit", limiter, bucket(1, inForce))}}},
		{name: "rate-limit-off-by-route", raw: &resources{hcm: httpFilters(filterOf("limit", limiter, bucket(1, inForce))), route: `typed_per_filter_config: {limit: {"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}}`},
			script: hello, traffic: get(2), stats: stats, mutants: []resources{{route: "typed_per_filter_config: null"}}},
	}
}

func faults(hello []behaviour) []*scenario {
	off := httpFilters(filterOf("fault", fault, ""))
	stats := []string{"http.$NAME.fault.aborts_injected", "http.$NAME.fault.delays_injected", "http.$NAME.fault.faults_overflow", "http.$NAME.fault.active_faults"}
	abort := `abort: {http_status: 503, percentage: {numerator: 100}}`
	inside := func(f string) string {
		return `
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: $NAME-inside
  internal_listener: {}
  filter_chains: [{filters: [{name: hcm, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: $NAME-inside, codec_type: AUTO, generate_request_id: false, skip_xff_append: true, server_header_transformation: PASS_THROUGH, internal_address_config: {cidr_ranges: [{address_prefix: 255.255.255.255, prefix_len: 32}]},
    route_config: {name: $NAME-inside, virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: $NAME-real, timeout: 0s}}]}]},
    http_filters: [{name: fault, typed_config: ` + packed(fault, f) + `}, {name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, suppress_envoy_headers: true}}]}}]}]
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: $NAME-real
  type: STATIC
  load_assignment: {cluster_name: $NAME-real, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: $PORT0}}}}]}]}
`
	}
	viaInside := func(f, action string) *resources {
		return &resources{action: action, more: inside(f), endpoints: `[{lb_endpoints: [{endpoint: {address: {envoy_internal_address: {server_listener_name: $NAME-inside}}}}]}]`,
			cluster: `transport_socket: {name: internal_upstream, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport, transport_socket: {name: raw, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}}}`}
	}
	insideStats := []string{"http.$NAME-inside.fault.aborts_injected", "http.$NAME-inside.fault.delays_injected"}
	return []*scenario{
		{name: "fault-abort", raw: &resources{hcm: off, route: perRoute("fault", fault, abort)}, script: hello, traffic: mixed(request{}, grpcRequest, request{method: "POST", body: "x"}), stats: stats,
			mutants: []resources{{route: perRoute("fault", fault, `abort: {http_status: 504, percentage: {numerator: 100}}`)}, {route: perRoute("fault", fault, `abort: {percentage: {numerator: 0}}`)}}},
		{name: "fault-abort-grpc", raw: &resources{hcm: off, route: perRoute("fault", fault, `abort: {grpc_status: 5, percentage: {numerator: 10000, denominator: TEN_THOUSAND}}`)}, script: hello, traffic: mixed(request{}, grpcRequest), stats: stats,
			mutants: []resources{{route: perRoute("fault", fault, `abort: {grpc_status: 6, percentage: {numerator: 100}}`)}}},
		{name: "fault-delay", raw: &resources{hcm: off, route: perRoute("fault", fault, `delay: {fixed_delay: 0.5s, percentage: {numerator: 100}}`), action: `{timeout: 0.3s}`}, script: hello, traffic: mixed(request{}, request{method: "POST", body: "x"}), stats: stats,
			mutants: []resources{{route: perRoute("fault", fault, `delay: {fixed_delay: 2s, percentage: {numerator: 100}}`)}}},
		{name: "fault-delay-abort", raw: &resources{hcm: off, route: perRoute("fault", fault, `delay: {fixed_delay: 0.3s, percentage: {numerator: 100}}, `+abort)}, script: hello, traffic: get(1), stats: stats},
		{name: "fault-max-duration", raw: &resources{hcm: off, route: perRoute("fault", fault, `delay: {fixed_delay: 2s, percentage: {numerator: 100}}`), action: `{max_stream_duration: {max_stream_duration: 0.4s}}`}, script: hello, traffic: get(1), stats: stats,
			mutants: []resources{{route: perRoute("fault", fault, `delay: {fixed_delay: 0.1s, percentage: {numerator: 100}}`)}}},
		{name: "fault-headers", raw: &resources{hcm: httpFilters(filterOf("fault", fault, `headers: [{name: x-experiment, string_match: {exact: "yes"}}], `+abort))}, script: hello,
			traffic: mixed(request{}, request{header: map[string]string{"x-experiment": "yes"}}, request{header: map[string]string{"x-experiment": "no"}}), stats: stats,
			mutants: []resources{{hcm: httpFilters(filterOf("fault", fault, abort))}}},
		{name: "fault-cluster", raw: &resources{hcm: httpFilters(filterOf("fault", fault, `upstream_cluster: other, `+abort))}, script: hello, traffic: get(1), stats: stats,
			mutants: []resources{{hcm: httpFilters(filterOf("fault", fault, `upstream_cluster: $NAME, `+abort))}, {hcm: httpFilters(filterOf("fault", fault, abort))}}},
		{name: "fault-max-active", raw: &resources{hcm: httpFilters(filterOf("fault", fault, `max_active_faults: 0, `+abort))}, script: hello, traffic: get(2), stats: stats,
			mutants: []resources{{hcm: httpFilters(filterOf("fault", fault, `max_active_faults: 1, `+abort))}}},
		{name: "fault-before-limit", raw: &resources{hcm: httpFilters(filterOf("fault", fault, abort), filterOf("limit", limiter, `stat_prefix: $NAME, enable_x_ratelimit_headers: DRAFT_VERSION_03, token_bucket: {max_tokens: 1, fill_interval: 3600s}, `+inForce))},
			script: hello, traffic: get(2), stats: append(stats, limiterStats+"enabled"),
			mutants: []resources{{hcm: httpFilters(filterOf("limit", limiter, `stat_prefix: $NAME, enable_x_ratelimit_headers: DRAFT_VERSION_03, token_bucket: {max_tokens: 1, fill_interval: 3600s}, `+inForce), filterOf("fault", fault, abort))}}},
		{name: "fault-inside-retried", raw: viaInside(`headers: [{name: x-experiment, string_match: {exact: "yes"}}], `+abort, `{timeout: 2s, retry_policy: {retry_on: 5xx, num_retries: 2}}`),
			script: hello, traffic: mixed(request{}, request{header: map[string]string{"x-experiment": "yes"}}, request{method: "POST", body: strings.Repeat("b", 100_000)}), stats: insideStats,
			mutants: []resources{{action: `{retry_policy: {num_retries: 1}}`}, {more: inside("")}}},
		{name: "fault-inside-ejects", raw: viaInside(abort, ``).with(`outlier_detection: {consecutive_5xx: 2, interval: 600s, max_ejection_percent: 100}` + "\n---\n" + `common_lb_config: {healthy_panic_threshold: {value: 0}}`),
			script: hello, traffic: func(s *side) {
				s.get(2)
				s.until("ejected", func() bool { return s.stats()["outlier_detection.ejections_active"] == 1 })
				s.get(1)
			}, stats: insideStats},
		{name: "fault-inside-per-try", raw: viaInside(`delay: {fixed_delay: 1s, percentage: {numerator: 100}}`, `{timeout: 4s, retry_policy: {retry_on: 5xx, num_retries: 1, per_try_timeout: 0.4s}}`),
			script: hello, traffic: get(1), stats: insideStats},
		{name: "fault-inside-nobody", raw: &resources{endpoints: `[{lb_endpoints: [{endpoint: {address: {envoy_internal_address: {server_listener_name: nobody}}}}]}]`,
			cluster: viaInside("", "").cluster}, traffic: get(2),
			ignore: []string{"log 1", "log 2"}}, // the agent's details say "refused",
	}
}

// with is r with more said of its cluster.
func (r *resources) with(cluster string) *resources {
	more := r.over(resources{})
	more.cluster += "\n---\n" + cluster
	return &more
}

const mapper = `
local_reply_config:
  mappers:
  - filter: {and_filter: {filters: [
      {status_code_filter: {comparison: {op: EQ, value: {default_value: 503, runtime_key: none}}}},
      {response_flag_filter: {flags: [UF, UC, UH, UO, UR, LR, NC, URX, DO, UMSDR, UPE, DF, OM]}},
      {header_filter: {header: {name: content-type, string_match: {prefix: application/grpc}, invert_match: true, treat_missing_header_as_empty: true}}},
      {extension_filter: {name: cel, typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter, expression: "xds.route_metadata.filter_metadata['breakwater']['contract'] == '502'"}}}]}}
    status_code: 502
    headers_to_add: [{append_action: OVERWRITE_IF_EXISTS_OR_ADD, header: {key: x-breakwater-reason, value: "%RESPONSE_FLAGS% %RESPONSE_CODE%"}}]
    body_format_override:
      content_type: application/problem+json
      json_format: {type: "about:blank", title: "upstream failure", status: "%RESPONSE_CODE%", detail: "%RESPONSE_CODE_DETAILS%", flags: "%RESPONSE_FLAGS%", upstream: "%UPSTREAM_CLUSTER%", who: "%REQ(x-who)%", both: "<%RESPONSE_CODE%> & %REQ(x-who)%", said: "%LOCAL_REPLY_BODY%"}
`

// noHosts are the statistics in which the agent differs where a cluster has no hosts at all.
var noHosts = []string{"lb_healthy_panic"}

func localReplies(hello []behaviour) []*scenario {
	contract := `metadata: {filter_metadata: {breakwater: {contract: "502"}}}`
	who := request{header: map[string]string{"x-who": `a "quoted" one`}}
	first := `
local_reply_config:
  mappers:
  - filter: {extension_filter: {name: cel, typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter, expression: "response.code_details.contains('connection_failure')"}}}
    status_code: 504
    body: {inline_string: "not reached"}
  - filter: {or_filter: {filters: [{status_code_filter: {comparison: {op: GE, value: {default_value: 500, runtime_key: none}}}}, {response_flag_filter: {}}]}}
    body_format_override: {text_format_source: {inline_string: "%LOCAL_REPLY_BODY%: %RESPONSE_CODE%, 100%% %REQ(x-none)%\n"}}
  body_format: {text_format: "plainly %LOCAL_REPLY_BODY%"}
`
	return []*scenario{
		{name: "contract-empty", raw: &resources{hcm: mapper, route: contract, endpoints: "[]"}, ignore: noHosts, traffic: mixed(request{}, who, grpcRequest, request{method: "HEAD"}),
			mutants: []resources{{hcm: "local_reply_config: null"}, {route: "metadata: null"}}},
		{name: "contract-refused", raw: &resources{hcm: mapper, route: contract, action: `{retry_policy: {retry_on: 5xx, num_retries: 1}}`}, refusing: 1, traffic: mixed(request{}, grpcRequest), mutants: []resources{{action: "{retry_policy: null}"}}},
		{name: "contract-reset", raw: &resources{hcm: mapper, route: contract}, script: []behaviour{resets}, traffic: get(1)},
		{name: "contract-timeout", raw: &resources{hcm: mapper, route: contract, action: `{timeout: 0.3s}`}, script: []behaviour{hangs}, traffic: mixed(request{}, grpcRequest)},
		{name: "contract-own-503", raw: &resources{hcm: mapper, route: contract}, script: []behaviour{always503}, traffic: get(1)},
		{name: "contract-no-cluster", raw: &resources{hcm: mapper, route: contract, action: `{cluster: nowhere}`, config: "validate_clusters: false"}, traffic: get(1)},
		{name: "contract-overflow", raw: &resources{hcm: mapper, route: contract, cluster: `circuit_breakers: {thresholds: [{max_requests: 0, max_pending_requests: 0}]}`}, script: hello, traffic: get(1)},
		{name: "contract-other-metadata", raw: &resources{hcm: mapper, route: `metadata: {filter_metadata: {breakwater: {contract: 502}}}`, endpoints: "[]"}, ignore: noHosts, traffic: get(1)},
		{name: "contract-attempt-limit", raw: &resources{hcm: mapper, route: contract, options: `common_http_protocol_options: {max_stream_duration: 0.3s}`, action: `{retry_policy: {retry_on: 5xx, num_retries: 1}}`}, script: []behaviour{hangs}, traffic: get(1)},
		{name: "reply-first-match", raw: &resources{hcm: first}, refusing: 1, traffic: mixed(request{}, grpcRequest), mutants: []resources{{hcm: "local_reply_config: {mappers: []}"}}},
		{name: "reply-second-match", raw: &resources{hcm: first, endpoints: "[]"}, ignore: noHosts, traffic: mixed(request{}, grpcRequest)},
		{name: "reply-format", raw: &resources{hcm: first, routes: `[{match: {path: /a}, route: {cluster: $NAME}}, {match: {path: /d}, direct_response: {status: 203, body: {inline_string: tea}}}]`}, script: hello, traffic: mixed(request{path: "/b"}, request{path: "/d"}, request{path: "/a"})},
	}
}

// tooLate has the timeouts of calls of gRPC, and of others.
func tooLate() []*scenario {
	both := mixed(request{}, grpcRequest)
	stuck := []behaviour{hangs}
	return []*scenario{
		{name: "late-per-try", raw: &resources{action: `{retry_policy: {retry_on: 5xx, num_retries: 1, per_try_timeout: 0.3s}}`}, script: stuck, traffic: both},
		{name: "late-per-try-idle", raw: &resources{action: `{retry_policy: {retry_on: 5xx, num_retries: 1, per_try_idle_timeout: 0.3s}}`}, script: stuck, traffic: both},
		{name: "late-attempt", raw: &resources{options: `common_http_protocol_options: {max_stream_duration: 0.3s}`}, script: stuck, traffic: both},
		{name: "late-duration", raw: &resources{action: `{max_stream_duration: {max_stream_duration: 0.3s}}`}, script: stuck, traffic: both},
		{name: "late-idle", raw: &resources{action: `{idle_timeout: 0.3s}`}, script: stuck, traffic: both},
		{name: "late-injected", raw: &resources{hcm: httpFilters(filterOf("fault", fault, `delay: {fixed_delay: 3s, percentage: {numerator: 100}}`)), action: `{idle_timeout: 0.3s}`}, script: stuck, traffic: both},
		{name: "late-injected-duration", raw: &resources{hcm: httpFilters(filterOf("fault", fault, `delay: {fixed_delay: 3s, percentage: {numerator: 100}}`)), action: `{max_stream_duration: {max_stream_duration: 0.3s}}`}, script: stuck, traffic: both},
	}
}

// custom is a custom response to every 5xx that is no 504. It keeps no response code details: Envoy 1.40 reads them after they are freed.
func custom(policy string) string {
	const input = `typed_config: {"@type": type.googleapis.com/envoy.type.matcher.v3.HttpResponse`
	return perRoute("custom", "custom_response.v3.CustomResponse", `custom_response_matcher: {matcher_list: {matchers: [{
		predicate: {and_matcher: {predicate: [{single_predicate: {input: {name: c, `+input+`StatusCodeClassMatchInput}}, value_match: {exact: 5xx}}}, {not_matcher: {single_predicate: {input: {name: s, `+input+`StatusCodeMatchInput}}, value_match: {exact: "504"}}}}]}},
		on_match: {action: {name: local, typed_config: {"@type": type.googleapis.com/envoy.extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy, `+policy+`}}}}]}}`)
}

func customResponses(hello []behaviour) []*scenario {
	off := httpFilters(filterOf("custom", "custom_response.v3.CustomResponse", ""), filterOf("limit", limiter, `stat_prefix: $NAME`))
	empty := custom(`status_code: 200, body: {inline_string: '{"items":[]}'}, response_headers_to_add: [{append_action: OVERWRITE_IF_EXISTS_OR_ADD, header: {key: content-type, value: application/json}}, {header: {key: x-fallback, value: static}}]`)
	return []*scenario{
		{name: "custom-response", raw: &resources{hcm: off, route: empty}, script: answers(503, 500, 504, 429, 200), traffic: get(5), ignore: []string{"upstream_rq_tx_reset"},
			mutants: []resources{{route: custom(`status_code: 201`)}, {route: "typed_per_filter_config: null"}}},
		{name: "custom-response-body", raw: &resources{hcm: off, route: empty}, script: []behaviour{always503, {status: 502, body: strings.Repeat("x", 100_000)}}, traffic: mixed(request{}, request{}, request{method: "HEAD"}, grpcRequest)},
		{name: "custom-response-keeps-status", raw: &resources{hcm: off, route: custom(`body: {inline_string: sorry}, body_format: {text_format_source: {inline_string: "%LOCAL_REPLY_BODY% %RESPONSE_CODE%"}}`)}, script: answers(503, 502), traffic: get(2)},
		{name: "custom-response-local", raw: &resources{hcm: off, route: empty}, refusing: 1, traffic: mixed(request{}, grpcRequest)},
		{name: "custom-response-contract", raw: &resources{hcm: off + mapper, route: custom(`status_code: 503, response_code_details: why, body: {inline_string: sorry}`) + "\n" + `metadata: {filter_metadata: {breakwater: {contract: "502"}}}`}, refusing: 1, traffic: get(1)},
	}
}

func headerEdits(hello []behaviour) []*scenario {
	plain := []behaviour{{body: "hello", header: map[string]string{"x-up": "1", "x-two": "a"}}}
	const mutation = "header_mutation.v3.HeaderMutation"
	edits := `mutations: {request_mutations: [
		{append: {header: {key: x-m, value: "m-%REQ(x-a)%-%REQ(x-none)%"}}}, {append: {header: {key: x-n, value: "%REQ(x-none)%"}}}, {append: {header: {key: x-e, value: ""}, keep_empty_value: true}},
		{append: {header: {key: x-a, value: b}}}, {append: {header: {key: x-c, value: c}, append_action: ADD_IF_ABSENT}}, {append: {header: {key: x-d, value: d}, append_action: OVERWRITE_IF_EXISTS}},
		{append: {header: {key: x-f, value: f}, append_action: OVERWRITE_IF_EXISTS}}, {append: {header: {key: x-g, value: g}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}, {remove: x-gone}],
		response_mutations: [{append: {header: {key: x-m, value: "%REQ(x-a)% %RESPONSE_CODE%"}}}, {append: {header: {key: x-up, value: "2"}, append_action: ADD_IF_ABSENT}}, {remove: x-two}]}`
	sent := request{header: map[string]string{"x-a": "1", "x-c": "1", "x-d": "1", "x-g": "1", "x-gone": "1"}}
	return []*scenario{
		{name: "header-mutation", raw: &resources{hcm: httpFilters(filterOf("m", mutation, edits))}, script: plain, traffic: mixed(sent, request{}), mutants: []resources{{hcm: httpFilters(filterOf("m", mutation, ""))}}},
		{name: "header-mutation-route", raw: &resources{hcm: httpFilters(filterOf("m", mutation, `mutations: {request_mutations: [{append: {header: {key: x-order, value: own}}}], response_mutations: [{append: {header: {key: x-order, value: own}}}]}`)),
			host:  perRoute("m", mutation+"PerRoute", `mutations: {request_mutations: [{append: {header: {key: x-order, value: host}}}], response_mutations: [{append: {header: {key: x-order, value: host}}}]}`),
			route: perRoute("m", mutation+"PerRoute", `mutations: {request_mutations: [{append: {header: {key: x-order, value: route}}}], response_mutations: [{append: {header: {key: x-order, value: route}}}]}`)},
			script: plain, traffic: get(1), mutants: []resources{{host: "typed_per_filter_config: null"}}},
		{name: "header-mutation-timeout", raw: &resources{hcm: httpFilters(filterOf("m", mutation, `mutations: {request_mutations: [{append: {header: {key: x-envoy-upstream-rq-timeout-ms, value: "300"}}}]}`))}, script: []behaviour{hangs}, traffic: get(1),
			mutants: []resources{{hcm: httpFilters(filterOf("m", mutation, `mutations: {request_mutations: [{append: {header: {key: x-envoy-upstream-rq-timeout-ms, value: "1500"}}}]}`))}}},
		{name: "headers-to-add", raw: &resources{config: added("config"), host: added("host"), route: added("route")}, script: plain, traffic: mixed(sent), mutants: []resources{{config: "response_headers_to_add: null"}, {route: "request_headers_to_add: null"}}},
		{name: "headers-to-add-local", raw: &resources{host: added("host"), routes: `[{match: {path: /a}, route: {cluster: $NAME}, ` + strings.ReplaceAll(added("route"), "\n", ", ") + `}, {match: {path: /d}, direct_response: {status: 203}}]`, endpoints: "[]"}, ignore: noHosts, traffic: mixed(request{path: "/a"}, request{path: "/d"}, request{path: "/e"})},
		{name: "attempt-count", raw: &resources{host: "include_request_attempt_count: true\ninclude_attempt_count_in_response: true", action: `{retry_policy: {retry_on: 5xx, num_retries: 2}}`}, script: answers(503, 503, 200, 503, 503, 503, 200),
			traffic: mixed(request{}, request{}, request{header: map[string]string{"x-envoy-attempt-count": "7"}}), mutants: []resources{{host: "include_request_attempt_count: false"}, {host: "include_attempt_count_in_response: false"}}},
		{name: "attempt-count-local", raw: &resources{host: "include_attempt_count_in_response: true", action: `{retry_policy: {retry_on: 5xx, num_retries: 2}}`}, refusing: 1, traffic: mixed(request{}, grpcRequest)},
	}
}

func added(by string) string {
	return `request_headers_to_add: [{header: {key: x-by, value: "` + by + ` %REQ(x-a)%"}}]
response_headers_to_add: [{header: {key: x-by, value: ` + by + `}}, {header: {key: x-up, value: "2"}, append_action: ADD_IF_ABSENT}]`
}

func adaptive(hello []behaviour) []*scenario {
	const message = "adaptive_concurrency.v3.AdaptiveConcurrency"
	config := `gradient_controller_config: {sample_aggregate_percentile: {value: 90}, concurrency_limit_params: {concurrency_update_interval: 0.1s}, min_rtt_calc_params: {interval: 60s, request_count: 50, min_concurrency: 2}}, concurrency_limit_exceeded_status: {code: TooManyRequests}`
	off := `http_filters: [{name: ac, disabled: true, typed_config: ` + packed(message, config) + `}, {name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]`
	on := `typed_per_filter_config: {ac: {"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, config: {}}}`
	stats := []string{"http.$NAME.adaptive_concurrency.gradient_controller.rq_blocked", "http.$NAME.adaptive_concurrency.gradient_controller.concurrency_limit", "http.$NAME.adaptive_concurrency.gradient_controller.min_rtt_calculation_active"}
	measuring := stats[2]
	held := []behaviour{{hold: true, body: "held"}}
	return []*scenario{
		{name: "adaptive", raw: &resources{hcm: off, route: on}, script: held, traffic: func(s *side) { s.hold(2); s.get(2); s.free() }, stats: stats, mutants: []resources{{route: "typed_per_filter_config: null"}}},
		{name: "adaptive-listener", raw: &resources{hcm: httpFilters(filterOf("ac", message, config))}, script: held, traffic: func(s *side) { s.hold(2); s.get(1); s.send(grpcRequest); s.free() }, stats: stats},
		{name: "adaptive-measures", raw: &resources{hcm: httpFilters(filterOf("ac", message, config))}, script: hello, traffic: func(s *side) {
			s.get(50)
			s.until("measured", func() bool { return s.beside()[measuring] == 0 })
		}, stats: stats},
	}
}

// admissions refuse by chance; these leave it no room.
func admissions(hello []behaviour) []*scenario {
	options := func(more string) string {
		return `
http_filters:
- {name: admission, typed_config: ` + packed("admission_control.v3.AdmissionControl", `sampling_window: 120s, success_criteria: {http_criteria: {http_success_status: [{start: 100, end: 429}, {start: 430, end: 500}, {start: 501, end: 502}]}, grpc_criteria: {grpc_success_status: [0, 1, 5]}}`+more) + `}
- {name: codec, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec}}
`
	}
	stats := []string{"cluster.$NAME.admission_control.rq_rejected", "cluster.$NAME.admission_control.rq_success", "cluster.$NAME.admission_control.rq_failure"}
	// What a refused attempt had asked of the pool differs: see docs/agent-fidelity.md.
	pools := []string{"upstream_rq_total", "upstream_rq_tx_reset", "upstream_rq_pending_failure_eject"}
	certain := `, aggression: {default_value: 1000, runtime_key: none}, max_rejection_probability: {default_value: {value: 100}, runtime_key: none}, sr_threshold: {default_value: {value: 100}, runtime_key: none}`
	return []*scenario{
		{name: "admission-successes", raw: &resources{options: options("")}, script: hello, traffic: get(2), stats: stats,
			mutants: []resources{{options: "http_filters: null"}}},
		{name: "admission-unanswered", raw: &resources{options: options(""), action: `{timeout: 0.3s}`}, script: []behaviour{resets, hangs}, traffic: get(2), stats: stats},
		{name: "admission-unanswered-grpc", raw: &resources{options: options("")}, script: []behaviour{{header: map[string]string{"content-type": "application/grpc"}}}, traffic: mixed(grpcRequest), stats: stats, ignore: []string{"log 1"}}, // a status of gRPC where there is none
		{name: "admission-counts", raw: &resources{options: options(`, rps_threshold: {default_value: 1000, runtime_key: none}`)}, stats: stats,
			script:  []behaviour{{status: 500}, {status: 501}, {status: 429}, {header: map[string]string{"content-type": "application/grpc", "grpc-status": "5"}}, {header: map[string]string{"content-type": "application/grpc", "grpc-status": "14"}}, resets, {body: "late"}},
			traffic: func(s *side) { s.get(3); s.send(grpcRequest); s.send(grpcRequest); s.get(2) },
			mutants: []resources{{options: "http_filters: null"}}},
		{name: "admission-refuses", raw: &resources{options: options(certain), action: `{retry_policy: {retry_on: 5xx, num_retries: 3, retry_back_off: {base_interval: 0.001s}}}`, cluster: `outlier_detection: {consecutive_5xx: 3, interval: 600s, max_ejection_percent: 100}`},
			script: answers(503), traffic: mixed(request{}, grpcRequest, request{method: "POST", body: "x"}), stats: stats, ignore: pools,
			mutants: []resources{{options: options(certain + `, enabled: {default_value: false, runtime_key: none}`)}}},
	}
}
