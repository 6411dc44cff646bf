// Package api is the shape of the HTTP API: its paths, requests and answers. Server, client and command line share it; it holds no
// behaviour and links neither etcd nor Envoy.
package api

import (
	"fmt"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// Limits of a request's body, in bytes.
const (
	MaxObjectBytes = 1 << 20
	MaxApplyBytes  = 8 << 20
)

// Resource is an object as the server answers it: what the author wrote, what the server added, and how it stands.
type Resource[S any] struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"`
	Metadata   manifest.Meta `json:"metadata"`
	Spec       S             `json:"spec"`
	Status     Status        `json:"status"`
}

// PolicyResponse is a policy with its status.
type PolicyResponse = Resource[policy.Spec]

// GuardrailResponse is a guardrail with its status.
type GuardrailResponse = Resource[policy.GuardrailSpec]

// ServiceResponse is a service with its status.
type ServiceResponse = Resource[catalog.ServiceSpec]

// Status says how an object stands.
type Status struct {
	Conditions []Condition `json:"conditions"`
}

// The types of conditions.
const (
	Accepted     = "Accepted"     // the object is valid and stored
	ResolvedRefs = "ResolvedRefs" // everything it names exists
	Effective    = "Effective"    // what it says is what holds
	Programmed   = "Programmed"   // every connected proxy it concerns has acked it
)

// Truth is the status of a condition.
type Truth string

// The statuses of a condition.
const (
	True    Truth = "True"
	False   Truth = "False"
	Unknown Truth = "Unknown"
)

// Condition is one statement about an object.
type Condition struct {
	Type               string     `json:"type"`
	Status             Truth      `json:"status"`
	Reason             string     `json:"reason"`
	Message            string     `json:"message,omitempty"`
	ObservedGeneration int64      `json:"observedGeneration,omitempty"`
	Since              *time.Time `json:"since,omitempty"` // absent where nobody saw it change
}

// StatusResponse is the status of one object.
type StatusResponse struct {
	Namespace  string      `json:"namespace"`
	Name       string      `json:"name"`
	Revision   int64       `json:"revision"`
	Generation int64       `json:"generation"`
	Conditions []Condition `json:"conditions"`
	Delivery   *Delivery   `json:"delivery,omitempty"` // absent where nobody knows

	ExpiresAt *manifest.Instant `json:"expiresAt,omitempty"` // when the policy is removed
}

// PolicyList is some policies, by namespace and name, as of a revision of the store.
type PolicyList struct {
	Items    []PolicyResponse `json:"items"`
	Revision int64            `json:"revision"`
}

// GuardrailList is some guardrails, by namespace and name, as of a revision of the store.
type GuardrailList struct {
	Items    []GuardrailResponse `json:"items"`
	Revision int64               `json:"revision"`
}

// ServiceList is some services, by namespace and name, as of a revision of the store.
type ServiceList struct {
	Items    []ServiceResponse `json:"items"`
	Revision int64             `json:"revision"`
}

// The sources of an endpoint.
const (
	SourceStatic = "static" // it stands in the Service
	SourceAPI    = "api"    // it was registered by the API
)

// Endpoint is one address of a service.
type Endpoint struct {
	Namespace string               `json:"namespace"`
	Service   string               `json:"service"`
	ID        string               `json:"id,omitempty"` // static endpoints have none
	Source    string               `json:"source"`
	Spec      catalog.EndpointSpec `json:"spec"`

	// Of an endpoint that its agent registered, and renews:
	Lease   string     `json:"lease,omitempty"`   // how long the agent may be silent, such as "1m"
	State   string     `json:"state,omitempty"`   // live, unheard, protected or stale
	Since   *time.Time `json:"since,omitempty"`   // since when it is protected or stale
	Message string     `json:"message,omitempty"` // why it is not live
}

// The bounds of an endpoint's lease.
const (
	MinLease = 5 * time.Second
	MaxLease = 5 * time.Minute
)

// The states of a leased endpoint.
const (
	StateLive      = "live"      // its agent is heard
	StateUnheard   = "unheard"   // its lease ran out; it stays until a replica has had the store for two leases
	StateProtected = "protected" // stale, but it stays: too many would leave at once
	StateStale     = "stale"     // proxies get it no more
)

// EndpointList is the endpoints of a service, the static ones first, as of a revision of the store.
type EndpointList struct {
	Items    []Endpoint `json:"items"`
	Revision int64      `json:"revision"`
}

// Action is what a write did to an object.
type Action string

// The actions.
const (
	Created   Action = "created"
	Updated   Action = "updated"
	Unchanged Action = "unchanged"
	Deleted   Action = "deleted"
)

// Result is what an apply did to one object.
type Result struct {
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	Action     Action `json:"action"`
	Generation int64  `json:"generation,omitempty"`
}

// Warning is what the server let pass but an author should know.
type Warning struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Field     string `json:"field,omitempty"`
	Message   string `json:"message"`
}

// String is the warning as one line.
func (w Warning) String() string {
	text := fmt.Sprintf("%s %s/%s: ", w.Kind, w.Namespace, w.Name)
	if w.Field != "" {
		text += w.Field + ": "
	}
	return text + w.Message
}

// ApplyResult is what an apply did, one result an object, in the order of the request. Revision is the revision at which all of it
// holds.
type ApplyResult struct {
	Revision int64     `json:"revision"`
	Results  []Result  `json:"results"`
	Warnings []Warning `json:"warnings"`
	Findings []Finding `json:"findings"`         // of lint: about the written objects, and what the write brings about elsewhere
	Impact   *Impact   `json:"impact,omitempty"` // of a dry run
}

// ValidateResult is what an apply of the same documents would do. Documents that would be refused are answered with the same Problem
// as by an apply.
type ValidateResult struct {
	Valid    bool      `json:"valid"`
	Results  []Result  `json:"results"`
	Warnings []Warning `json:"warnings"`
	Findings []Finding `json:"findings"`
}

// Version says what build of the server answers.
type Version struct {
	Version    string `json:"version"`
	APIVersion string `json:"apiVersion"`
}

// ETag is the entity tag of an object: it changes with every write and differs between an object and a later one of the same name.
func ETag(m manifest.Meta) string { return fmt.Sprintf(`"%s-%d"`, m.UID, m.Revision) }
