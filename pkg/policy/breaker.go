package policy

import "github.com/breakwater-mesh/breakwater/pkg/manifest"

// CircuitBreaker is the classic breaker; it expands to OutlierDetection.
type CircuitBreaker struct {
	Disabled          *bool              `json:"disabled,omitempty" doc:"Clears the circuit breaker that less specific policies set; plain outlier detection stays." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"false"`
	Observe           *bool              `json:"observe,omitempty" doc:"Counts what this section would do, and does nothing. It takes the place of nothing that is enforced." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"false"`
	FailureThreshold  *uint32            `json:"failureThreshold,omitempty" doc:"Failures in a row that open it." minimum:"1" zero:"to switch the breaker off write circuitBreaker.disabled: true" unit:"failures" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"5 (Breakwater)"`
	RecoveryTimeout   *manifest.Duration `json:"recoveryTimeout,omitempty" doc:"How long it stays open; up to 1 s longer on Envoy." unit:"duration" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"30s (Breakwater)"`
	Scope             *string            `json:"scope,omitempty" doc:"What opens: each host alone, or the service. On Envoy each host counts alone, and open means all are ejected." enum:"host,service" scope:"cluster" effect:"in place" bwdefault:"host (Breakwater)"`
	GatewayErrorsOnly *bool              `json:"gatewayErrorsOnly,omitempty" doc:"Counts 502, 503, 504, connect failures, resets and timeouts only: for a service with dependencies of its own." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"false (Breakwater)"`
	HalfOpen          *HalfOpen          `json:"halfOpen,omitempty" doc:"How an open breaker is tried; only the agent enforces it." scope:"cluster" effect:"in place" bwdefault:"closes when the time is over"`
}

// HalfOpen is how an open breaker is tried; only the agent enforces it.
type HalfOpen struct {
	Probe     *bool   `json:"probe,omitempty" doc:"Lets single calls through before it closes." scope:"cluster" effect:"in place" bwdefault:"true"`
	MaxProbes *uint32 `json:"maxProbes,omitempty" doc:"Calls under way at once while it is tried." minimum:"1" maximum:"1000" unit:"requests" scope:"cluster" effect:"in place" bwdefault:"1"`
	Successes *uint32 `json:"successes,omitempty" doc:"Successes in a row that close it." minimum:"1" maximum:"1000" unit:"successes" scope:"cluster" effect:"in place" bwdefault:"1"`
}

// NotYet answers for what people look for here: Envoy's circuit breakers are limits.
func (CircuitBreaker) NotYet() map[string]string {
	m := make(map[string]string)
	for _, name := range []string{"maxConnections", "maxPendingRequests", "maxRequests", "maxRetries", "maxConnectionPools"} {
		m[name] = "belongs to another section: use limits." + name
	}
	return m
}

// The scopes of a breaker.
const (
	ScopeHost    = "host"
	ScopeService = "service"
)

const (
	defaultFailureThreshold = 5
	defaultRecovery         = manifest.Duration("30s")
	breakerInterval         = manifest.Duration("1s")
)

// expand writes the breaker as outlier detection: it replaces what is inherited there. lb is the same policy's own.
func (b *CircuitBreaker) expand(e *expansion, lb *LoadBalancing) {
	if isTrue(b.Disabled) {
		e.off("circuitBreaker")
		return
	}
	e.replace("outlierDetection", "circuitBreaker")
	threshold, from := uint32(defaultFailureThreshold), "circuitBreaker"
	if b.FailureThreshold != nil {
		threshold, from = *b.FailureThreshold, "circuitBreaker.failureThreshold"
	}
	detector := "outlierDetection.consecutive5xx"
	if isTrue(b.GatewayErrorsOnly) {
		detector = "outlierDetection.consecutiveGatewayFailure"
	}
	e.set(detector, &threshold, from)
	recovery, from := defaultRecovery, "circuitBreaker"
	if b.RecoveryTimeout != nil {
		recovery, from = *b.RecoveryTimeout, "circuitBreaker.recoveryTimeout"
	}
	e.set("outlierDetection.baseEjectionTime", &recovery, from)
	e.set("outlierDetection.maxEjectionTime", &recovery, from)
	e.set("outlierDetection.interval", new(breakerInterval), "circuitBreaker")
	e.set("outlierDetection.maxEjectionPercent", new(uint32(100)), "circuitBreaker")
	e.set("outlierDetection.splitLocalOriginErrors", new(false), "circuitBreaker")
	// A host may be well by its health check and fail its callers: the breaker stays open as long as it says.
	e.set("outlierDetection.unejectOnHealthCheck", new(false), "circuitBreaker")
	if lb == nil || lb.PanicThreshold == nil {
		e.set("loadBalancing.panicThreshold", new(uint32(0)), "circuitBreaker")
	}
	// What only the agent enforces has no other form.
	if b.Scope != nil {
		e.set("circuitBreaker.scope", b.Scope, "circuitBreaker.scope")
	}
	if b.HalfOpen != nil {
		e.set("circuitBreaker.halfOpen", b.HalfOpen, "circuitBreaker.halfOpen")
	}
}

// validate checks one author's section, beside the outlier detection of the same policy.
func (b *CircuitBreaker) validate(f *faults, s *Sections) {
	if s.OutlierDetection != nil && !isTrue(b.Disabled) {
		f.add("circuitBreaker", "can't stand beside outlierDetection, to which it expands: write one of the two")
	}
}
