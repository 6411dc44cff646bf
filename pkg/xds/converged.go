package xds

import (
	"maps"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// Wanted is what is asked of the proxies of a class.
type Wanted struct {
	All   bool // whatever they hold, or should
	Names []view.ID
}

// snapshot is a stream's state at one moment: the views are immutable, only the exceptions are copied.
type snapshot struct {
	head  *world.Head
	gates bool // as in state
	subs  [view.NumTypes]sub
	needs map[view.ID]struct{} // what the proxy may ask for; nil until it is asked

	rejects  bool                   // something, or there is nothing to search for
	searched map[view.ID]*Rejection // by the names that were looked for; nil: there is none
}

func (st *stream) snapshot() *snapshot {
	snap := &snapshot{}
	st.mu.Lock()
	defer st.mu.Unlock()
	snap.head, snap.gates = st.class.Head(), st.state.gates
	snap.copy(st.state)
	return snap
}

// copy takes over what s knows, which goes on.
func (s *snapshot) copy(from *state) {
	for t := range s.subs {
		sub := from.subs[t]
		sub.force, sub.rejected, sub.maybe, sub.held, sub.births = maps.Clone(sub.force), maps.Clone(sub.rejected), maps.Clone(sub.maybe), nil, nil
		sub.flights = slices.Clone(sub.flights)
		for i := range sub.flights {
			sub.flights[i].items = slices.Clone(sub.flights[i].list())
		}
		if sub.asked != nil && sub.asked != s.head.Views[t] { // else it is plain what was not sent yet
			sub.urgeAsked()
		}
		s.subs[t] = sub
		s.rejects = s.rejects || len(sub.rejected) > 0
	}
}

// introduced reports whether the proxy has said all that it holds and wants as it came: it says that before it answers anything. The
// answer that counts is that of the type it can't be without.
func introduced(subs *[view.NumTypes]sub, gates bool) bool {
	if gates {
		return subs[view.CDS].heard
	}
	return subs[view.LDS].heard
}

// resting reports whether the proxy holds all of head, and nothing is under way.
func (s *state) resting(head *world.Head) bool {
	for t := range view.NumTypes {
		if !s.subs[t].resting(head.Views[t]) {
			return false
		}
	}
	return introduced(&s.subs, s.gates)
}

func (s *sub) resting(head *view.View) bool {
	if !s.open {
		return head == nil
	}
	return s.sent == head && s.acked == head && (s.wild || s.names == head) && len(s.flights)+len(s.force)+len(s.rejected) == 0
}

// verdict is how far some names have come with a proxy.
type verdict struct {
	waiting  []view.ID
	rejected []Rejection
}

// converged compares what the proxy has accepted with the head, name by name: revisions that were skipped or taken back need no care. A
// name that the proxy does not want has arrived, but one that something it wants names is wanted too.
func (s *snapshot) converged(w *Wanted) verdict {
	var v verdict
	names := w.Names
	if w.All {
		names = s.doubtful()
	}
	for _, id := range names {
		sub := &s.subs[id.Type]
		if sub.resting(s.head.Views[id.Type]) {
			continue
		}
		now := s.head.Views[id.Type].Get(id.Name)
		if s.settled(id, now) {
			continue
		}
		if r, found := s.refused(id, now); found {
			v.rejected = append(v.rejected, r)
		} else {
			v.waiting = append(v.waiting, id)
		}
	}
	return v
}

// doubtful are the names of which it is not plain at once that the proxy holds them as they are.
func (s *snapshot) doubtful() []view.ID {
	found := make(map[view.ID]struct{})
	for t := range view.NumTypes {
		sub, head := &s.subs[t], s.head.Views[t]
		if sub.resting(head) {
			continue
		}
		add := func(old, now *view.Resource) { found[view.ID{Type: t, Name: nameOf(old, now)}] = struct{}{} }
		view.Diff(sub.sent, head, add)
		view.Diff(sub.acked, head, add)
		for name := range sub.force {
			found[view.ID{Type: t, Name: name}] = struct{}{}
		}
		for f := range sub.flights {
			for _, it := range sub.flights[f].list() {
				found[view.ID{Type: t, Name: it.name}] = struct{}{}
			}
		}
		for r := range head.All() {
			if !sub.has(r.Name) {
				found[r.ID()] = struct{}{}
			}
		}
	}
	return slices.SortedFunc(maps.Keys(found), view.ID.Compare)
}

// settled reports whether the proxy accepted id as it is now, or does not want it.
func (s *snapshot) settled(id view.ID, now *view.Resource) bool {
	sub := &s.subs[id.Type]
	if !sub.open || !sub.has(id.Name) {
		return now == nil || !s.wanted(id)
	}
	if _, forced := sub.force[id.Name]; forced || sub.flying(id.Name) {
		return false
	}
	sent, acked := sub.sent.Get(id.Name), sub.acked.Get(id.Name)
	if now == nil && id.Type == view.RTDS && acked != nil {
		now = emptyLayer(id.Name) // it is never removed
	}
	if now == nil {
		return sent == nil && acked == nil
	}
	return sent != nil && acked != nil && sent.Version == now.Version && acked.Version == now.Version
}

// wanted reports whether a proxy that has not asked for id, which is there, will: it asks for these types by itself, or something that
// it has or will be sent names id.
func (s *snapshot) wanted(id view.ID) bool {
	if s.gates && wildcardByDefault(id.Type) {
		return !s.subs[id.Type].open
	}
	if s.needs == nil {
		s.needs = s.references()
	}
	_, needed := s.needs[id]
	return needed
}

// references are what the resources that the proxy has, or of whose kind it is sent all there are, name.
func (s *snapshot) references() map[view.ID]struct{} {
	needs := make(map[view.ID]struct{})
	use := func(r *view.Resource) {
		for _, need := range r.Needs {
			needs[need] = struct{}{}
		}
		if r.Type == view.CDS {
			needs[view.ID{Type: view.EDS, Name: r.Name}] = struct{}{}
		}
	}
	for _, t := range [...]view.Type{view.CDS, view.LDS, view.SRDS, view.RDS} {
		sub := &s.subs[t]
		sub.each(use)
		if !s.gates || t == view.RDS {
			continue
		}
		for r := range s.head.Views[t].All() {
			if !sub.rejectedNow(r) {
				use(r)
			}
		}
	}
	return needs
}

// refused finds the rejection for which id does not get where it should: its own, or that of what it needs, or of what needs it.
func (s *snapshot) refused(id view.ID, now *view.Resource) (Rejection, bool) {
	if !s.rejects {
		return Rejection{}, false
	}
	if s.searched == nil {
		s.searched = make(map[view.ID]*Rejection)
	}
	found, known := s.searched[id]
	if !known {
		s.searched[id] = nil
		found = s.search(id, now)
		s.searched[id] = found
	}
	if found == nil {
		return Rejection{}, false
	}
	return *found, true
}

// search is refused for a name that was not looked for yet. It goes from scopes and listeners to routes to clusters, or the other way,
// and so comes to an end.
func (s *snapshot) search(id view.ID, now *view.Resource) *Rejection {
	sub := &s.subs[id.Type]
	switch {
	case now == nil:
		return s.keeper(id)
	case sub.open && sub.rejectedNow(now):
		r := sub.rejection(id.Type, id.Name)
		return &r
	case !s.gates:
		return nil
	}
	for _, need := range now.Needs {
		if r := s.head.Views[need.Type].Get(need.Name); r != nil {
			if found, ok := s.refused(need, r); ok {
				return &found
			}
		}
	}
	return nil
}

// keeper finds the rejection for which the proxy still has a resource that names id, or may: of some the version alone is known.
func (s *snapshot) keeper(id view.ID) (found *Rejection) {
	if id.Type == view.EDS {
		id.Type = view.CDS // an assignment goes after its cluster
	}
	for _, t := range namedBy[id.Type] {
		s.subs[t].all(func(r *view.Resource) {
			if found != nil || !slices.Contains(r.Needs, id) && !unknown(r) {
				return
			}
			if now := s.head.Views[t].Get(r.Name); now == nil || now.Version != r.Version {
				if no, ok := s.refused(r.ID(), now); ok {
					found = &no
				}
			}
		})
	}
	return found
}

// namedBy are the types of which resources may name one of a type, also by what they name.
var namedBy = [view.NumTypes][]view.Type{view.RDS: {view.SRDS, view.LDS}, view.CDS: {view.SRDS, view.LDS, view.RDS}}
