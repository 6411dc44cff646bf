package api

import (
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// ProblemType names one kind of error. It is stable: programs may decide by it.
type ProblemType string

// typePrefix makes a ProblemType a URI.
const typePrefix = "urn:breakwater:problem:"

// The kinds of errors.
const (
	Invalid           ProblemType = typePrefix + "invalid"            // 422: the request itself is wrong
	NotFound          ProblemType = typePrefix + "not-found"          // 404
	MethodNotAllowed  ProblemType = typePrefix + "method-not-allowed" // 405
	TooLarge          ProblemType = typePrefix + "too-large"          // 413
	UnsupportedMedia  ProblemType = typePrefix + "unsupported-media"  // 415
	PolicyConflict    ProblemType = typePrefix + "policy-conflict"    // 409: two policies of one rank disagree
	HostConflict      ProblemType = typePrefix + "host-conflict"      // 409: a host belongs to another service
	EndpointConflict  ProblemType = typePrefix + "endpoint-conflict"  // 409: another endpoint has that address and port
	PortConflict      ProblemType = typePrefix + "port-conflict"      // 409: another tcp service of the namespace has that local port
	ClusterConflict   ProblemType = typePrefix + "cluster-conflict"   // 409: another service's cluster has that name
	Referenced        ProblemType = typePrefix + "referenced"         // 409: others name what would be deleted
	InvalidMerge      ProblemType = typePrefix + "invalid-merge"      // 422: valid policies whose merge is not
	Unbuildable       ProblemType = typePrefix + "unbuildable"        // 422: a service can't be built with a policy, which would be in quarantine
	TooWide           ProblemType = typePrefix + "too-wide"           // 422: it rebuilds clusters of many services on many proxies, and ?wide=true is missing
	Shrinks           ProblemType = typePrefix + "shrinks"            // 422: it removes much of a namespace or of a service, and ?allowShrink=true is missing
	LintErrors        ProblemType = typePrefix + "lint-errors"        // 422: strict, and lint finds errors
	NotExact          ProblemType = typePrefix + "not-exact"          // 422: exactness is asked for, and a proxy does not enforce a field exactly
	PreconditionFails ProblemType = typePrefix + "precondition"       // 412: If-Match or If-None-Match does not hold
	Forbidden         ProblemType = typePrefix + "forbidden"          // 403
	Misdirected       ProblemType = typePrefix + "misdirected"        // 421: another replica was meant
	Unavailable       ProblemType = typePrefix + "unavailable"        // 503: the store can't be reached
	Late              ProblemType = typePrefix + "late"               // 504: this replica has not seen the revision in time
	Internal          ProblemType = typePrefix + "internal"           // 500
)

// Problem is an error as the API answers it (RFC 9457), with every fault that was found.
type Problem struct {
	Type   ProblemType `json:"type" format:"uri"`
	Title  string      `json:"title"`
	Status int         `json:"status"`
	Detail string      `json:"detail,omitempty"`
	// Errors are the faults of the input, in the order of the text.
	Errors []manifest.FieldError `json:"errors,omitempty"`
	// Revision is the present revision of the object, on a failed precondition.
	Revision int64 `json:"revision,omitempty"`
	// Conflicts are the objects that stand in the way.
	Conflicts []Conflict `json:"conflicts,omitempty"`
	// RequestID is what the server's log calls the request.
	RequestID string `json:"requestId,omitempty"`
}

// Conflict is an object that stands in the way of a write.
type Conflict struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Field     string `json:"field,omitempty"`
	Message   string `json:"message"`
}

// Error is the problem as text: the detail, then one fault a line.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Title)
	if p.Detail != "" {
		b.WriteString(": " + p.Detail)
	}
	for i := range p.Errors {
		b.WriteString("\n" + p.Errors[i].Error())
	}
	for _, c := range p.Conflicts {
		b.WriteString("\n" + c.Message)
	}
	return b.String()
}

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is the media type of a problem in a format.
func (p *Problem) ContentType(format string) string {
	if format == "application/json" {
		return "application/problem+json"
	}
	if format == "application/yaml" {
		return "application/problem+yaml"
	}
	return format
}
