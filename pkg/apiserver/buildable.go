package apiserver

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// buildable refuses a write after which a policy or a guardrail would be in quarantine that is in none before. What is found out later, as
// for a proxy that no replica knows of yet, quarantine contains.
func (p *plan) buildable(f *world.Foresight, connected map[world.ClassKey]int) error {
	classes := slices.SortedFunc(maps.Keys(connected), compareClasses)
	problem := &api.Problem{
		Type: api.Unbuildable, Title: "Can't be built", Status: http.StatusUnprocessableEntity, Detail: "no proxy could be given it",
	}
	told := make(map[string]bool)
	for _, q := range f.Unbuildable(append(classes, p.standIns()...)) {
		message := fmt.Sprintf("with %s %s calls of %s to %s can't be built: %v", q.Kind, q.Key, callerName(q.Caller), q.Service, q.Err)
		if !told[q.Kind+q.Key.String()] { // of one service: that it is so of a thousand is no news
			problem.Errors = append(problem.Errors, p.blame(q).fault("", message))
		}
		told[q.Kind+q.Key.String()] = true
	}
	if len(problem.Errors) == 0 {
		return nil
	}
	return problem
}

// standIns are sidecars of the callers that the written policies name, whether any is connected or not.
func (p *plan) standIns() []world.ClassKey {
	_, newest := envoy.ServedVersions()
	var list []world.ClassKey
	for _, s := range p.steps {
		if s.action == api.Unchanged || s.removes() || s.kind == endpointKind {
			continue
		}
		caller := manifest.Key{Namespace: s.key.Namespace}
		if s.policy != nil && s.policy.Spec.From != nil && s.policy.Spec.From.Namespace != policy.Every {
			from := s.policy.Spec.From
			caller = manifest.Key{Namespace: cmp.Or(from.Namespace, s.key.Namespace), Name: from.Service}
		}
		key := world.ClassKey{Namespace: caller.Namespace, Service: caller.Name, Dialect: "envoy", Profile: envoy.Sidecar, Tier: newest, Outbound: "127.0.0.1:15001", Runtime: true}
		if !slices.Contains(list, key) {
			list = append(list, key)
		}
	}
	return list
}

func callerName(caller manifest.Key) string {
	if caller.Name == "" {
		return "any caller in " + caller.Namespace
	}
	return caller.String()
}

// blame is where the document of q stands; nowhere where the write is of others.
func (p *plan) blame(q world.Quarantined) place {
	for _, s := range p.steps {
		if s.kind == q.Kind && s.key == q.Key {
			return s.place
		}
	}
	return place{}
}
