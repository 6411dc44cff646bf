// Package policy is the policy language: its sections, their rules, and how all policies that apply to one caller and one service
// become one effective policy. A section's file holds its type, defaults and rules.
package policy

import "github.com/breakwater-mesh/breakwater/pkg/manifest"

// Kind is the kind of a Policy manifest.
const Kind = "Policy"

// Policy says how calls to some services, made by some callers, withstand failure.
type Policy = manifest.Object[Spec]

// Spec is what an author says in a policy.
type Spec struct {
	To         Target  `json:"to"`
	From       *Source `json:"from,omitempty"`
	Precedence *int32  `json:"precedence,omitempty"` // breaks ties, higher wins

	Sections
}

// Sections are the mechanisms of a policy. In a Spec they hold what the author wrote; in an Effective what applies.
type Sections struct {
	Timeout          *Timeout          `json:"timeout,omitempty"`
	Retry            *Retry            `json:"retry,omitempty"`
	Limits           *Limits           `json:"limits,omitempty"`
	Bulkhead         *Bulkhead         `json:"bulkhead,omitempty"`
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`
	CircuitBreaker   *CircuitBreaker   `json:"circuitBreaker,omitempty"`
	LoadBalancing    *LoadBalancing    `json:"loadBalancing,omitempty"`
}

// Target is the called side. Exactly one of Service and Selector is set; Service may be "*".
type Target struct {
	Namespace string            `json:"namespace,omitempty"` // default: the policy's own; "*" only in breakwater-system
	Service   string            `json:"service,omitempty"`
	Selector  map[string]string `json:"selector,omitempty"` // labels of the called service
}

// Source is the calling side. Exactly one of Service and Selector is set.
type Source struct {
	Namespace string            `json:"namespace,omitempty"` // default: the policy's own
	Service   string            `json:"service,omitempty"`
	Selector  map[string]string `json:"selector,omitempty"` // labels of the calling service
}

// Service is what resolving needs to know of a called service.
type Service struct {
	manifest.Key
	Labels   map[string]string
	Protocol string // http, http2, grpc
}

// Caller is a service seen as the one that calls. Labels are those of its Service object.
type Caller struct {
	manifest.Key
	Labels map[string]string
}

// Origin says where the value of an effective field comes from.
type Origin struct {
	Policy   manifest.Key `json:"-"`        // zero for a default
	Revision int64        `json:"revision"` // of that policy
	Path     string       `json:"path"`     // as written there, such as circuitBreaker.failureThreshold
	Default  bool         `json:"default,omitempty"`
}

// Field is one field of an effective policy, with the policies that lost it.
type Field struct {
	Path   string // such as outlierDetection.consecutive5xx
	Value  any    // as JSON would show it; nil where a section was switched off
	Origin Origin
	Losers []Loser
}

// Loser is a value that a more specific policy overrode.
type Loser struct {
	Value  any
	Origin Origin
}

// Effective is the merge of all policies that apply to one caller and one service. Classic knobs are expanded: Bulkhead and
// CircuitBreaker are nil here, except for CircuitBreaker's agent-only fields. Defaults are filled in: a section that is not
// nil is complete.
type Effective struct {
	Sections
	Fields   []Field        // by path
	Policies []manifest.Key // that apply, least specific first
}
