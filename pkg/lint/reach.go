package lint

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// narrower finds a hop that refuses calls which the hop behind it would still take.
func (l *linter) narrower(outer, inner *call) {
	if outer.Limits == nil || outer.Limits.MaxRequests == nil || inner.Limits == nil || inner.Limits.MaxRequests == nil {
		return
	}
	out, in := *outer.Limits.MaxRequests, *inner.Limits.MaxRequests
	if out >= in || in == manifest.Unlimited {
		return
	}
	object, path, ok := outer.at("limits.maxRequests")
	if !ok {
		return
	}
	l.add(Finding{
		Code: NarrowerThanNext, Severity: Warning, Kind: policy.Kind, Object: object, Path: path, Calls: []string{outer.from, key(outer.to), key(inner.to)},
		Why: fmt.Sprintf("%s may have %s calls under way to %s, fewer than the %s from there to %s: a stall further in fills this hop first, and calls fail that never needed %s",
			outer.from, out, key(outer.to), in, key(inner.to), key(inner.to)),
		Instead: fmt.Sprintf("more than %s here: every call crosses the outer hops, so bulkheads widen outwards", in),
	})
}

// policies looks at each policy: whether it says anything, and to whom.
func (l *linter) policies() {
	fares := l.fares()
	for i, p := range l.graph.policies {
		switch {
		case l.graph.covers[i] == 0:
			l.nothing(p, "spec.to", "no service that exists is covered", "a service that exists, or delete the policy")
		case !l.graph.called(i):
			l.nothing(p, "spec.from", "no caller it covers calls a service it covers: a proxy receives only what its service's dependsOn names",
				"a caller that exists, or add the service to the caller's dependsOn")
		case p.Guardrail == nil && fares[i].shadowed():
			l.add(Finding{
				Code: Shadowed, Severity: Warning, Kind: policy.Kind, Object: p.Policy.Key(), Path: "spec",
				Why:     fmt.Sprintf("every field it sets is overridden wherever it applies, among others by %s", named(fares[i].by)),
				Instead: "nothing here: delete it, or write a narrower to or from, or a higher precedence",
			})
		}
	}
}

func (l *linter) nothing(p *policy.Compiled, path, why, instead string) {
	l.add(Finding{
		Code: MatchesNothing, Severity: Warning, Kind: kindOf(p), Object: p.Policy.Key(), Path: path,
		Why: why + ": it has no effect", Instead: instead,
	})
}

func kindOf(p *policy.Compiled) string {
	if p.Guardrail != nil {
		return policy.GuardrailKind
	}
	return policy.Kind
}

// called reports whether a caller that policy i covers may call a service that it covers.
func (g *graph) called(i int) bool {
	p := g.policies[i]
	from := p.Policy.Spec.From
	if from == nil {
		return true
	}
	if g.heard[i] {
		return true
	}
	if from.Service != "" && from.Namespace != policy.Every {
		caller := manifest.Key{Namespace: cmp.Or(from.Namespace, p.Policy.Metadata.Namespace), Name: from.Service}
		if g.byKey[caller] == nil {
			return true // callers need not be in the catalogue
		}
	}
	return slices.ContainsFunc(g.open, func(n *node) bool {
		return p.Applies(n.called, n.asCaller()) && slices.ContainsFunc(g.nodes, func(to *node) bool {
			return to.called.Namespace == n.called.Namespace && p.Matches(to.called)
		})
	})
}

// fare is how a policy does in the results that it takes part in.
type fare struct {
	wins, losses int
	by           manifest.Key
}

func (f fare) shadowed() bool { return f.wins == 0 && f.losses > 0 }

// fares counts, by policy, the fields that hold and those that others override. A result counts once, however many services have it.
func (l *linter) fares() []fare {
	g := l.graph
	list := make([]fare, len(g.policies))
	for _, r := range g.merges {
		for _, f := range r.AllFields() {
			by, won := g.indexOf[f.Origin.Policy]
			if won && !f.Origin.Default {
				list[by].wins++
			}
			for _, loser := range f.Losers {
				fare := &list[g.indexOf[loser.Origin.Policy]]
				fare.losses++
				if fare.by == (manifest.Key{}) || f.Origin.Policy.Less(fare.by) {
					fare.by = f.Origin.Policy
				}
			}
		}
	}
	return list
}
