package dataplane

// fields are what the agent enforces of a message, or knows to change nothing: by field name, by key of a map, or, in an Any, by
// "@" and the name of the packed message. A nil entry is read as a whole. Whatever else is set is refused, so that nothing is
// dropped in silence.
type fields map[string]fields

// known are the fields of the resources themselves. They are put together once: to do so takes longer than to read a resource.
var known = struct{ cluster, assignment, listener, scope, routes, runtime fields }{
	clusterFields(), assignmentFields(), listenerFields(), scopeFields(), routeConfigurationFields(), fields{"name": nil, "layer": nil},
}

// and is f with harmless entries, which are what an agent may leave out: names for statistics, metadata for others, tuning.
func (f fields) and(harmless ...string) fields {
	for _, name := range harmless {
		f[name] = nil
	}
	return f
}

// ads is a source of the same stream.
func ads() fields {
	// The agent has waiting times of its own.
	return fields{"ads": nil, "self": nil, "resource_api_version": nil}.and("initial_fetch_timeout")
}

// filterFields are the HTTP filters that a listener has before its router and a route configures, by "@" and their type.
func filterFields() fields {
	const prefix = "@envoy.extensions.filters.http."
	fraction := fields{"numerator": nil, "denominator": nil}
	runtimeFraction := fields{"default_value": fraction}.and("runtime_key") // no layer may say anything of it
	mutations := fields{
		"request_mutations": mutationFields(), "response_mutations": mutationFields(),
		"formatters": {"name": nil, "typed_config": {"@envoy.extensions.formatter.cel.v3.Cel": {"cel_config": {"enable_string_functions": nil}}}},
	}
	return fields{
		prefix + "local_ratelimit.v3.LocalRateLimit": fields{
			"stat_prefix": nil, "status": {"code": nil}, "token_bucket": {"max_tokens": nil, "tokens_per_fill": nil, "fill_interval": nil},
			"filter_enabled": runtimeFraction, "filter_enforced": runtimeFraction,
			"request_headers_to_add_when_not_enforced": headerOptionFields(), "response_headers_to_add": headerOptionFields(),
			"enable_x_ratelimit_headers": nil, "rate_limited_as_resource_exhausted": nil, "enable_retry_after_header": nil,
		}.and("stage", "vh_rate_limits", "always_consume_default_token_bucket", "max_dynamic_descriptors"), // of descriptors, which are refused
		prefix + "fault.v3.HTTPFault": fields{
			"delay": {"fixed_delay": nil, "percentage": fraction}, "abort": {"http_status": nil, "grpc_status": nil, "percentage": fraction},
			"upstream_cluster": nil, "headers": headerMatcherFields(), "max_active_faults": nil,
		}.and(
			"delay_percent_runtime", "abort_percent_runtime", "delay_duration_runtime", "abort_http_status_runtime", // no layer may say
			"abort_grpc_status_runtime", "max_active_faults_runtime", "response_rate_limit_percent_runtime", // anything of these
			"disable_downstream_cluster_stats", "filter_metadata",
		),
		prefix + "adaptive_concurrency.v3.AdaptiveConcurrency": {
			"gradient_controller_config": {
				"sample_aggregate_percentile": {"value": nil},
				"concurrency_limit_params":    {"max_concurrency_limit": nil, "concurrency_update_interval": nil},
				"min_rtt_calc_params": {
					"interval": nil, "request_count": nil, "jitter": {"value": nil}, "min_concurrency": nil, "buffer": {"value": nil},
				},
			},
			"enabled":                           fields{"default_value": nil}.and("runtime_key"),
			"concurrency_limit_exceeded_status": {"code": nil},
		},
		prefix + "header_mutation.v3.HeaderMutation":         {"mutations": mutations},
		prefix + "header_mutation.v3.HeaderMutationPerRoute": {"mutations": mutations},
		prefix + "custom_response.v3.CustomResponse":         customResponseFields(),
	}
}

