package dataplane_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3" // some cases pack it
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3" // likewise
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

func message(t view.Type) proto.Message {
	switch t {
	case view.CDS:
		return new(clusterv3.Cluster)
	case view.EDS:
		return new(endpointv3.ClusterLoadAssignment)
	case view.LDS:
		return new(listenerv3.Listener)
	case view.SRDS:
		return new(routev3.ScopedRouteConfiguration)
	case view.RDS:
		return new(routev3.RouteConfiguration)
	}
	return new(runtimev3.Runtime)
}

// resource decodes JSON in the form of the API. Its name is x.
func resource(t *testing.T, typ view.Type, text string) (*dataplane.Resource, []dataplane.Fault) {
	t.Helper()
	m := message(typ)
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	body, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return dataplane.Decode(view.ID{Type: typ, Name: "x"}, "1", body)
}

func mustResource(t *testing.T, typ view.Type, text string) *dataplane.Resource {
	t.Helper()
	r, faults := resource(t, typ, text)
	if r == nil {
		t.Fatalf("refused: %s", dataplane.Text(faults))
	}
	return r
}

// The frames put a fragment where it belongs in an otherwise good resource named x.
func clusterWith(fragment string) string {
	return `{"name": "x", "type": "EDS", "eds_cluster_config": {"eds_config": {"ads": {}}}` + comma(fragment) + `}`
}

func staticWith(fragment string) string { return `{"name": "x"` + comma(fragment) + `}` }

func routeWith(fragment string) string {
	return `{"name": "x", "virtual_hosts": [{"name": "h", "domains": ["*"], "routes": [` + fragment + `]}]}`
}

func actionWith(fragment string) string {
	return routeWith(`{"match": {"prefix": "/"}, "route": {"cluster": "c"` + comma(fragment) + `}}`)
}

const router = `{"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}`

func managerWith(fragment string) string {
	return listenerWith(`{"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix": "in", ` + routesUnless(fragment) + `"http_filters": [` + router + `]` + comma(fragment) + `}`)
}

func routesUnless(fragment string) string {
	if strings.Contains(fragment, `"route_config`) {
		return ""
	}
	return `"route_config": {"name": "local"}, `
}

func listenerWith(filter string) string {
	return `{"name": "x", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 8080}},
		"filter_chains": [{"filters": [{"name": "f", "typed_config": ` + filter + `}]}]}`
}

func comma(fragment string) string {
	if fragment == "" {
		return ""
	}
	return ", " + fragment
}

