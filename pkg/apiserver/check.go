package apiserver

import (
	"fmt"
	"net/http"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// dangling warns of everything the written objects name and that will not exist.
func dangling(p *plan) []api.Warning {
	var list []api.Warning
	for _, s := range p.steps {
		var missing []ref
		switch {
		case s.policy != nil:
			missing = policyRefs(p.world, s.policy)
		case s.service != nil:
			missing = serviceRefs(p.world, s.service)
		}
		for _, r := range missing {
			list = append(list, api.Warning{
				Kind: s.kind, Namespace: s.key.Namespace, Name: s.key.Name,
				Field: r.field, Message: fmt.Sprintf("there is no Service %s", r.key),
			})
		}
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
			if removed[r.key] {
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
	for _, s := range p.world.Services() {
		note(catalog.Kind, s.Key(), serviceNames(s))
	}
	if len(by) == 0 {
		return nil
	}
	return conflict(api.Referenced, "others name it; delete them first, or force it", by...)
}

// check judges what the written policies do to each other and to those that are there: policies of one rank that disagree, then merges
// that are invalid. What was invalid before is not this write's fault, and what another namespace's policy has a part in is shown in
// the conditions only.
func check(before *world.World, p *plan) error {
	var touched []*policy.Compiled
	changed, namespaces := map[manifest.Key]bool{}, map[string]bool{manifest.SystemNamespace: true}
	for _, s := range p.steps {
		if s.kind != policy.Kind || s.action == api.Unchanged {
			continue
		}
		changed[s.key], namespaces[s.key.Namespace] = true, true
		for _, w := range []*world.World{before, p.world} {
			if c, ok := w.Policy(s.key); ok {
				touched = append(touched, c)
			}
		}
	}
	if len(touched) == 0 {
		return nil
	}
	if err := conflicts(p, changed); err != nil {
		return err
	}
	services := covered(p.world, touched...)
	known := make(map[string]bool)
	var own []policy.Problem
	for i, f := range problems(p.world, services) {
		if i == 0 {
			for _, old := range problems(before, services) {
				known[old.Message] = true
			}
		}
		mine := namespaces[f.Loser.Policy.Metadata.Namespace] && (f.Winner == nil || namespaces[f.Winner.Policy.Metadata.Namespace])
		if f.Reason == policy.InvalidMerge && mine && !known[f.Message] {
			own = append(own, f)
		}
	}
	if len(own) == 0 {
		return nil
	}
	problem := &api.Problem{
		Type: api.InvalidMerge, Title: "Invalid together", Status: http.StatusUnprocessableEntity,
		Detail: "each policy is valid, but not what they amount to together",
	}
	for _, f := range own {
		problem.Errors = append(problem.Errors, p.locate(f))
	}
	return problem
}

// conflicts refuses written policies that another one of the same rank contradicts. It names the policy that was there before.
func conflicts(p *plan, changed map[manifest.Key]bool) error {
	var services []policy.Service
	var callers []policy.Caller
	for _, s := range p.world.Services() {
		services = append(services, p.world.Called(s.Key()))
		callers = append(callers, p.world.Caller(s.Key()))
	}
	var list []api.Conflict
	for _, c := range policy.Conflicts(p.world.Policies(), services, callers, changed) {
		other := c.A.Policy.Metadata
		if changed[c.A.Policy.Key()] && !changed[c.B.Policy.Key()] {
			other = c.B.Policy.Metadata
		}
		list = append(list, api.Conflict{Kind: policy.Kind, Namespace: other.Namespace, Name: other.Name, Field: c.Field, Message: c.Message})
	}
	if len(list) == 0 {
		return nil
	}
	return conflict(api.PolicyConflict, "policies of one rank contradict each other", list...)
}

// problems are the problems of all results of services, each once.
func problems(w *world.World, services []*catalog.Service) []policy.Problem {
	var all standing
	for _, svc := range services {
		for _, r := range merges(w, w.Called(svc.Key())) {
			for _, problem := range r.problems {
				all.add(problem)
			}
		}
	}
	return all.problems
}

// locate points a problem at the place in the request that has a part in it.
func (p *plan) locate(f policy.Problem) manifest.FieldError {
	for _, s := range p.steps {
		if s.policy == nil {
			continue
		}
		if f.Winner != nil && f.Winner.Policy == s.policy {
			return s.place.fault("spec."+f.WinnerPath, f.Message)
		}
		if f.Loser.Policy == s.policy {
			return s.place.fault("spec."+f.LoserPath, f.Message)
		}
	}
	return manifest.FieldError{Field: f.Field, Message: f.Message}
}
