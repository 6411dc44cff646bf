package world

import (
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Shaped are the classes in which an object of that kind has a part, and the resources that it shapes there: of a policy or a guardrail
// those of the services to which it applies, of a service its own.
func (b *Builder) Shaped(kind string, object manifest.Key) map[*Class][]view.ID {
	shaped := map[*Class][]view.ID{}
	for key, state := range b.services {
		if kind == catalog.Kind && key != object || kind != catalog.Kind && !b.mayShape(key, state, kind, object) {
			continue
		}
		for _, cs := range b.classes {
			if held := cs.holds[key]; held != nil && (kind == catalog.Kind || slices.Contains(held.by(kind), object)) {
				shaped[cs.class] = append(shaped[cs.class], held.made(key, kind == catalog.Kind)...)
			}
		}
	}
	return shaped
}

// by are the objects of a kind, policies or guardrails, that have a part in what was built.
func (h *built) by(kind string) []manifest.Key {
	if kind == policy.GuardrailKind {
		return h.guardrails
	}
	return h.policies
}

// mayShape reports whether what any class holds of a service can have a part of object in it. It spares a look at every class.
func (b *Builder) mayShape(key manifest.Key, state *serviceState, kind string, object manifest.Key) bool {
	if b.problems[key] != nil {
		return true // some class holds what was built before
	}
	for _, held := range state.built {
		if slices.Contains(held.by(kind), object) {
			return true
		}
	}
	return false
}

// made are the resources of a service that are held: those that policies shape, or all of its own.
func (h *holding) made(key manifest.Key, whole bool) []view.ID {
	name := key.String()
	list := []view.ID{
		h.Cluster.ID(), {Type: view.RDS, Name: name}, {Type: view.RTDS, Name: envoy.LayerName(h.layer)},
	}
	for _, group := range [][]*view.Resource{h.Subsets, h.Composites, h.Faults} {
		for _, r := range group {
			list = append(list, r.ID())
		}
	}
	if len(h.Filters) > 0 { // without one the routes switch it off, whatever the listener has
		list = append(list, view.ID{Type: view.LDS, Name: envoy.Outbound})
	}
	if !whole {
		return list
	}
	for _, r := range h.resources {
		if !slices.Contains(list, r.ID()) {
			list = append(list, r.ID())
		}
	}
	if h.Local != nil {
		list = append(list, h.Local.ID())
	}
	return list
}

// Shapers are the policies and guardrails that have a part in each resource of a class, by key.
func (b *Builder) Shapers(class *Class) map[view.ID][]manifest.Key {
	shapers := map[view.ID][]manifest.Key{}
	cs := b.classes[class.Key]
	if cs == nil {
		return shapers
	}
	for key, held := range cs.holds {
		by := slices.Concat(held.policies, held.guardrails)
		if len(by) == 0 || b.services[key] == nil {
			continue
		}
		for _, id := range held.made(key, false) {
			shapers[id] = append(shapers[id], by...)
		}
	}
	for id, by := range shapers {
		slices.SortFunc(by, manifest.Key.Compare)
		shapers[id] = slices.Compact(by)
	}
	return shapers
}
