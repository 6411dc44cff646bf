package api

import (
	"fmt"
	"strings"
)

// Severity says how much a finding of lint matters.
type Severity string

// The severities, the worst first.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
	SeverityInfo    Severity = "info"
)

// Finding is something of policies that will hurt: see docs/lint.md for the codes.
type Finding struct {
	Code      string   `json:"code"` // stable, such as never-ejects
	Severity  Severity `json:"severity" enum:"error,warning,info"`
	Kind      string   `json:"kind"`
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Path      string   `json:"path"`            // of the field in the object, such as spec.retry.numRetries
	Calls     []string `json:"calls,omitempty"` // it is about, hop by hop, such as shop/edge, shop/orders x3
	More      int      `json:"more,omitempty"`  // other calls of which the same can be said
	Why       string   `json:"why"`
	Instead   string   `json:"instead"`            // what to write
	Accepted  bool     `json:"accepted,omitempty"` // the object's annotation says that it is meant: an info then
}

// String is the finding as one line, without what to write instead.
func (f Finding) String() string {
	return fmt.Sprintf("%s %s/%s: %s: %s [%s]", f.Kind, f.Namespace, f.Name, f.Path, f.Why, f.Code)
}

// CallPath is the calls as one line, such as "shop/edge -> shop/orders x3".
func (f Finding) CallPath() string { return strings.Join(f.Calls, " -> ") }

// LintResponse is all findings, the worst first, as of a revision of the store.
type LintResponse struct {
	Items    []Finding `json:"items"`
	Revision int64     `json:"revision"`
}

// Below reports whether s matters less than o.
func (s Severity) Below(o Severity) bool { return s.rank() < o.rank() }

func (s Severity) rank() int {
	return map[Severity]int{SeverityInfo: 1, SeverityWarning: 2, SeverityError: 3}[s]
}
