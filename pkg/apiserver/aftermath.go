package apiserver

import (
	"fmt"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// aftermath warns of conflicts and invalid merges that a write brings about without being refused for them: labels that bring policies
// together, or a policy that no longer hides another. What written policies say themselves is for check; told are the texts that it has given.
func aftermath(before *world.World, p *plan, told map[string]bool) {
	for _, s := range p.steps {
		if s.action == api.Unchanged || s.kind == endpointKind {
			continue
		}
		var calls []*catalog.Service
		if s.service != nil {
			calls = calledBySelector(p.world, p.world.Caller(s.key))
		}
		old := problemsAround(before, s, calls)
		for text, problem := range problemsAround(p.world, s, calls) {
			if _, there := old[text]; there || told[text] {
				continue
			}
			told[text] = true
			p.warnings = append(p.warnings, s.warning(problem))
		}
	}
}

// warning says that s brings a problem about.
func (s *step) warning(problem policy.Problem) api.Warning {
	w := api.Warning{Kind: s.kind, Namespace: s.key.Namespace, Name: s.key.Name, Message: problem.Message}
	if s.service != nil {
		w.Field = "metadata.labels"
	}
	switch {
	case problem.Reason == policy.InvalidMerge:
		w.Message += "; only the most specific policy's section holds there"
	case problem.Winner != nil:
		w.Message += fmt.Sprintf("; until then %s decides %s", problem.Winner.Policy.Key(), problem.Field)
	}
	return w
}

// problemsAround are the problems, by text, of the results in w that s can have a part in; calls are the services that it calls under
// policies for its labels.
func problemsAround(w *world.World, s *step, calls []*catalog.Service) map[string]policy.Problem {
	found := make(map[string]policy.Problem)
	note := func(problems []policy.Problem) {
		for _, p := range problems {
			found[p.Message] = p
		}
	}
	if s.kind == policy.Kind {
		if s.oldPolicy == nil {
			return nil // what a new policy does to others it says itself
		}
		for _, svc := range covered(w, policy.Compile(s.oldPolicy)) {
			for _, r := range merges(w, w.Called(svc.Key())) {
				note(r.problems)
			}
		}
		return found
	}
	if s.service == nil {
		return nil
	}
	if _, exists := w.Service(s.key); exists {
		for _, r := range merges(w, w.Called(s.key)) {
			note(r.problems)
		}
	}
	for _, svc := range calls {
		_, problems := w.Effective(w.Caller(s.key), svc.Key())
		note(problems)
	}
	return found
}

// calledBySelector are the services whose calls from caller are a policy's because of the caller's labels.
func calledBySelector(w *world.World, caller policy.Caller) []*catalog.Service {
	if len(caller.Labels) == 0 {
		return nil
	}
	var selecting []*policy.Compiled
	for _, p := range w.Policies() {
		if from := p.Policy.Spec.From; from != nil && from.Selector != nil {
			selecting = append(selecting, p)
		}
	}
	if len(selecting) == 0 {
		return nil
	}
	var list []*catalog.Service
	for _, svc := range covered(w, selecting...) {
		called := w.Called(svc.Key())
		for _, p := range selecting {
			if p.Matches(called) && p.Applies(called, caller) {
				list = append(list, svc)
				break
			}
		}
	}
	return list
}
