package world

import (
	"fmt"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// gateways are the first services of a mesh: they do not say what they call, and receive all of it.
const gateways = 10

// shared is the service that every other one of a mesh calls.
func shared(services int) string { return meshName(services / 2) }

func meshName(i int) string { return fmt.Sprintf("s%04d", i) }

// meshOf is a world of so many services of one namespace: each with three endpoints, called by some others, under what holds for every hop,
// a policy of its own or one for one of its callers, and a guardrail.
func meshOf(tb testing.TB, services int) (*World, Changes) {
	var list []*catalog.Service
	for i := range services {
		list = append(list, service(key("shop", meshName(i)), func(s *catalog.Service) { meshService(s, i, services) }))
	}
	_, c := newWorld(list...)
	for i, s := range list {
		for e := range 3 {
			k := EndpointKey{s.Key(), fmt.Sprint("e", e)}
			c.Endpoints[k] = &catalog.Endpoint{Service: k.Service, ID: k.ID, Spec: catalog.EndpointSpec{Address: fmt.Sprintf("10.%d.%d.%d", i/256, i%256, e+1), Port: ptr(uint32(8080))}}
		}
	}
	for _, d := range decoded(tb, everyHop) {
		p := policyOf(tb, d)
		c.Policies[p.Policy.Key()] = p
	}
	for i := range services {
		caller := meshName(max(gateways, i-1))
		for _, d := range decoded(tb, fmt.Sprintf(ownPolicy, meshName(i), caller, ownSections[i%len(ownSections)])) {
			p := policyOf(tb, d)
			c.Policies[p.Policy.Key()] = p
		}
	}
	guard := decoded(tb, guardrail)[0]
	g, faults := manifest.Into[policy.GuardrailSpec](guard)
	if faults = append(faults, policy.ValidateGuardrail(&g)...); len(faults) > 0 {
		tb.Fatal(faults)
	}
	c.Guardrails = map[manifest.Key]*policy.Compiled{g.Key(): policy.CompileGuardrail(&g)}
	return (&World{}).With(1, c), c
}

// meshService is what the i-th service of a mesh says of itself.
func meshService(s *catalog.Service, i, services int) {
	s.Metadata.Labels = map[string]string{"tier": []string{"front", "middle", "back", "store"}[i%4]}
	if i < gateways {
		return
	}
	deps := []string{shared(services)}
	for n := 1; n <= 4; n++ {
		deps = append(deps, meshName((i+n*n)%services))
	}
	s.Spec.DependsOn = &deps
}

func callerOf(i int) ClassKey {
	k := orders()
	k.Service = meshName(i)
	return k
}

func decoded(tb testing.TB, text string) []manifest.Document {
	tb.Helper()
	documents, faults := manifest.Decode("", []byte(text), manifest.YAML, manifest.Limits{})
	if len(faults) > 0 {
		tb.Fatal(faults)
	}
	return documents
}

func policyOf(tb testing.TB, d manifest.Document) *policy.Compiled {
	tb.Helper()
	p, faults := manifest.Into[policy.Spec](d)
	if faults = append(faults, policy.Validate(&p)...); len(faults) > 0 {
		tb.Fatal(faults)
	}
	return policy.Compile(&p)
}

// everyHop is what is recommended for every hop, and for a tier.
const everyHop = `apiVersion: breakwater/v1alpha1
kind: Policy
metadata: {namespace: shop, name: every-hop}
spec:
  to: {service: "*"}
  timeout: {request: 3s, perTry: 900ms, connect: 100ms}
  retry:
    numRetries: 2
    retryOn: [connect-failure, reset, refused-stream, gateway-error]
    avoidPreviousHosts: true
    hostSelectionAttempts: 5
    backOff: {base: 25ms, max: 250ms}
    budget: {percent: 20, minConcurrent: 3}
  outlierDetection: {consecutiveGatewayFailure: 5, interval: 1s, baseEjectionTime: 30s, maxEjectionTime: 30s, maxEjectionPercent: 100}
  loadBalancing: {algorithm: least-request, panicThreshold: 0}
  limits: {maxConnections: 1024, maxPendingRequests: 1024, maxRequests: 1024}
---
apiVersion: breakwater/v1alpha1
kind: Policy
metadata: {namespace: shop, name: stores-shed}
spec:
  to: {selector: {tier: store}}
  admissionControl: {successRatePercent: 90}
`

const guardrail = `apiVersion: breakwater/v1alpha1
kind: Guardrail
metadata: {namespace: shop, name: bounds}
spec:
  to: {service: "*"}
  bounds: [{field: retry.numRetries, max: 3}, {field: timeout.request, max: 10s}]
`

// ownPolicy is of one service, with a place for its name, for one of its callers, and for what it says.
const ownPolicy = `apiVersion: breakwater/v1alpha1
kind: Policy
metadata: {namespace: shop, name: of-%[1]s}
spec:
  to: {service: %[1]s}
  %[3]s
---
apiVersion: breakwater/v1alpha1
kind: Policy
metadata: {namespace: shop, name: for-%[2]s-of-%[1]s}
spec:
  to: {service: %[1]s}
  from: {service: %[2]s}
  timeout: {request: 400ms, perTry: 150ms}
  bulkhead: {maxConcurrent: 24}
  circuitBreaker: {failureThreshold: 5, recoveryTimeout: 30s}
`

// ownSections are policies of each common kind.
var ownSections = []string{
	"timeout: {request: 2s, perTryIdle: 500ms}",
	"retry: {numRetries: 3, retryOn: [gateway-error], methods: idempotent}",
	"limits: {maxRequests: 512}",
	"circuitBreaker: {failureThreshold: 5, recoveryTimeout: 30s, gatewayErrorsOnly: true}",
	"bulkhead: {maxConcurrent: 20}",
	"loadBalancing: {algorithm: round-robin}",
	"rateLimit: {requests: 100, interval: 1s}",
	"healthCheck: {http: {path: /healthz}, interval: 5s}",
	"fallback: {response: {status: 200, body: \"[]\"}}",
	"failureCriteria: {http: {statuses: [429, 5xx]}}",
}
