package apiserver

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// policyResponse is p with its status in w. Fares may be nil: then only p's own services are looked at.
func (s *server) policyResponse(w *world.World, p *policy.Compiled, fares map[manifest.Key]*standing) api.PolicyResponse {
	if fares == nil {
		fares = survey(w, covered(w, p))
	}
	o := p.Policy
	programmed := s.Book.Programmed(o.Key())
	programmed.Type = api.Programmed
	conditions := []api.Condition{
		valid(o.Metadata),
		resolved(policyRefs(w, o)),
		effective(fares[o.Key()]),
		programmed,
	}
	return api.PolicyResponse{
		APIVersion: o.APIVersion, Kind: o.Kind, Metadata: o.Metadata, Spec: o.Spec,
		Status: observed(conditions, o.Metadata.Generation),
	}
}

func serviceResponse(w *world.World, o *catalog.Service) api.ServiceResponse {
	conditions := []api.Condition{valid(o.Metadata), resolved(serviceRefs(w, o))}
	return api.ServiceResponse{
		APIVersion: o.APIVersion, Kind: o.Kind, Metadata: o.Metadata, Spec: o.Spec,
		Status: observed(conditions, o.Metadata.Generation),
	}
}

func observed(conditions []api.Condition, generation int64) api.Status {
	for i := range conditions {
		conditions[i].ObservedGeneration = generation
	}
	return api.Status{Conditions: conditions}
}

func valid(m manifest.Meta) api.Condition {
	return api.Condition{Type: api.Accepted, Status: api.True, Reason: "Valid", Since: m.UpdatedAt}
}

// ref is a service that an object names.
type ref struct {
	field string
	key   manifest.Key
}

// resolved is the condition of an object with these references to services that do not exist.
func resolved(missing []ref) api.Condition {
	if len(missing) == 0 {
		return api.Condition{Type: api.ResolvedRefs, Status: api.True, Reason: "Resolved"}
	}
	texts := make([]string, len(missing))
	for i, m := range missing {
		texts[i] = m.String()
	}
	return api.Condition{Type: api.ResolvedRefs, Status: api.False, Reason: "ServiceNotFound", Message: strings.Join(texts, "; ")}
}

func (r ref) String() string { return fmt.Sprintf("%s: there is no Service %s", r.field, r.key) }

// policyRefs are the services that a policy names and that do not exist in w.
func policyRefs(w *world.World, p *policy.Policy) []ref {
	var missing []ref
	for _, r := range policyNames(p) {
		if _, ok := w.Service(r.key); !ok {
			missing = append(missing, r)
		}
	}
	return missing
}

// policyNames are the services that a policy names.
func policyNames(p *policy.Policy) []ref {
	var list []ref
	own := p.Metadata.Namespace
	if to := p.Spec.To; to.Service != "" && to.Service != policy.Every {
		list = append(list, ref{"spec.to.service", manifest.Key{Namespace: cmp.Or(to.Namespace, own), Name: to.Service}})
	}
	if from := p.Spec.From; from != nil && from.Service != "" && from.Namespace != policy.Every {
		list = append(list, ref{"spec.from.service", manifest.Key{Namespace: cmp.Or(from.Namespace, own), Name: from.Service}})
	}
	return list
}

// serviceRefs are the services that a service depends on and that do not exist in w.
func serviceRefs(w *world.World, s *catalog.Service) []ref {
	var missing []ref
	for _, r := range serviceNames(s) {
		if _, ok := w.Service(r.key); !ok {
			missing = append(missing, r)
		}
	}
	return missing
}

func serviceNames(s *catalog.Service) []ref {
	var list []ref
	keys, _ := catalog.Dependencies(s)
	for i, key := range keys {
		list = append(list, ref{fmt.Sprintf("spec.dependsOn[%d]", i), key})
	}
	return list
}

// effective is the condition of a policy that fares so; nil means that it covers no service.
func effective(f *standing) api.Condition {
	c := api.Condition{Type: api.Effective, Status: api.True, Reason: "Effective"}
	switch {
	case f == nil || f.services == 0:
		c.Status, c.Reason, c.Message = api.Unknown, "NoService", "it covers no service that exists"
	case len(f.problems) > 0:
		// A conflict is between authors, an invalid merge may follow from it.
		worst := f.problems[0]
		for _, p := range f.problems {
			if p.Reason == policy.Conflicted {
				worst = p
				break
			}
		}
		c.Status, c.Reason, c.Message = api.False, worst.Reason, worst.Message
	case f.wins == 0 && f.losses > 0:
		c.Status, c.Reason = api.False, "Overridden"
		c.Message = fmt.Sprintf("more specific policies override every field, among them %s", f.winner)
	case f.losses > 0:
		c.Message = fmt.Sprintf("%s overrides a part of it in some results", f.winner)
	}
	return c
}
