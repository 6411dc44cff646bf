package lint

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// narrower finds a hop that refuses calls which the hop behind it would still take.
func (l *spots) narrower(outer, inner *call) {
	wide, narrow := inner.cluster.Limits, outer.cluster.Limits
	if outer.spare || inner.spare || narrow == nil || narrow.MaxRequests == nil || wide == nil || wide.MaxRequests == nil {
		return
	}
	out, in := *narrow.MaxRequests, *wide.MaxRequests
	if out >= in || in == manifest.Unlimited {
		return
	}
	object, path, ok := outer.cluster.at("limits.maxRequests")
	if !ok {
		return
	}
	l.add(inner.to, Finding{
		Code: NarrowerThanNext, Severity: Warning, Kind: policy.Kind, Object: object, Path: path, Calls: along(outer, inner),
		Why: fmt.Sprintf("%s may have %s calls under way to %s, fewer than the %s from there to %s: a stall further in fills this hop first, and calls fail that never needed %s",
			outer.from, out, key(outer.to), in, key(inner.to), key(inner.to)),
		Instead: fmt.Sprintf("more than %s here: every call crosses the outer hops, so bulkheads widen outwards", in),
	})
}

// along names the calls hop by hop.
func along(outer, inner *call) []string { return []string{outer.from, outer.String(), inner.String()} }

// judge looks at a policy: whether it says anything, and to whom.
func (g *graph) judge(e *entry) []*spot {
	var l spots
	if e.Guardrail == nil && g.entries[nameOf(e.Compiled)] == e {
		l.faults(e.Policy)
	}
	all, known, heard := e.fares()
	f := Finding{
		Code: Shadowed, Severity: Warning, Kind: policy.Kind, Object: e.Policy.Key(), Path: "spec",
		Instead: "nothing here: delete it, or write a narrower to or from, or a higher precedence",
	}
	switch {
	case g.entries[nameOf(e.Compiled)] != e:
	case e.covers == 0:
		l.nothing(e, "spec.to", "no service that exists is covered", "a service that exists, or delete the policy")
	case !g.hasPart(e):
		l.nothing(e, "spec.to."+partName(e), "the service has no "+partName(e)+" of that name", "one that it has, or delete the policy")
	case !heard && !g.called(e):
		l.nothing(e, "spec.from", "no caller it covers calls a service it covers: a proxy receives only what its service's dependsOn names",
			"a caller that exists, or add the service to the caller's dependsOn")
	case e.Guardrail != nil:
	case all.shadowed():
		f.Why = fmt.Sprintf("every field it sets is overridden wherever it applies, among others by %s", named(all.by))
		if all.outranked > 0 {
			f.Severity = Info
			f.Why += ", in part for its higher precedence alone"
			f.Instead = "nothing, if what has the higher precedence is there for a while; else delete this one"
		}
		l.add(nil, f)
	case known.shadowed() && !g.open(e):
		f.Severity = Info
		f.Why = fmt.Sprintf("every field it sets is overridden for all calls that a dependsOn names, among others by %s: it holds only for callers that the catalogue does not know", named(known.by))
		f.Instead = "nothing, if it is there for callers that may come; else delete it, or write a narrower to or from, or a higher precedence"
		l.add(nil, f)
	}
	return l.list
}

// fares adds up how the policy does in all results, and in those of calls that dependsOn names; each counts once, however many services
// have it. It is heard if it holds for such a call.
func (e *entry) fares() (all, known fare, heard bool) {
	for m := range e.live {
		heard = heard || m.called > 0
		for _, one := range m.fares {
			if one.of != e {
				continue
			}
			all.add(one)
			if m.called > 0 {
				known.add(one)
			}
		}
	}
	return all, known, heard
}

// open reports whether a service that e covers has callers in the catalogue that do not say whom they call.
func (g *graph) open(e *entry) bool {
	for n := range g.candidates(e) {
		silent := g.silent[n.called.Namespace]
		if n.Spec.DependsOn == nil {
			silent-- // itself
		}
		if silent > 0 && e.Matches(n.called) {
			return true
		}
	}
	return false
}

// hasPart reports whether the service that e is written for has the part that it names.
func (g *graph) hasPart(e *entry) bool {
	to := e.Policy.Spec.To
	if to.Subset == "" && to.Route == "" {
		return true
	}
	n := g.byKey[manifest.Key{Namespace: cmp.Or(to.Namespace, e.Policy.Metadata.Namespace), Name: to.Service}]
	if to.Route != "" {
		return catalog.HasRoute(n.Service.Service, to.Route)
	}
	_, ok := n.Spec.Subsets[to.Subset]
	return ok
}

func partName(e *entry) string {
	if e.Policy.Spec.To.Route != "" {
		return "route"
	}
	return "subset"
}

func (l *spots) nothing(e *entry, path, why, instead string) {
	l.add(nil, Finding{
		Code: MatchesNothing, Severity: Warning, Kind: kindOf(e), Object: e.Policy.Key(), Path: path,
		Why: why + ": it has no effect", Instead: instead,
	})
}

func kindOf(e *entry) string {
	if e.Guardrail != nil {
		return policy.GuardrailKind
	}
	return policy.Kind
}

// called reports whether a caller that e covers may call a service that it covers, though no dependsOn names that.
func (g *graph) called(e *entry) bool {
	if !e.looked {
		e.looked, e.reaches = true, g.reaches(e)
	}
	return e.reaches
}

func (g *graph) reaches(e *entry) bool {
	from := e.Policy.Spec.From
	if from == nil {
		return true
	}
	if from.Service != "" && from.Namespace != policy.Every && g.byKey[sourceOf(e.Policy)] == nil {
		return true // callers need not be in the catalogue
	}
	return slices.ContainsFunc(g.nodes, func(n *node) bool {
		return n.Spec.DependsOn == nil && e.Applies(n.called, n.asCaller()) && slices.ContainsFunc(g.nodes, func(to *node) bool {
			return to != n && to.called.Namespace == n.called.Namespace && e.Matches(to.called)
		})
	})
}
