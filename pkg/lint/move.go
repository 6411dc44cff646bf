package lint

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// step is what a graph has to do for the next input. Of what holds nothing is made again but what differs has a part in.
type step struct {
	*graph
	told    map[manifest.Key]bool // services of which something differs: what was made of them is made again
	changed map[*node]bool        // those whose own manifest does
	out, in map[*node]bool        // calls to make again
	look    map[*node]bool        // whose findings may differ
	judge   map[*entry]bool       // likewise
	calls   bool                  // some call of out differs
	sampled bool                  // the samples may
}

// move makes g the graph of in.
func (g *graph) move(in Input) *step {
	g.turn++
	s := &step{
		graph: g, told: make(map[manifest.Key]bool), changed: make(map[*node]bool),
		out: make(map[*node]bool), in: make(map[*node]bool), look: make(map[*node]bool), judge: make(map[*entry]bool),
	}
	s.policies(in.Policies)
	s.services(in.Services)
	if s.sampled {
		s.sample()
	}
	for key := range s.told {
		for m := range g.users[key] {
			s.again(m)
		}
	}
	for n := range s.out {
		s.remakeOut(n)
	}
	for n := range s.in {
		if s.alive(n) {
			s.remakeIn(n)
		}
	}
	return s
}

func (g *graph) alive(n *node) bool { return g.byKey[n.called.Key] == n }

func (s *step) again(m *made) {
	if m == &m.of.out {
		s.out[m.of] = true
	} else {
		s.in[m.of] = true
	}
}

// policies takes the policies that are new or have changed, and lets go of those that are no more.
func (s *step) policies(list []*policy.Compiled) {
	for _, p := range list {
		e := s.entries[nameOf(p)]
		if e == nil || e.given != p && !samePolicy(e.Compiled, p) {
			if e != nil {
				s.drop(e)
			}
			e = s.take(p)
		}
		e.given, e.seen = p, s.turn
	}
	for _, e := range slices.Clone(s.order) {
		if e.seen != s.turn {
			s.drop(e)
		}
	}
}

// samePolicy reports whether both say the same.
func samePolicy(a, b *policy.Compiled) bool {
	if !maps.Equal(a.Policy.Metadata.Annotations, b.Policy.Metadata.Annotations) || !reflect.DeepEqual(a.Policy.Spec, b.Policy.Spec) {
		return false
	}
	return a.Guardrail == nil || reflect.DeepEqual(a.Guardrail.Spec, b.Guardrail.Spec)
}

func (e *entry) rank(o *entry) int { return e.Compare(o.Compiled) }

// index is the list that e is found in by what it may cover.
func (g *graph) index(e *entry, change func([]*entry) []*entry) {
	to := e.Policy.Spec.To
	namespace := cmp.Or(to.Namespace, e.Policy.Metadata.Namespace)
	if to.Service != "" && to.Service != policy.Every {
		key := manifest.Key{Namespace: namespace, Name: to.Service}
		g.byTarget[key] = change(g.byTarget[key])
	} else {
		g.bySpace[namespace] = change(g.bySpace[namespace])
	}
}

func (s *step) take(p *policy.Compiled) *entry {
	s.ids++
	e := &entry{Compiled: p, id: s.ids, live: make(map[*merged]bool)}
	s.judge[e] = true
	s.entries[nameOf(p)] = e
	s.order = insert(s.order, e)
	s.index(e, func(list []*entry) []*entry { return append(list, e) })
	for n := range s.candidates(e) {
		if e.Matches(n.called) {
			n.matching = insert(n.matching, e)
			e.covers++
			s.told[n.called.Key] = true
		}
	}
	s.selects(e)
	return e
}

func (s *step) drop(e *entry) {
	delete(s.entries, nameOf(e.Compiled))
	s.judge[e] = true
	without := func(list []*entry) []*entry { return slices.DeleteFunc(list, func(o *entry) bool { return o == e }) }
	s.order = without(s.order)
	s.index(e, without)
	for n := range s.candidates(e) {
		if e.Matches(n.called) {
			n.matching = without(n.matching)
			s.told[n.called.Key] = true
		}
	}
	s.selects(e)
}

func (s *step) selects(e *entry) {
	if from := e.Policy.Spec.From; from != nil && from.Selector != nil {
		s.sampled = true
	}
}