// routeFilterFields are what a route says of filters, plainly or wrapped.
func routeFilterFields() fields {
	plain, wrapped := filterFields(), filterFields()
	for _, f := range []fields{plain, wrapped} {
		delete(f, "@envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency") // a listener's alone, as are
		delete(f, "@envoy.extensions.filters.http.header_mutation.v3.HeaderMutation")           // these mutations
	}
	wrapped["@"] = nil
	plain["@envoy.config.route.v3.FilterConfig"] = fields{"config": wrapped, "disabled": nil}.and("is_optional")
	return fields{"*": plain}
}

func mutationFields() fields {
	return fields{"remove": nil, "append": headerOptionFields()}
}

func address() fields {
	return fields{"socket_address": {"protocol": nil, "address": nil, "port_value": nil}}
}

func clusterFields() fields {
	thresholds := fields{
		"priority": nil, "max_connections": nil, "max_pending_requests": nil, "max_requests": nil, "max_retries": nil,
		"max_connection_pools": nil,
		"retry_budget":         {"budget_percent": nil, "min_retry_concurrency": nil, "budget_interval": nil},
	}.and("track_remaining") // what remains is always told
	return fields{
		"name": nil, "type": nil,
		"cluster_type": {"name": nil, "typed_config": {
			"@envoy.extensions.clusters.composite.v3.ClusterConfig": {"clusters": {"name": nil}},
			"@envoy.extensions.clusters.aggregate.v3.ClusterConfig": {"clusters": nil},
			"@envoy.extensions.clusters.dns.v3.DnsCluster":          dnsFields(),
		}},
		"eds_cluster_config": {"eds_config": ads(), "service_name": nil},

		"dns_lookup_family": nil, "respect_dns_ttl": nil, "dns_refresh_rate": nil, "dns_jitter": nil,
		"dns_failure_refresh_rate": {"base_interval": nil, "max_interval": nil}, "typed_dns_resolver_config": nameServerFields(),

		"load_assignment":         assignmentFields(),
		"connect_timeout":         nil,
		"lb_policy":               nil,
		"least_request_lb_config": {"choice_count": nil, "active_request_bias": runtimeDouble(), "slow_start_config": slowStartFields()},
		"round_robin_lb_config":   {"slow_start_config": slowStartFields()},
		"ring_hash_lb_config":     {"minimum_ring_size": nil, "maximum_ring_size": nil, "hash_function": nil},
		"maglev_lb_config":        {"table_size": nil},
		"load_balancing_policy":   loadBalancingFields(),
		"circuit_breakers": {
			"thresholds":          thresholds,
			"per_host_thresholds": fields{"max_connections": nil}.and("priority", "track_remaining"),
		},
		"outlier_detection": outlierFields(),
		"health_checks":     healthCheckFields(), "ignore_health_on_host_removal": nil,
		"common_lb_config": fields{
			"healthy_panic_threshold": nil,
			"zone_aware_lb_config":    zoneFields(),

			"ignore_new_hosts_until_first_hc": nil,

			"locality_weighted_lb_config":  {},
			"consistent_hashing_lb_config": consistentFields(),
		}.and("update_merge_window"), // the agent merges no updates
		"typed_extension_protocol_options": {httpProtocolOptions: {"@" + httpProtocolOptions: {
			"common_http_protocol_options": {
				"idle_timeout": nil, "max_stream_duration": nil, "max_headers_count": nil, "max_response_headers_kb": nil,
			},
			"explicit_http_config":           {"http_protocol_options": http1Fields(), "http2_protocol_options": http2Tuning()},
			"auto_config":                    {"http_protocol_options": http1Fields(), "http2_protocol_options": http2Tuning()},
			"use_downstream_protocol_config": {"http_protocol_options": http1Fields(), "http2_protocol_options": http2Tuning()},
			"upstream_http_protocol_options": {"auto_sni": nil, "auto_san_validation": nil},
			"outlier_detection":              {"error_matcher": predicateFields(3)},
			"retry_policy":                   retryFields(),
			"http_filters": {"name": nil, "typed_config": {
				"@envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec":       {},
				"@envoy.extensions.filters.http.admission_control.v3.AdmissionControl": admissionFields(),
			}},
		}}},
		"http2_protocol_options": http2Tuning(), // the old way to say it
		"transport_socket":       upstreamTransportFields(),
	}.and(
		"alt_stat_name", "metadata", "track_cluster_stats", "wait_for_warm_on_init", "cleanup_interval",
		"per_connection_buffer_limit_bytes",
	)
}

