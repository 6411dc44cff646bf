package differential_test

// rawMatches are how a request finds its route and its cluster.
func rawMatches() []*scenario {
	paths := func(list ...string) func(*side) {
		return func(s *side) {
			for _, path := range list {
				s.send(request{path: path})
			}
		}
	}
	// The first route says that it was taken, the second is for what is left.
	first := func(name, match string, traffic func(*side), mutants ...string) *scenario {
		routes := func(match string) string {
			return `[{name: first, match: ` + match + `, direct_response: {status: 201}}, {name: rest, match: {prefix: "/"}, direct_response: {status: 202}}]`
		}
		sc := &scenario{name: "raw-match-" + name, raw: &resources{routes: routes(match)}, traffic: traffic}
		for _, m := range mutants {
			sc.mutants = append(sc.mutants, resources{routes: routes(m)})
		}
		return sc
	}
	header := func(name, matcher string, mutants ...string) *scenario {
		match := func(matcher string) string { return `{prefix: "/", headers: [{name: x-kind, ` + matcher + `}]}` }
		sc := first("header-"+name, match(matcher), func(s *side) {
			for _, value := range []string{"one", "two", "One", "one two", ""} {
				s.send(request{header: map[string]string{"X-Kind": value}})
			}
			s.send(request{})
		})
		for _, m := range mutants {
			sc.mutants = append(sc.mutants, first("", match(m), nil).mutantOf())
		}
		return sc
	}
	hosts := func(list ...string) func(*side) {
		return func(s *side) {
			for _, host := range list {
				s.send(request{host: host})
			}
		}
	}
	domains := func(name, config string, traffic func(*side), mutants ...resources) *scenario {
		return &scenario{name: "raw-domains-" + name, traffic: traffic, mutants: mutants, raw: &resources{config: config + "\n---\n" + `{virtual_hosts: [
  {name: exact, domains: [a.b.c, "a.b.d:80"], routes: [{match: {prefix: "/"}, direct_response: {status: 201}}]},
  {name: suffix, domains: ["*.b.c"], routes: [{match: {prefix: "/"}, direct_response: {status: 202}}]},
  {name: longer, domains: ["*.x.b.c", "*-x.b.c"], routes: [{match: {prefix: "/"}, direct_response: {status: 203}}]},
  {name: prefix, domains: ["a.*"], routes: [{match: {prefix: "/"}, direct_response: {status: 205}}]},
  {name: rest, domains: ["*"], routes: [{match: {prefix: "/only"}, direct_response: {status: 206}}]}]}`}}
	}
	all := hosts("a.b.c", "A.B.C", "a.b.c:80", "a.b.d:80", "a.b.d", "z.b.c", "z.x.b.c", "z-x.b.c", "b.c", ".b.c", "a.q", "a.", "other")
	weigh := func(a, b int) string {
		return `[{match: {prefix: "/"}, route: {weighted_clusters: {clusters: [{name: $NAME, weight: ` + string(rune('0'+a)) + `}, {name: nowhere, weight: ` + string(rune('0'+b)) + `}]}}}]`
	}
	return []*scenario{
		first("prefix", `{prefix: /a}`, paths("/a", "/ab", "/a/b?c", "/b", "/A"), `{prefix: /ab}`),
		first("path", `{path: /a/b}`, paths("/a/b", "/a/b?c", "/a/b/", "/a"), `{path: /a}`),
		first("regex", `{safe_regex: {regex: "/a[0-9]+"}}`, paths("/a1", "/a12?x", "/a", "/a1/b", "/xa1"), `{safe_regex: {regex: "/a.*"}}`),
		{name: "raw-route-name", raw: &resources{route: `{name: a}`}, traffic: get(1), mutants: []resources{{route: `{name: b}`}}},
		first("long-path", `{prefix: "/a//b"}`, paths("/a//b", "/a/b", "/a%2F/b", "/a/./b")),
		header("exact", `string_match: {exact: one}`, `string_match: {exact: two}`, `string_match: {exact: one, ignore_case: true}`),
		header("prefix", `string_match: {prefix: one}`, `string_match: {prefix: two}`), header("suffix", `string_match: {suffix: two}`, `string_match: {suffix: one}`),
		header("contains", `string_match: {contains: e}`, `string_match: {contains: t}`), header("regex", `string_match: {safe_regex: {regex: "o.*"}}`, `string_match: {safe_regex: {regex: "t.*"}}`),
		header("present", `present_match: true`, `present_match: false`), header("absent", `present_match: false`),
		header("invert", `string_match: {exact: one}, invert_match: true`, `string_match: {exact: one}`),
		header("invert-present", `present_match: true, invert_match: true`),
		header("empty", `string_match: {exact: ""}, treat_missing_header_as_empty: true`, `string_match: {exact: ""}`),
		header("empty-invert", `string_match: {exact: one}, invert_match: true, treat_missing_header_as_empty: true`, `string_match: {exact: one}, invert_match: true`),
		header("old-exact", `exact_match: one`, `exact_match: two`), header("old-prefix", `prefix_match: one`, `prefix_match: two`), header("old-suffix", `suffix_match: two`, `suffix_match: one`),
		header("old-contains", `contains_match: e`, `contains_match: t`), header("old-regex", `safe_regex_match: {regex: "o.*"}`, `safe_regex_match: {regex: "t.*"}`),
		first("method", `{prefix: "/", headers: [{name: ":method", string_match: {exact: PUT}}]}`, mixed(request{}, request{method: "PUT"})),
		first("authority", `{prefix: "/", headers: [{name: ":authority", string_match: {prefix: raw}}]}`, mixed(request{}, request{host: "other"})),
		first("two-headers", `{prefix: "/", headers: [{name: x-a, present_match: true}, {name: x-b, present_match: true}]}`,
			mixed(request{header: map[string]string{"X-A": "1"}}, request{header: map[string]string{"X-A": "1", "X-B": "2"}})),
		domains("plain", `{}`, all), domains("without-port", `{ignore_port_in_host_matching: true}`, all, resources{config: `{ignore_port_in_host_matching: false}`}),
		{name: "raw-weights", raw: &resources{routes: weigh(1, 0)}, traffic: get(4), mutants: []resources{{routes: weigh(0, 1)}}},
		{name: "raw-weights-other", raw: &resources{routes: weigh(0, 1)}, traffic: get(4)},
		{name: "raw-host-rewrite", raw: &resources{action: `{host_rewrite_literal: other.example}`}, traffic: get(1), mutants: []resources{{action: `{host_rewrite_literal: null}`}}},
		{name: "raw-host-rewrite-suppressed", raw: &resources{action: `{host_rewrite_literal: other.example}`, hcm: `{http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, suppress_envoy_headers: true}}]}`}, traffic: get(1),
			ignore: []string{"authority"}}, // of which the log of Envoy knows no other then
		{name: "raw-no-route", raw: &resources{routes: `[{match: {prefix: /only}, route: {cluster: $NAME}}]`}, traffic: mixed(request{}, request{path: "/only"}, request{method: "POST", body: "x"})},
		{name: "raw-no-cluster", raw: &resources{action: `{cluster: nowhere}`}, traffic: mixed(request{}, request{method: "POST", body: "x"})},
		{name: "raw-no-host", raw: &resources{endpoints: `[]`}, traffic: mixed(request{}, request{method: "POST", body: "x"})},
		{name: "raw-suppressed", raw: &resources{hcm: `{http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, suppress_envoy_headers: true}}]}`},
			traffic: get(1), mutants: []resources{{hcm: `{http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}`}}},
		{name: "raw-server-name", raw: &resources{hcm: `{server_name: mine}`}, traffic: get(1), mutants: []resources{{hcm: `{server_name: null}`}}},
		{name: "raw-server-passed", raw: &resources{hcm: `{server_header_transformation: PASS_THROUGH}`}, script: []behaviour{{header: map[string]string{"server": "theirs"}}}, traffic: get(1),
			mutants: []resources{{hcm: `{server_header_transformation: OVERWRITE}`}}},
		{name: "raw-request-id", raw: &resources{hcm: `{generate_request_id: false}`}, traffic: get(1), mutants: []resources{{hcm: `{generate_request_id: true}`}}},
		{name: "raw-certificate-header", raw: &resources{hcm: `{forward_client_cert_details: ALWAYS_FORWARD_ONLY}`}, traffic: mixed(request{header: map[string]string{"X-Forwarded-Client-Cert": "By=x"}}),
			mutants: []resources{{hcm: `{forward_client_cert_details: SANITIZE}`}}},
		{name: "raw-caller-private", raw: &resources{hcm: `{internal_address_config: null}`, action: `{timeout: 2s}`}, script: []behaviour{always503, always200},
			traffic: mixed(request{header: map[string]string{"X-Forwarded-For": "10.0.0.1", "X-Envoy-Retry-On": "5xx"}})},
		{name: "raw-many-headers", raw: &resources{hcm: `{common_http_protocol_options: {max_headers_count: 12}}`}, traffic: mixed(request{}, request{header: numbered(20)}),
			mutants: []resources{{hcm: `{common_http_protocol_options: {max_headers_count: 100}}`}}},
		{name: "raw-many-answer-headers", raw: &resources{options: `{common_http_protocol_options: {max_headers_count: 12}}`}, script: []behaviour{{header: numbered(20)}}, traffic: mixed(request{}),
			mutants: []resources{{options: `{common_http_protocol_options: {max_headers_count: 100}}`}}},
		{name: "raw-big-headers", raw: &resources{hcm: `{max_request_headers_kb: 4}`}, traffic: mixed(request{}, request{header: map[string]string{"X-Big": string(many('x', 6000))}}),
			mutants: []resources{{hcm: `{max_request_headers_kb: 60}`}}},
		{name: "raw-big-answer-headers", raw: &resources{options: `{common_http_protocol_options: {max_response_headers_kb: 4}}`}, script: []behaviour{{header: map[string]string{"X-Big": string(many('x', 6000))}}}, traffic: mixed(request{}),
			mutants: []resources{{options: `{common_http_protocol_options: {max_response_headers_kb: 60}}`}}},
	}
}

func (sc *scenario) mutantOf() resources { return *sc.raw }

func numbered(n int) map[string]string {
	all := map[string]string{}
	for i := range n {
		all["X-Number-"+string(rune('A'+i))] = "v"
	}
	return all
}

func many(c byte, n int) []byte {
	all := make([]byte, n)
	for i := range all {
		all[i] = c
	}
	return all
}
