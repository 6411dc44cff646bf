package envoy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// Level says how well a target enforces a field.
type Level string

// The levels.
const (
	Exact       Level = "exact"
	Approximate Level = "approximate"
	Unsupported Level = "unsupported"
)

// Fidelity is how well a target enforces one effective field. What it can't take is left out of the resources and said here.
type Fidelity struct {
	Field   string `json:"field"` // such as limits.maxRequests
	Level   Level  `json:"level"`
	Reason  string `json:"reason,omitempty"`  // empty where exact
	Instead string `json:"instead,omitempty"` // what to write to get nearer, if anything
}

// report is the fidelity of every field that an author wrote, and of each default that Envoy can't keep exactly, by field.
func (in input) report(fields []policy.Field) []Fidelity {
	found := slices.Concat(in.timeoutFidelity(), in.retryFidelity(), in.limitsFidelity(fields), in.outlierFidelity(), in.balancingFidelity())
	for _, f := range fields {
		if f.Value == nil || f.Origin.Default || slices.ContainsFunc(found, func(d Fidelity) bool { return covers(f.Path, d.Field) }) {
			continue
		}
		found = append(found, Fidelity{Field: f.Path, Level: Exact})
	}
	slices.SortFunc(found, func(a, b Fidelity) int { return cmp.Compare(a.Field, b.Field) })
	return found
}

// covers reports whether one of the paths is the other or lies below it.
func covers(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+".") || strings.HasPrefix(b, a+".")
}

func (in input) timeoutFidelity() []Fidelity {
	t := in.sections.Timeout
	if t == nil || in.protocol != catalog.GRPC || !finite(t.Request) {
		return nil
	}
	return []Fidelity{{"timeout.request", Approximate,
		"it starts when the request is complete, so never for a client stream that stays open", "timeout.maxStream"}}
}

// grpcConditions are retry conditions that look at the gRPC status.
var grpcConditions = [...]string{"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}

func (in input) retryFidelity() []Fidelity {
	r := in.sections.Retry
	if r == nil {
		return nil
	}
	for _, token := range grpcConditions {
		if slices.Contains(r.RetryOn, token) {
			return []Fidelity{{"retry.retryOn", Approximate,
				"a gRPC status is seen where the response is nothing but trailers; behind a message or headers of its own it is not", ""}}
		}
	}
	return nil
}

func (in input) limitsFidelity(fields []policy.Field) []Fidelity {
	l := in.sections.Limits
	if l == nil {
		return nil
	}
	var found []Fidelity
	if l.MaxConnections != nil {
		found = append(found, Fidelity{"limits.maxConnections", Approximate,
			"each worker of the proxy may always hold one connection to each host; at the limit calls wait rather than fail", "limits.maxRequests"})
	}
	if l.MaxPendingRequests != nil {
		found = append(found, in.pendingFidelity(fields)...)
	}
	if l.MaxRetries != nil && in.budget() != nil {
		found = append(found, Fidelity{"limits.maxRetries", Unsupported, "beside a retry budget Envoy ignores it", "retry.budget.minConcurrent"})
	}
	return found
}

func (in input) pendingFidelity(fields []policy.Field) []Fidelity {
	const field = "limits.maxPendingRequests"
	waiting := slices.ContainsFunc(fields, func(f policy.Field) bool { return f.Path == field && f.Origin.Path == "bulkhead.maxWaiting" })
	switch {
	case waiting && in.http2():
		return []Fidelity{{field, Unsupported, "HTTP/2 calls share connections and never wait for one, beyond the time it takes to open it", "bulkhead.maxConcurrent"}}
	case waiting:
		return []Fidelity{{field, Approximate, "calls wait for a connection, not for a place in the bulkhead", ""}}
	case in.http2():
		return []Fidelity{{field, Approximate, "HTTP/2 calls count as pending only while a connection is being opened", "limits.maxRequests"}}
	}
	return nil
}

func (in input) outlierFidelity() []Fidelity {
	var found []Fidelity
	if b := in.sections.CircuitBreaker; b != nil {
		if orElse(b.Scope, "host") == "service" {
			found = append(found, Fidelity{"circuitBreaker.scope", Approximate, "each host counts alone, and the service is cut off once all its hosts are ejected", ""})
		}
		if b.HalfOpen != nil {
			found = append(found, Fidelity{"circuitBreaker.halfOpen", Unsupported, "an ejected host comes back with its full share of calls", ""})
		}
	}
	o := in.sections.OutlierDetection
	if o == nil {
		return found
	}
	found = append(found, Fidelity{"outlierDetection.baseEjectionTime", Approximate, "a host comes back at the first check after it, up to one interval later", "outlierDetection.interval"})
	if in.protocol == catalog.GRPC {
		for field, present := range map[string]bool{
			"consecutive5xx": o.Consecutive5xx != nil, "consecutiveGatewayFailure": o.ConsecutiveGatewayFailure != nil,
			"successRate": o.SuccessRate != nil, "failurePercentage": o.FailurePercentage != nil,
		} {
			if present {
				found = append(found, Fidelity{"outlierDetection." + field, Approximate, "a gRPC status is seen where the response is nothing but trailers; a call that fails later counts as a success", ""})
			}
		}
	}
	return found
}

func (in input) balancingFidelity() []Fidelity {
	lb := in.sections.LoadBalancing
	if lb == nil || lb.Algorithm == nil {
		return nil
	}
	if _, ok := lbPolicy(*lb.Algorithm); !ok {
		return []Fidelity{{"loadBalancing.algorithm", Unsupported, "unknown: hosts are taken in turn", "round-robin, least-request or random"}}
	}
	return nil
}
