package apiserver

import (
	"cmp"
	"slices"
	"sync"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// fares say how policies and guardrails fare, by key.
type fares struct{ policies, guardrails map[manifest.Key]*standing }

// standing is how a policy or a guardrail fares in every effective result it takes part in.
type standing struct {
	services int // it covers
	wins     int // fields that hold; of a guardrail, results in which one of its bounds counts
	losses   int // fields that others override; of a guardrail, results in which none does
	winner   manifest.Key
	moved    []string // fields that a guardrail moves, by name
	problems []policy.Problem
}

// survey merges the policies of each service once for every group of callers that the same policies apply to, and says how each policy
// and each guardrail fares.
func survey(w *world.World, services []*catalog.Service) *fares {
	all := &fares{make(map[manifest.Key]*standing), make(map[manifest.Key]*standing)}
	for _, svc := range services {
		called := w.Called(svc.Key())
		for _, p := range w.Matching(called) {
			of := all.policies
			if p.Guardrail != nil {
				of = all.guardrails
			}
			in(of, p.Policy.Key()).services++
		}
		for _, r := range merges(w, called) {
			all.add(r)
		}
	}
	return all
}

func in(fares map[manifest.Key]*standing, key manifest.Key) *standing {
	if fares[key] == nil {
		fares[key] = &standing{}
	}
	return fares[key]
}

// add counts one result.
func (all *fares) add(r merged) {
	for _, f := range allFields(r.effective) {
		if !f.Origin.Default && f.Origin.Policy != (manifest.Key{}) {
			in(all.policies, f.Origin.Policy).wins++
		}
		for _, l := range f.Losers {
			loser := in(all.policies, l.Origin.Policy)
			loser.losses++
			loser.winner = f.Origin.Policy
		}
		if f.Clamp != nil {
			in(all.guardrails, f.Clamp.By).move(f.Path)
		}
	}
	outdone := policy.Outdone(r.applied)
	for _, key := range r.effective.AllGuardrails() {
		g := in(all.guardrails, key)
		if by, ok := outdone[key]; ok {
			g.losses++
			g.winner = by
		} else {
			g.wins++
		}
	}
	for _, problem := range r.problems {
		in(all.policies, problem.Loser.Policy.Key()).add(problem)
		if problem.Reason == policy.Conflicted && problem.Winner != nil {
			in(all.policies, problem.Winner.Policy.Key()).add(problem)
		}
	}
}

func (s *standing) move(field string) {
	if i, there := slices.BinarySearch(s.moved, field); !there {
		s.moved = slices.Insert(s.moved, i, field)
	}
}

// allFields are the fields of e and of what it has of parts of the service.
func allFields(e *policy.Effective) []policy.Field {
	var list []policy.Field
	for _, part := range e.Every() {
		list = append(list, part.AllFields()...)
	}
	return list
}

func (s *standing) add(p policy.Problem) {
	for _, have := range s.problems {
		if have.Reason == p.Reason && have.Message == p.Message {
			return
		}
	}
	s.problems = append(s.problems, p)
}

// merged is the result for one group of callers.
type merged struct {
	applied   []*policy.Compiled
	effective *policy.Effective
	problems  []policy.Problem
}

// merges are the different results that callers of a service get: those that its policies name, those in the catalogue where a policy
// selects by label, and any other of each namespace that plays a part.
func merges(w *world.World, called policy.Service) []merged {
	matching := w.Matching(called)
	if len(matching) == 0 {
		return nil
	}
	var list []merged
	seen := make(map[string]bool)
	for _, caller := range callers(w, called, matching) {
		mask := make([]byte, len(matching))
		var applied []*policy.Compiled
		for i, p := range matching {
			mask[i] = '-'
			if p.Applies(called, caller) {
				mask[i] = 'x'
				applied = append(applied, p)
			}
		}
		if len(applied) == 0 || seen[string(mask)] {
			continue
		}
		seen[string(mask)] = true
		effective, problems := policy.Merge(called, applied)
		list = append(list, merged{applied, effective, problems})
	}
	return list
}

func callers(w *world.World, called policy.Service, matching []*policy.Compiled) []policy.Caller {
	list := []policy.Caller{{}}
	others := map[string]bool{called.Namespace: true}
	selects := false
	for _, p := range matching {
		others[p.Policy.Metadata.Namespace] = true
		from := p.Policy.Spec.From
		if from == nil {
			continue
		}
		ns := cmp.Or(from.Namespace, p.Policy.Metadata.Namespace)
		others[ns] = true
		selects = selects || from.Selector != nil
		if from.Service != "" {
			list = append(list, w.Caller(manifest.Key{Namespace: ns, Name: from.Service}))
		}
	}
	for ns := range others {
		list = append(list, policy.Caller{Key: manifest.Key{Namespace: ns}})
	}
	if selects {
		for _, s := range w.Services() {
			list = append(list, w.Caller(s.Key()))
		}
	}
	return list
}

// covered are the services that any of the policies covers, by key.
func covered(w *world.World, policies ...*policy.Compiled) []*catalog.Service {
	var list []*catalog.Service
	for _, s := range w.Services() {
		called := w.Called(s.Key())
		for _, p := range policies {
			if p.Matches(called) {
				list = append(list, s)
				break
			}
		}
	}
	return list
}

// surveys keeps the survey of the newest world that was listed: lists are asked for again and again.
type surveys struct {
	mu    sync.Mutex
	of    *world.World // guarded by mu
	fares *fares       // guarded by mu; what it points to is immutable
}

func (s *surveys) get(w *world.World) *fares {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of != w {
		s.of, s.fares = w, survey(w, w.Services())
	}
	return s.fares
}
