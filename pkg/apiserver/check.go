package apiserver

import (
	"fmt"
	"net/http"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// advise warns of what the written objects name and that will not exist, and of policies that do nothing.
func advise(p *plan) []api.Warning {
	var list []api.Warning
	for _, s := range p.steps {
		var named []ref
		if s.over != "" {
			list = append(list, api.Warning{Kind: s.kind, Namespace: s.key.Namespace, Name: s.key.Name, Field: "spec.expiresAt", Message: s.over})
		}
		switch {
		case s.policy != nil:
			named = policyNames(s.policy)
			for _, w := range policy.Warnings(s.policy) {
				list = append(list, api.Warning{Kind: s.kind, Namespace: s.key.Namespace, Name: s.key.Name, Field: w.Field, Message: w.Message})
			}
		case s.guardrail != nil:
			named = policyNames(policy.CompileGuardrail(s.guardrail).Policy)
		case s.service != nil:
			named = serviceNames(s.service)
			list = append(list, left(p, s)...)
		}
		for _, r := range named {
			if text, _ := r.missing(p.world); text != "" {
				list = append(list, api.Warning{Kind: s.kind, Namespace: s.key.Namespace, Name: s.key.Name, Field: r.field, Message: text})
			}
		}
	}
	return list
}

// left warns of the subsets and routes that a written service has no more, and that others name.
func left(p *plan, s *step) []api.Warning {
	if s.oldService == nil {
		return nil
	}
	var list []api.Warning
	note := func(kind string, key manifest.Key, refs []ref) {
		for _, r := range refs {
			if r.key != s.key || r.lacking(s.oldService) != "" || r.lacking(s.service) == "" {
				continue
			}
			list = append(list, api.Warning{
				Kind: s.kind, Namespace: s.key.Namespace, Name: s.key.Name,
				Message: fmt.Sprintf("%s of %s %s: %s any more", r.field, kind, key, r.lacking(s.service)),
			})
		}
	}
	for _, c := range p.world.Policies() {
		note(policy.Kind, c.Policy.Key(), policyNames(c.Policy))
	}
	for _, other := range p.world.Services() {
		note(catalog.Kind, other.Key(), serviceNames(other))
	}
	return list
}

// referenced refuses to remove services that others will still name.
func referenced(p *plan) error {
	removed := make(map[manifest.Key]bool)
	for _, s := range p.steps {
		if s.kind == catalog.Kind && s.action == api.Deleted {
			removed[s.key] = true
		}
	}
	if len(removed) == 0 {
		return nil
	}
	var by []api.Conflict
	note := func(kind string, key manifest.Key, refs []ref) {
		for _, r := range refs {
			if removed[r.key] && r.subset == "" && r.route == "" {
				by = append(by, api.Conflict{
					Kind: kind, Namespace: key.Namespace, Name: key.Name, Field: r.field,
					Message: fmt.Sprintf("%s of %s %s names Service %s", r.field, kind, key, r.key),
				})
			}
		}
	}
	for _, c := range p.world.Policies() {
		note(policy.Kind, c.Policy.Key(), policyNames(c.Policy))
	}
	for _, g := range p.world.Guardrails() {
		note(policy.GuardrailKind, g.Policy.Key(), policyNames(g.Policy))
	}
	for _, s := range p.world.Services() {
		note(catalog.Kind, s.Key(), serviceNames(s))
	}
	if len(by) == 0 {
		return nil
	}
	return conflict(api.Referenced, "others name it; delete them first, or force it", by...)
}

// check judges what the written policies do to each other and to those that are there: first policies of one rank that contradict each
// other, then merges that are invalid. It notes in told what it warned of.
func check(p *plan, told map[string]bool) error {
	written := make(map[manifest.Key]bool)
	for _, s := range p.steps {
		if s.kind == policy.Kind && s.action != api.Unchanged {
			written[s.key] = true
		}
	}
	if len(written) == 0 {
		return nil
	}
	var services []policy.Service
	var callers []policy.Caller
	for _, s := range p.world.Services() {
		services = append(services, p.world.Called(s.Key()))
		callers = append(callers, p.world.Caller(s.Key()))
	}
	all := p.world.Ranked()
	if err := contradictions(policy.Conflicts(all, services, callers, written), written); err != nil {
		return err
	}
	problem := &api.Problem{
		Type: api.InvalidMerge, Title: "Invalid merge", Status: http.StatusUnprocessableEntity,
		Detail: "what would hold in the end is not valid",
	}
	for _, v := range policy.Check(services, callers, all, written) {
		if told[v.Message] {
			continue
		}
		told[v.Message] = true
		if v.Refused {
			problem.Errors = append(problem.Errors, p.locate(v))
		} else {
			p.warnings = append(p.warnings, fallsBack(v))
		}
	}
	if len(problem.Errors) > 0 {
		return problem
	}
	return nil
}

// contradictions refuses conflicts. It names the policy that was there before.
func contradictions(found []policy.Conflict, written map[manifest.Key]bool) error {
	var list []api.Conflict
	for _, c := range found {
		other := c.A.Policy.Metadata
		if written[c.A.Policy.Key()] && !written[c.B.Policy.Key()] {
			other = c.B.Policy.Metadata
		}
		list = append(list, api.Conflict{Kind: policy.Kind, Namespace: other.Namespace, Name: other.Name, Field: c.Field, Message: c.Message})
	}
	if len(list) == 0 {
		return nil
	}
	return conflict(api.PolicyConflict, "policies of one rank contradict each other", list...)
}

// locate points a violation at the place in the request that has a part in it.
func (p *plan) locate(v policy.Violation) manifest.FieldError {
	for _, s := range p.steps {
		if s.policy == nil {
			continue
		}
		if path, ok := v.PathOf(s.policy); ok {
			return s.place.fault("spec."+path, v.Message)
		}
	}
	return manifest.FieldError{Field: v.Field, Message: v.Message}
}

// fallsBack warns that a part of a written policy does not hold: another namespace's policy has a say in it.
func fallsBack(v policy.Violation) api.Warning {
	m := v.Written[0].Policy.Metadata
	return api.Warning{Kind: policy.Kind, Namespace: m.Namespace, Name: m.Name, Message: v.Message + "; only the most specific policy's section holds there"}
}