// upstreamTransportFields are those of a transport, and of one towards an internal listener, which is plain.
func upstreamTransportFields() fields {
	f := transportSocketFields("Upstream", fields{
		"common_tls_context": commonTLSFields(), "sni": nil, "auto_host_sni": nil, "auto_sni_san_validation": nil,
	}.and("max_session_keys", "enforce_rsa_key_usage")) // no session is resumed; Go looks at the key usage
	f["typed_config"]["@envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport"] = fields{
		"transport_socket": {"name": nil, "typed_config": {"@envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer": {}}},
	}
	return f
}

const httpProtocolOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

func loadBalancingFields() fields {
	const prefix = "@envoy.extensions.load_balancing_policies."
	locality := fields{"locality_weighted_lb_config": {}, "zone_aware_lb_config": zoneFields()}
	return fields{"policies": {"typed_extension_config": {"name": nil, "typed_config": {
		prefix + "round_robin.v3.RoundRobin": {"slow_start_config": slowStartFields(), "locality_lb_config": locality},
		prefix + "least_request.v3.LeastRequest": {
			"choice_count": nil, "active_request_bias": runtimeDouble(), "selection_method": nil,
			"slow_start_config": slowStartFields(), "locality_lb_config": locality,
		},
		prefix + "random.v3.Random": {"locality_lb_config": locality},
		prefix + "ring_hash.v3.RingHash": {
			"hash_function": nil, "minimum_ring_size": nil, "maximum_ring_size": nil, "use_hostname_for_hashing": nil, "hash_balance_factor": nil,
			"consistent_hashing_lb_config": consistentFields(), "locality_weighted_lb_config": {},
		},
		prefix + "maglev.v3.Maglev": {
			"table_size": nil, "consistent_hashing_lb_config": consistentFields(), "locality_weighted_lb_config": {},
		},
	}}}}
}

// zoneFields: routing by zone needs the cluster that the proxy is of, and an agent has none.
func zoneFields() fields {
	return fields{"fail_traffic_on_panic": nil}.and("routing_enabled", "min_cluster_size", "force_locality_direct_routing")
}

func consistentFields() fields {
	return fields{"use_hostname_for_hashing": nil, "hash_balance_factor": nil}
}

// runtimeDouble is a number that a runtime key might change: a layer with such a key is refused.
func runtimeDouble() fields { return fields{"default_value": nil}.and("runtime_key") }

func slowStartFields() fields {
	return fields{"slow_start_window": nil, "aggression": runtimeDouble(), "min_weight_percent": {"value": nil}}
}

// http1Fields: absolute URLs are always taken, and hosts may always speak HTTP/1.0.
func http1Fields() fields {
	return fields{"enable_trailers": nil}.and("allow_absolute_url", "accept_http_10")
}

func serverHTTP2Fields() fields {
	f := http2Tuning()
	f["max_concurrent_streams"] = nil
	return f
}

// http2Tuning are windows and bounds of tables.
func http2Tuning() fields {
	return fields{}.and("hpack_table_size", "initial_stream_window_size", "initial_connection_window_size")
}

// transportSocketFields are those of a TLS context of one side, or of none.
func transportSocketFields(side string, context fields) fields {
	const prefix = "@envoy.extensions.transport_sockets."
	return fields{"name": nil, "typed_config": {prefix + "tls.v3." + side + "TlsContext": context, prefix + "raw_buffer.v3.RawBuffer": {}}}
}

func commonTLSFields() fields {
	pem := func() fields { return fields{"filename": nil, "inline_string": nil, "inline_bytes": nil} }
	return fields{
		"alpn_protocols": nil,
		"tls_params":     {"tls_minimum_protocol_version": nil, "tls_maximum_protocol_version": nil},
		"tls_certificates": fields{"certificate_chain": pem(), "private_key": pem()}.and(
			"watched_directory"), // every file is watched
		"validation_context": fields{
			"trusted_ca": pem(), "system_root_certs": {}, "verify_certificate_hash": nil, "verify_certificate_spki": nil,
			"match_typed_subject_alt_names": {"san_type": nil, "matcher": stringMatcherFields()},
		}.and("watched_directory"),
	}
}

