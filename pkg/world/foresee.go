package world

import (
	"maps"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Foreseen is what a change of the world does to one class.
type Foreseen struct {
	Class   ClassKey
	Changed []Replaced // by type and name
}

// Replaced is one resource before and after; nil where there is none.
type Replaced struct{ Old, Now *view.Resource }

// ID names the resource.
func (r Replaced) ID() view.ID {
	if r.Now != nil {
		return r.Now.ID()
	}
	return r.Old.ID()
}

// Drains reports whether a proxy takes a listener's connections out of service, little by little, for new ones to take their place.
func (r Replaced) Drains() bool { return r.Old != nil && r.Now != nil && r.Now.Type == view.LDS }

// Rebuilds reports whether a proxy builds the cluster anew: its ejections, counters and connections start from nothing.
func (r Replaced) Rebuilds() bool { return r.Old != nil && r.Now != nil && r.Now.Type == view.CDS }

// Touches is how many services are built anew when c leads from before to after.
func Touches(before, after *World, c Changes) int { return len(touch(before, after, c).services) }

// Foresee says what the classes would have to be sent if after, which came about from before by c, took its place. Only what c touches is
// built; of a runtime layer only the keys of those services are there, of the listener only their filters. Classes without a change are left out.
func Foresee(before, after *World, c Changes, classes []ClassKey) []Foreseen {
	t := touch(before, after, c)
	old, now := NewBuilder(), NewBuilder()
	old.world, now.world = before, after
	var list []Foreseen
	for _, key := range classes {
		caller := manifest.Key{Namespace: key.Namespace, Name: key.Service}
		was, is := before.roles(caller), after.roles(caller)
		affected := func(service manifest.Key) bool {
			return t.services[service] || t.endpoints[service] || t.callers[caller] || was[service] != is[service]
		}
		f := Foreseen{Class: key}
		a, b := old.sketch(key, was, affected), now.sketch(key, is, affected)
		framed := a.changes.framed || b.changes.framed // both, or the listener would seem to come or to go
		a.changes.framed, b.changes.framed = framed, framed
		before, after := old.drawn(a), now.drawn(b)
		for typ := range view.NumTypes {
			view.Diff(before.Views[typ], after.Views[typ], func(o, n *view.Resource) { f.Changed = append(f.Changed, Replaced{o, n}) })
		}
		if len(f.Changed) > 0 {
			slices.SortStableFunc(f.Changed, func(x, y Replaced) int { return x.ID().Compare(y.ID()) })
			list = append(list, f)
		}
	}
	return list
}

// sketch is a class that holds only some of its services, with what is yet to be put in its head.
type sketch struct {
	class   *classState
	changes classChanges
}

// sketch shares what is built with other sketches of b, and leaves no class behind.
func (b *Builder) sketch(key ClassKey, roles map[manifest.Key]role, only func(manifest.Key) bool) *sketch {
	s := &sketch{class: b.emptyClass(key)}
	some := maps.Clone(roles)
	maps.DeleteFunc(some, func(service manifest.Key, _ role) bool { return !only(service) })
	b.syncServices(s.class, some, &s.changes)
	b.listen(s.class, &s.changes)
	return s
}

// drawn is the head of a sketch.
func (b *Builder) drawn(s *sketch) *Head {
	b.publish(s.class, s.changes)
	return s.class.class.Head()
}
