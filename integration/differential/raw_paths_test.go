package differential_test

import "strings"

// rawPaths are what routes match and how they change what they lead on: paths, hosts, headers.
func rawPaths() []*scenario {
	hello := []behaviour{{body: "hello", header: map[string]string{"x-up": "1", "x-also": "2"}}}
	all := matches(hello)
	all = append(all, redirects()...)
	all = append(all, rewrites(hello)...)
	return append(all, levels(hello)...)
}

// paths sends a request for each.
func paths(list ...string) func(*side) {
	return func(s *side) {
		for _, p := range list {
			s.send(request{path: p})
		}
	}
}

func matches(hello []behaviour) []*scenario {
	route := func(match string) string { return `[{match: {` + match + `}, name: it, route: {cluster: $NAME}}]` }
	of := func(name, match, mutant string, list ...string) *scenario {
		return &scenario{name: "match-" + name, raw: &resources{routes: route(match)}, script: hello, traffic: paths(list...), mutants: []resources{{routes: route(mutant)}}}
	}
	return []*scenario{
		of("prefix-any-case", `prefix: /aB, case_sensitive: false`, `prefix: /aB`, "/ab", "/AB/c?x=Y", "/aBc", "/a", "/b"),
		of("prefix-query", `prefix: "/a?b"`, `prefix: /a`, "/a?b", "/a?bc", "/a"),
		of("prefix-case", `prefix: /aB, case_sensitive: true`, `prefix: /aB, case_sensitive: false`, "/ab", "/aB"),
		of("path-any-case", `path: /aB, case_sensitive: false`, `path: /aB`, "/ab", "/AB?x", "/abc", "/ab/"),
		of("segments", `path_separated_prefix: /api/v1`, `prefix: /api/v1`, "/api/v1", "/api/v1/", "/api/v1/x?y", "/api/v1?x", "/api/v1x", "/api", "/API/v1"),
		of("segments-any-case", `path_separated_prefix: /api/v1, case_sensitive: false`, `path_separated_prefix: /api/v1`, "/API/v1/x", "/api/v1x"),
		of("regex-any-case", `safe_regex: {regex: "/[ab]+"}, case_sensitive: false`, `safe_regex: {regex: "(?i)/[ab]+"}`, "/ab", "/AB", "/ab?c"),
		of("query", `prefix: /, query_parameters: [{name: a}]`, `prefix: /`, "/?a=1", "/?a", "/?b&a=", "/?A=1", "/?ab=1", "/", "/?=a"),
		of("query-value", `prefix: /, query_parameters: [{name: a, string_match: {exact: one}}, {name: b, present_match: true}]`, `prefix: /, query_parameters: [{name: a, string_match: {exact: one}}]`,
			"/?a=one&b", "/?a=one", "/?b=&a=two", "/?a=two&a=one&b", "/?a=one&a=two&b", "/?a=%6fne&b", "/?a=one;b", "/x?b=2&c=3&a=one"),
		of("query-kinds", `prefix: /, query_parameters: [{name: a, string_match: {prefix: ONE, ignore_case: true}}, {name: b, string_match: {safe_regex: {regex: "[0-9]+"}}}]`, `prefix: /, query_parameters: [{name: a, string_match: {prefix: ONE}}]`,
			"/?a=onetwo&b=12", "/?a=ONE&b=12x", "/?a=one&b=", "/?b=1"),
		of("query-absent", `prefix: /, query_parameters: [{name: a, present_match: false}]`, `prefix: /`, "/?a=1", "/?b", "/"),
		of("query-empty", `prefix: /, query_parameters: [{name: a, string_match: {safe_regex: {regex: ".*"}}}]`, `prefix: /, query_parameters: [{name: a, string_match: {exact: x}}]`, "/?a", "/?a=", "/?b", "/?a=b=c"),
	}
}

