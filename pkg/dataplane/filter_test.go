package dataplane_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

const filterType = `"@type": "type.googleapis.com/envoy.extensions.filters.http.`

// filtersWith is a connection manager with filters before its router.
func filtersWith(filters ...string) string {
	return strings.Replace(managerWith(""), router, strings.Join(append(filters, router), ", "), 1)
}

func filter(name, message, fields string) string {
	return `{"name": "` + name + `", "typed_config": {` + filterType + message + `"` + comma(fields) + `}}`
}

func routeFilter(message, fields string) string {
	return routeWith(`{"match": {"prefix": "/"}, "route": {"cluster": "c"}, "typed_per_filter_config": {"f": {` + filterType + message + `"` + comma(fields) + `}}}`)
}

func mapperWith(when string) string {
	return managerWith(`"local_reply_config": {"mappers": [{"filter": ` + when + `}]}`)
}

func cel(expression string) string {
	return `{"extension_filter": {"name": "cel", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter", "expression": "` + expression + `"}}}`
}

// TestFiltersRefusedByField holds what of the filters is not enforced, a line each.
func TestFiltersRefusedByField(t *testing.T) {
	const (
		hcm    = "listener.filter_chains[0].filters[0].typed_config"
		first  = hcm + ".http_filters[0].typed_config"
		route  = `route_configuration.virtual_hosts[0].routes[0].typed_per_filter_config["f"]`
		no     = ": not enforced by this agent"
		limit  = "local_ratelimit.v3.LocalRateLimit"
		bucket = `"stat_prefix": "s", "token_bucket": {"max_tokens": 1, "fill_interval": "1s"}`
		ac     = "adaptive_concurrency.v3.AdaptiveConcurrency"
	)
	for _, tt := range []struct {
		typ        view.Type
		text, want string
	}{
		{view.RDS, routeFilter(limit, `"stat_prefix": "s"`), route + ".token_bucket: is missing"},
		{view.RDS, routeFilter(limit, bucket+`, "descriptors": [{"entries": [{"key": "a", "value": "b"}], "token_bucket": {"max_tokens": 1, "fill_interval": "1s"}}]`), route + ".descriptors" + no},
		{view.RDS, routeFilter(limit, bucket+`, "local_rate_limit_per_downstream_connection": true`), route + ".local_rate_limit_per_downstream_connection" + no},
		{view.RDS, routeFilter(limit, `"stat_prefix": "s", "token_bucket": {"max_tokens": 1, "fill_interval": "0.04s"}`), route + ".token_bucket.fill_interval: is less than 50ms"},
		{view.RDS, routeFilter("fault.v3.HTTPFault", `"delay": {"header_delay": {}, "percentage": {"numerator": 100}}`), route + ".delay.header_delay" + no},
		{view.RDS, routeFilter("fault.v3.HTTPFault", `"response_rate_limit": {"fixed_limit": {"limit_kbps": 1}}`), route + ".response_rate_limit" + no},
		{view.RDS, routeFilter("fault.v3.HTTPFault", `"downstream_nodes": ["n"]`), route + ".downstream_nodes" + no},
		{view.RDS, routeFilter(ac, ""), route + ": envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency is not enforced by this agent"},
		{view.RDS, routeFilter("header_mutation.v3.HeaderMutation", ""), route + ": envoy.extensions.filters.http.header_mutation.v3.HeaderMutation is not enforced by this agent"},
		{view.RDS, routeFilter("header_mutation.v3.HeaderMutationPerRoute", `"mutations": {"request_mutations": [{"append": {"header": {"key": "a", "value": "%CEL(now())%"}}}]}`),
			route + `.mutations.request_mutations[0].append.header.value: "%CEL(now())%" is not enforced by this agent`},
		{view.RDS, routeFilter("header_mutation.v3.HeaderMutationPerRoute", `"mutations": {"response_mutations": [{"remove": "Connection"}]}`),
			route + `.mutations.response_mutations[0].remove: "Connection" is of the connection, and not edited by this agent`},
		{view.RDS, routeFilter("header_mutation.v3.HeaderMutationPerRoute", `"mutations": {"query_parameter_mutations": [{"remove": "q"}]}`), route + ".mutations.query_parameter_mutations" + no},
		{view.RDS, routeFilter("custom_response.v3.CustomResponse", `"custom_response_matcher": {"on_no_match": {"action": {"name": "a", "typed_config": {"@type": "type.googleapis.com/google.protobuf.Empty"}}}}`),
			route + ".custom_response_matcher.on_no_match" + no},
		{view.RDS, actionWith(`"timeout": "1s"}, "response_headers_to_add": [{"header": {"key": "host", "value": "v"}}], "metadata": {`), `route_configuration.virtual_hosts[0].routes[0].response_headers_to_add[0].header.key: "host" is not edited by this agent`},
		{view.LDS, filtersWith(filter("ac", ac, `"gradient_controller_config": {"concurrency_limit_params": {"concurrency_update_interval": "1s"}, "min_rtt_calc_params": {"fixed_value": "1s", "request_count": 5}}`)),
			first + ".gradient_controller_config.min_rtt_calc_params.fixed_value" + no},
		{view.LDS, filtersWith(filter("ac", ac, `"gradient_controller_config": {"concurrency_limit_params": {"concurrency_update_interval": "1s", "min_concurrency_limit": 5}, "min_rtt_calc_params": {"interval": "1s"}}`)),
			first + ".gradient_controller_config.concurrency_limit_params.min_concurrency_limit" + no},
		{view.LDS, filtersWith(`{"name": "b", "typed_config": {"@type": "type.googleapis.com/google.protobuf.Empty"}}`), first + ": google.protobuf.Empty is not enforced by this agent"},
		{view.LDS, mapperWith(cel("response.code == 503")), hcm + `.local_reply_config.mappers[0].filter.extension_filter.typed_config.expression: ` +
			`"response.code == 503" is not enforced by this agent; a string of the route's metadata and a part of the code details are`},
		{view.LDS, mapperWith(`{"duration_filter": {"comparison": {"value": {"default_value": 1, "runtime_key": "k"}}}}`), hcm + ".local_reply_config.mappers[0].filter.duration_filter" + no},
		{view.LDS, managerWith(`"local_reply_config": {"body_format": {"text_format": "%START_TIME%"}}`), hcm + `.local_reply_config.body_format.text_format: "%START_TIME%" is not enforced by this agent`},
		{view.LDS, managerWith(`"local_reply_config": {"body_format": {"json_format": {"a": 1}}}`), hcm + `.local_reply_config.body_format.json_format.a: what is no string is not enforced by this agent`},
		{view.LDS, strings.Replace(managerWith(""), `"filter_chains"`, `"internal_listener": {}, "filter_chains"`, 1), "listener.address: is not for an internal listener"},
		{view.CDS, clusterWith(`"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicit_http_config": {"http_protocol_options": {}}, "http_filters": [` + filter("a", "admission_control.v3.AdmissionControl", `"success_criteria": {"http_criteria": {"http_success_status": [{"start": 100, "end": 200}]}, "grpc_criteria": {"grpc_success_status": [0]}}`) + `]}}`),
			`cluster.typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].http_filters: has its codec not at its end`},
	} {
		res, faults := resource(t, tt.typ, tt.text)
		var got []string
		for _, f := range faults {
			got = append(got, f.Field+": "+f.Reason)
		}
		if res != nil || strings.Join(got, "; ") != tt.want {
			t.Errorf("%s %s\n got  %s\n want %s", tt.typ, tt.text, strings.Join(got, "; "), tt.want)
		}
	}
}