func outlierFields() fields {
	return fields{
		"consecutive_5xx": nil, "enforcing_consecutive_5xx": nil,
		"consecutive_gateway_failure": nil, "enforcing_consecutive_gateway_failure": nil,
		"consecutive_local_origin_failure": nil, "enforcing_consecutive_local_origin_failure": nil,
		"split_external_local_origin_errors": nil,
		"interval":                           nil, "base_ejection_time": nil, "max_ejection_time": nil, "max_ejection_time_jitter": nil,
		"max_ejection_percent": nil, "always_eject_one_host": nil,
		"enforcing_success_rate": nil, "enforcing_local_origin_success_rate": nil,
		"success_rate_minimum_hosts": nil, "success_rate_request_volume": nil, "success_rate_stdev_factor": nil,
		"failure_percentage_threshold": nil, "enforcing_failure_percentage": nil, "enforcing_failure_percentage_local_origin": nil,
		"failure_percentage_minimum_hosts": nil, "failure_percentage_request_volume": nil,
		"successful_active_health_check_uneject_host": nil, "detect_degraded_hosts": nil,
	}
}

func healthCheckFields() fields {
	header := fields{"header": {"key": nil, "value": nil}}
	return fields{
		"name": nil, "timeout": nil, "interval": nil, "initial_jitter": nil, "interval_jitter": nil, "interval_jitter_percent": nil,
		"unhealthy_threshold": nil, "healthy_threshold": nil, "reuse_connection": nil,
		"no_traffic_interval": nil, "no_traffic_healthy_interval": nil,
		"unhealthy_interval": nil, "unhealthy_edge_interval": nil, "healthy_edge_interval": nil,
		"http_health_check": {
			"host": nil, "path": nil, "request_headers_to_add": header, "expected_statuses": {"start": nil, "end": nil},
			"retriable_statuses": {"start": nil, "end": nil}, "codec_client_type": nil, "method": nil, "service_name_matcher": stringMatcherFields(),
		},
		"grpc_health_check": {"service_name": nil, "authority": nil, "initial_metadata": header},
		"tcp_health_check":  {"send": {"text": nil}, "receive": {"text": nil, "binary": nil}},
	}.and("always_log_health_check_failures", "always_log_health_check_success") // nothing is logged
}

func assignmentFields() fields {
	at := address()
	at["envoy_internal_address"] = fields{"server_listener_name": nil, "endpoint_id": nil}
	endpoint := fields{
		"address": at, "hostname": nil,
		"health_check_config": {"port_value": nil, "hostname": nil, "address": address(), "disable_active_health_check": nil},
	}.and("observability_name")
	return fields{
		"cluster_name": nil,
		"endpoints": fields{
			"locality": nil, "priority": nil,
			"lb_endpoints":          fields{"endpoint": endpoint, "health_status": nil, "load_balancing_weight": nil}.and("metadata"),
			"load_balancing_weight": nil,
		}.and("proximity", "metadata"),
		"policy": {
			"drop_overloads": {"category": nil, "drop_percentage": nil}, "overprovisioning_factor": nil, "weighted_priority_health": nil,
		},
	}
}

func listenerFields() fields {
	chain := fields{
		"filters": {"name": nil, "typed_config": {
			"@envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager": connectionManagerFields(),
			"@envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy":                            {"stat_prefix": nil, "cluster": nil, "idle_timeout": nil, "max_connect_attempts": nil},
		}},
		"filter_chain_match": {},
		"transport_socket": transportSocketFields("Downstream", fields{
			"common_tls_context": commonTLSFields(), "require_client_certificate": nil, "require_sni": nil,
		}.and( // no session is resumed
			"disable_stateless_session_resumption", "disable_stateful_session_resumption", "session_timeout", "prefer_client_ciphers",
			"full_scan_certs_on_sni_mismatch")),
	}.and("name", "metadata")
	return fields{
		"name": nil, "address": address(), "filter_chains": chain, "default_filter_chain": chain,
		"per_connection_buffer_limit_bytes": nil,
		"bind_to_port":                      nil,
		"internal_listener":                 {},
		"listener_filters": fields{"name": nil, "typed_config": {
			// The agent looks at the first bytes anyhow.
			"@envoy.extensions.filters.listener.http_inspector.v3.HttpInspector": nil,
			"@envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector":   nil,
		}},
	}.and(
		"stat_prefix", "metadata", "traffic_direction", "drain_type", "enable_reuse_port", "reuse_port", "connection_balance_config",
		"tcp_backlog_size", "max_connections_to_accept_per_socket_event", "listener_filters_timeout",
		"continue_on_listener_filters_timeout", "ignore_global_conn_limit", "bypass_overload_manager",
	)
}

