package policy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Ranking is policies and guardrails in their order. It finds those for a service without a look at the others, and is immutable: With makes
// the next one. The zero Ranking is empty.
type Ranking struct {
	all      []*Compiled // least specific first
	byTarget []*Compiled // by whom they are written for; for the same ones, least specific first
}

// With is r without some and with others. What goes must be there, what comes must not.
func (r Ranking) With(gone, come []*Compiled) Ranking {
	return Ranking{exchanged(r.all, gone, come, (*Compiled).Compare), exchanged(r.byTarget, gone, come, compareTargets)}
}

// exchanged is a list, which is in order, without some and with others.
func exchanged(list, gone, come []*Compiled, compare func(a, b *Compiled) int) []*Compiled {
	next := make([]*Compiled, 0, len(list)+len(come))
	for _, c := range slices.SortedFunc(slices.Values(gone), compare) {
		i, _ := slices.BinarySearchFunc(list, c, compare)
		next, list = append(next, list[:i]...), list[i+1:]
	}
	list = append(next, list...)
	if len(come) == 0 {
		return list
	}
	next = make([]*Compiled, 0, len(list)+len(come))
	for _, c := range slices.SortedFunc(slices.Values(come), compare) {
		i, _ := slices.BinarySearchFunc(list, c, compare)
		next, list = append(append(next, list[:i]...), c), list[i:]
	}
	return append(next, list...)
}

// All are all of them, least specific first. The caller must not change the slice.
func (r Ranking) All() []*Compiled { return r.all }

// Matching are those whose target covers svc or a part of it, least specific first.
func (r Ranking) Matching(svc Service) []*Compiled {
	var list []*Compiled
	// The less of a target, the less specific it is.
	for _, to := range []manifest.Key{{Namespace: Every}, {Namespace: svc.Namespace}, svc.Key} {
		for _, c := range r.writtenFor(to) {
			if c.aims(&svc) {
				list = append(list, c)
			}
		}
	}
	return list
}

// writtenFor are those of one target.
func (r Ranking) writtenFor(to manifest.Key) []*Compiled {
	i, _ := slices.BinarySearchFunc(r.byTarget, to, func(c *Compiled, to manifest.Key) int { return c.writtenFor().Compare(to) })
	n := i
	for n < len(r.byTarget) && r.byTarget[n].writtenFor() == to {
		n++
	}
	return r.byTarget[i:n]
}

// writtenFor is the service that c names; where it is for all, or chooses by labels, their namespace alone.
func (c *Compiled) writtenFor() manifest.Key {
	key := manifest.Key{Namespace: c.toNamespace}
	if c.rank.to >= toService {
		key.Name = c.Policy.Spec.To.Service
	}
	return key
}

// Service is the only service that c may cover; false where it may cover more than one.
func (c *Compiled) Service() (manifest.Key, bool) {
	key := c.writtenFor()
	return key, key.Name != ""
}

func compareTargets(a, b *Compiled) int {
	x, y := a.writtenFor(), b.writtenFor()
	return cmp.Or(strings.Compare(x.Namespace, y.Namespace), strings.Compare(x.Name, y.Name), a.Compare(b))
}