func insert(list []*entry, e *entry) []*entry {
	i, _ := slices.BinarySearchFunc(list, e, (*entry).rank)
	return slices.Insert(list, i, e)
}

// candidates are the services that e may cover.
func (g *graph) candidates(e *entry) func(func(*node) bool) {
	return func(yield func(*node) bool) {
		to := e.Policy.Spec.To
		namespace := cmp.Or(to.Namespace, e.Policy.Metadata.Namespace)
		if to.Service != "" && to.Service != policy.Every {
			if n := g.byKey[manifest.Key{Namespace: namespace, Name: to.Service}]; n != nil {
				yield(n)
			}
			return
		}
		for _, n := range g.nodes {
			if (namespace == policy.Every || n.called.Namespace == namespace) && !yield(n) {
				return
			}
		}
	}
}

// services takes the services that are new or have changed, and lets go of those that are no more.
func (s *step) services(list []Service) {
	renamed := make(map[manifest.Key]bool) // policies may mean them that did not before, as the one that is called or that calls
	had := len(s.nodes)
	for _, svc := range list {
		n := s.byKey[svc.Key()]
		switch {
		case n == nil:
			n = &node{}
			n.out.of, n.in.of = n, n
			s.nodes, s.byKey[svc.Key()] = append(s.nodes, n), n
			s.set(n, svc)
			renamed[n.called.Key] = true
		case !sameService(n.Service, svc):
			renamed[n.called.Key] = !maps.Equal(n.called.Labels, svc.Metadata.Labels) || (n.Spec.DependsOn == nil) != (svc.Spec.DependsOn == nil)
			s.set(n, svc)
		}
		n.Service.Service, n.seen = svc.Service, s.turn
	}
	if len(s.nodes) > had {
		slices.SortFunc(s.nodes, nodesByKey)
	}
	for _, n := range slices.Clone(s.nodes) {
		if n.seen != s.turn {
			s.leave(n)
			renamed[n.called.Key] = true
		}
	}
	if len(s.changed) > 0 {
		s.silence()
		s.meant(renamed)
	}
}

// silence counts the services that do not say whom they call.
func (g *graph) silence() {
	clear(g.silent)
	for _, n := range g.nodes {
		if n.Spec.DependsOn == nil {
			g.silent[n.called.Namespace]++
		}
	}
}

// sameService reports whether both say the same.
func sameService(a, b Service) bool {
	if a.Hosts != b.Hosts || !maps.Equal(a.Subsets, b.Subsets) {
		return false
	}
	return a.Service == b.Service || maps.Equal(a.Metadata.Labels, b.Metadata.Labels) && maps.Equal(a.Metadata.Annotations, b.Metadata.Annotations) &&
		reflect.DeepEqual(a.Spec, b.Spec)
}

// set takes a service that is new or has changed.
func (s *step) set(n *node, svc Service) {
	n.Service = svc
	n.called = policy.Service{Key: svc.Key(), Labels: svc.Metadata.Labels, Protocol: string(catalog.ProtocolOf(svc.Service))}
	s.told[n.called.Key], s.changed[n], s.out[n], s.in[n] = true, true, true, true
	for _, e := range n.matching {
		e.covers--
	}
	n.matching = nil
	for _, list := range [][]*entry{s.bySpace[policy.Every], s.bySpace[n.called.Namespace], s.byTarget[n.called.Key]} {
		for _, e := range list {
			if e.Matches(n.called) {
				n.matching = append(n.matching, e)
				e.covers++
			}
		}
	}
	slices.SortFunc(n.matching, (*entry).rank)
}

// leave takes out a service that is no more.
func (s *step) leave(n *node) {
	for _, e := range n.matching {
		e.covers--
	}
	delete(s.byKey, n.called.Key)
	s.nodes = slices.DeleteFunc(s.nodes, func(o *node) bool { return o == n })
	s.told[n.called.Key], s.changed[n], s.look[n], s.calls = true, true, true, true
	old := n.out.calls
	s.replace(&n.out, made{of: n})
	s.replace(&n.in, made{of: n})
	s.ended(n, old)
}

