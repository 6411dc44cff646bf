package world

import (
	"cmp"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// serviceState is what the builder knows of one service in the present world.
type serviceState struct {
	service     *catalog.Service // with the backends that exist
	called      policy.Service
	policies    []*policy.Compiled // whose target covers it, least specific first
	sourced     []*policy.Compiled // those of them that are not for every caller
	assignments assignments        // of it and its subsets
	built       map[variant]*built
	holdings    map[holder]*holding
	aliases     map[alias]*view.Resource
}

// variant is what tells the ways apart in which a service is built.
type variant struct {
	target  envoy.Target
	backend bool
	spare   bool
	mask    string // of its policies that are not for every caller, those that apply
}

// built is a service as the proxies of one tier see it whose calls one set of policies applies to.
type built struct {
	envoy.Compiled
	policies, guardrails []manifest.Key
	layer                int    // of Limits
	port                 uint32 // of Local
}

// clusters are those that have endpoints.
func (b *built) clusters() []*view.Resource {
	return append([]*view.Resource{b.Cluster}, b.Subsets...)
}

// outlook is what decides, beside the policies that apply and the role of the service, what a class holds of a service.
type outlook struct {
	target    envoy.Target
	namespace string // of the callers, who call the services in it by their bare names
}

// holder is what classes share that hold the same of a service.
type holder struct {
	from *outlook // the builder has one of each
	as   role
	mask string // as that of a variant
}

// holding is what a class holds of one service, but for what the services of a class are in together: the runtime layers, and the listeners.
// It is immutable, and shared by all classes that hold the same.
type holding struct {
	*built
	as        role
	resources []*view.Resource
	arrival   *delta // once it was needed: what is new to a class that held nothing of the service
}

// holding is what was built of the service, as seen from an outlook. Its hosts lead to its routes unless it is only a backend or a fallback,
// which nobody calls by its name.
func (s *serviceState) holding(w *World, from *outlook, as role, built *built) *holding {
	h := &holding{built: built, as: as}
	for _, cluster := range built.clusters() {
		h.resources = append(h.resources, cluster)
		if a := s.assignments.of(cluster.Name); a != nil { // none where proxies find the endpoints by themselves
			h.resources = append(h.resources, a)
		}
	}
	h.resources = append(append(h.resources, built.Composites...), built.Faults...)
	if as.called && built.Route != nil {
		h.resources = append(h.resources, built.Route)
		for _, host := range w.aliases(s.service, from.namespace) {
			if r := s.alias(from.target, host); r != nil {
				h.resources = append(h.resources, r)
			}
		}
	}
	return h
}

// alias is one host that leads to a service, for all classes that can take the same.
type alias struct {
	typ     view.Type
	vintage int
	host    string
}

// alias is what leads there, which is made of names alone; nil where the routes are not ours.
func (s *serviceState) alias(target envoy.Target, host string) *view.Resource {
	as := alias{target.Aliases(), target.Vintage, host}
	r := s.aliases[as]
	if r == nil {
		if r = target.Alias(host, s.service.Key()); r != nil {
			s.aliases[as] = r
		}
	}
	return r
}

// listens reports whether a tcp service is called at its local port.
func (h *holding) listens() bool { return h.Local != nil && h.as.called }

// delta is what becomes of a class as one holding takes the place of another one of the same service. It is immutable, and shared by all
// classes of which it is true.
type delta struct {
	changes [view.NumTypes][]view.Change
	layers  layers // whose keys are others
	framed  bool   // the service has, or had, filters in the listener
	listens bool   // it has, or had, a listener of its own
}

// layers is a set of runtime layers, a bit for each.
type layers uint8

const allLayers = layers(1<<envoy.Layers - 1)

func (l layers) has(n int) bool { return l&(1<<n) != 0 }

// newDelta leads from one holding of a service to another; one of them may be nil, for none.
func newDelta(old, now *holding) *delta {
	none := &holding{built: &built{}}
	from, to := cmp.Or(old, none), cmp.Or(now, none)
	d := &delta{framed: len(from.Filters)+len(to.Filters) > 0, listens: from.Local != nil || to.Local != nil}
	for _, r := range to.resources {
		if was := find(from.resources, r.ID()); was == nil || was.Version != r.Version {
			d.changes[r.Type] = append(d.changes[r.Type], view.Put(r))
		}
	}
	for _, r := range from.resources {
		if find(to.resources, r.ID()) == nil {
			d.remove(r)
		}
	}
	if from.listens() && !to.listens() {
		d.remove(from.Local)
	}
	if !slices.Equal(from.Limits, to.Limits) {
		d.layers = 1 << cmp.Or(now, old).layer
	}
	return d
}

func (d *delta) remove(r *view.Resource) {
	d.changes[r.Type] = append(d.changes[r.Type], view.Change{Name: r.Name})
}

func find(list []*view.Resource, id view.ID) *view.Resource {
	if i := slices.IndexFunc(list, func(r *view.Resource) bool { return r.Type == id.Type && r.Name == id.Name }); i >= 0 {
		return list[i]
	}
	return nil
}
