package lint

import (
	"cmp"
	"encoding/binary"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// merged is what one set of policies comes to for the services that speak one protocol.
type merged struct {
	key             string
	entries         []*entry
	whole, calls    *side // calls: empty where there are no routes
	routes, subsets map[string]*side
	fares           []fare
	refs, called    int // how many lists have it, and how many of those are calls that dependsOn names
}

// fare is how a policy does in one of the results that it takes part in, or in all of them.
type fare struct {
	wins, losses int          // fields that hold, and fields that others override
	by           manifest.Key // one of those whose fields hold instead
	outranked    int          // fields lost to a policy that is as specific, for its precedence

	of *entry
}

func (f fare) shadowed() bool { return f.wins == 0 && f.losses > 0 }

func (f *fare) add(o fare) {
	f.wins += o.wins
	f.losses += o.losses
	f.outranked += o.outranked
	if o.losses > 0 && (f.by == (manifest.Key{}) || o.by.Less(f.by)) {
		f.by = o.by
	}
}

// merged merges what applies to the calls from caller to n, once for each set of policies.
func (g *graph) merged(n *node, caller policy.Caller) *merged {
	key := make([]byte, 0, 64)
	key = append(key, n.called.Protocol...)
	for _, e := range n.matching {
		if e.Applies(n.called, caller) {
			key = binary.BigEndian.AppendUint32(key, e.id)
		}
	}
	if m := g.merges[string(key)]; m != nil {
		return m
	}
	m := &merged{key: string(key)}
	var applied []*policy.Compiled
	for _, e := range n.matching {
		if e.Applies(n.called, caller) {
			m.entries = append(m.entries, e)
			applied = append(applied, e.Compiled)
		}
	}
	m.fill(n.called, applied)
	g.merges[m.key] = m
	return m
}

func (m *merged) fill(called policy.Service, applied []*policy.Compiled) {
	effective, _ := policy.Merge(called, applied)
	m.whole = newSide(effective, called.Protocol)
	m.calls = m.whole
	if called.Protocol == string(catalog.TCP) {
		m.calls, effective.Routes = newSide(&policy.Effective{}, called.Protocol), nil
	}
	m.routes, m.subsets = sides(effective.Routes, called.Protocol, true), sides(effective.Subsets, called.Protocol, false)
	m.count(effective)
}

func newSide(e *policy.Effective, protocol string) *side {
	s := &side{e, protocol, false, make(map[string]*policy.Field, len(e.Fields))}
	for i := range e.Fields {
		s.fields[e.Fields[i].Path] = &e.Fields[i]
	}
	return s
}

func sides(parts map[string]*policy.Effective, protocol string, ofRoutes bool) map[string]*side {
	if len(parts) == 0 {
		return nil
	}
	list := make(map[string]*side, len(parts))
	for name, e := range parts {
		list[name] = newSide(e, protocol)
		list[name].ofRoute = ofRoutes
	}
	return list
}

func (m *merged) route(name string) *side { return cmp.Or(m.routes[name], m.calls) }

func (m *merged) subset(name string) *side { return cmp.Or(m.subsets[name], m.whole) }

// count says how the policies fare in it.
func (m *merged) count(effective *policy.Effective) {
	byKey := make(map[manifest.Key]int, len(m.entries))
	for _, e := range m.entries {
		if e.Guardrail == nil {
			byKey[e.Policy.Key()] = len(m.fares)
			m.fares = append(m.fares, fare{of: e})
		}
	}
	for _, part := range effective.Every() {
		for _, f := range part.AllFields() {
			if i, won := byKey[f.Origin.Policy]; won && !f.Origin.Default {
				m.fares[i].wins++
			}
			for _, loser := range f.Losers {
				i, ok := byKey[f.Origin.Policy]
				if !ok {
					continue // it is invalid beside others, and nobody's holds
				}
				lost, into := fare{losses: 1, by: f.Origin.Policy}, &m.fares[byKey[loser.Origin.Policy]]
				if m.fares[i].of.Outranks(into.of.Compiled) {
					lost.outranked = 1
				}
				into.add(lost)
			}
		}
	}
}
