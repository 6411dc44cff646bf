package xds

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// Sizes of responses. A rejection of one resource is blamed without doubt and holds up nobody else, so a few changes go one by
// one; a first load or a burst goes in as many at once as have responseBytes, since each response costs an answer and its way, and is
// halved where a rejection names nobody. So do assignments, which hold no policy and change most often: what changed while the answer
// to one response was under way goes with the next.
const (
	few           = 8
	batch         = 50 // removals, and assignments that are owed
	responseBytes = 256 << 10
)

// update is the next response of a type that sets something, or nil.
func (s *state) update(t view.Type, head *world.Head, now time.Time) *response {
	sub := &s.subs[t]
	if !sub.open || len(sub.flights) >= s.mostFlights(t) {
		return nil
	}
	if l := s.leg(t, head); l != nil {
		return s.follow(t, l, head, now)
	}
	sub.urgeAsked()
	ready, waiting := s.pending(t, head.Views[t], now)
	if s.world && !whole(t) {
		ready = sub.silence(ready)
	}
	if len(ready) > 0 {
		n := min(len(ready), s.size(t, ready))
		if s.world && whole(t) && sub.limit == 0 {
			n = len(ready) // what is left out of the whole is gone
		}
		return s.fly(t, ready[:n], head, now)
	}
	if !waiting {
		sub.rest(head.Views[t])
	}
	if first := sub.wild && !sub.answered; first && (!waiting || sub.acked.Len() > 0) {
		return s.fly(t, nil, head, now) // an empty answer is one: a proxy waits for it before it starts
	}
	return nil
}

// size is how many of the ready items go into the next response.
func (s *state) size(t view.Type, ready []item) int {
	sub := &s.subs[t]
	if sub.limit > 0 {
		return sub.limit
	}
	return fitting(ready, bound(t, sub.loaded, len(ready), s.limits.response), item.bytes)
}

// bound is how many bytes there may be in a response with some of n changes: most, or 0 where each change goes alone.
func bound(t view.Type, loaded bool, n, most int) int {
	if loaded && n <= few && t != view.EDS {
		return 0
	}
	return most
}

// fitting is how many of all, from the first on, go into a response until that has most bytes: one at least.
func fitting[T any](all []T, most int, bytes func(T) int) (n int) {
	for sum := 0; n < len(all) && (n == 0 || sum < most); n++ {
		sum += bytes(all[n])
	}
	return n
}

// pending is what could be sent now, as far as one response needs it, and, where that is nothing, whether anything else is held back
// or to be removed.
func (s *state) pending(t view.Type, head *view.View, now time.Time) (ready []item, waiting bool) {
	sub, counted, bytes := &s.subs[t], 0, 0
	enough := func() bool {
		for ; counted < len(ready); counted++ {
			bytes += ready[counted].bytes()
		}
		return counted > few && bytes >= s.limits.response && !s.world // a response of the state of the world may have to be all there is
	}
	if n := len(sub.force); t == view.EDS && !s.world && n > 0 && (sub.loaded || n <= batch) {
		if owed := s.owed(head, now); len(owed) > 0 {
			return owed, true
		}
	}
	view.Until(sub.sent, head, func(old, r *view.Resource) bool {
		name := nameOf(old, r)
		if !sub.has(name) {
			return true
		}
		if _, forced := sub.force[name]; forced {
			ready, waiting = s.urged(t, name, head, now, ready, waiting)
			return !enough()
		}
		if r == nil && t == view.RTDS {
			r = emptyLayer(name) // a runtime layer is emptied, never removed: a proxy without an answer for it does not start
			if old.Version == r.Version {
				return true
			}
		}
		switch {
		case r == nil || s.gated(t, r, now):
			waiting = true
		default:
			ready = append(ready, item{name: name, res: r})
		}
		return !enough()
	})
	if len(sub.force) == 0 || enough() {
		return ready, waiting
	}
	for _, name := range slices.Sorted(maps.Keys(sub.force)) {
		if !view.Differs(sub.sent, head, name) || !sub.has(name) { // the others were looked at above
			ready, waiting = s.urged(t, name, head, now, ready, waiting)
		}
	}
	return ready, waiting
}

// owed are the assignments that clusters wait for. They go first, and with no other: should a proxy reject what changes of another
// cluster, it takes all clusters that wait live with what they have by then, which is nothing.
func (s *state) owed(head *view.View, now time.Time) (ready []item) {
	sub := &s.subs[view.EDS]
	for _, name := range slices.Sorted(maps.Keys(sub.force)) {
		if sub.has(name) {
			ready, _ = s.urged(view.EDS, name, head, now, ready, true)
		}
	}
	return ready
}

// urged adds what is to be said of a name that is forced.
func (s *state) urged(t view.Type, name string, head *view.View, now time.Time, ready []item, waiting bool) ([]item, bool) {
	sub := &s.subs[t]
	it, say, hold := s.forced(t, name, head, now)
	switch {
	case hold:
		return ready, true
	case say:
		return append(ready, it), waiting
	}
	delete(sub.force, name)
	if !sub.has(name) || sub.sent.Get(name) == nil || head.Get(name) != nil {
		return ready, waiting
	}
	// Its removal comes by itself. Should it come back before, then it is sent whatever its version: what the proxy has of it is not
	// known.
	sub.sent = sub.sent.With([]view.Change{view.Put(stranger(t, name, ""))})
	if t == view.RDS {
		sub.acked = sub.acked.With([]view.Change{{Name: name}}) // so that nothing is said: that would be the answer
	}
	return ready, true
}