func redirects() []*scenario {
	of := func(name, match, action string, mutant string, list ...string) *scenario {
		route := func(action string) string { return `[{match: {` + match + `}, redirect: {` + action + `}}]` }
		return &scenario{name: "redirect-" + name, raw: &resources{routes: route(action)}, traffic: paths(list...), mutants: []resources{{routes: route(mutant)}}}
	}
	hosts := func(s *side) {
		for _, host := range []string{"a:80", "a:443", "a:8080", "a", "[::1]:80", "[::1]"} {
			s.send(request{host: host, path: "/x?y"})
		}
		s.send(request{host: "a:443", header: map[string]string{"x-forwarded-proto": "https"}})
		s.send(request{host: "a:80", header: map[string]string{"x-forwarded-proto": "https"}})
		s.send(request{host: "a", header: map[string]string{"x-forwarded-proto": "gopher"}})
		s.send(request{host: "a", method: "POST", body: "x"})
		s.send(request{host: "a", method: "HEAD"})
	}
	with := func(name, action, mutant string) *scenario {
		sc := of(name, `prefix: /`, action, mutant)
		sc.traffic = hosts
		return sc
	}
	all := []*scenario{
		with("plain", ``, `response_code: FOUND`),
		with("https", `https_redirect: true`, ``),
		with("https-port", `https_redirect: true, port_redirect: 8443`, `https_redirect: true`),
		with("scheme", `scheme_redirect: HTTPS`, `scheme_redirect: https`),
		with("scheme-http", `scheme_redirect: http`, `scheme_redirect: https`),
		with("host", `host_redirect: "b:1"`, `host_redirect: "b:2"`),
		with("host-port", `host_redirect: b, port_redirect: 1`, `host_redirect: b`),
		with("port", `port_redirect: 80`, `port_redirect: 81`),
		of("path", `prefix: /`, `path_redirect: /new`, `path_redirect: /old`, "/", "/a?b=c"),
		of("path-query", `prefix: /`, `path_redirect: "/new?x=1", strip_query: true`, `path_redirect: /new, strip_query: true`, "/", "/a?b=c"),
		of("strip", `prefix: /`, `path_redirect: /new, strip_query: true, response_code: PERMANENT_REDIRECT`, `path_redirect: /new, response_code: PERMANENT_REDIRECT`, "/", "/a?b=c"),
		of("strip-alone", `prefix: /`, `strip_query: true`, ``, "/a?b=c"),
		of("prefix", `prefix: /a`, `prefix_rewrite: /b, response_code: SEE_OTHER`, `prefix_rewrite: /b`, "/a", "/a/c?d", "/ac"),
		of("prefix-strip", `prefix: /a`, `prefix_rewrite: /b, strip_query: true, response_code: TEMPORARY_REDIRECT`, `prefix_rewrite: /b, response_code: TEMPORARY_REDIRECT`, "/a/c?d"),
		of("regex", `prefix: /a`, `regex_rewrite: {pattern: {regex: "/a/([^/]+)/(.*)"}, substitution: '/\2/\1$1'}`, `regex_rewrite: {pattern: {regex: "/a/([^/]+)/(.*)"}, substitution: '/\1'}`, "/a/b/c?d/e", "/a/b"),
	}
	return append(all, &scenario{name: "redirect-edited", raw: &resources{
		routes: `[{match: {prefix: /}, redirect: {https_redirect: true}, response_headers_to_add: [{header: {key: location, value: "nowhere"}}, {header: {key: x-r, value: r}}], request_headers_to_add: [{header: {key: x-q, value: q}}]}]`,
		host:   `{response_headers_to_remove: [location]}`}, traffic: get(1)})
}

