package world

import (
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// mostRemoved is how many removals a world remembers.
const mostRemoved = 1024

// Removal is a policy, guardrail or service that is no more.
type Removal struct {
	Kind string
	Key  manifest.Key
	Rev  int64 // of the step with which it went: it may have gone a little before
}

// memory is what a world knows of what was before it. Objects that are there say themselves at which revision they were edited.
type memory struct {
	removed []Removal // oldest first
	since   int64     // what went at this revision or before it is not remembered
	edited  int64     // the revision of the last step that wrote or removed an object
	restart int       // counts how often the store was another one, or went back
	foreign int64     // revisions up to this one may be of the store as it was before the last restart
}

// with is m after a step from w to revision rev that does c.
func (m memory) with(w *World, rev int64, c Changes) memory {
	if w.Rev == 0 {
		m.since, m.edited = rev, rev
		return m
	}
	if len(c.Policies)+len(c.Guardrails)+len(c.Services) == 0 {
		return m
	}
	m.edited = rev
	var gone []Removal
	gone = removals(gone, policy.Kind, w.Policy, c.Policies, rev)
	gone = removals(gone, policy.GuardrailKind, w.Guardrail, c.Guardrails, rev)
	gone = removals(gone, catalog.Kind, w.Service, c.Services, rev)
	if len(gone) == 0 {
		return m
	}
	m.removed = append(slices.Clip(m.removed), gone...) // other worlds hold the array, and more than one may follow on one
	if more := len(m.removed) - mostRemoved; more > 0 {
		m.since, m.removed = m.removed[more-1].Rev, m.removed[more:]
	}
	return m
}

func removals[V any](list []Removal, kind string, before func(manifest.Key) (*V, bool), changes map[manifest.Key]*V, rev int64) []Removal {
	for key, now := range changes {
		if _, was := before(key); was && now == nil {
			list = append(list, Removal{kind, key, rev})
		}
	}
	return list
}

// Restarted is w as the first world of another store, or of one that went back: revisions up to rev, which was the last one seen before, may
// be of what was.
func (w *World) Restarted(rev int64) *World {
	next := *w
	next.memory = memory{since: w.Rev, edited: w.Rev, restart: w.restart + 1, foreign: max(rev, w.foreign)}
	return &next
}

// Follows reports whether w is old, or came from it step by step.
func (w *World) Follows(old *World) bool {
	return w.Cluster == old.Cluster && w.restart == old.restart && w.Rev >= old.Rev
}

// Edited is the revision of the last step that wrote or removed a policy, a guardrail or a service.
func (w *World) Edited() int64 { return w.edited }

// Recalls reports whether w knows what went since revision rev, which somebody read from any replica before.
func (w *World) Recalls(rev int64) bool { return rev > w.foreign && rev <= w.Rev && w.remembers(rev) }

func (w *World) remembers(rev int64) bool { return rev >= w.since }

// RemovedSince are the policies, guardrails and services that went after revision rev, the oldest first. Some may be there again. False: it is
// not remembered.
func (w *World) RemovedSince(rev int64) ([]Removal, bool) {
	i := len(w.removed)
	for i > 0 && w.removed[i-1].Rev > rev {
		i--
	}
	return w.removed[i:], w.remembers(rev)
}