// TestRefusedByField holds one change to a good resource a line, and the whole text of the fault.
func TestRefusedByField(t *testing.T) {
	const (
		hcm     = "listener.filter_chains[0].filters[0].typed_config"
		options = `cluster.typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]`
		route   = "route_configuration.virtual_hosts[0].routes[0]"
		no      = ": not enforced by this agent"
	)
	protocol := func(fragment string) string {
		return clusterWith(`"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":
			{"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", ` + fragment + `}}`)
	}
	for _, tt := range []struct {
		typ        view.Type
		text, want string
	}{
		{view.CDS, clusterWith(`"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 12}`), "cluster.maglev_lb_config.table_size: is no prime up to 5000011"},
		{view.CDS, clusterWith(`"lb_policy": "RING_HASH", "ring_hash_lb_config": {"maximum_ring_size": 9}`),
			"cluster.ring_hash_lb_config.minimum_ring_size: is more than the maximum, which is 9"},
		{view.CDS, clusterWith(`"common_lb_config": {"consistent_hashing_lb_config": {"use_hostname_for_hashing": true}}`),
			"cluster.common_lb_config.consistent_hashing_lb_config.use_hostname_for_hashing: is not for a cluster of type EDS"},
		{view.CDS, clusterWith(`"lb_subset_config": {"subset_selectors": [{"keys": ["a"]}]}`), "cluster.lb_subset_config" + no},
		{view.CDS, clusterWith(`"outlier_detection": {"monitors": [{"name": "m"}]}`), "cluster.outlier_detection.monitors" + no},
		{view.CDS, clusterWith(`"outlier_detection": {"base_ejection_time": "40s", "max_ejection_time": "30s"}`),
			"cluster.outlier_detection.max_ejection_time: is less than base_ejection_time"},
		{view.CDS, clusterWith(`"outlier_detection": {"max_ejection_percent": 101}`),
			"cluster.outlier_detection.max_ejection_percent: value must be less than or equal to 100"},
		{view.CDS, clusterWith(`"health_checks": [` + checkWith(`"custom_health_check": {"name": "redis"}`) + `]`), "cluster.health_checks[0].custom_health_check" + no},
		{view.CDS, clusterWith(`"health_checks": [` + checkWith(`"grpc_health_check": {}`) + `]`), "cluster.health_checks[0].grpc_health_check: is for clusters that speak HTTP/2"},
		{view.CDS, clusterWith(`"health_checks": [` + checkWith(`"tcp_health_check": {"send": {"text": "4x"}}`) + `]`),
			"cluster.health_checks[0].tcp_health_check.send.text: is not hexadecimal"},
		{view.CDS, clusterWith(`"health_checks": [` + checkWith(`"http_health_check": {"path": "/", "expected_statuses": [{"start": 200, "end": 200}]}`) + `]`),
			"cluster.health_checks[0].http_health_check.expected_statuses[0]: is no range of statuses from 100 to 600"},
		{view.CDS, clusterWith(`"health_checks": [` + checkWith(`"http_health_check": {"path": "/", "request_headers_to_add": [{"header": {"key": "a", "value": "%START_TIME%"}}]}`) + `]`),
			"cluster.health_checks[0].http_health_check.request_headers_to_add[0].header.value: with a % is not enforced by this agent"},
		{view.CDS, clusterWith(`"transport_socket": {"name": "tls"}`), "cluster.transport_socket.typed_config: is missing"},
		{view.CDS, clusterWith(`"max_requests_per_connection": 1`), "cluster.max_requests_per_connection" + no},
		{view.CDS, clusterWith(`"round_robin_lb_config": {"slow_start_config": {"slow_start_window": "1s", "aggression": {"runtime_key": "a"}}}`),
			"cluster.round_robin_lb_config.slow_start_config.aggression.default_value: is not more than 0"},
		{view.CDS, clusterWith(`"connect_timeout": "-1s"`), "cluster.connect_timeout: is negative"},
		{view.CDS, `{"name": "x", "type": "ORIGINAL_DST"}`, "cluster.type: ORIGINAL_DST is not enforced by this agent"},
		{view.CDS, `{"name": "x", "type": "STRICT_DNS", "eds_cluster_config": {"eds_config": {"ads": {}}}}`, "cluster.eds_cluster_config: is not for a cluster of type STRICT_DNS"},
		{view.CDS, `{"name": "x", "type": "LOGICAL_DNS"}`, "cluster.load_assignment: has to have one locality with one endpoint, which is all that a logical host is"},
		{view.CDS, `{"name": "x", "type": "STRICT_DNS", "load_assignment": {"cluster_name": "x", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "a.b", "port_value": 0}}}}]}]}}`,
			"cluster.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value: is not between 1 and 65535"},
		{view.CDS, `{"name": "x", "type": "STRICT_DNS", "typed_dns_resolver_config": {"name": "r", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig", "use_resolvers_as_fallback": true}}}`,
			"cluster.typed_dns_resolver_config.typed_config.use_resolvers_as_fallback" + no},
		{view.CDS, `{"name": "x", "type": "EDS"}`, "cluster.eds_cluster_config.eds_config: is missing"},
		{view.CDS, `{"name": "x", "type": "EDS", "eds_cluster_config": {"eds_config": {"path": "/etc"}}}`, "cluster.eds_cluster_config.eds_config.path" + no},
		{view.CDS, `{"name": "other"}`, `cluster.name: is "other", and the resource's name is "x"`},
		{view.CDS, staticWith(`"cluster_type": {"name": "envoy.clusters.redis", "typed_config": {"@type": "type.googleapis.com/google.protobuf.Empty"}}`),
			"cluster.cluster_type.typed_config: google.protobuf.Empty is not enforced by this agent"},
		{view.CDS, protocol(`"use_downstream_protocol_config": {"http3_protocol_options": {}}`), options + ".use_downstream_protocol_config.http3_protocol_options" + no},
		{view.CDS, protocol(`"explicit_http_config": {"http_protocol_options": {}}, "outlier_detection": {"error_matcher": {"http_request_headers_match": {"headers": [{"name": "a"}]}}}`),
			options + ".outlier_detection.error_matcher.http_request_headers_match" + no},
		{view.CDS, protocol(`"explicit_http_config": {"http_protocol_options": {"header_key_format": {"proper_case_words": {}}}}`),
			options + ".explicit_http_config.http_protocol_options.header_key_format" + no},
		{view.CDS, protocol(`"explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": 5}}`),
			options + ".explicit_http_config.http2_protocol_options.max_concurrent_streams" + no},
		{view.CDS, clusterWith(`"circuit_breakers": {"per_host_thresholds": [{"max_requests": 1}]}`), "cluster.circuit_breakers.per_host_thresholds[0].max_requests" + no},

		{view.EDS, `{"cluster_name": "y"}`, `cluster_load_assignment.cluster_name: is "y", and the resource's name is "x"`},
		{view.EDS, `{"cluster_name": "x", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "a.example", "port_value": 1}}}}]}]}`,
			`cluster_load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: "a.example" is no IP address`},
		{view.EDS, `{"cluster_name": "x", "policy": {"endpoint_stale_after": "5s"}}`, "cluster_load_assignment.policy.endpoint_stale_after" + no},

		{view.LDS, managerWith(`"normalize_path": true`), hcm + ".normalize_path" + no},
		{view.LDS, managerWith(`"access_log": [{"name": "log"}]`), hcm + ".access_log" + no},
		{view.LDS, managerWith(`"upgrade_configs": [{"upgrade_type": "CONNECT"}]`), hcm + `.upgrade_configs[0].upgrade_type: "CONNECT" is not enforced by this agent`},
		{view.LDS, managerWith(`"internal_address_config": {"cidr_ranges": [{"address_prefix": "ten", "prefix_len": 8}]}`), hcm + ".internal_address_config.cidr_ranges[0]: ten/8 is no range"},
		{view.LDS, managerWith(`"early_header_mutation_extensions": [{"name": "e", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
			"mutations": [{"append": {"header": {"key": "a", "value": "b"}}}]}}]`), hcm + ".early_header_mutation_extensions[0].typed_config.mutations[0]" + no},
		{view.LDS, strings.Replace(managerWith(""), "filters.http.router.v3.Router", "filters.http.fault.v3.HTTPFault", 1),
			hcm + ".http_filters: has no router at its end"},
		{view.LDS, listenerWith(`{"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "t", "cluster": "c", "max_connect_attempts": 3}`),
			hcm + ".max_connect_attempts: other than 1 is not enforced by this agent"},
		{view.LDS, `{"name": "x", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}}}`,
			"listener.default_filter_chain.filters: are 0; this agent enforces exactly one"},
		{view.LDS, strings.Replace(listenerWith("{}"), `"filters"`, `"transport_socket": {"name": "tls"}, "filters"`, 1),
			"listener.filter_chains[0].filters[0].typed_config: this is not enforced by this agent; listener.filter_chains[0].transport_socket.typed_config: is missing"},

		{view.SRDS, `{"name": "x", "key": {"fragments": [{"string_key": "k"}]}}`, "scoped_route_configuration.route_configuration_name: is empty"},
		{view.SRDS, `{"name": "x", "route_configuration_name": "r", "key": {"fragments": [{"string_key": "k"}, {"string_key": "l"}]}}`,
			"scoped_route_configuration.key.fragments: more than one is not enforced by this agent"},

		{view.RDS, actionWith(`"hash_policy": [{"filter_state": {"key": "k"}}]`), route + ".route.hash_policy[0].filter_state" + no},
		{view.RDS, actionWith(`"request_mirror_policies": [{"cluster": "m"}]`), route + ".route.request_mirror_policies" + no},
		{view.RDS, actionWith(`"timeout": "-1s"`), route + ".route.timeout: is negative"},
		{view.RDS, actionWith(`"retry_policy": {"retry_back_off": {"base_interval": "1s", "max_interval": "0.5s"}}`),
			route + ".route.retry_policy.retry_back_off.max_interval: is less than base_interval"},
		{view.RDS, actionWith(`"retry_policy": {"retry_host_predicate": [{"name": "canary", "typed_config": {"@type": "type.googleapis.com/google.protobuf.Empty"}}]}`),
			route + ".route.retry_policy.retry_host_predicate[0].typed_config: google.protobuf.Empty is not enforced by this agent"},
		{view.RDS, actionWith(`"retry_policy": {"retry_priority": {"name": "p"}}`), route + ".route.retry_policy.retry_priority.typed_config: is missing"},
		{view.RDS, actionWith(`"regex_rewrite": {"pattern": {"regex": "a"}, "substitution": "\\1"}`), route + `.route.regex_rewrite.substitution: "\\1" is none for its pattern`},
		{view.RDS, routeWith(`{"match": {"prefix": "/", "runtime_fraction": {"default_value": {"numerator": 1}}}, "route": {"cluster": "c"}}`), route + ".match.runtime_fraction" + no},
		{view.RDS, routeWith(`{"match": {"safe_regex": {"regex": "("}}, "route": {"cluster": "c"}}`), route + `.match.safe_regex.regex: "(" is no regular expression`},
		{view.RDS, routeWith(`{"match": {"prefix": "/", "headers": [{"name": "h", "range_match": {"start": 1, "end": 2}}]}, "route": {"cluster": "c"}}`),
			route + ".match.headers[0].range_match" + no},
		{view.RDS, routeWith(`{"match": {"prefix": "/"}, "route": {"cluster_header": "h"}}`), route + ".route.cluster_header" + no},
		{view.RDS, routeWith(`{"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [{"name": "a", "weight": 0}]}}}`),
			route + ".route.weighted_clusters.clusters: their weights make 0"},
		{view.RDS, `{"name": "x", "virtual_hosts": [{"name": "a", "domains": ["A.x"]}, {"name": "b", "domains": ["a.x"]}]}`,
			`route_configuration.virtual_hosts[1].domains[0]: "a.x" is there twice`},
		{view.RDS, `{"name": "x", "vhds": {"config_source": {"ads": {}}}}`, "route_configuration.vhds" + no},

		{view.RTDS, `{"name": "x", "layer": {"outlier_detection.consecutive_5xx": 3}}`, "runtime.layer.outlier_detection.consecutive_5xx" + no},
		{view.RTDS, `{"name": "x", "layer": {"circuit_breakers.a.default.max_requests": 1.5}}`, "runtime.layer.circuit_breakers.a.default.max_requests: 1.5 is no whole number"},
		{view.RTDS, `{"name": "x", "layer": {"circuit_breakers.a.low.max_requests": 1}}`, "runtime.layer.circuit_breakers.a.low.max_requests" + no},
		{view.RTDS, `{"name": "x", "layer": {"upstream.maintenance_mode.a": 101}}`, "runtime.layer.upstream.maintenance_mode.a: 101 is not between 0 and 100"},
		{view.RTDS, `{"name": "x", "layer": {"upstream.maintenance_mode.a": "50"}}`, "runtime.layer.upstream.maintenance_mode.a: is no number"},
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

func TestUnknownFieldsAreRefused(t *testing.T) {
	body := append([]byte{0x0a, 1, 'x'}, 0xfa, 0xff, 0x0f, 1, 'y') // name, then a field of a later API
	res, faults := dataplane.Decode(view.ID{Type: view.CDS, Name: "x"}, "1", body)
	if want := "CDS x: cluster: has a field that this agent does not know"; res != nil || dataplane.Text(faults) != want {
		t.Errorf("got %q, want %q", dataplane.Text(faults), want)
	}
	if res, faults := dataplane.Decode(view.ID{Type: view.CDS, Name: "x"}, "1", []byte("\xff")); res != nil || len(faults) != 1 {
		t.Errorf("garbage: %v", faults)
	}
}

// TestPlainEnvoyResources compiles what other servers send to an Envoy.
func TestPlainEnvoyResources(t *testing.T) {
	in := holds(
		mustResource(t, view.LDS, managerWith(`"route_config": {"name": "local", "virtual_hosts": [{"name": "v", "domains": ["API.example"], "routes": [
			{"match": {"prefix": "/a", "headers": [{"name": "X-Canary", "string_match": {"exact": "yes"}}]}, "route": {"weighted_clusters": {"clusters": [{"name": "x", "weight": 9}, {"name": "y", "weight": 1}]}}},
			{"match": {"path": "/health"}, "direct_response": {"status": 200, "body": {"inline_string": "fine"}}},
			{"match": {"safe_regex": {"regex": "/v[0-9]+/.*"}}, "route": {"cluster": "x", "timeout": "0s", "max_stream_duration": {}, "priority": "HIGH", "hedge_policy": {"hedge_on_per_try_timeout": true}}}]}]}`)),
		mustResource(t, view.CDS, staticWith(`"lb_policy": "LEAST_REQUEST", "circuit_breakers": {"thresholds": [{"max_requests": 7}, {"max_requests": 8}, {"priority": "HIGH", "retry_budget": {}}]},
			"load_assignment": {"cluster_name": "x", "endpoints": [{"priority": 1, "lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "::1", "port_value": 2}}}}]},
			{"lb_endpoints": [{"health_status": "DRAINING", "load_balancing_weight": 5, "endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 1}}}}]}]}`)),
	)
	table := compile(t, in)
	http := table.Listeners["x"].HTTP
	if http.ServerHeader != "envoy" || !http.AddRequestID || !http.AddForwardedProto || http.StreamIdleTimeout != 5*time.Minute {
		t.Errorf("defaults of a listener: %+v", http)
	}
	routes := http.Routes.Hosts[0].Routes
	if h := routes[0].Headers[0]; h.Name != "x-canary" || h.Kind != resilience.Exact || len(routes[0].Weighted) != 2 || routes[0].Timeout != 15*time.Second {
		t.Errorf("route 0: %+v", routes[0])
	}
	if d := routes[1].Direct; d == nil || *d != (dataplane.DirectResponse{Status: 200, Body: "fine"}) || routes[1].Path.Exact != "/health" {
		t.Errorf("route 1: %+v", routes[1])
	}
	r := routes[2]
	if !r.Path.Regex("/v1/x") || r.Path.Regex("/a/v1/x") || r.Timeout != 0 || r.MaxStreamDuration != nil || r.Priority != resilience.High || !r.HedgeOnPerTryTimeout {
		t.Errorf("route 2: %+v", r)
	}
	if d := http.Routes.Hosts[0].Domains[0]; d != "api.example" {
		t.Errorf("domain %q", d)
	}
	c := table.Clusters["x"]
	if len(c.Hosts) != 2 || c.Hosts[0].Weight != 5 || c.Hosts[0].Health != dataplane.Draining || c.Hosts[1].Priority != 1 {
		t.Errorf("hosts %+v", c.Hosts)
	}
	if d, h := c.Thresholds[resilience.Default], c.Thresholds[resilience.High]; d.MaxRequests != 7 || d.MaxRetries != 3 || d.Budget != nil || *h.Budget != (resilience.Budget{Percent: 20, MinConcurrent: 3}) {
		t.Errorf("thresholds %+v", c.Thresholds)
	}
	if c.Balancing.Algorithm != resilience.LeastRequest || c.Balancing.ChoiceCount != 2 || c.Balancing.PanicThreshold != 50 || c.Outlier != nil {
		t.Errorf("balancing %+v, outlier %+v", c.Balancing, c.Outlier)
	}
}

func TestComposite(t *testing.T) {
	res := mustResource(t, view.CDS, staticWith(`"lb_policy": "CLUSTER_PROVIDED", "cluster_type": {"name": "envoy.clusters.composite", "typed_config":
		{"@type": "type.googleapis.com/envoy.extensions.clusters.composite.v3.ClusterConfig", "clusters": [{"name": "a"}, {"name": "a"}, {"name": "b"}]}}`))
	c := compile(t, holds(res)).Clusters["x"]
	if d := cmp.Diff([]string{"a", "a", "b"}, c.Members); d != "" {
		t.Error(d)
	}
	want := []view.ID{{Type: view.CDS, Name: "a"}, {Type: view.CDS, Name: "b"}}
	if d := cmp.Diff(want, res.Needs); d != "" {
		t.Error(d)
	}
}

func TestRuntimeLayers(t *testing.T) {
	cluster := mustResource(t, view.CDS, clusterWith(`"circuit_breakers": {"thresholds": [{"max_requests": 7, "retry_budget": {"budget_percent": {"value": 50}, "budget_interval": "2s"}}]}`))
	layer := func(name, keys string) *dataplane.Resource {
		return fromJSON(t, view.ID{Type: view.RTDS, Name: name}, []byte(`{"name": "`+name+`", "layer": {`+keys+`}}`), new(runtimev3.Runtime))
	}
	first := layer("limits-0", `"circuit_breakers.x.default.max_requests": 5, "circuit_breakers.x.high.max_retries": 1, "upstream.maintenance_mode.x": 30`)
	later := layer("limits-5", `"circuit_breakers": {"x.default.max_requests": 6, "x": {"default": {"retry_budget.min_retry_concurrency": 9}}}`)
	stray := layer("elsewhere", `"circuit_breakers.x.default.max_requests": 1`)

	c := compile(t, holds(cluster, first, later, stray)).Clusters["x"]
	if got := c.Thresholds[resilience.Default]; got.MaxRequests != 6 || *got.Budget != (resilience.Budget{Percent: 50, MinConcurrent: 9, Interval: 2 * time.Second}) {
		t.Errorf("default %+v, budget %+v", got, got.Budget)
	}
	if got := c.Thresholds[resilience.High]; got.MaxRetries != 1 || got.MaxRequests != 1024 || got.Budget != nil || c.Maintenance != 30 {
		t.Errorf("high %+v, maintenance %d", got, c.Maintenance)
	}
	if got := compile(t, holds(cluster)).Clusters["x"].Thresholds[resilience.Default]; got.MaxRequests != 7 || got.Budget.MinConcurrent != 3 {
		t.Errorf("without layers %+v, budget %+v: the layers wrote into the cluster", got, got.Budget)
	}
}

func TestContradictions(t *testing.T) {
	scopeOf := func(name string) *dataplane.Resource {
		return fromJSON(t, view.ID{Type: view.SRDS, Name: name}, []byte(`{"name": "`+name+`", "route_configuration_name": "r", "key": {"fragments": [{"string_key": "k"}]}}`), new(routev3.ScopedRouteConfiguration))
	}
	table, faults := dataplane.Compile(holds(scopeOf("a"), scopeOf("b")), nil)
	if want := "SRDS b: scoped_route_configuration.key: another scope has the same"; table != nil || dataplane.Text(faults) != want {
		t.Errorf("got %q, want %q", dataplane.Text(faults), want)
	}
}

// TestKeepsWhatDidNotChange compiles a second time with one change and looks at what was built anew.
func TestKeepsWhatDidNotChange(t *testing.T) {
	clusterOf := func(name, connect string) *dataplane.Resource {
		return fromJSON(t, view.ID{Type: view.CDS, Name: name}, []byte(`{"name": "`+name+`", "connect_timeout": "`+connect+`"}`), new(clusterv3.Cluster))
	}
	in := holds(clusterOf("a", "1s"), clusterOf("b", "1s"), mustResource(t, view.RDS, actionWith("")),
		mustResource(t, view.LDS, managerWith(`"rds": {"config_source": {"ads": {}}, "route_config_name": "x"}`)))
	before := compile(t, in)
	next, faults := dataplane.Compile(in.With([]dataplane.Change{{ID: view.ID{Type: view.CDS, Name: "a"}, Now: clusterOf("a", "2s")}}), before)
	if next == nil {
		t.Fatal(faults)
	}
	if next.Clusters["a"].ConnectTimeout != 2*time.Second || before.Clusters["a"].ConnectTimeout != time.Second {
		t.Errorf("a: %v, before %v", next.Clusters["a"].ConnectTimeout, before.Clusters["a"].ConnectTimeout)
	}
	if next.Clusters["b"] != before.Clusters["b"] || next.Listeners["x"] != before.Listeners["x"] || next.Routes["x"] != before.Routes["x"] {
		t.Error("something was built anew that did not change")
	}
	changed, _ := dataplane.Compile(in.With([]dataplane.Change{{ID: view.ID{Type: view.RDS, Name: "x"}, Now: mustResource(t, view.RDS, actionWith(`"timeout": "1s"`))}}), next)
	if l := changed.Listeners["x"]; l == next.Listeners["x"] || l.HTTP.Routes != changed.Routes["x"] || next.Listeners["x"].HTTP.Routes != next.Routes["x"] {
		t.Error("the listener does not follow its routes, or the table before was written to")
	}
}

// checkWith is a health check with its rule.
func checkWith(fragment string) string {
	return `{"timeout": "1s", "interval": "1s", "unhealthy_threshold": 1, "healthy_threshold": 1, ` + fragment + `}`
}
