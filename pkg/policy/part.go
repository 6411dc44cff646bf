package policy

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// The scopes of fields: what acts on a route belongs to the calls that take it, what acts on a cluster to the endpoints called, and what
// is of the service to all its calls together. A section without a scope is of both routes and clusters.
const (
	scopeRoute   = "route"
	scopeCluster = "cluster"
	scopeService = "service"
)

// part is a part of a service; of a policy, the one it names. Zero: the whole.
type part struct{ subset, route string }

// holds reports whether a policy for p speaks of the part o of a service.
func (p part) holds(o part) bool {
	return (p.subset == "" || p.subset == o.subset) && (p.route == "" || p.route == o.route)
}

// scope is the only scope in which a policy for p says anything; empty for any.
func (p part) scope() string {
	switch {
	case p.route != "":
		return scopeRoute
	case p.subset != "":
		return scopeCluster
	}
	return ""
}

func partOf(to Target) part { return part{to.Subset, to.Route} }

// within reports whether a field of one scope may be set where only another counts; either may be empty for both.
func within(scope, only string) bool { return scope == "" || only == "" || scope == only }

// scopeOf is the scope of a field, or of a section of an effective policy: that of all its fields, empty where they differ.
func scopeOf(path string) string {
	section, rest, nested := strings.Cut(path, ".")
	if nested {
		field, _, _ := strings.Cut(rest, ".")
		if u, ok := unitByPath[section+"."+field]; ok {
			return units[u].scope
		}
	}
	return sectionScope(sectionIndex(section))
}

func sectionScope(section int) string {
	scope, first := "", true
	for _, u := range units {
		if u.section != section {
			continue
		}
		if !first && u.scope != scope {
			return ""
		}
		scope, first = u.scope, false
	}
	return scope
}

// validatePart checks that a policy for a part of a service names one service, and sets only what can differ there.
func validatePart(p *Policy, f *faults) {
	to := p.Spec.To
	named := partOf(to)
	if named == (part{}) {
		return
	}
	for _, n := range [][2]string{{"to.subset", to.Subset}, {"to.route", to.Route}} {
		if n[1] != "" {
			f.name(n[0], n[1])
		}
	}
	if to.Subset != "" && to.Route != "" {
		f.add("to", "takes subset or route, not both: a subset has the fields of scope cluster, a route those of scope route")
		return
	}
	if to.Service == "" || to.Service == Every {
		f.add("to.service", "must be one service, whose %s is meant", map[bool]string{true: "subset", false: "route"}[to.Subset != ""])
	}
	f.scope(&p.Spec.Sections, named)
}

// scope refuses the fields that can't differ in a part of a service.
func (f *faults) scope(s *Sections, named part) {
	v := reflect.ValueOf(s).Elem()
	for i, name := range sectionNames {
		if v.Field(i).IsNil() {
			continue
		}
		if !within(sectionScope(i), named.scope()) {
			f.add(name, "%s", named.refusal(sectionScope(i)))
			continue
		}
		for _, u := range units {
			if u.section == i && !isNil(v.Field(i).Elem().Field(u.field)) && !within(u.scope, named.scope()) {
				f.add(u.path, "%s", named.refusal(u.scope))
			}
		}
	}
}

// refusal is why a policy for p can't set a field of that scope.
func (p part) refusal(scope string) string {
	kind, other := "route", "a subset"
	if p.subset != "" {
		kind, other = "subset", "a route"
	}
	why := "is of scope " + scope + ": a policy that names a " + kind + " can't set it; write it in one for the service"
	if scope != scopeService {
		why += " or " + other
	}
	return why
}

// partsOf are the parts that policies name, in order.
func partsOf(applied []*Compiled) []part {
	named := make(map[part]bool)
	for _, c := range applied {
		if c.part != (part{}) {
			named[c.part] = true
		}
	}
	return slices.SortedFunc(maps.Keys(named), func(a, b part) int {
		return cmp.Or(cmp.Compare(a.subset, b.subset), cmp.Compare(a.route, b.route))
	})
}

// of are the policies that speak of a part.
func (p part) of(applied []*Compiled) []*Compiled {
	var list []*Compiled
	for _, c := range applied {
		if c.part.holds(p) {
			list = append(list, c)
		}
	}
	return list
}

// Subset is what holds for the endpoints of a subset, as far as fields of scope cluster go.
func (e *Effective) Subset(name string) *Effective { return cmp.Or(e.Subsets[name], e) }

// Route is what holds for the calls of a route, as far as fields of scope route go.
func (e *Effective) Route(name string) *Effective { return cmp.Or(e.Routes[name], e) }

// Every is e and all that it has of the parts of the service.
func (e *Effective) Every() []*Effective {
	list := []*Effective{e}
	for _, parts := range []map[string]*Effective{e.Subsets, e.Routes} {
		for _, name := range slices.Sorted(maps.Keys(parts)) {
			list = append(list, parts[name])
		}
	}
	return list
}

// side is what holds for one side of a call: its route, or the endpoints it goes to.
type side struct {
	of    *Effective
	scope string
}

// Of is what to show of calls on a route, to a subset, or both: of the one the fields of scope route, of the other those of scope
// cluster. With neither it is e.
func (e *Effective) Of(subset, route string) *Effective {
	var sides, observed []side
	if route != "" {
		sides = append(sides, side{e.Route(route), scopeRoute})
	}
	if subset != "" {
		sides = append(sides, side{e.Subset(subset), scopeCluster})
	}
	if sides == nil {
		return e
	}
	for _, s := range sides {
		if s.of.Observed != nil {
			observed = append(observed, side{s.of.Observed, s.scope})
		}
	}
	shown := showing(sides)
	if observed != nil {
		shown.Observed = showing(observed)
	}
	return shown
}

func showing(sides []side) *Effective {
	shown := &Effective{}
	for _, s := range sides {
		for _, f := range s.of.Fields {
			if scope := scopeOf(f.Path); within(scope, s.scope) && !slices.ContainsFunc(shown.Fields, func(o Field) bool { return o.Path == f.Path }) {
				shown.Fields = append(shown.Fields, f)
			}
		}
		shown.Policies = withKeys(shown.Policies, s.of.Policies)
		shown.Guardrails = withKeys(shown.Guardrails, s.of.Guardrails)
	}
	slices.SortFunc(shown.Fields, func(a, b Field) int { return cmp.Compare(a.Path, b.Path) })
	return shown
}

// AllPolicies are the policies that take part in any of what e has.
func (e *Effective) AllPolicies() []manifest.Key {
	var list []manifest.Key
	for _, part := range e.Every() {
		list = withKeys(list, part.Policies)
	}
	return list
}

// AllGuardrails are the guardrails that take part in any of what e has.
func (e *Effective) AllGuardrails() []manifest.Key {
	var list []manifest.Key
	for _, part := range e.Every() {
		list = withKeys(list, part.Guardrails)
	}
	return list
}

// withKeys adds those of more that are not in list.
func withKeys(list, more []manifest.Key) []manifest.Key {
	for _, key := range more {
		if !slices.Contains(list, key) {
			list = append(list, key)
		}
	}
	return list
}