func rewrites(hello []behaviour) []*scenario {
	of := func(name, match, action, mutant string, list ...string) *scenario {
		route := func(action string) string {
			return `[{match: {` + match + `}, route: {cluster: $NAME, ` + action + `}}]`
		}
		return &scenario{name: "rewrite-" + name, raw: &resources{routes: route(action)}, script: hello, traffic: paths(list...), mutants: []resources{{routes: route(mutant)}}}
	}
	hosts := func(sc *scenario) *scenario {
		sc.ignore = []string{"path", "authority"} // the agent tells what it was asked for
		sc.traffic = func(s *side) {
			s.get(1)
			s.send(request{host: "a:80", header: map[string]string{"x-host": "other:1", "x-forwarded-host": "before"}})
			s.send(request{host: "a", header: map[string]string{"x-forwarded-host": "b,a"}, path: "/x/y?z"})
			s.send(request{host: "a", header: map[string]string{"x-forwarded-host": "b, a", "x-host": ""}})
			s.send(request{host: "a", header: map[string]string{"x-envoy-original-path": "/mine", "x-envoy-original-host": "mine"}})
		}
		return sc
	}
	named := func(sc *scenario) *scenario {
		sc.raw.endpoints = `[{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: $PORT0}}, hostname: "one.test:8"}}]}]`
		return hosts(sc)
	}
	return []*scenario{
		of("prefix", `prefix: /a`, `prefix_rewrite: /b`, `prefix_rewrite: /c`, "/a", "/a/c?d=/a", "/ab", "/a?x"),
		of("prefix-root", `prefix: /a/`, `prefix_rewrite: /`, `prefix_rewrite: /c`, "/a/", "/a/c?d", "/a//c"),
		of("prefix-empty", `prefix: ""`, `prefix_rewrite: /b`, `prefix_rewrite: /b/`, "/", "/x"),
		of("prefix-any-case", `prefix: /a, case_sensitive: false`, `prefix_rewrite: /b`, `prefix_rewrite: /c`, "/A/x"),
		of("prefix-path", `path: /a`, `prefix_rewrite: /b/c`, `prefix_rewrite: /c`, "/a", "/a?x"),
		of("prefix-segments", `path_separated_prefix: /a`, `prefix_rewrite: /b`, `prefix_rewrite: /c`, "/a", "/a/x?y"),
		of("prefix-regex", `safe_regex: {regex: "/a.*"}`, `prefix_rewrite: /b`, `prefix_rewrite: /c`, "/a/x?y"),
		of("regex", `prefix: /`, `regex_rewrite: {pattern: {regex: "^/service/([^/]+)(/.*)$"}, substitution: '\2/instance/\1'}`, `regex_rewrite: {pattern: {regex: "^/service/([^/]+)(/.*)$"}, substitution: '\0'}`,
			"/service/foo/v1/api?x=/service/a/b", "/other"),
		of("regex-all", `prefix: /`, `regex_rewrite: {pattern: {regex: "one"}, substitution: 'two$1\\'}`, `regex_rewrite: {pattern: {regex: "one"}, substitution: two}`, "/xxx/one/yyy/one/zzz?one"),
		of("regex-empty-match", `prefix: /`, `regex_rewrite: {pattern: {regex: "b*"}, substitution: "-"}`, `regex_rewrite: {pattern: {regex: "b+"}, substitution: "-"}`, "/abbc"),
		hosts(of("suppressed", `prefix: /`, `prefix_rewrite: /b, host_rewrite_literal: h`, `prefix_rewrite: /c`)).with(&resources{hcm: suppressing}),
		hosts(of("host", `prefix: /`, `host_rewrite_literal: new.test`, `host_rewrite_literal: old.test`)),
		hosts(of("host-tell", `prefix: /`, `host_rewrite_literal: new.test, append_x_forwarded_host: true`, `host_rewrite_literal: new.test`)),
		hosts(of("host-header", `prefix: /`, `host_rewrite_header: X-Host, append_x_forwarded_host: true`, `append_x_forwarded_host: true`)),
		hosts(of("host-path", `prefix: /`, `host_rewrite_path_regex: {pattern: {regex: "^/(.+)/.+$"}, substitution: '\1'}`, `append_x_forwarded_host: true`)),
		hosts(of("tell-alone", `prefix: /`, `append_x_forwarded_host: true`, `append_x_forwarded_host: true, host_rewrite_literal: a`)),
		named(of("host-auto", `prefix: /`, `auto_host_rewrite: true`, `auto_host_rewrite: false`)),
		named(of("host-auto-tell", `prefix: /`, `auto_host_rewrite: true, append_x_forwarded_host: true`, `auto_host_rewrite: true`)),
		hosts(of("host-auto-unnamed", `prefix: /`, `auto_host_rewrite: true, append_x_forwarded_host: true`, `append_x_forwarded_host: true, host_rewrite_literal: a`)),
		named(of("host-auto-retried", `prefix: /`, `auto_host_rewrite: true, append_x_forwarded_host: true, retry_policy: {retry_on: 5xx, num_retries: 3}`, `auto_host_rewrite: true, retry_policy: {retry_on: 5xx, num_retries: 3}`)).behaving(behaviour{status: 503}).with(&resources{
			endpoints: `[{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: $PORT0}}, hostname: one.test}}]}]`}),
		hosts(of("both", `prefix: /x`, `host_rewrite_literal: new.test, prefix_rewrite: /q`, `prefix_rewrite: /q`)),
	}
}

// suppressing is a router that adds no header of its own.
const suppressing = `http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, suppress_envoy_headers: true}}]`

func (sc *scenario) with(more *resources) *scenario {
	joined := more.over(*sc.raw)
	sc.raw = &joined
	return sc
}

func (sc *scenario) behaving(b ...behaviour) *scenario {
	sc.script = b
	return sc
}

