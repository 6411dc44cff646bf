package differential_test

import "maps"

// rawOrigins are who requests are from and what they may say.
func rawOrigins() []*scenario {
	hello := []behaviour{{body: "hello"}}
	said := map[string]string{
		"x-envoy-retry-on": "5xx", "x-envoy-retry-grpc-on": "cancelled", "x-envoy-max-retries": "1", "x-envoy-upstream-rq-timeout-ms": "5000",
		"x-envoy-upstream-rq-per-try-timeout-ms": "3000", "x-envoy-retriable-status-codes": "418", "x-envoy-retriable-header-names": "x-r",
		"x-envoy-internal": "true", "x-envoy-external-address": "9.9.9.9", "x-envoy-downstream-service-cluster": "c", "x-envoy-downstream-service-node": "n",
		"x-envoy-original-path": "/o", "x-envoy-original-host": "o", "x-envoy-original-url": "u", "x-envoy-decorator-operation": "d", "x-envoy-force-trace": "1",
		"x-envoy-ip-tags": "t", "x-envoy-expected-rq-timeout-ms": "7", "x-envoy-upstream-alt-stat-name": "alt", "x-envoy-attempt-count": "9",
		"x-envoy-something": "else", "x-envoy-original-dst-host": "1.2.3.4:5", "x-envoy-is-timeout-retry": "true", "x-envoy-hedge-on-per-try-timeout": "false",
		"x-request-id": "00000000-0000-4000-8000-000000000000", "x-forwarded-proto": "https",
	}
	from := func(list ...string) func(*side) {
		return func(s *side) {
			s.get(1)
			s.send(request{header: said})
			for _, xff := range list {
				h := maps.Clone(said)
				h["x-forwarded-for"] = xff
				s.send(request{header: h})
				s.send(request{header: map[string]string{"x-forwarded-for": xff, "x-envoy-retry-on": "gateway-error"}})
			}
		}
	}
	list := []string{"10.0.0.1", "127.0.0.1", "8.8.8.8", "10.0.0.1,10.0.0.2", "8.8.8.8, 10.0.0.2", "10.0.0.1,", " 192.168.1.1 ", "172.16.0.1", "172.32.0.1", "::1", "fd00::1", "fc00::1", "10.0.0.1:80", "nonsense", "a,b,c", "127.0.0.2", "1.1.1.1,2.2.2.2,3.3.3.3"}
	of := func(name, hcm, mutant string) *scenario {
		return &scenario{name: "origin-" + name, raw: &resources{hcm: hcm}, script: hello, traffic: from(list...), ignore: []string{"path", "authority"}, mutants: []resources{{hcm: mutant}}}
	}
	const none = `internal_address_config: {cidr_ranges: [{address_prefix: 255.255.255.255, prefix_len: 32}]}`
	const some = `internal_address_config: {cidr_ranges: [{address_prefix: 127.0.0.1, prefix_len: 32}, {address_prefix: 8.8.0.0, prefix_len: 16}, {address_prefix: "::1", prefix_len: 128}]}`
	const private = `internal_address_config: {cidr_ranges: null}`
	all := []*scenario{
		of("sidecar", `use_remote_address: false`, `use_remote_address: true`),
		of("sidecar-some", some, none),
		of("sidecar-private", private, none),
		of("sidecar-hops", `{xff_num_trusted_hops: 1, `+private+`}`, `{xff_num_trusted_hops: 0}`),
		of("sidecar-unsaid", `internal_address_config: null`, some),
		of("edge", `use_remote_address: true`, `use_remote_address: false`),
		of("edge-private", `{use_remote_address: true, `+private+`}`, `{`+none+`}`),
		of("edge-some", `{use_remote_address: true, `+some+`}`, `{`+none+`}`),
		of("edge-as-it-is", `{use_remote_address: true, skip_xff_append: true}`, `skip_xff_append: false`),
		of("edge-hops", `{use_remote_address: true, xff_num_trusted_hops: 1, `+private+`}`, `{xff_num_trusted_hops: 0}`),
		of("edge-hops-2", `{use_remote_address: true, xff_num_trusted_hops: 2}`, `{xff_num_trusted_hops: 1}`),
		of("edge-request-id", `{use_remote_address: true, preserve_external_request_id: true}`, `{use_remote_address: false}`),
	}
	heeded := func(name, hcm string, script []behaviour, header map[string]string) *scenario {
		return &scenario{name: "origin-heeded-" + name, raw: &resources{hcm: hcm}, script: script, traffic: mixed(request{header: header}), ignore: []string{"path", "authority"}, mutants: []resources{{hcm: `{` + none + `, use_remote_address: false}`}}}
	}
	const edge = `{use_remote_address: true, ` + private + `}`
	return append(all,
		heeded("retries", edge, []behaviour{{status: 503}, {status: 503}, {}}, map[string]string{"x-envoy-retry-on": "5xx", "x-envoy-max-retries": "2"}),
		heeded("timeout", edge, []behaviour{{hang: true}}, map[string]string{"x-envoy-upstream-rq-timeout-ms": "300"}),
		heeded("per-try", edge, []behaviour{{hang: true}, {}}, map[string]string{"x-envoy-upstream-rq-per-try-timeout-ms": "300", "x-envoy-retry-on": "5xx"}),
		heeded("hedge", edge, []behaviour{{hang: true}, {}}, map[string]string{"x-envoy-upstream-rq-per-try-timeout-ms": "300", "x-envoy-retry-on": "5xx", "x-envoy-hedge-on-per-try-timeout": "true"}),
		heeded("codes", edge, []behaviour{{status: 418}, {}}, map[string]string{"x-envoy-retriable-status-codes": "418,419", "x-envoy-retry-on": "retriable-status-codes"}),
		heeded("names", edge, []behaviour{{status: 404, header: map[string]string{"x-again": "1"}}, {}}, map[string]string{"x-envoy-retriable-header-names": "x-again", "x-envoy-retry-on": "retriable-headers"}),
		heeded("sidecar", private, []behaviour{{status: 503}, {}}, map[string]string{"x-envoy-retry-on": "5xx", "x-forwarded-for": "10.1.2.3"}),
		&scenario{name: "origin-server-kept", raw: &resources{hcm: `{server_header_transformation: APPEND_IF_ABSENT, server_name: mine}`}, script: []behaviour{{header: map[string]string{"server": "theirs"}}, {}, {reset: true}}, traffic: get(3),
			mutants: []resources{{hcm: `{server_header_transformation: OVERWRITE}`}, {hcm: `{server_name: other}`}}},
		&scenario{name: "origin-scheme", raw: &resources{hcm: `{scheme_header_transformation: {scheme_to_overwrite: https}}`, routes: `[{match: {prefix: /to}, redirect: {path_redirect: /x}}, {match: {prefix: /, headers: [{name: ":scheme", string_match: {exact: https}}]}, route: {cluster: $NAME}}]`},
			script: hello, traffic: mixed(request{}, request{path: "/to"}, request{header: map[string]string{"x-forwarded-proto": "http"}}, request{path: "/to", host: "a:443"}, request{path: "/to", host: "a:80"}), mutants: []resources{{hcm: `{scheme_header_transformation: {scheme_to_overwrite: http}}`}}},
	)
}
