// Package differential sends the same traffic through a real Envoy and through the agent and compares what callers, upstream hosts and
// statistics saw. There are two fixtures: a control plane of ours that gives both the same policies, and an xDS server that is not ours,
// go-control-plane's, that gives both the same plain resources.
//
// A scenario is a value in a list. It names its service, how the service's hosts behave, and what is sent; all scenarios run beside each
// other, each with hosts of its own. Under a policy:
//
//	{name: "max-requests", policy: []string{"limits: {maxRequests: 3}"}, script: held, traffic: over(3, 2), mutant: "limits: {maxRequests: 2}"}
//
// With raw resources it has a listener and a cluster of its own beside, and says only which of their fields differ from the plain ones (see
// type resources):
//
//	{name: "raw-timeout", raw: &resources{action: "{timeout: 0.2s}"}, script: []behaviour{hangs}, traffic: get(1),
//		mutants: []resources{{action: "{timeout: 0.6s}"}}}
//
// To add some on a topic, write a file raw_<topic>_test.go with a function that returns them, and name it in allScenarios. Messages in
// an Any must be linked: import their package there where nothing else does. Each mutant is what the agent alone is given in addition:
// the comparison must see it, which shows that the scenario tests that field. A difference that is meant to stay goes into known_test.go and
// docs/agent-fidelity.md.
//
// ENVOY names the binary (else the one that make tools fetches); BREAKWATER_DIFFERENTIAL=all runs also what make test leaves out.
package differential