// forced is what to say of a name that must be sent although sent says that the proxy has it; hold asks for patience.
func (s *state) forced(t view.Type, name string, head *view.View, now time.Time) (it item, say, hold bool) {
	sub := &s.subs[t]
	u := sub.force[name]
	if !sub.has(name) {
		return item{}, false, false
	}
	r := head.Get(name)
	switch {
	case t == view.EDS && u != again && (r == nil || sub.rejectedNow(r)):
		return lastAssignment(name, r, sub), true, false
	case r == nil:
		return missing(t, name, u, sub)
	case sub.rejectedNow(r):
		old := sub.acked.Get(name)
		say = u != again && old != nil && !unknown(old)
		return item{name: name, res: old, echo: true, told: r}, say, false
	}
	if s.gated(t, r, now) {
		return item{}, false, true
	}
	return item{name: name, res: r}, true, false
}

// lastAssignment is what to say of an assignment that does not exist, or was rejected, when a cluster waits for it: what the proxy
// accepted last, or else that there is none. Envoy takes a cluster live empty on that in milliseconds instead of 15 s, ignores it
// for an assignment that it has, and would withhold the answers to all CDS responses on silence.
func lastAssignment(name string, rejected *view.Resource, sub *sub) item {
	old := sub.acked.Get(name)
	if old != nil && unknown(old) {
		old = nil
	}
	told := rejected
	if told == nil && sub.sent.Get(name) != nil {
		told = stranger(view.EDS, name, "") // should it come back, it is sent whatever its version
	}
	return item{name: name, res: old, echo: true, told: told}
}

// missing is what to say of a name of another type that does not exist. A runtime layer is answered empty, since Envoy does not
// start without it. For a route configuration silence is right: the answer "does not exist" would make a listener warm for ever.
// Other types are told, unless they are to be removed in good order anyhow.
func missing(t view.Type, name string, u urge, sub *sub) (it item, say, hold bool) {
	switch {
	case t == view.RTDS:
		return item{name: name, res: emptyLayer(name)}, true, false
	case u != answer || t == view.RDS || sub.sent.Get(name) != nil:
		return item{}, false, false
	}
	return item{name: name}, true, false
}

// emptyLayer is a Runtime resource without keys.
func emptyLayer(name string) *view.Resource {
	const fieldName, fieldLayer = 1, 2
	b := protowire.AppendTag(nil, fieldName, protowire.BytesType)
	b = protowire.AppendString(b, name)
	b = protowire.AppendTag(b, fieldLayer, protowire.BytesType)
	b = protowire.AppendBytes(b, nil)
	return view.New(view.RTDS, name, b, nil)
}

func nameOf(old, now *view.Resource) string {
	if old != nil {
		return old.Name
	}
	return now.Name
}

// removal is the next response that only removes, or nil: scopes before what they name, clusters after what uses them.
func (s *state) removal(head *world.Head, now time.Time) *response {
	var used *uses
	for _, t := range [...]view.Type{view.SRDS, view.LDS, view.RDS, view.CDS, view.EDS} {
		sub := &s.subs[t]
		if !sub.open || sub.sent == head.Views[t] || len(sub.flights) >= s.mostFlights(t) {
			continue
		}
		var items []item
		var silent []view.Change
		view.Gone(sub.sent, head.Views[t], func(old *view.Resource) {
			if !sub.has(old.Name) || len(items) == batch {
				return
			}
			if used == nil {
				used = s.uses(now)
			}
			switch {
			case used.keep(old.ID()):
				delete(sub.held, old.Name)
			case s.lingers(t, old.Name, now), t == view.CDS && s.settling(old.Name, nil, now):
			case t == view.RDS && sub.acked.Get(old.Name) == nil, s.world && !whole(t):
				silent = append(silent, view.Change{Name: old.Name}) // never the first answer
			default:
				items = append(items, item{name: old.Name})
			}
		})
		for _, c := range silent {
			sub.forget(c.Name)
		}
		sub.sent, sub.acked = sub.sent.With(silent), sub.acked.With(silent)
		if len(items) > 0 {
			return s.fly(t, items, head, now)
		}
	}
	return nil
}

// lingers reports whether a cluster or a listener that nothing names any more stays for the sake of calls under way: one that is held back
// by a fault, or waits to be tried again, looks for its cluster only then.
func (s *state) lingers(t view.Type, name string, now time.Time) bool {
	if !s.gates || t != view.CDS && t != view.LDS {
		return false
	}
	sub := &s.subs[t]
	if sub.held == nil {
		sub.held = make(map[string]time.Time)
	}
	if _, waits := sub.held[name]; !waits {
		sub.held[name] = now
	}
	return now.Sub(sub.held[name]) < s.limits.linger
}
