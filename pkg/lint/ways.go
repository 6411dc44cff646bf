package lint

import (
	"cmp"
	"maps"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// maker makes a list of calls, and notes what it is made of.
type maker struct {
	*graph
	made
	used  map[manifest.Key]bool
	based map[*merged]bool
}

func (g *graph) maker(n *node) *maker {
	return &maker{graph: g, made: made{of: n}, used: make(map[manifest.Key]bool), based: make(map[*merged]bool)}
}

// service is the service of that key, nil where there is none yet.
func (m *maker) service(key manifest.Key) *node {
	if !m.used[key] {
		m.used[key] = true
		m.uses = append(m.uses, key)
	}
	return m.byKey[key]
}

// effective is what holds for the calls from caller to n.
func (m *maker) effective(n *node, caller policy.Caller) *merged {
	set := m.merged(n, caller)
	if !m.based[set] {
		m.based[set] = true
		m.sets = append(m.sets, set)
	}
	return set
}

// outgoing are the calls that n makes, as its dependsOn names them.
func (g *graph) outgoing(n *node) made {
	m := g.maker(n)
	keys, _ := n.dependencies()
	for _, callee := range keys {
		to := m.service(callee)
		if to == nil || to == n {
			continue
		}
		for _, c := range m.ways(to, n.asCaller()) {
			if c.to != n {
				m.calls = append(m.calls, c)
			}
		}
	}
	return m.made
}

// incoming are the different calls that n gets: from those that call it, those that its policies name or select, and any other of each
// namespace that plays a part.
func (g *graph) incoming(n *node) made {
	m := g.maker(n)
	m.service(n.called.Key)
	if len(n.matching) == 0 && len(n.Spec.Routes) == 0 {
		return m.made
	}
	var seen []*call
	for _, caller := range g.callersOf(n) {
		for _, c := range append(m.ways(n, caller), m.unrouted(n, caller)...) {
			if len(c.Policies)+len(c.cluster.Policies) > 0 && !slices.ContainsFunc(seen, c.leadsAs) {
				seen = append(seen, c)
			}
		}
	}
	m.calls = seen
	return m.made
}

// leadsAs reports whether the same holds for both, and they end at the same place.
func (c *call) leadsAs(o *call) bool {
	return c.to == o.to && c.subset == o.subset && c.spare == o.spare && c.reads == o.reads && c.high == o.high && c.result == o.result
}

// ways are the different ways that calls from caller to n take: through its routes, to their backends, and where all tries fail to the
// service that they fall back to. The way that most calls take stands first, without a name.
func (m *maker) ways(n *node, caller policy.Caller) []*call {
	set := m.effective(n, caller)
	var list []*call
	for _, r := range routesOf(n) {
		_, own := set.routes[r.Name]
		route := r.Name
		if route == catalog.DefaultRoute && !own {
			route = ""
		}
		for _, c := range m.backends(n, &r, caller, set) {
			c.from, c.route = sayCaller(caller), route
			if !slices.ContainsFunc(list, c.leadsAs) {
				list = append(list, c)
			}
		}
	}
	return list
}

func sayCaller(caller policy.Caller) string {
	if caller.Name == "" {
		return ""
	}
	return caller.String()
}

// routesOf are the routes of n; the one that takes what no other does stands first.
func routesOf(n *node) []catalog.Route {
	own := n.Spec.Routes
	if slices.ContainsFunc(own, func(r catalog.Route) bool { return r.Everything() }) {
		return own
	}
	return append([]catalog.Route{{Name: catalog.DefaultRoute}}, own...)
}

// backends are where the calls of a route go, and last what they fall back to.
func (m *maker) backends(n *node, r *catalog.Route, caller policy.Caller, set *merged) []*call {
	way := set.route(r.Name)
	var list []*call
	lead := func(to *node, subset string, spare bool) {
		there := set
		if to != n {
			there = m.effective(to, caller)
		}
		list = append(list, &call{
			named: n, to: to, subset: subset, spare: spare, reads: reads(r), high: catalog.PriorityOf(r) == catalog.PriorityHigh,
			result: result{way, there.subset(subset)},
		})
	}
	for _, b := range r.Backends {
		if to := m.service(b.Key(n.Service.Service)); to != nil && b.Share() > 0 {
			lead(to, b.Subset, false)
		}
	}
	if len(r.Backends) == 0 {
		lead(n, "", false)
	}
	if service, ok := way.fallsBack(); ok {
		if to := m.service(catalog.ParseRef(service, n.called.Namespace)); to != nil {
			lead(to, "", true)
		}
	}
	return list
}

// reads reports whether a route takes no method that changes something each time anew.
func reads(r *catalog.Route) bool {
	return r.Match != nil && len(r.Match.Methods) > 0 && !slices.Contains(r.Match.Methods, "POST") && !slices.Contains(r.Match.Methods, "PATCH")
}

// unrouted are the subsets that policies speak of and no route leads to: a proxy may have routes of its own.
func (m *maker) unrouted(n *node, caller policy.Caller) []*call {
	set := m.effective(n, caller)
	var list []*call
	for subset := range n.Spec.Subsets {
		if s := set.subsets[subset]; s != nil && !leadsTo(n, subset) {
			list = append(list, &call{from: sayCaller(caller), named: n, to: n, subset: subset, result: result{set.calls, s}})
		}
	}
	slices.SortFunc(list, func(a, b *call) int { return cmp.Compare(a.subset, b.subset) })
	return list
}

// leadsTo reports whether a route of n leads to that subset of it.
func leadsTo(n *node, subset string) bool {
	return slices.ContainsFunc(n.Spec.Routes, func(r catalog.Route) bool {
		return slices.ContainsFunc(r.Backends, func(b catalog.Backend) bool {
			return b.Subset == subset && b.Share() > 0 && b.Key(n.Service.Service) == n.called.Key
		})
	})
}

// callersOf are callers of n, at least one for every different result.
func (g *graph) callersOf(n *node) []policy.Caller {
	others := []string{n.called.Namespace}
	var named []policy.Caller
	for _, caller := range n.callers {
		if slices.ContainsFunc(caller.out.calls, func(c *call) bool { return c.named == n }) { // calls to others may end here, too
			named = append(named, caller.asCaller())
		}
	}
	selecting := false
	for _, e := range n.matching {
		p := e.Policy
		others = append(others, p.Metadata.Namespace)
		from := p.Spec.From
		if from == nil {
			continue
		}
		selecting = selecting || from.Selector != nil
		if from.Service != "" && from.Namespace != policy.Every && g.mayCall(sourceOf(p), n) {
			named = append(named, g.caller(sourceOf(p)))
		}
	}
	if selecting {
		for _, caller := range g.samples {
			if g.mayCall(caller.Key, n) {
				named = append(named, caller)
			}
		}
	}
	slices.Sort(others)
	for _, namespace := range slices.Compact(others) {
		named = append(named, policy.Caller{Key: manifest.Key{Namespace: namespace}})
	}
	return named
}

// mayCall reports whether a service may call n though its dependsOn does not name it: it is not in the catalogue, or it has none, and then calls
// those of its namespace.
func (g *graph) mayCall(caller manifest.Key, n *node) bool {
	from := g.byKey[caller]
	return from == nil || from.Spec.DependsOn == nil && from != n && from.called.Namespace == n.called.Namespace
}

// sourceOf is the caller that a policy names.
func sourceOf(p *policy.Policy) manifest.Key {
	from := p.Spec.From
	return manifest.Key{Namespace: cmp.Or(from.Namespace, p.Metadata.Namespace), Name: from.Service}
}

// sample picks two callers that don't say whom they call for each set of selectors that the sources of policies have: one for the other, and
// others of the set get the same. Callers that are not in the catalogue have no labels.
func (g *graph) sample() []policy.Caller {
	var selecting []*entry // one for each source
	known := make(map[string]bool)
	for _, e := range g.order {
		if source, ok := sourceText(e.Policy); ok && !known[source] {
			known[source] = true
			selecting = append(selecting, e)
		}
	}
	if len(selecting) == 0 {
		return nil
	}
	var list []policy.Caller
	seen := make(map[string]int)
	for _, n := range g.nodes {
		if n.Spec.DependsOn != nil {
			continue
		}
		caller := n.asCaller()
		mask := []byte(caller.Namespace + " ")
		for _, e := range selecting {
			if e.Applies(n.called, caller) {
				mask = append(mask, 'x')
			} else {
				mask = append(mask, '-')
			}
		}
		if seen[string(mask)]++; seen[string(mask)] <= 2 {
			list = append(list, caller)
		}
	}
	return list
}

// sourceText says whom a policy selects as callers; ok is false where it selects none.
func sourceText(p *policy.Policy) (text string, ok bool) {
	from := p.Spec.From
	if from == nil || from.Selector == nil {
		return "", false
	}
	text = p.Metadata.Namespace + " " + p.Spec.To.Namespace + " " + from.Namespace
	for _, label := range slices.Sorted(maps.Keys(from.Selector)) {
		text += " " + label + "=" + from.Selector[label]
	}
	return text, true
}