func connectionManagerFields() fields {
	early := fields{
		"remove":          nil,
		"append":          {"header": {"key": nil, "value": nil}, "append_action": nil},
		"remove_on_match": {"key_matcher": stringMatcherFields()},
	}
	filters := filterFields()
	delete(filters, "@envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute")
	filters["@envoy.extensions.filters.http.router.v3.Router"] = fields{"suppress_envoy_headers": nil}.and(
		"dynamic_stats", "start_child_span", "suppress_grpc_request_failure_code_stats")
	return fields{
		"stat_prefix":  nil,
		"rds":          {"config_source": ads(), "route_config_name": nil},
		"route_config": routeConfigurationFields(),
		"scoped_routes": {
			"name": nil, "rds_config_source": ads(),
			"scope_key_builder": {"fragments": {"header_value_extractor": {"name": nil, "element_separator": nil, "index": nil}}},
			"scoped_rds":        fields{"scoped_rds_config_source": ads()},
		},
		"http_filters":       fields{"name": nil, "typed_config": filters, "disabled": nil}.and("is_optional"),
		"local_reply_config": localReplyFields(),
		"early_header_mutation_extensions": {"name": nil, "typed_config": {
			"@envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation": {"mutations": early},
		}},
		"use_remote_address": nil, "internal_address_config": {"cidr_ranges": nil}, "skip_xff_append": nil, "xff_num_trusted_hops": nil,
		"scheme_header_transformation": {"scheme_to_overwrite": nil},
		"generate_request_id":          nil, "preserve_external_request_id": nil, "forward_client_cert_details": nil,
		"server_name": nil, "server_header_transformation": nil,
		"normalize_path": nil, "merge_slashes": nil, "path_with_escaped_slashes_action": nil,
		"stream_idle_timeout": nil, "request_timeout": nil,
		"max_request_headers_kb":       nil,
		"common_http_protocol_options": {"idle_timeout": nil, "max_headers_count": nil, "max_stream_duration": nil},
		"http_protocol_options":        http1Fields(),
		"http2_protocol_options":       serverHTTP2Fields(),
		"upgrade_configs":              {"upgrade_type": nil, "enabled": nil},
		"codec_type":                   nil,
		"proxy_100_continue":           nil,
	}.and(
		"delayed_close_timeout", // of half-closed connections
		"drain_timeout",         // the agent has one of its own
	)
}

func scopeFields() fields {
	return fields{
		"name": nil, "route_configuration_name": nil, "key": {"fragments": {"string_key": nil}},
	}.and("on_demand") // every scope is ready before it is asked for
}

func routeConfigurationFields() fields {
	route := fields{
		"name": nil,
		"match": {
			"prefix": nil, "path": nil, "safe_regex": regexFields(), "path_separated_prefix": nil, "case_sensitive": nil, "grpc": {},
			"headers": headerMatcherFields(), "query_parameters": {"name": nil, "string_match": stringMatcherFields(), "present_match": nil},
		},
		"route": routeActionFields(),
		"redirect": {
			"https_redirect": nil, "scheme_redirect": nil, "host_redirect": nil, "port_redirect": nil, "path_redirect": nil, "prefix_rewrite": nil,
			"regex_rewrite": rewriteFields(), "response_code": nil, "strip_query": nil,
		},
		"direct_response":                {"status": nil, "body": {"inline_string": nil, "inline_bytes": nil}},
		"request_body_buffer_limit":      nil,
		"per_request_buffer_limit_bytes": nil,
		"typed_per_filter_config":        routeFilterFields(),
	}.edited().and("metadata", "stat_prefix", "decorator") // nothing is traced
	return fields{
		"name": nil, "ignore_port_in_host_matching": nil, "typed_per_filter_config": routeFilterFields(), "most_specific_header_mutations_wins": nil,
		"virtual_hosts": fields{
			"name": nil, "domains": nil, "routes": route, "retry_policy": retryFields(), "hedge_policy": hedgeFields(),
			"request_body_buffer_limit": nil, "per_request_buffer_limit_bytes": nil,
			"typed_per_filter_config":       routeFilterFields(),
			"include_request_attempt_count": nil, "include_attempt_count_in_response": nil,
		}.edited().and("metadata"),
	}.edited().and("metadata", "validate_clusters", "max_direct_response_body_size_bytes")
}

