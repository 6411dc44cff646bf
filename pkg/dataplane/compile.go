package dataplane

import (
	"net/netip"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Compile links what in holds to a table. Before, which may be nil, is the table in force: what has not changed since is taken from
// it, down to the pointer. Faults are of resources that contradict each other; there is no table then.
func Compile(in Resources, before *Table) (*Table, []Fault) {
	if before == nil {
		before = &Table{}
	}
	l := &linker{in: in, old: before, out: &Table{from: in}}
	l.routes()
	l.scopes()
	l.clusters()
	l.listeners()
	if len(l.faults) > 0 {
		sortFaults(l.faults)
		return nil, l.faults
	}
	return l.out, nil
}

type linker struct {
	in     Resources
	old    *Table
	out    *Table
	faults []Fault
}

// kept reports whether the resources of these types are those of the old table, and there is one.
func (l *linker) kept(types ...view.Type) bool {
	for _, t := range types {
		if l.in.sets[t] != l.old.from.sets[t] {
			return false
		}
	}
	return l.old.Clusters != nil
}

func (l *linker) fault(id view.ID, field, reason string) {
	l.faults = append(l.faults, Fault{ID: id, Field: field, Reason: reason})
}

func (l *linker) routes() {
	if l.kept(view.RDS) {
		l.out.Routes = l.old.Routes
		return
	}
	l.out.Routes = make(map[string]*RouteConfig, len(l.in.of(view.RDS)))
	for name, res := range l.in.of(view.RDS) {
		l.out.Routes[name] = res.piece.(*RouteConfig)
	}
}

// scopes leaves a scope out whose route configuration is not there: it has no routes, which is 404.
func (l *linker) scopes() {
	if l.kept(view.SRDS, view.RDS) {
		l.out.Scopes = l.old.Scopes
		return
	}
	l.out.Scopes = make(map[string]*RouteConfig, len(l.in.of(view.SRDS)))
	keys := make(map[string]bool, len(l.in.of(view.SRDS)))
	for _, name := range l.in.Names(view.SRDS) {
		res := l.in.of(view.SRDS)[name]
		s := res.piece.(*scope)
		if keys[s.key] {
			l.fault(res.ID, "scoped_route_configuration.key", "another scope has the same")
			continue
		}
		keys[s.key] = true
		if routes := l.out.Routes[s.routes]; routes != nil {
			l.out.Scopes[s.key] = routes
		}
	}
}

func (l *linker) clusters() {
	if l.kept(view.CDS, view.EDS, view.RTDS) && l.in.DNS == l.old.from.DNS {
		l.out.Clusters, l.out.Lookups = l.old.Clusters, l.old.Lookups
		return
	}
	l.lookups()
	unmoved := l.kept(view.RTDS)
	l.out.Clusters = make(map[string]*Cluster, len(l.in.of(view.CDS)))
	for name, res := range l.in.of(view.CDS) {
		p := res.piece.(*clusterPiece)
		eds := l.in.Get(view.ID{Type: view.EDS, Name: p.eds})
		old := l.old.Clusters[name]
		if old != nil && p.sameAnswers(l.in.DNS, l.old.from.DNS) && same(l.old.from.of(view.CDS)[name], res) && same(l.old.from.Get(view.ID{Type: view.EDS, Name: p.eds}), eds) {
			if unmoved || l.overlay(l.in, name) == l.overlay(l.old.from, name) {
				l.out.Clusters[name] = old
				continue
			}
		}
		l.out.Clusters[name] = l.link(p, eds, old)
	}
}

// lookups are the names to ask for, in the order of their clusters.
func (l *linker) lookups() {
	for _, name := range l.in.Names(view.CDS) {
		p := l.in.of(view.CDS)[name].piece.(*clusterPiece)
		if p.named == nil {
			continue
		}
		asked := make(map[Name]bool)
		for _, lookup := range p.named.lookups {
			if !asked[lookup.Name] {
				asked[lookup.Name] = true
				l.out.Lookups = append(l.out.Lookups, lookup)
			}
		}
	}
}

func (l *linker) link(p *clusterPiece, eds *Resource, before *Cluster) *Cluster {
	c := p.cluster
	switch {
	case p.named != nil:
		p.resolved(&c, l.in.DNS, before)
	case eds != nil:
		eds.piece.(*assignment).give(p, &c)
	}
	l.overlay(l.in, c.Name).apply(&c)
	return &c
}

// overlay is what the layers of in say of a cluster, the later over the earlier.
func (l *linker) overlay(in Resources, cluster string) overlay {
	var o overlay
	for _, name := range in.Layers {
		if res := in.of(view.RTDS)[name]; res != nil {
			if said, ok := res.piece.(layer)[cluster]; ok {
				o = said.over(o)
			}
		}
	}
	return o
}

func (l *linker) listeners() {
	if l.kept(view.LDS, view.RDS) {
		l.out.Listeners = l.old.Listeners
		return
	}
	l.out.Listeners = make(map[string]*Listener, len(l.in.of(view.LDS)))
	taken := make(map[netip.AddrPort]bool)
	for _, name := range l.in.Names(view.LDS) {
		res := l.in.of(view.LDS)[name]
		p := res.piece.(*listenerPiece)
		if a := p.listener.Address; !p.listener.Inside {
			if taken[a] {
				l.fault(res.ID, "listener.address", "another listener has the same")
			}
			taken[a] = true
		}
		routes := l.out.Routes[p.rds]
		old := l.old.Listeners[name]
		if p.rds == "" {
			l.out.Listeners[name] = &p.listener
		} else if old != nil && same(l.old.from.of(view.LDS)[name], res) && old.HTTP.Routes == routes {
			l.out.Listeners[name] = old
		} else {
			l.out.Listeners[name] = p.with(routes)
		}
	}
}
