package world

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// Past is what policies and guardrails were before: the generations of one, by its kind, from before that one back to where it was
// created, newest first. An error means that nobody can say now.
type Past func(kind string, key manifest.Key, generation int64) ([]*policy.Compiled, error)

// Quarantined is a policy or a guardrail with which a service can't be built for some callers. For their calls its newest earlier
// generation holds with which it can.
type Quarantined struct {
	Kind       string // policy.Kind or policy.GuardrailKind
	Key        manifest.Key
	Generation int64        // that can't be built
	Revision   int64        // of the store, in which it was written
	InForce    int64        // the generation in its place; 0: none, it is left out
	Service    manifest.Key // that can't be built with it
	Caller     manifest.Key // for whose proxies, the first that were met
	Err        error        // why; a *Panic among others
}

// String says what is wrong, and what holds in its place.
func (q Quarantined) String() string {
	instead := fmt.Sprintf("generation %d holds there in its place", q.InForce)
	if q.InForce == 0 {
		instead = "nothing of it holds there"
	}
	return fmt.Sprintf("generation %d can't be built for calls of %s to %s (%v): %s", q.Generation, q.Caller, q.Service, q.Err, instead)
}

// Panic is a panic while something was built.
type Panic struct {
	Value any
	Stack []byte
}

// Error implements error.
func (p *Panic) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// Safely is the error of f, or its panic as one.
func Safely(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &Panic{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

// kindOf is the kind of the object that p is made of.
func kindOf(p *policy.Compiled) string {
	if p.Guardrail != nil {
		return policy.GuardrailKind
	}
	return policy.Kind
}

// Quarantined are the policies and guardrails that some service can't be built with now, by service, kind and key.
func (b *Builder) Quarantined() []Quarantined {
	var list []Quarantined
	for _, key := range slices.SortedFunc(maps.Keys(b.quarantined), manifest.Key.Compare) {
		list = append(list, b.quarantined[key]...)
	}
	return list
}

// Again builds anew what was built without knowing the past of a quarantined policy.
func (b *Builder) Again() {
	if len(b.unknown) == 0 {
		return
	}
	again := Changes{Policies: map[manifest.Key]*policy.Compiled{}, Guardrails: map[manifest.Key]*policy.Compiled{}}
	for p := range b.unknown {
		if kindOf(p) == policy.GuardrailKind {
			again.Guardrails[p.Policy.Key()] = p
		} else {
			again.Policies[p.Policy.Key()] = p
		}
	}
	b.Update(b.world, again)
}

// forget ends what is remembered of policies that may have changed.
func (b *Builder) forget(c Changes) {
	if len(c.Policies)+len(c.Guardrails) > 0 {
		clear(b.pasts)
		clear(b.unknown)
	}
}

// contain builds a service without the policies that make its build fail, which fault is of. One after the other, oldest first, they
// are laid on what builds; one that makes it fail gives way to its newest earlier generation that does not. That depends on the policies
// and their history alone: every replica comes to the same. Where it fails without any, the fault is none of theirs, and is returned.
// Shared: it is so for every caller to whom these policies apply.
func (b *Builder) contain(state *serviceState, cs *classState, as role, applied []*policy.Compiled, fault error) (now *built, shared bool, err error) {
	now, err = b.compile(state, cs, as, nil)
	if err != nil {
		return nil, false, fault
	}
	var good []*policy.Compiled
	shared = true
	for _, p := range slices.SortedFunc(slices.Values(applied), older) {
		with, err := b.compile(state, cs, as, ranked(good, p))
		if err == nil {
			good, now = ranked(good, p), with
			continue
		}
		past, fault := b.past(p)
		if fault != nil && cs.holds[state.service.Key()] != nil {
			return nil, false, fmt.Errorf("%w; its history can't be read: %w", err, fault)
		}
		shared = shared && toEvery(p, past)
		q := Quarantined{Kind: kindOf(p), Key: p.Policy.Key(), Generation: p.Policy.Metadata.Generation, Revision: p.Policy.Metadata.Revision, Service: state.service.Key(), Caller: cs.caller.Key, Err: err}
		for _, earlier := range past {
			list := good
			if earlier.Matches(state.called) && earlier.Applies(state.called, cs.caller) {
				list = ranked(good, earlier)
			}
			if with, err := b.compile(state, cs, as, list); err == nil {
				good, now, q.InForce = list, with, earlier.Policy.Metadata.Generation
				break
			}
		}
		b.quarantine(q)
	}
	return now, shared, nil
}

// older orders policies by when they were written, those last that are yet to be.
func older(p, q *policy.Compiled) int {
	return cmp.Or(cmp.Compare(written(p), written(q)), p.Compare(q))
}

// written is the revision of p as an unsigned number, of which that before the first is the greatest.
func written(p *policy.Compiled) uint64 { return uint64(p.Policy.Metadata.Revision) - 1 }

// ranked is list and p, least specific first, as a merge takes them.
func ranked(list []*policy.Compiled, p *policy.Compiled) []*policy.Compiled {
	return slices.SortedFunc(slices.Values(append(slices.Clone(list), p)), (*policy.Compiled).Compare)
}

// toEvery reports whether all generations of p are for every caller.
func toEvery(p *policy.Compiled, past []*policy.Compiled) bool {
	return p.Policy.Spec.From == nil && !slices.ContainsFunc(past, func(e *policy.Compiled) bool { return e.Policy.Spec.From != nil })
}

// past are the earlier generations of p that may stand in for it: not one that would have ended before p does.
func (b *Builder) past(p *policy.Compiled) ([]*policy.Compiled, error) {
	if known, ok := b.pasts[p]; ok {
		return known, nil
	}
	if b.Past == nil {
		return nil, nil
	}
	list, err := b.Past(kindOf(p), p.Policy.Key(), p.Policy.Metadata.Generation)
	if err != nil {
		b.unknown[p] = true
		return nil, err
	}
	list = slices.DeleteFunc(slices.Clone(list), func(e *policy.Compiled) bool { return endsBefore(e, p) })
	b.pasts[p] = list
	return list, nil
}

func endsBefore(e, p *policy.Compiled) bool {
	ends, end := e.Policy.Spec.ExpiresAt, p.Policy.Spec.ExpiresAt
	return ends != nil && (end == nil || ends.T().Before(end.T()))
}

// quarantine notes q, once for each service.
func (b *Builder) quarantine(q Quarantined) {
	list := b.quarantined[q.Service]
	if i, there := slices.BinarySearchFunc(list, q, byObject); !there {
		b.quarantined[q.Service] = slices.Insert(list, i, q)
	}
}

func byObject(a, b Quarantined) int {
	return cmp.Or(strings.Compare(a.Kind, b.Kind), a.Key.Compare(b.Key))
}

// StackOf is where err panicked; nil where it did not.
func StackOf(err error) []byte {
	var p *Panic
	if errors.As(err, &p) {
		return p.Stack
	}
	return nil
}
