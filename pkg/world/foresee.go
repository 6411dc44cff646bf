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

// Foresight is what a change of the world would lead to. What it builds to answer one question is there for the next one. It belongs to one
// goroutine.
type Foresight struct {
	before, after *World
	touched       touched
	old, now      *Builder
}

// Foresee looks at what comes if after, which came about from before by c, takes its place.
func Foresee(before, after *World, c Changes) *Foresight {
	f := &Foresight{before: before, after: after, touched: touch(before, after, c), old: NewBuilder(), now: NewBuilder()}
	f.old.world, f.now.world = before, after
	return f
}

// Touches is how many services are built anew.
func (f *Foresight) Touches() int { return len(f.touched.services) }

// Of says what classes would have to be sent. Only what the change touches is built; of a runtime layer only the keys of those services are
// there, of the listener only their filters. Classes without a change are left out.
func (f *Foresight) Of(classes []ClassKey) []Foreseen {
	t := f.touched
	var list []Foreseen
	for _, key := range classes {
		caller := manifest.Key{Namespace: key.Namespace, Name: key.Service}
		was, is := f.before.roles(caller), f.after.roles(caller)
		affected := func(service manifest.Key) bool {
			return t.services[service] || t.endpoints[service] || t.callers[caller] || was[service] != is[service]
		}
		of := Foreseen{Class: key}
		a, b := f.old.sketch(key, was, affected), f.now.sketch(key, is, affected)
		framed := a.move.framed || b.move.framed // both, or the listener would seem to come or to go
		a.move.framed, b.move.framed = framed, framed
		before, after := f.old.head(a.class, &a.move), f.now.head(b.class, &b.move)
		for typ := range view.NumTypes {
			view.Diff(before.Views[typ], after.Views[typ], func(o, n *view.Resource) { of.Changed = append(of.Changed, Replaced{o, n}) })
		}
		if len(of.Changed) > 0 {
			slices.SortStableFunc(of.Changed, func(x, y Replaced) int { return x.ID().Compare(y.ID()) })
			list = append(list, of)
		}
	}
	return list
}

// Unbuildable are the policies and guardrails with which a touched service can't be built for calls of these classes, and that are in no
// quarantine before: those that are, an edit may be about to mend.
func (f *Foresight) Unbuildable(classes []ClassKey) []Quarantined {
	f.now.callEach(f.touched, classes)
	found := f.now.Quarantined()
	if len(found) == 0 {
		return nil
	}
	f.old.callEach(f.touched, classes)
	before := f.old.Quarantined()
	return slices.DeleteFunc(found, func(q Quarantined) bool {
		return slices.ContainsFunc(before, func(o Quarantined) bool { return byObject(o, q) == 0 })
	})
}

// callEach builds every touched service as each of the classes would be given it to call it.
func (b *Builder) callEach(t touched, classes []ClassKey) {
	for _, key := range classes {
		cs := b.emptyClass(key)
		for service := range t.services {
			if _, exists := b.world.services[service]; exists {
				_, _ = b.holding(b.state(service), cs, role{called: true}) // what fails of a service without any policy is none of theirs
			}
		}
	}
}

// sketch is a class that holds only some of its services, with the move that leads there.
type sketch struct {
	class *classState
	move  move
}

// sketch shares what is built with other sketches of b, and leaves no class behind.
func (b *Builder) sketch(key ClassKey, roles map[manifest.Key]role, only func(manifest.Key) bool) *sketch {
	s := &sketch{class: b.emptyClass(key)}
	some := maps.Clone(roles)
	maps.DeleteFunc(some, func(service manifest.Key, _ role) bool { return !only(service) })
	b.sync(s.class, some, &s.move)
	s.move.own = b.relisten(s.class)
	return s
}
