package lint

import (
	"cmp"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Linter keeps what it has found, so that the next look costs no more than what differs. It belongs to one goroutine at a time.
type Linter struct {
	graph *graph
	told  map[identity]*telling
}

// New is a linter that has looked at nothing yet.
func New() *Linter { return &Linter{graph: newGraph(), told: make(map[identity]*telling)} }

// Look takes in for what there is, and finds in it what the look before has not found, or of another severity, in the order of Run. What
// in holds must not change from then on.
func (l *Linter) Look(in Input) []Finding {
	t := retelling{Linter: l, touched: make(map[identity]bool)}
	step := l.graph.move(in)
	for n := range step.look {
		t.replace(&n.found, l.graph.find(n))
	}
	if step.calls {
		t.replace(&l.graph.chained, l.graph.chains())
	}
	for e := range step.judge {
		t.replace(&e.found, l.graph.judge(e))
	}
	return t.news()
}

// All is everything that the last look could find, in the order of Run.
func (l *Linter) All() []Finding {
	list := make([]Finding, 0, len(l.told))
	for _, t := range l.told {
		list = append(list, l.tell(t))
	}
	slices.SortFunc(list, Compare)
	return list
}

// About is what All has about an object.
func (l *Linter) About(kind string, object manifest.Key) []Finding {
	var list []Finding
	for id, t := range l.told {
		if id.object == object && id.kind == kind {
			list = append(list, l.tell(t))
		}
	}
	slices.SortFunc(list, Compare)
	return list
}

// Compare orders findings: the worst first, then by object.
func Compare(a, b Finding) int {
	return cmp.Or(cmp.Compare(rankOf(b.Severity), rankOf(a.Severity)), cmp.Compare(a.Kind, b.Kind),
		cmp.Compare(a.Object.Namespace, b.Object.Namespace), cmp.Compare(a.Object.Name, b.Object.Name),
		cmp.Compare(a.Code, b.Code), cmp.Compare(a.Path, b.Path))
}

// spot is a finding in one place.
type spot struct {
	Finding
	at  *node // the service that it is about; nil: it is not about one
	by  *node // the service at which it was found; nil for what is found in all of them together
	nth int   // of those found there
}

// spots are what is found in one place, in order.
type spots struct {
	by   *node
	list []*spot
}

func (s *spots) add(at *node, f Finding) {
	s.list = append(s.list, &spot{Finding: f, at: at, by: s.by, nth: len(s.list)})
}

// identity is what makes two findings one: the same fault of the same object, seen at several services.
type identity struct {
	code, kind, path string
	object           manifest.Key
}

// telling is one finding.
type telling struct {
	spots []*spot  // where it is found, in any order
	said  Severity // after the last look; empty: it was not there
}

// tell makes one finding of it: of several spots the worst counts, then the first.
func (l *Linter) tell(t *telling) Finding {
	first := t.spots[0]
	var of []*node
	for _, s := range t.spots {
		if s.before(first) {
			first = s
		}
		if !slices.Contains(of, s.at) {
			of = append(of, s.at)
		}
	}
	f := first.Finding
	f.More = len(of) - 1
	if l.graph.accepts(f.Kind, f.Object, f.Code) {
		f.Severity, f.Accepted = Info, true
	}
	return f
}

func (s *spot) before(o *spot) bool {
	switch {
	case s.Severity != o.Severity:
		return rankOf(s.Severity) > rankOf(o.Severity)
	case s.by != o.by:
		return o.by == nil || s.by != nil && nodesByKey(s.by, o.by) < 0
	}
	return s.nth < o.nth
}

// retelling puts new spots in the place of old ones.
type retelling struct {
	*Linter
	touched map[identity]bool
}

func (r *retelling) replace(old *[]*spot, now []*spot) {
	for _, s := range *old {
		t := r.touch(s)
		i := slices.Index(t.spots, s)
		t.spots = slices.Delete(t.spots, i, i+1)
	}
	for _, s := range now {
		t := r.touch(s)
		t.spots = append(t.spots, s)
	}
	*old = now
}

func (r *retelling) touch(s *spot) *telling {
	id := identity{s.Code, s.Kind, s.Path, s.Object}
	r.touched[id] = true
	t := r.told[id]
	if t == nil {
		t = &telling{}
		r.told[id] = t
	}
	return t
}

// news are the findings that were not there before, or were of another severity, once all is in its place.
func (r *retelling) news() []Finding {
	list := []Finding{}
	for id := range r.touched {
		t := r.told[id]
		if len(t.spots) == 0 {
			delete(r.told, id)
			continue
		}
		if f := r.tell(t); f.Severity != t.said {
			t.said = f.Severity
			list = append(list, f)
		}
	}
	slices.SortFunc(list, Compare)
	return list
}

// find is what there is to find about n: in the calls that it gets, and in those that it makes together with those that follow.
func (g *graph) find(n *node) []*spot {
	if !g.alive(n) {
		return nil
	}
	s := spots{by: n}
	for _, c := range n.in.calls {
		s.call(c)
	}
	for _, outer := range n.out.calls {
		for _, inner := range outer.to.out.calls {
			s.pair(outer, inner)
		}
	}
	return s.list
}
