package xdsclient

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// patience is how long a resource waits for what it needs before it is used without, as Envoy's does.
const patience = 15 * time.Second

// state is what servers said and what of it is in force. It is pure: the client's goroutine alone touches it.
type state struct {
	received dataplane.Resources // of the last version of each that the agent can enforce
	inForce  dataplane.Resources // what the consumer works with

	waiting map[view.ID]time.Time           // where the two differ, since when
	refused map[view.ID]*dataplane.Resource // what the consumer would not take
	missing map[view.ID]bool                // assignments that the server says it does not have

	opened   time.Time           // of the present stream
	answered [view.NumTypes]bool // on the present stream
	scopes   bool                // scopes were answered once, or came from disk
}

func newState(layers []string) *state {
	return &state{
		received: dataplane.Resources{Layers: layers}, inForce: dataplane.Resources{Layers: layers},
		waiting: make(map[view.ID]time.Time), refused: make(map[view.ID]*dataplane.Resource), missing: make(map[view.ID]bool),
	}
}

// restore takes over what came from disk.
func (s *state) restore(r dataplane.Resources) {
	r.Layers = s.received.Layers
	s.received, s.inForce, s.scopes = r, r, true
}

// connected begins a stream.
func (s *state) connected(now time.Time) {
	s.opened, s.answered = now, [view.NumTypes]bool{}
	clear(s.missing)
}

// receive takes one response of a type.
func (s *state) receive(t view.Type, changes []dataplane.Change, now time.Time) {
	s.answered[t] = true
	s.scopes = s.scopes || t == view.SRDS
	for _, c := range changes {
		if t == view.EDS {
			delete(s.missing, c.ID)
			if c.Now == nil {
				s.missing[c.ID] = true
			}
		}
		delete(s.refused, c.ID)
		delete(s.waiting, c.ID)
		if s.inForce.Get(c.ID) != c.Now {
			s.waiting[c.ID] = now
		}
	}
	s.received = s.received.With(changes)
}

// settle is what can be in force by now: of what waits, all that has what it needs. A type comes after those that it needs; what
// others need goes after them.
func (s *state) settle(now time.Time) dataplane.Resources {
	next := s.inForce
	byType := s.waitingByType()
	for _, t := range [...]view.Type{view.RTDS, view.EDS, view.CDS, view.RDS, view.SRDS, view.LDS} {
		var changes []dataplane.Change
		for _, id := range byType[t] {
			r := s.received.Get(id)
			switch {
			case r == nil && needed(t), r != nil && s.refused[id] == r:
			case r == nil && s.settled(now), r != nil && s.ready(r, next, now):
				changes = append(changes, dataplane.Change{ID: id, Now: r})
			}
		}
		next = next.With(changes)
	}
	for _, t := range [...]view.Type{view.RDS, view.CDS, view.EDS} {
		next = next.With(s.removals(byType[t], next, now))
	}
	return next
}

// waits reports whether what c puts is not in force yet.
func (s *state) waits(c dataplane.Change) bool {
	_, waiting := s.waiting[c.ID]
	return c.Now != nil && waiting
}

// needed reports whether resources of t are named by others, which must not lose them.
func needed(t view.Type) bool { return t == view.RDS || t == view.CDS || t == view.EDS }

func (s *state) waitingByType() (ids [view.NumTypes][]view.ID) {
	for id := range s.waiting {
		ids[id.Type] = append(ids[id.Type], id)
	}
	return ids
}

func (s *state) removals(ids []view.ID, next dataplane.Resources, now time.Time) []dataplane.Change {
	var changes []dataplane.Change
	var used map[view.ID]bool // made where something is to go: it is a walk over everything
	for _, id := range ids {
		if s.received.Get(id) != nil || !s.settled(now) {
			continue
		}
		if used == nil {
			used = uses(next)
		}
		if !used[id] {
			changes = append(changes, dataplane.Change{ID: id})
		}
	}
	return changes
}

// settled reports whether the stream has said enough to take something away: an empty server must not empty the agent.
func (s *state) settled(now time.Time) bool {
	return s.answered[view.CDS] && s.answered[view.LDS] || !s.opened.IsZero() && now.Sub(s.opened) >= patience
}

// ready reports whether r has all that it needs, or has waited long enough.
func (s *state) ready(r *dataplane.Resource, next dataplane.Resources, now time.Time) bool {
	if now.Sub(s.waiting[r.ID]) >= patience {
		return true
	}
	for _, need := range r.Needs {
		if need.Type == r.ID.Type || need.Type == view.EDS && s.missing[need] {
			continue // a composite's members may come and go
		}
		if next.Get(need) == nil {
			return false
		}
	}
	if r.Scoped && next.Get(r.ID) == nil {
		return s.scopesReady(next) // a new listener opens when its hosts have routes
	}
	return true
}

