// Package policy is the policy language: its sections, their rules, and how all policies that apply to one caller and one service
// become one effective policy. A section's file holds its type, defaults and rules.
package policy

import (
	"encoding/json"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Kind is the kind of a Policy manifest.
const Kind = "Policy"

// Policy says how calls to some services, made by some callers, withstand failure.
type Policy = manifest.Object[Spec]

// Spec is what an author says in a policy.
type Spec struct {
	To         Target  `json:"to" doc:"The called services." bwdefault:"required"`
	From       *Source `json:"from,omitempty" doc:"The calling services; always the client, never a route into it." bwdefault:"every caller; every caller of its own namespace where another namespace's service is called"`
	Precedence *int32  `json:"precedence,omitempty" doc:"Breaks ties between equally specific policies: the higher wins." bwdefault:"0"`

	ExpiresAt *manifest.Instant `json:"expiresAt,omitempty" doc:"When the policy is removed, by the control plane; its history stays. A moment that is past is refused." bwdefault:"never"`

	Sections
}

// Sections are the mechanisms of a policy. In a Spec they hold what the author wrote; in an Effective what applies.
type Sections struct {
	FailureCriteria     *FailureCriteria     `json:"failureCriteria,omitempty" doc:"What counts as a failure, said once." bwdefault:"what Envoy takes for one: 5xx"`
	Timeout             *Timeout             `json:"timeout,omitempty" doc:"Bounds calls in time." bwdefault:"off"`
	Retry               *Retry               `json:"retry,omitempty" doc:"Sends a failed call again." bwdefault:"off"`
	Limits              *Limits              `json:"limits,omitempty" doc:"Cuts calls off by number, per proxy (Envoy's circuit_breakers)." bwdefault:"off"`
	Bulkhead            *Bulkhead            `json:"bulkhead,omitempty" doc:"The classic bulkhead: bounds concurrent calls, per proxy." bwdefault:"off"`
	OutlierDetection    *OutlierDetection    `json:"outlierDetection,omitempty" doc:"Ejects failing hosts for a while." bwdefault:"off"`
	CircuitBreaker      *CircuitBreaker      `json:"circuitBreaker,omitempty" doc:"The classic circuit breaker, compiled onto outlier detection." bwdefault:"off"`
	LoadBalancing       *LoadBalancing       `json:"loadBalancing,omitempty" doc:"Chooses the host of a call." bwdefault:"off"`
	HealthCheck         *HealthCheck         `json:"healthCheck,omitempty" doc:"Asks hosts whether they are well, and keeps those that are not out of rotation." bwdefault:"off"`
	AdmissionControl    *AdmissionControl    `json:"admissionControl,omitempty" doc:"Sheds calls, by chance, when too few of them succeed." bwdefault:"off"`
	AdaptiveConcurrency *AdaptiveConcurrency `json:"adaptiveConcurrency,omitempty" doc:"Sheds calls above a number at once that it finds by their latency." bwdefault:"off"`
	Hedge               *Hedge               `json:"hedge,omitempty" doc:"Sends a second try while the first may still answer." bwdefault:"off"`
	RateLimit           *RateLimit           `json:"rateLimit,omitempty" doc:"Bounds how many calls a proxy sends in a time." bwdefault:"off"`
	Fallback            *Fallback            `json:"fallback,omitempty" doc:"Answers where the service could not." bwdefault:"off"`
	ErrorMapping        *ErrorMapping        `json:"errorMapping,omitempty" doc:"Says in which words the proxy tells that no answer could be had." bwdefault:"off"`
	Fault               *Fault               `json:"fault,omitempty" doc:"Makes calls fail on purpose, until expiresAt, which it needs." bwdefault:"off"`
}

// Target is the called side. Exactly one of Service and Selector is set; Service may be "*".
type Target struct {
	Namespace string            `json:"namespace,omitempty" doc:"Where the called services are; \"*\", everywhere, only in breakwater-system." bwdefault:"the policy's own"`
	Service   string            `json:"service,omitempty" doc:"The called service, or \"*\" for every one of the namespace." bwdefault:"by selector"`
	Selector  map[string]string `json:"selector,omitempty" doc:"Labels of the called service." bwdefault:"by service"`
	Subset    string            `json:"subset,omitempty" doc:"One of the service's subsets: the policy then sets fields of scope cluster only." bwdefault:"all of the service"`
	Route     string            `json:"route,omitempty" doc:"One of the service's routes, or default for the one that takes the rest: the policy then sets fields of scope route only." bwdefault:"all of the service"`
}

// Source is the calling side. Exactly one of Service and Selector is set.
type Source struct {
	Namespace string            `json:"namespace,omitempty" doc:"Where the calling services are; \"*\", everywhere, only in breakwater-system." bwdefault:"the policy's own"`
	Service   string            `json:"service,omitempty" doc:"The calling service." bwdefault:"by selector"`
	Selector  map[string]string `json:"selector,omitempty" doc:"Labels of the calling service." bwdefault:"by service"`
}

// Service is what resolving needs to know of a called service.
type Service struct {
	manifest.Key
	Labels   map[string]string
	Protocol string // http, http2, grpc

	part // what of it is looked at: the service as a whole, unless a policy names a part
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

// MarshalJSON writes the policy as "namespace/name".
func (o Origin) MarshalJSON() ([]byte, error) {
	shown := struct {
		Policy   string `json:"policy,omitempty"`
		Revision int64  `json:"revision,omitempty"`
		Path     string `json:"path,omitempty"`
		Default  bool   `json:"default,omitempty"`
	}{Revision: o.Revision, Path: o.Path, Default: o.Default}
	if o.Policy != (manifest.Key{}) {
		shown.Policy = o.Policy.String()
	}
	return json.Marshal(shown)
}

// Field is one field of an effective policy, with the policies that lost it.
type Field struct {
	Path   string  `json:"path"`  // such as outlierDetection.consecutive5xx; of a nested object every field has its own
	Value  any     `json:"value"` // as JSON would show it; nil where a section was switched off, or what was lost has no successor
	Origin Origin  `json:"origin"`
	Clamp  *Clamp  `json:"clamp,omitempty"`  // how a guardrail has moved it; nil: not at all
	Losers []Loser `json:"losers,omitempty"` // the most specific first
}

// Loser is a value that a more specific policy overrode.
type Loser struct {
	Value  any    `json:"value"`
	Origin Origin `json:"origin"`
}

// Effective is the merge of all policies that apply to one caller and one service. Classic knobs are expanded: Bulkhead and
// CircuitBreaker are nil here, except for CircuitBreaker's agent-only fields. Defaults are filled in: what is still nil in a
// section that is not has no default, and means that there is no such limit or detector.
type Effective struct {
	Sections
	Fields   []Field        // by path; of a Result nil
	Policies []manifest.Key // that apply, least specific first

	Guardrails []manifest.Key // that apply; values that they moved have a Clamp

	// Observed is the merge of the sections that only observe, nil where there are none: nothing of it is enforced.
	Observed *Effective `json:",omitempty"`

	// The merges for those parts of the service that a policy names, by name: of a subset its fields of scope cluster hold, of a
	// route those of scope route. What no policy names is as the service is: see Subset and Route.
	Subsets, Routes map[string]*Effective `json:",omitempty"`
}
