package world

import (
	"maps"
	"slices"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// TestForeseenIsWhatComes holds what is foreseen of each of some changes against what the builder then does to the same classes.
func TestForeseenIsWhatComes(t *testing.T) {
	every := policy.Target{Service: policy.Every}
	breaker := policy.Sections{CircuitBreaker: &policy.CircuitBreaker{FailureThreshold: ptr(uint32(5))}}
	limit := policy.Sections{Limits: &policy.Limits{MaxRequests: ptr(manifest.Count(7))}}
	adaptive := policy.Sections{AdaptiveConcurrency: &policy.AdaptiveConcurrency{MaxConcurrency: ptr(uint32(9))}}
	relabelled := service(key("shop", "orders"), func(s *catalog.Service) { s.Metadata.Labels = map[string]string{"tier": "front"} })
	for name, c := range map[string]Changes{
		"a policy for all":         {Policies: map[manifest.Key]*policy.Compiled{key("shop", "p"): compiled(t, key("shop", "p"), policy.Spec{To: every, Sections: breaker})}},
		"a limit":                  {Policies: map[manifest.Key]*policy.Compiled{key("shop", "p"): compiled(t, key("shop", "p"), policy.Spec{To: policy.Target{Service: "billing"}, Sections: limit})}},
		"a policy that goes":       {Policies: map[manifest.Key]*policy.Compiled{key("shop", "there"): nil}},
		"a filter in the listener": {Policies: map[manifest.Key]*policy.Compiled{key("shop", "p"): compiled(t, key("shop", "p"), policy.Spec{To: policy.Target{Service: "billing"}, Sections: adaptive})}},
		"labels of a caller":       {Services: map[manifest.Key]*catalog.Service{key("shop", "orders"): relabelled}},
		"a service that goes":      {Services: map[manifest.Key]*catalog.Service{key("shop", "billing"): nil}},
		"nothing for a stranger":   {Policies: map[manifest.Key]*policy.Compiled{key("bank", "p"): compiled(t, key("bank", "p"), policy.Spec{To: every, Sections: breaker})}},
	} {
		t.Run(name, func(t *testing.T) {
			_, first := newWorld(service(key("shop", "orders")), service(key("shop", "payments")), service(key("shop", "billing")))
			first.Policies[key("shop", "there")] = compiled(t, key("shop", "there"), policy.Spec{
				To: every, From: &policy.Source{Selector: map[string]string{"tier": "front"}}, Sections: policy.Sections{Timeout: &policy.Timeout{Connect: ptr(manifest.Duration("1s"))}},
			})
			w := (&World{}).With(1, first)
			b := NewBuilder()
			b.Update(w, first)
			edge := orders()
			edge.Service = "edge"
			classes := map[ClassKey]*Class{orders(): b.Join(orders()), edge: b.Join(edge)}
			before := map[ClassKey]*Head{}
			for k, class := range classes {
				before[k] = class.Head()
			}
			next := w.With(2, c)
			foreseen := map[ClassKey][]string{}
			for _, f := range Foresee(w, next, c).Of(slices.Collect(maps.Keys(classes))) {
				for _, r := range f.Changed {
					foreseen[f.Class] = append(foreseen[f.Class], describe(r.Old, r.Now))
				}
			}
			b.Update(next, c)
			for k, class := range classes {
				var came []string
				for typ := range view.NumTypes {
					view.Diff(before[k].Views[typ], class.Head().Views[typ], func(o, n *view.Resource) { came = append(came, describe(o, n)) })
				}
				slices.Sort(came)
				slices.Sort(foreseen[k])
				if !slices.Equal(came, foreseen[k]) {
					t.Errorf("%s: foreseen %v, came %v", k.Service, foreseen[k], came)
				}
			}
		})
	}
}

// describe is a change of a resource. Of a runtime layer only the keys of what changed are foreseen.
func describe(old, now *view.Resource) string {
	r := Replaced{old, now}
	if r.ID().Type == view.RTDS {
		return r.ID().String()
	}
	text := r.ID().String()
	for _, v := range []*view.Resource{old, now} {
		if v != nil {
			text += " " + v.Version
		} else {
			text += " -"
		}
	}
	return text
}