func (s *state) scopesReady(next dataplane.Resources) bool {
	if !s.scopes {
		return false
	}
	for id := range s.waiting {
		if id.Type == view.SRDS && next.Get(id) != s.received.Get(id) && s.refused[id] == nil {
			return false
		}
	}
	return true
}

// uses is what something in r names.
func uses(r dataplane.Resources) map[view.ID]bool {
	used := make(map[view.ID]bool)
	for t := range view.NumTypes {
		for _, res := range r.All(t) {
			for _, need := range res.Needs {
				used[need] = true
			}
		}
	}
	return used
}

// commit books what the consumer took.
func (s *state) commit(next dataplane.Resources) {
	s.inForce = next
	for id := range s.waiting {
		if next.Get(id) == s.received.Get(id) {
			delete(s.waiting, id)
		}
	}
}

// refuse books what the consumer would not take, and says what of it a server is to hear of: the resources in changes go back to
// the versions that are in force.
func (s *state) refuse(faults []dataplane.Fault, next dataplane.Resources, changes []dataplane.Change) (mine []dataplane.Fault) {
	for _, f := range faults {
		r := next.Get(f.ID)
		if r != nil {
			s.refused[f.ID] = r
		}
		if puts(changes, f.ID) {
			s.revert([]dataplane.Change{{ID: f.ID, Now: r}})
			mine = append(mine, f)
		}
	}
	return mine
}

// puts reports whether changes bring a version of id.
func puts(changes []dataplane.Change, id view.ID) bool {
	return slices.ContainsFunc(changes, func(c dataplane.Change) bool { return c.ID == id && c.Now != nil })
}

// revert goes back to the versions in force of what changes put.
func (s *state) revert(changes []dataplane.Change) {
	var back []dataplane.Change
	for _, c := range changes {
		if c.Now != nil {
			back = append(back, dataplane.Change{ID: c.ID, Now: s.inForce.Get(c.ID)})
			delete(s.waiting, c.ID)
			delete(s.refused, c.ID)
		}
	}
	s.received = s.received.With(back)
}

// alarm is when time alone may change what is in force; zero if never.
func (s *state) alarm(now time.Time) time.Time {
	var first time.Time
	at := func(t time.Time) {
		if t.After(now) && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	for _, since := range s.waiting {
		at(since.Add(patience))
	}
	if len(s.waiting) > 0 && !s.opened.IsZero() {
		at(s.opened.Add(patience))
	}
	return first
}

// wanted are the names of t that something names, sorted. The layers are wanted always.
func (s *state) wanted(t view.Type) []string {
	if t == view.RTDS {
		return s.received.Layers
	}
	names := make(map[string]struct{})
	for _, from := range [...]dataplane.Resources{s.received, s.inForce} {
		for _, by := range [...]view.Type{view.CDS, view.LDS, view.SRDS} {
			for _, r := range from.All(by) {
				for _, need := range r.Needs {
					if need.Type == t {
						names[need.Name] = struct{}{}
					}
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// again is what the agent holds of id already, if it is of the same bytes.
func (s *state) again(id view.ID, version string, body []byte) *dataplane.Resource {
	for _, held := range [...]*dataplane.Resource{s.received.Get(id), s.inForce.Get(id)} {
		if held != nil && bytes.Equal(held.Body, body) {
			return held.As(version)
		}
	}
	return nil
}

// forget drops what a server said of names that are not subscribed any more.
func (s *state) forget(t view.Type, names []string, now time.Time) {
	var changes []dataplane.Change
	for _, name := range names {
		id := view.ID{Type: t, Name: name}
		delete(s.missing, id)
		if s.received.Get(id) != nil {
			changes = append(changes, dataplane.Change{ID: id})
		}
		if s.inForce.Get(id) != nil {
			s.waiting[id] = now
		} else {
			delete(s.waiting, id)
		}
	}
	s.received = s.received.With(changes)
}

// scoped reports whether some listener finds its routes by scope.
func (s *state) scoped() bool {
	for _, r := range s.received.All(view.LDS) {
		if r.Scoped {
			return true
		}
	}
	return len(s.received.All(view.SRDS)) > 0
}

// versions are those of the resources of t that a server may leave out.
func (s *state) versions(t view.Type) map[string]string {
	all := s.received.All(t)
	out := make(map[string]string, len(all))
	for name, r := range all {
		out[name] = r.Version
	}
	return out
}