// TestFilters compiles a listener with all filters, a route that says of each, and a cluster of an internal listener.
func TestFilters(t *testing.T) {
	limit := func(tokens string) string {
		return `"stat_prefix": "s", "token_bucket": {"max_tokens": ` + tokens + `, "fill_interval": "60s"}, "filter_enabled": {"default_value": {"numerator": 100}}, "filter_enforced": {"default_value": {"numerator": 5, "denominator": "MILLION"}}, "enable_retry_after_header": true`
	}
	status := func(input, value string) string {
		return `{"single_predicate": {"input": {"name": "i", "typed_config": {"@type": "type.googleapis.com/envoy.type.matcher.v3.HttpResponseStatusCode` + input + `"}}, "value_match": {"exact": "` + value + `"}}}`
	}
	custom := `"custom_response_matcher": {"matcher_list": {"matchers": [{"predicate": {"and_matcher": {"predicate": [` + status("ClassMatchInput", "5xx") + `, {"not_matcher": ` + status("MatchInput", "504") + `}]}},
		"on_match": {"action": {"name": "a", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy", "status_code": 200, "preserve_response_code_details": true,
		"body": {"inline_string": "none"}, "response_headers_to_add": [{"append_action": "OVERWRITE_IF_EXISTS_OR_ADD", "header": {"key": "content-type", "value": "text/plain"}}]}}}}]}}`
	per := func(name, message, fields string) string {
		return `"` + name + `": {` + filterType + message + `", ` + fields + `}`
	}
	listener := filtersWith(
		filter("custom", "custom_response.v3.CustomResponse", ""),
		filter("limit", "local_ratelimit.v3.LocalRateLimit", `"stat_prefix": "s"`),
		filter("fault", "fault.v3.HTTPFault", `"headers": [{"name": "x-experiment", "present_match": true}], "abort": {"grpc_status": 14, "percentage": {"numerator": 50}}, "delay": {"fixed_delay": "1s", "percentage": {"numerator": 1, "denominator": "TEN_THOUSAND"}}, "max_active_faults": 3`),
		`{"name": "ac", "disabled": true, `+strings.TrimPrefix(filter("ac", "adaptive_concurrency.v3.AdaptiveConcurrency", `"gradient_controller_config": {"concurrency_limit_params": {"concurrency_update_interval": "0.1s"}, "min_rtt_calc_params": {"interval": "60s"}}`), `{"name": "ac", `),
		filter("m", "header_mutation.v3.HeaderMutation", `"mutations": {"request_mutations": [{"remove": "x-a"}, {"append": {"header": {"key": "x-b", "value": "%REQ(x-c)% 100%%"}}}], "response_mutations": [{"append": {"header": {"key": "x-d", "value": "d"}, "append_action": "ADD_IF_ABSENT"}}]}`),
	)
	listener = strings.Replace(listener, `"route_config": {"name": "local"}`, `"route_config": {"name": "local", "virtual_hosts": [{"name": "v", "domains": ["*"], "include_request_attempt_count": true,
		"typed_per_filter_config": {`+per("limit", "local_ratelimit.v3.LocalRateLimit", limit("7"))+`}, "response_headers_to_add": [{"header": {"key": "x-v", "value": "v"}}], "routes": [
		{"match": {"prefix": "/a"}, "route": {"cluster": "x"}, "metadata": {"filter_metadata": {"breakwater": {"contract": "502", "number": 3}}}, "response_headers_to_add": [{"header": {"key": "x-r", "value": "r"}}],
			"typed_per_filter_config": {`+per("limit", "local_ratelimit.v3.LocalRateLimit", limit("3"))+`, `+per("custom", "custom_response.v3.CustomResponse", custom)+`, "ac": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}}},
		{"match": {"prefix": "/"}, "route": {"cluster": "x"}}]}]}, "local_reply_config": {"mappers": [{"status_code": 502, "headers_to_add": [{"header": {"key": "x-why", "value": "%RESPONSE_FLAGS%"}}],
			"filter": {"and_filter": {"filters": [{"status_code_filter": {"comparison": {"value": {"default_value": 503, "runtime_key": "k"}}}}, {"response_flag_filter": {"flags": ["UF"]}}, `+cel(`xds.route_metadata.filter_metadata['breakwater']['contract'] == '502'`)+`, `+cel(`response.code_details.contains('timeout')`)+`]}},
			"body_format_override": {"content_type": "application/problem+json", "json_format": {"status": "%RESPONSE_CODE%", "detail": "%RESPONSE_CODE_DETAILS%"}}}]}`, 1)
	inside := strings.Replace(strings.Replace(managerWith(""), `"name": "x", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 8080}}`, `"name": "x", "internal_listener": {}`, 1), "\n", "", -1)
	cluster := staticWith(`"load_assignment": {"cluster_name": "x", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": "x", "endpoint_id": "1"}}}}]}]},
		"transport_socket": {"name": "t", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport", "transport_socket": {"name": "r", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}}},
		"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicit_http_config": {"http_protocol_options": {}}, "http_filters": [` + filter("a", "admission_control.v3.AdmissionControl", `"sampling_window": "9s", "rps_threshold": {"default_value": 4, "runtime_key": "k"}, "sr_threshold": {"default_value": {"value": 80}, "runtime_key": "k"},
			"success_criteria": {"http_criteria": {"http_success_status": [{"start": 100, "end": 400}]}, "grpc_criteria": {"grpc_success_status": [0, 5]}}`) + `,
			{"name": "codec", "typed_config": {` + filterType + `upstream_codec.v3.UpstreamCodec"}}]}}`)
	table := compile(t, holds(mustResource(t, view.LDS, listener), mustResource(t, view.CDS, cluster)))
	if l := compile(t, holds(mustResource(t, view.LDS, inside))).Listeners["x"]; !l.Inside || l.Address.IsValid() {
		t.Errorf("an internal listener: %+v", l)
	}
	h := table.Clusters["x"].Hosts[0]
	if name, ok := dataplane.InsideOf(h.Address.String()); name != "x" || !ok || dataplane.AddressText(h.Address) != "envoy://x/1" {
		t.Errorf("its host: %q, %q", name, dataplane.AddressText(h.Address))
	}
	got := strings.ReplaceAll(text(table), "\x00", "|")
	const path = "testdata/filters.txt"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
