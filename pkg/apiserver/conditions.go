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

// policyResponse is p with its status in w, and its delivery. Fares may be nil: then only p's own services are looked at.
func (s *server) policyResponse(w *world.World, p *policy.Compiled, fares *fares, delivered api.Condition) api.PolicyResponse {
	if fares == nil {
		fares = survey(w, covered(w, p))
	}
	o := p.Policy
	conditions := []api.Condition{
		valid(o.Metadata),
		resolved(w, policyNames(o)),
		effective(fares.policies[o.Key()]),
		delivered,
	}
	s.overrule(conditions, policy.Kind, o.Metadata)
	return api.PolicyResponse{
		APIVersion: o.APIVersion, Kind: o.Kind, Metadata: o.Metadata, Spec: o.Spec,
		Status: observed(conditions, o.Metadata.Generation),
	}
}

// guardrailResponse is g with its status in w, and its delivery. Fares may be nil: then only g's own services are looked at.
func (s *server) guardrailResponse(w *world.World, g *policy.Compiled, fares *fares, delivered api.Condition) api.GuardrailResponse {
	if fares == nil {
		fares = survey(w, covered(w, g))
	}
	o := g.Guardrail
	conditions := []api.Condition{
		valid(o.Metadata),
		resolved(w, policyNames(g.Policy)),
		bounding(fares.guardrails[o.Key()]),
		delivered,
	}
	s.overrule(conditions, policy.GuardrailKind, o.Metadata)
	return api.GuardrailResponse{
		APIVersion: o.APIVersion, Kind: o.Kind, Metadata: o.Metadata, Spec: o.Spec,
		Status: observed(conditions, o.Metadata.Generation),
	}
}

// overrule says of an object in quarantine that it does not hold: what others take for it is an earlier generation.
func (s *server) overrule(conditions []api.Condition, kind string, m manifest.Meta) {
	var texts []string
	for _, q := range s.Quarantined() {
		if q.Kind == kind && q.Key == (manifest.Key{Namespace: m.Namespace, Name: m.Name}) && q.Generation == m.Generation {
			texts = append(texts, q.String())
		}
	}
	if len(texts) == 0 {
		return
	}
	for i, c := range conditions {
		if c.Type == api.Effective || c.Type == api.Programmed {
			conditions[i] = api.Condition{Type: c.Type, Status: api.False, Reason: "Quarantined", Message: someOf(texts)}
		}
	}
}

func serviceResponse(w *world.World, o *catalog.Service) api.ServiceResponse {
	conditions := []api.Condition{valid(o.Metadata), resolved(w, serviceNames(o))}
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

// ref is a service, or a part of one, that an object names.
type ref struct {
	field  string
	key    manifest.Key
	subset string // of the service; empty where it is not meant
	route  string // likewise
	calls  bool   // it is called by a route, which leads to no tcp service
}

// lacking says that svc has not what r names of it; empty where it has.
func (r ref) lacking(svc *catalog.Service) string {
	if _, ok := svc.Spec.Subsets[r.subset]; r.subset != "" && !ok {
		return fmt.Sprintf("there is no subset %s in Service %s", r.subset, r.key)
	}
	if r.route != "" && catalog.ProtocolOf(svc) == catalog.TCP {
		return fmt.Sprintf("Service %s speaks tcp, and has no routes", r.key)
	}
	if r.route != "" && !catalog.HasRoute(svc, r.route) {
		return fmt.Sprintf("there is no route %s in Service %s", r.route, r.key)
	}
	return ""
}

// missing says what is not there in w, and why the condition is false; empty where all is.
func (r ref) missing(w *world.World) (text, reason string) {
	svc, ok := w.Service(r.key)
	switch {
	case ok && r.calls && catalog.ProtocolOf(svc) == catalog.TCP:
		return fmt.Sprintf("Service %s speaks tcp, and no route leads there", r.key), "ServiceNotRoutable"
	case !ok && r.subset == "" && r.route == "":
		return fmt.Sprintf("there is no Service %s", r.key), "ServiceNotFound"
	case !ok:
		return "", "" // said of the service itself
	case r.subset != "":
		reason = "SubsetNotFound"
	default:
		reason = "RouteNotFound"
	}
	return r.lacking(svc), reason
}

// resolved is the condition of an object that names these.
func resolved(w *world.World, refs []ref) api.Condition {
	c := api.Condition{Type: api.ResolvedRefs, Status: api.True, Reason: "Resolved"}
	var texts []string
	for _, r := range refs {
		text, reason := r.missing(w)
		if text == "" {
			continue
		}
		if texts = append(texts, r.field+": "+text); len(texts) == 1 {
			c.Status, c.Reason = api.False, reason
		}
	}
	c.Message = strings.Join(texts, "; ")
	return c
}

// partNames are the parts of a service that a field at path names.
func partNames(path string, key manifest.Key, subset, route string) []ref {
	var list []ref
	if subset != "" {
		list = append(list, ref{field: path + ".subset", key: key, subset: subset})
	}
	if route != "" {
		list = append(list, ref{field: path + ".route", key: key, route: route})
	}
	return list
}

// policyNames are the services, and their parts, that a policy names.
func policyNames(p *policy.Policy) []ref {
	var list []ref
	own := p.Metadata.Namespace
	if to := p.Spec.To; to.Service != "" && to.Service != policy.Every {
		key := manifest.Key{Namespace: cmp.Or(to.Namespace, own), Name: to.Service}
		list = append(list, ref{field: "spec.to.service", key: key})
		list = append(list, partNames("spec.to", key, to.Subset, to.Route)...)
	}
	if from := p.Spec.From; from != nil && from.Service != "" && from.Namespace != policy.Every {
		list = append(list, ref{field: "spec.from.service", key: manifest.Key{Namespace: cmp.Or(from.Namespace, own), Name: from.Service}})
	}
	if key, ok := policy.Compile(p).FallbackService(); ok {
		list = append(list, ref{field: "spec.fallback.service", key: key})
	}
	return list
}

// serviceNames are the services, and their subsets, that a service depends on or sends calls to.
func serviceNames(s *catalog.Service) []ref {
	var list []ref
	keys, _ := catalog.Dependencies(s)
	for i, key := range keys {
		list = append(list, ref{field: fmt.Sprintf("spec.dependsOn[%d]", i), key: key})
	}
	for i := range s.Spec.Routes {
		for j, b := range s.Spec.Routes[i].Backends {
			key, path := b.Key(s), fmt.Sprintf("spec.routes[%d].backends[%d]", i, j)
			if key == s.Key() {
				continue // checked with the service alone
			}
			list = append(list, ref{field: path + ".service", key: key, calls: true})
			list = append(list, partNames(path, key, b.Subset, "")...)
		}
	}
	return list
}

// bounding is the condition Effective of a guardrail that fares so; nil means that it covers no service.
func bounding(f *standing) api.Condition {
	c := api.Condition{Type: api.Effective, Status: api.True, Reason: "Effective"}
	switch {
	case f == nil || f.services == 0:
		c.Status, c.Reason, c.Message = api.Unknown, "NoService", "it covers no service that exists"
	case f.wins == 0 && f.losses > 0:
		c.Status, c.Reason = api.False, "Overridden"
		c.Message = fmt.Sprintf("tighter bounds hold wherever it applies, among them those of guardrail %s", f.winner)
	case len(f.moved) == 0:
		c.Message = "nothing that holds is beyond its bounds"
	default:
		c.Message = "moves " + strings.Join(f.moved, ", ")
	}
	return c
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