// meant looks again at what policies mean by their callers, and whether there are any.
func (s *step) meant(renamed map[manifest.Key]bool) {
	for _, e := range s.order {
		e.looked, s.judge[e] = false, true
		from := e.Policy.Spec.From
		if from == nil {
			continue
		}
		s.sampled = s.sampled || from.Selector != nil
		if from.Service == "" || !renamed[sourceOf(e.Policy)] {
			continue
		}
		for n := range s.candidates(e) {
			s.in[n] = true
		}
	}
}

// sample takes new samples, and where they are others looks again at the services whose policies select callers.
func (s *step) sample() {
	samples := s.graph.sample()
	if slices.EqualFunc(samples, s.samples, func(a, b policy.Caller) bool { return a.Key == b.Key && maps.Equal(a.Labels, b.Labels) }) {
		return
	}
	s.samples = samples
	for _, n := range s.nodes {
		if slices.ContainsFunc(n.matching, func(e *entry) bool { return e.Policy.Spec.From != nil && e.Policy.Spec.From.Selector != nil }) {
			s.in[n] = true
		}
	}
}

// remakeOut makes the calls again that n makes.
func (s *step) remakeOut(n *node) {
	old := n.out.calls
	if !s.replace(&n.out, s.outgoing(n)) && !s.changed[n] {
		return
	}
	s.calls = true
	s.look[n] = true
	for _, caller := range n.callers {
		s.look[caller] = true // n is in the middle
	}
	s.ended(n, old)
}

// ended tells the services that n called, or calls now.
func (s *step) ended(n *node, old []*call) {
	before, after := endsOf(old), endsOf(n.out.calls)
	for to := range before {
		if !after[to] {
			to.callers = slices.DeleteFunc(to.callers, func(o *node) bool { return o == n })
			s.in[to] = true
		}
		s.watched(to)
	}
	for to := range after {
		if !before[to] {
			i, _ := slices.BinarySearchFunc(to.callers, n, nodesByKey)
			to.callers = slices.Insert(to.callers, i, n)
		}
		if !before[to] || s.changed[n] {
			s.in[to] = true
		}
		s.watched(to)
	}
}

// watched looks again at what is found in the calls that end at n: whom its failure leaves without an answer.
func (s *step) watched(n *node) {
	for m := range s.users[n.called.Key] {
		if m == &m.of.in {
			s.look[m.of] = true
		}
	}
}

// endsOf are the services that calls name, and those where they end.
func endsOf(calls []*call) map[*node]bool {
	ends := make(map[*node]bool)
	for _, c := range calls {
		ends[c.named], ends[c.to] = true, true
	}
	return ends
}

// remakeIn makes the calls again that n gets.
func (s *step) remakeIn(n *node) {
	changed := s.replace(&n.in, s.incoming(n))
	if changed || slices.ContainsFunc(n.in.calls, func(c *call) bool { return s.changed[c.to] }) {
		s.look[n] = true
	}
}

// replace puts fresh in the place of m, and reports whether the calls differ. What nobody has any more is forgotten.
func (s *step) replace(m *made, fresh made) bool {
	own := 0
	if m == &m.of.out {
		own = 1
	}
	for _, set := range fresh.sets {
		s.count(set, 1, own)
	}
	for _, set := range m.sets {
		s.count(set, -1, -own)
	}
	for _, key := range m.uses {
		if delete(s.users[key], m); len(s.users[key]) == 0 {
			delete(s.users, key)
		}
	}
	for _, key := range fresh.uses {
		if s.users[key] == nil {
			s.users[key] = make(map[*made]bool)
		}
		s.users[key][m] = true
	}
	same := slices.EqualFunc(m.calls, fresh.calls, func(a, b *call) bool { return *a == *b })
	*m = fresh
	return !same
}

// count counts who has a result. Where the first takes it or the last lets go of it, the policies in it fare otherwise.
func (s *step) count(m *merged, refs, called int) {
	had, heard := m.refs > 0, m.called > 0
	m.refs += refs
	m.called += called
	if had == (m.refs > 0) && heard == (m.called > 0) {
		return
	}
	for _, e := range m.entries {
		s.judge[e] = true
		if m.refs > 0 {
			e.live[m] = true
		} else {
			delete(e.live, m)
		}
	}
	if m.refs == 0 {
		delete(s.merges, m.key)
	}
}