// levels are edits of headers on the three levels of routes.
func levels(hello []behaviour) []*scenario {
	add := func(side, key, value, more string) string {
		return side + `_headers_to_add: [{header: {key: ` + key + `, value: "` + value + `"}` + more + `}]`
	}
	all := func(level string) string {
		return `{request_headers_to_add: [{header: {key: x-q, value: ` + level + `}}, {header: {key: x-over, value: ` + level + `}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}, {header: {key: x-absent, value: ` + level + `}, append_action: ADD_IF_ABSENT}, {header: {key: x-there, value: ` + level + `}, append_action: OVERWRITE_IF_EXISTS}], ` +
			`response_headers_to_add: [{header: {key: x-p, value: ` + level + `}}, {header: {key: x-up, value: ` + level + `}, append_action: OVERWRITE_IF_EXISTS}, {header: {key: x-new, value: ` + level + `}, append_action: ADD_IF_ABSENT}]}`
	}
	send := func(s *side) {
		s.get(1)
		s.send(request{header: map[string]string{"x-q": "app", "x-over": "app", "x-absent": "app", "x-there": "app", "x-gone": "app"}})
	}
	edges := `{request_headers_to_remove: [x-q, X-Gone], request_headers_to_add: [{header: {key: x-q, value: "%REQ(x-over)%"}}, {header: {key: x-over, value: one}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}, {header: {key: x-over, value: two}}, {header: {key: x-q, value: "again 100%%"}}, {header: {key: x-empty, value: ""}}, {header: {key: x-kept, value: ""}, keep_empty_value: true}], ` +
		`response_headers_to_remove: [X-Up], response_headers_to_add: [{header: {key: x-up, value: "%RESPONSE_CODE% %REQ(x-there)%"}}, {header: {key: x-also, value: mine}, append_action: ADD_IF_ABSENT}]}`
	return []*scenario{
		{name: "levels", raw: &resources{route: all("route"), host: all("host"), config: all("config")}, script: hello, traffic: send,
			mutants: []resources{{route: `{request_headers_to_add: null}`}, {host: `{response_headers_to_add: null}`}, {config: `{most_specific_header_mutations_wins: true}`}}},
		{name: "levels-specific", raw: &resources{route: all("route"), host: all("host"), config: strings.TrimSuffix(all("config"), "}") + `, most_specific_header_mutations_wins: true}`}, script: hello, traffic: send,
			mutants: []resources{{config: `{most_specific_header_mutations_wins: false}`}}},
		{name: "levels-removed", raw: &resources{route: all("route"), host: `{request_headers_to_remove: [x-q, x-gone], response_headers_to_remove: [x-p]}`, config: all("config")}, script: hello, traffic: send,
			mutants: []resources{{host: `{request_headers_to_remove: [x-q]}`}, {host: `{response_headers_to_remove: []}`}}},
		{name: "levels-once", raw: &resources{route: edges}, script: hello, traffic: send,
			mutants: []resources{{route: `{request_headers_to_remove: []}`}, {route: `{response_headers_to_remove: []}`}}},
		{name: "levels-retries", raw: &resources{route: add("request", "x-envoy-retry-on", "5xx", ""), host: add("request", "x-envoy-max-retries", "2", "")}, script: []behaviour{{status: 503}}, traffic: get(1),
			mutants: []resources{{host: `{request_headers_to_add: null}`}}},
		{name: "levels-timeout", raw: &resources{route: add("request", "x-envoy-upstream-rq-timeout-ms", "1", "")}, script: hello, traffic: get(1)},
		{name: "levels-local", raw: &resources{route: add("response", "x-r", "%RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS%", ""), config: `{response_headers_to_add: [{header: {key: x-c, value: c}}], response_headers_to_remove: [content-type]}`}, script: []behaviour{{reset: true}}, traffic: get(1),
			mutants: []resources{{config: `{response_headers_to_add: []}`}}},
		{name: "levels-nobody", raw: &resources{routes: `[{match: {prefix: /x}, route: {cluster: $NAME}}]`, host: all("host"), config: all("config")}, traffic: get(1)},
		{name: "levels-rewritten", raw: &resources{route: `{request_headers_to_add: [{header: {key: x-host, value: new.test}}], request_headers_to_remove: [x-other]}`, action: `{host_rewrite_header: x-host}`, config: add("request", "x-host", "second", ", append_action: OVERWRITE_IF_EXISTS_OR_ADD")},
			script: hello, traffic: get(1), mutants: []resources{{action: `{host_rewrite_header: x-other}`}}},
	}
}
