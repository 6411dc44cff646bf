package xds

import (
	"slices"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// gated reports whether r has to wait for what it needs, or for what it replaces.
//
// A route configuration or a listener waits until its clusters are accepted, which in Envoy means warm, or serve before that: see born. A scope is different:
// Envoy subscribes to a route configuration only after a scope names it, so a scope that is new to the proxy waits for nothing.
// One that changes what it names waits until the proxy has the new route configuration, or a moving alias would answer 404 for a
// moment. Every service's own scope makes the proxy subscribe to its route configuration; where nothing does, the wait ends after
// limits.hold, so that the moving scope does. Where it is subscribed and does not come, because it or its cluster was rejected,
// the alias stays where it works.
func (s *state) gated(t view.Type, r *view.Resource, now time.Time) bool {
	switch {
	case !s.gates:
		return false
	case t == view.CDS && s.settling(r.Name, r, now):
		return true
	case len(r.Needs) == 0:
		return false
	case t == view.SRDS:
		return s.scopeGated(r, now)
	}
	return !s.met(r)
}

func (s *state) scopeGated(r *view.Resource, now time.Time) bool {
	sub := &s.subs[view.SRDS]
	old := sub.holds(r.Name)
	if old == nil || !unknown(old) && slices.Equal(old.Needs, r.Needs) || s.met(r) {
		return false
	}
	since, waits := sub.held[r.Name]
	if !waits {
		if sub.held == nil {
			sub.held = make(map[string]time.Time)
		}
		sub.held[r.Name], since = now, now
	}
	return s.asked(r) || now.Sub(since) < s.limits.hold
}

// asked reports whether the proxy subscribes to all that r needs.
func (s *state) asked(r *view.Resource) bool {
	for _, need := range r.Needs {
		if sub := &s.subs[need.Type]; !sub.open || !sub.has(need.Name) {
			return false
		}
	}
	return true
}

// met reports whether the proxy surely holds all that r needs.
func (s *state) met(r *view.Resource) bool {
	for _, need := range r.Needs {
		sub := &s.subs[need.Type]
		if need.Type == view.CDS && sub.open && !sub.wild {
			continue // it asks for clusters by name, after it has the route
		}
		if need.Type == view.RDS && r.Type == view.LDS {
			continue // it asks for the routes after it has the listener
		}
		if !sub.surely(need.Name) && !sub.births[need.Name] {
			return false
		}
	}
	return true
}

// uses is what a proxy must keep, because something that it may hold needs it.
type uses struct {
	needed   map[view.ID]struct{}
	assigned map[string]bool // clusters that have an assignment
	routes   bool            // every route configuration: what some scope or listener names is not known
	all      bool            // every cluster likewise
}

// uses looks at everything that the proxy may hold. It costs a walk over all of it, and is asked only when something is to go.
func (s *state) uses(now time.Time) *uses {
	u := &uses{needed: make(map[view.ID]struct{}), assigned: make(map[string]bool)}
	for _, t := range [...]view.Type{view.CDS, view.LDS, view.SRDS, view.RDS} {
		s.subs[t].all(func(r *view.Resource) {
			for _, need := range r.Needs {
				u.needed[need] = struct{}{}
			}
			if t == view.CDS && assigned(r) {
				u.assigned[r.Name] = true
			}
			if unknown(r) && t != view.CDS {
				u.all = true
				u.routes = u.routes || t != view.RDS
			}
		})
	}
	if s.resumed && !s.told() && now.Sub(s.opened) < s.limits.hold {
		u.all, u.routes = true, true // a proxy that reconnects has not said yet what it holds
	}
	return u
}

// told reports whether the proxy has opened every type that may name another.
func (s *state) told() bool {
	return s.subs[view.LDS].open && s.subs[view.SRDS].open && s.subs[view.RDS].open
}

// keep reports whether id must not be removed yet.
func (u *uses) keep(id view.ID) bool {
	if _, needed := u.needed[id]; needed {
		return true
	}
	switch id.Type {
	case view.RDS:
		return u.routes
	case view.CDS:
		return u.all
	case view.EDS:
		return u.assigned[id.Name] // an assignment goes after its cluster
	}
	return false
}

// assigned reports whether r is a cluster that has an assignment, as far as is known: one that leads to others has none.
func assigned(r *view.Resource) bool { return r != nil && len(r.Needs) == 0 }
