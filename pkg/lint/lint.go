// Package lint says where policies will hurt before they do: it looks at what holds for every call of the catalogue, and at chains of
// calls along dependsOn. It never refuses anything; it finds, and says what to write instead.
package lint

import (
	"cmp"
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
	Hosts int // its endpoints, static and registered; 0 where none is known
}

// Run finds what there is to find, in the same order whatever the order of the input: the worst first, then by object.
func Run(in Input) []Finding {
	l := &linter{graph: newGraph(in), found: make(map[identity]*Finding)}
	for _, n := range l.graph.nodes {
		for _, c := range n.results {
			l.call(c)
		}
		for _, outer := range n.calls {
			for _, inner := range outer.to.calls {
				l.pair(outer, inner)
			}
		}
	}
	l.chains()
	l.policies()
	return l.sorted()
}

// linter collects findings.
type linter struct {
	graph *graph
	found map[identity]*Finding
}

// identity is what makes two findings one: the same fault of the same object, seen at several services.
type identity struct {
	code, kind, path string
	object           manifest.Key
}

// add takes a finding; of several with one identity the worst stays, then the first.
func (l *linter) add(f Finding) {
	id := identity{f.Code, f.Kind, f.Path, f.Object}
	have := l.found[id]
	switch {
	case have == nil:
		l.found[id] = &f
	case rankOf(f.Severity) > rankOf(have.Severity):
		f.More = have.More + 1
		*have = f
	default:
		have.More++
	}
}

func rankOf(s Severity) int { return slices.Index([]Severity{Info, Warning, Error}, s) }

func (l *linter) sorted() []Finding {
	list := make([]Finding, 0, len(l.found))
	for _, f := range l.found {
		if l.graph.accepts(f.Kind, f.Object, f.Code) {
			f.Severity, f.Accepted = Info, true
		}
		list = append(list, *f)
	}
	slices.SortFunc(list, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(rankOf(b.Severity), rankOf(a.Severity)), cmp.Compare(a.Kind, b.Kind),
			cmp.Compare(a.Object.Namespace, b.Object.Namespace), cmp.Compare(a.Object.Name, b.Object.Name),
			cmp.Compare(a.Code, b.Code), cmp.Compare(a.Path, b.Path))
	})
	return list
}

// call looks at what holds for the calls of some callers to one service.
func (l *linter) call(c *call) {
	l.tries(c)
	l.unsafe(c)
	l.clientErrors(c)
	l.retryLimits(c)
	l.neverEjects(c)
	l.tooFewHosts(c)
	l.panics(c)
	l.blames(c)
	l.overload(c)
	l.breaks(c)
	l.stalls(c)
	l.cutOff(c)
	l.starves(c)
	l.volumes(c)
	l.inVain(c)
}

// pair looks at two calls, the second of which the first one waits for.
func (l *linter) pair(outer, inner *call) {
	l.outlived(outer, inner)
	l.retriedTwice(outer, inner)
	l.narrower(outer, inner)
}
