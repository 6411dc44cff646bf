package differential_test

// rawRoutes are the ways in which a listener gets its routes and a cluster its hosts.
func rawRoutes() []*scenario {
	hello := []behaviour{{body: "hello"}}
	return []*scenario{
		{name: "raw-inline", raw: &resources{}, script: hello, traffic: get(2), mutants: []resources{{action: `{cluster: nowhere}`}}},
		{name: "raw-rds", raw: &resources{by: "rds", eds: true}, script: hello, traffic: get(2), mutants: []resources{{host: `{domains: [other]}`}}},
		{name: "raw-scoped", raw: &resources{by: "scoped", eds: true}, script: hello, traffic: mixed(request{}, request{host: "nobody"}),
			mutants: []resources{{more: `[{"@type": type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration, name: $NAME, route_configuration_name: $NAME, key: {fragments: [{string_key: other}]}}]`}}},
		{name: "raw-direct", raw: &resources{routes: `[{match: {prefix: "/"}, direct_response: {status: 418, body: {inline_string: tea}}}]`}, traffic: get(1),
			mutants: []resources{{routes: `[{match: {prefix: "/"}, direct_response: {status: 200}}]`}}},
	}
}
