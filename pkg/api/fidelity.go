package api

import (
	"fmt"
	"net/url"
)

// FidelityResponse says how well the dialects in use, or those asked for, enforce a policy, as if it were the only one.
type FidelityResponse struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	Revision  int64             `json:"revision"`
	Dialects  []DialectFidelity `json:"dialects"`

	Unreachable []Unreachable `json:"unreachable,omitempty"` // replicas that did not say which dialects are in use there
}

// DialectFidelity is what one dialect makes of a policy.
type DialectFidelity struct {
	Dialect string          `json:"dialect"`           // sidecar, clusters-only, grpc or agent
	Version string          `json:"version,omitempty"` // of the proxy, such as 1.40
	Proxies int             `json:"proxies"`           // connected ones whose calls the policy concerns
	Fields  []FieldFidelity `json:"fields"`
}

// The levels of fidelity.
const (
	Exact       = "exact"
	Approximate = "approximate"
	Unsupported = "unsupported"
)

// FieldFidelity is how well one field of a policy is enforced.
type FieldFidelity struct {
	Field    string `json:"field"`              // as the policy has it, such as circuitBreaker.failureThreshold
	Protocol string `json:"protocol,omitempty"` // of the services for which this holds; "" where it holds for all that the policy covers
	Level    string `json:"level" enum:"exact,approximate,unsupported"`
	Reason   string `json:"reason,omitempty"`
	Instead  string `json:"instead,omitempty"`  // what to write to get nearer
	Default  bool   `json:"default,omitempty"`  // the policy does not say it: its section brings it along
	Inherent bool   `json:"inherent,omitempty"` // it holds whatever is written, so that no write is warned of it that does not ask for exactness
	Beside   bool   `json:"beside,omitempty"`   // it holds for what stands beside it, or does not: another policy may change that
}

// String is all but the field as one line.
func (f FieldFidelity) String() string {
	text := f.Level
	if f.Protocol != "" {
		text += " for " + f.Protocol + " services"
	}
	if f.Reason != "" {
		text += ": " + f.Reason
	}
	if f.Instead != "" {
		text += "; instead: " + f.Instead
	}
	return text
}

// String names the dialect with its version, such as "sidecar 1.40".
func (d DialectFidelity) String() string {
	if d.Version == "" {
		return d.Dialect
	}
	return fmt.Sprintf("%s %s", d.Dialect, d.Version)
}

// FidelityPath asks how well a policy is enforced by some dialects, or by those in use if none is named; version is that of their
// Envoys, "" for the newest.
func FidelityPath(namespace, name, version string, dialects ...string) string {
	path := ObjectPath(Policies, namespace, name) + "/fidelity"
	q := url.Values{}
	for _, d := range dialects {
		q.Add("dialect", d)
	}
	if version != "" {
		q.Set("version", version)
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return path
}
