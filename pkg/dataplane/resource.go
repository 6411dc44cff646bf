package dataplane

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Resource is one xDS resource that the agent can enforce, with what it was compiled to. It is immutable.
type Resource struct {
	ID      view.ID
	Version string    // as the server said it
	Body    []byte    // the message, marshalled
	Needs   []view.ID // what it refers to, by type and name: a cluster its assignment, routes their clusters
	Scoped  bool      // a listener whose routes are found by scope

	piece any // *clusterPiece, *assignment, *listenerPiece, *scope, *RouteConfig or layer
}

// Decode compiles body, the marshalled message of a resource. Nil where anything in it can't be enforced: the faults say what, in
// the order of their fields. It keeps body.
func Decode(id view.ID, version string, body []byte) (*Resource, []Fault) {
	r := &reader{id: id}
	res := &Resource{ID: id, Version: version, Body: body}
	switch id.Type {
	case view.CDS:
		read(r, res, "cluster", known.cluster, new(clusterv3.Cluster), r.cluster)
	case view.EDS:
		read(r, res, "cluster_load_assignment", known.assignment, new(endpointv3.ClusterLoadAssignment), r.assignment)
	case view.LDS:
		read(r, res, "listener", known.listener, new(listenerv3.Listener), r.listener)
	case view.SRDS:
		read(r, res, "scoped_route_configuration", known.scope, new(routev3.ScopedRouteConfiguration), r.scope)
	case view.RDS:
		read(r, res, "route_configuration", known.routes, new(routev3.RouteConfiguration), r.routeConfiguration)
	case view.RTDS:
		read(r, res, "runtime", known.runtime, new(runtimev3.Runtime), r.runtime)
	default:
		r.fault("type", "is not known")
	}
	if len(r.faults) > 0 {
		sortFaults(r.faults)
		return nil, slices.Compact(r.faults)
	}
	res.Needs = r.needed()
	if l, ok := res.piece.(*listenerPiece); ok {
		res.Scoped = l.listener.HTTP != nil && l.listener.HTTP.Scoped
	}
	return res, nil
}

// As is r under another version, which shares all else. It is how a server says the same again.
func (r *Resource) As(version string) *Resource {
	if r.Version == version {
		return r
	}
	again := *r
	again.Version = version
	return &again
}

// same reports whether two resources of a type whose pieces are pointers, either of which may be nil, were compiled once.
func same(a, b *Resource) bool { return a == b || a != nil && b != nil && a.piece == b.piece }

// read unmarshals res into m, checks it against the API's rules and against what is known, and compiles it.
func read[M proto.Message, P any](r *reader, res *Resource, path string, known fields, m M, compile func(path string, m M) P) {
	if err := proto.Unmarshal(res.Body, m); err != nil {
		r.fault(path, "can't be read")
		return
	}
	r.walk(path, m.ProtoReflect(), known)
	r.rules(path, m)
	if named, ok := any(m).(interface{ GetName() string }); ok && named.GetName() != res.ID.Name {
		r.fault(path+".name", "is %q, and the resource's name is %q", named.GetName(), res.ID.Name)
	}
	if len(r.faults) == 0 {
		res.piece = compile(path, m)
	}
}

// Resources are what an agent holds, by type and name. It is a value: With leaves it as it is.
type Resources struct {
	Layers []string // the runtime layers in force, by name; the later wins
	DNS    *Answers // what DNS says; nil: nothing yet
	sets   [view.NumTypes]*set
}

// set is never changed, so that two are equal where their pointers are.
type set struct{ byName map[string]*Resource }

// Get is the resource of id, or nil.
func (r Resources) Get(id view.ID) *Resource {
	if s := r.sets[id.Type]; s != nil {
		return s.byName[id.Name]
	}
	return nil
}

// Names are the names of one type, sorted.
func (r Resources) Names(t view.Type) []string { return slices.Sorted(maps.Keys(r.of(t))) }

// All are the resources of one type, by name. The caller must not change the map.
func (r Resources) All(t view.Type) map[string]*Resource { return r.of(t) }

// Len is the number of resources.
func (r Resources) Len() int {
	n := 0
	for t := range view.NumTypes {
		n += len(r.of(t))
	}
	return n
}

func (r Resources) of(t view.Type) map[string]*Resource {
	if s := r.sets[t]; s != nil {
		return s.byName
	}
	return nil
}

// Same reports whether r and o hold the very same resources, type by type. It is cheap, and may say no of two that were made
// separately.
func (r Resources) Same(o Resources) bool { return r.sets == o.sets }

// SameType is Same for one type.
func (r Resources) SameType(o Resources, t view.Type) bool { return r.sets[t] == o.sets[t] }

// Change puts a resource, or removes it where Now is nil.
type Change struct {
	ID  view.ID
	Now *Resource
}

// With is r with changes. Types that no change touches are shared.
func (r Resources) With(changes []Change) Resources {
	var fresh [view.NumTypes]bool
	for _, c := range changes {
		if r.Get(c.ID) == c.Now {
			continue
		}
		t := c.ID.Type
		if !fresh[t] {
			fresh[t] = true
			r.sets[t] = &set{byName: maps.Clone(r.of(t))}
			if r.sets[t].byName == nil {
				r.sets[t].byName = make(map[string]*Resource)
			}
		}
		if c.Now == nil {
			delete(r.sets[t].byName, c.ID.Name)
		} else {
			r.sets[t].byName[c.ID.Name] = c.Now
		}
	}
	return r
}
