package envoy

import "github.com/breakwater-mesh/breakwater/pkg/policy"

// The breaker is outlier detection by the time it is compiled; these are the fields that have no other form.
var breakerLines = []line{
	{field: "circuitBreaker.scope", on: proxies, when: wholeService, level: Approximate,
		reason: "each host counts alone, and the service is cut off once all its hosts are ejected", instead: "circuitBreaker.scope: host"},
	{field: "circuitBreaker.halfOpen", on: envoys, level: Unsupported,
		reason: "an ejected host comes back with its full share of calls", instead: "circuitBreaker.halfOpen left out"},
}

func ofBreaker(_ input, f policy.Field) bool { return below(f.Origin.Path, "circuitBreaker") }

func wholeService(in input, _ policy.Field) bool {
	return orElse(in.sections.CircuitBreaker.Scope, policy.ScopeHost) == policy.ScopeService
}
