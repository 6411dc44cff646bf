// Package lint says where policies will hurt before they do: it looks at what holds for every call of the catalogue, and at chains of
// calls along dependsOn. It never refuses anything; it finds, and says what to write instead.
package lint

import (
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// Severity says how much a finding matters.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // what is written does nothing, or does harm for certain
	Warning Severity = "warning" // it will hurt one day
	Info    Severity = "info"    // worth knowing
)

// Accept is the annotation by which the author of an object says that findings are known and meant: their codes, separated by commas or
// spaces. Such a finding stays, as an info.
const Accept = "breakwater.lint/accept"

// Finding is one thing that will hurt.
type Finding struct {
	Code     string
	Severity Severity
	Kind     string       // of the object: Policy, Guardrail or Service
	Object   manifest.Key // where to change something
	Path     string       // of the field in the object, such as spec.retry.numRetries
	Calls    []string     // the calls it is about, hop by hop, such as shop/edge, shop/orders x3
	More     int          // services of which the same can be said
	Why      string
	Instead  string // what to write
	Accepted bool   // the author has said that it is meant
}

// Input is what there is to look at. Nothing of it is changed.
type Input struct {
	Policies []*policy.Compiled // and guardrails
	Services []Service
}

// Service is a service of the catalogue.
type Service struct {
	*catalog.Service
	Hosts   int            // its endpoints, static and registered; 0 where none is known
	Subsets map[string]int // those of each subset
}

// ServiceOf is svc with its endpoints counted, static and registered.
func ServiceOf(svc *catalog.Service, registered []catalog.Endpoint) Service {
	s := Service{Service: svc, Hosts: len(svc.Spec.Endpoints) + len(registered)}
	if len(svc.Spec.Subsets) == 0 {
		return s
	}
	s.Subsets = make(map[string]int, len(svc.Spec.Subsets))
	count := func(labels map[string]string) {
		for name, subset := range svc.Spec.Subsets {
			if catalog.Selects(subset, labels) {
				s.Subsets[name]++
			}
		}
	}
	for i := range svc.Spec.Endpoints {
		count(svc.Spec.Endpoints[i].Labels)
	}
	for i := range registered {
		count(registered[i].Spec.Labels)
	}
	return s
}

// Run finds what there is to find, in the same order whatever the order of the input: the worst first, then by object.
func Run(in Input) []Finding {
	l := New()
	l.Look(in)
	return l.All()
}

func rankOf(s Severity) int { return slices.Index([]Severity{Info, Warning, Error}, s) }

// call looks at what holds for the calls of some callers to one service.
func (l *spots) call(c *call) {
	l.neverEjects(c)
	l.tooFewHosts(c)
	l.panics(c)
	l.newHosts(c)
	l.blames(c)
	l.overload(c)
	l.roundedUp(c)
	l.zeros(c)
	if c.spare {
		return // on the way there all is as on the way to the service that is called
	}
	l.tries(c)
	l.unsafe(c)
	l.clientErrors(c)
	l.retryLimits(c)
	l.breaks(c)
	l.stalls(c)
	l.cutOff(c)
	l.starves(c)
	l.bounded(c)
	l.itself(c)
	l.volumes(c)
	l.inVain(c)
}

// pair looks at two calls, the second of which the first one waits for.
func (l *spots) pair(outer, inner *call) {
	l.outlived(outer, inner)
	l.retriedTwice(outer, inner)
	l.narrower(outer, inner)
}