// edited is f with the edits of headers that every level of routes may have.
func (f fields) edited() fields {
	f["request_headers_to_add"], f["response_headers_to_add"] = headerOptionFields(), headerOptionFields()
	f["request_headers_to_remove"], f["response_headers_to_remove"] = nil, nil
	return f
}

func rewriteFields() fields { return fields{"pattern": regexFields(), "substitution": nil} }

func routeActionFields() fields {
	return fields{
		"cluster": nil, "weighted_clusters": fields{"clusters": {"name": nil, "weight": nil}, "total_weight": nil}.and("runtime_key_prefix"),
		"timeout": nil, "idle_timeout": nil,
		"max_stream_duration": {"max_stream_duration": nil, "grpc_timeout_header_max": nil},
		"retry_policy":        retryFields(), "hedge_policy": hedgeFields(), "priority": nil,
		"host_rewrite_literal": nil, "host_rewrite_header": nil, "host_rewrite_path_regex": rewriteFields(), "auto_host_rewrite": nil,
		"append_x_forwarded_host": nil, "prefix_rewrite": nil, "regex_rewrite": rewriteFields(),
		"hash_policy": {
			"header": {"header_name": nil}, "connection_properties": {"source_ip": nil}, "query_parameter": {"name": nil}, "terminal": nil,
			"cookie": {"name": nil, "ttl": nil, "path": nil, "attributes": {"name": nil, "value": nil}},
		},
	}
}

func hedgeFields() fields { return fields{"hedge_on_per_try_timeout": nil} }

func retryFields() fields {
	return fields{
		"retry_on": nil, "num_retries": nil, "per_try_timeout": nil, "per_try_idle_timeout": nil,
		"retry_back_off":              {"base_interval": nil, "max_interval": nil},
		"rate_limited_retry_back_off": {"reset_headers": {"name": nil, "format": nil}, "max_interval": nil},
		"retriable_status_codes":      nil,
		"retriable_headers":           headerMatcherFields(), "retriable_request_headers": headerMatcherFields(),
		"host_selection_retry_max_attempts": nil,
		"retry_host_predicate": {"name": nil, "typed_config": {
			"@envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate": {},
		}},
		"retry_priority": {"name": nil, "typed_config": {
			"@envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig": {"update_frequency": nil},
		}},
	}
}

func headerMatcherFields() fields {
	return fields{
		"name": nil, "string_match": stringMatcherFields(), "present_match": nil, "invert_match": nil,
		"treat_missing_header_as_empty": nil,
		"exact_match":                   nil, "prefix_match": nil, "suffix_match": nil, "contains_match": nil, "safe_regex_match": regexFields(),
	}
}

// predicateFields are rules over response headers, within each other so many times.
func predicateFields(depth int) fields {
	f := fields{"any_match": nil, "http_response_headers_match": {"headers": headerMatcherFields()}}
	if depth > 0 {
		below := predicateFields(depth - 1)
		f["not_match"], f["and_match"], f["or_match"] = below, fields{"rules": below}, fields{"rules": below}
	}
	return f
}

func stringMatcherFields() fields {
	return fields{"exact": nil, "prefix": nil, "suffix": nil, "contains": nil, "safe_regex": regexFields(), "ignore_case": nil}
}

// regexFields: Go's expressions are RE2's, and the old way to ask for RE2 says nothing more.
func regexFields() fields { return fields{"regex": nil}.and("google_re2") }
