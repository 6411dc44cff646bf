package policy

import (
	"fmt"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Conflict is two policies of the same rank that set one field to different values for the same calls.
type Conflict struct {
	A, B    *Compiled // A is less by name
	Field   string    // of the effective policy, such as retry.numRetries
	Message string    // names both, and the way out
}

// Conflicts lists the conflicts in which a policy of changed (nil: any) takes part. Callers and services are those of the
// catalogue; those that policies merely name, or describe by a selector, count too.
func Conflicts(all []*Compiled, services []Service, callers []Caller, changed map[manifest.Key]bool) []Conflict {
	found := conflicts(all, services, callers, changed)
	return append(found, conflicts(observing(all), services, callers, changed)...)
}

func conflicts(all []*Compiled, services []Service, callers []Caller, changed map[manifest.Key]bool) []Conflict {
	var found []Conflict
	// Only selectors are held against services and callers.
	everyService := once(func() []Service { return withNamedServices(services, all, func(*Service) bool { return true }) })
	everyCaller := once(func() []Caller { return withNamed(callers, all) })
	byRank, changedByRank := make(map[rank][]*Compiled), make(map[rank][]*Compiled)
	for _, c := range all {
		byRank[c.rank] = append(byRank[c.rank], c)
		if changed == nil || changed[c.Policy.Key()] {
			changedByRank[c.rank] = append(changedByRank[c.rank], c)
		}
	}
	for _, c := range all {
		a := c.Policy.Key()
		rivals := changedByRank[c.rank]
		if changed == nil || changed[a] {
			rivals = byRank[c.rank]
		}
		for _, o := range rivals {
			if !a.Less(o.Policy.Key()) {
				continue
			}
			if u, ok := differ(c, o); ok && meetTo(c, o, everyService) && meetFrom(c, o, everyCaller) {
				found = append(found, Conflict{c, o, units[u].path, conflictText(c, o, u)})
			}
		}
	}
	return found
}

// findConflicts reports the conflicts that got in all the same, where they decide what is in force.
func (m *merging) findConflicts() {
	for i, c := range m.applied {
		for _, o := range m.applied[i+1:] {
			if c.rank != o.rank {
				break // in order of rank
			}
			u, ok := differ(c, o)
			if !ok || m.slots[u].by != c && m.slots[u].by != o {
				continue
			}
			winner, loser := o, c
			if m.slots[u].by == c {
				winner, loser = c, o
			}
			m.problems = append(m.problems, Problem{
				Reason: Conflicted, Field: units[u].path, Winner: winner, Loser: loser, Message: conflictText(c, o, u),
				WinnerPath: winner.pathOf(u), LoserPath: loser.pathOf(u), parties: []*Compiled{winner, loser},
			})
		}
	}
}

// differ finds a unit of which a and b say different things.
func differ(a, b *Compiled) (int, bool) {
	if u, ok := a.contradicts(b); ok {
		return u, true
	}
	return b.contradicts(a)
}

// contradicts finds a unit that c sets and o sets otherwise, or takes away.
func (c *Compiled) contradicts(o *Compiled) (int, bool) {
	for _, set := range c.sets {
		if other, ok := o.find(set.unit); ok {
			if !same(set.value, other.value) {
				return set.unit, true
			}
			continue
		}
		for _, clear := range o.clears {
			if clear.hits(set.unit, set.path) {
				return set.unit, true
			}
		}
		for _, other := range alternatives[set.unit] {
			if _, ok := o.find(other); ok {
				return set.unit, true
			}
		}
	}
	return 0, false
}

func (c *Compiled) find(u int) (setting, bool) {
	for _, set := range c.sets {
		if set.unit == u {
			return set, true
		}
	}
	return setting{}, false
}

// pathOf is where c says something of unit u.
func (c *Compiled) pathOf(u int) string {
	if set, ok := c.find(u); ok {
		return set.path
	}
	if clear, ok := c.clearing(units[u].section); ok {
		return clear.path
	}
	for _, other := range alternatives[u] {
		if set, ok := c.find(other); ok {
			return set.path
		}
	}
	return units[u].path
}

func conflictText(a, b *Compiled, u int) string {
	return fmt.Sprintf("policy %s says %s and policy %s says %s, and neither is more specific: set precedence in one of them",
		a.Policy.Key(), a.sentence(u), b.Policy.Key(), b.sentence(u))
}

func (c *Compiled) sentence(u int) string {
	if set, ok := c.find(u); ok {
		return fmt.Sprintf("%s %v", set.path, shown(set.value))
	}
	return c.pathOf(u)
}

// once is make, which runs when it is called first.
func once[T any](make func() []T) func() []T {
	var list []T
	made := false
	return func() []T {
		if !made {
			list, made = make(), true
		}
		return list
	}
}

// meetTo reports whether some service is covered by both. Both have the same rank, so their targets are of the same sort, and so are their
// sources.
func meetTo(a, b *Compiled, services func() []Service) bool {
	if a.toNamespace != b.toNamespace || a.part != b.part {
		return false // of one rank: both are "*", or both name one
	}
	x, y := a.Policy.Spec.To, b.Policy.Spec.To
	if x.Selector == nil || y.Selector == nil {
		return x.Service == y.Service || a.rank.to == toEveryNamespace
	}
	return slices.ContainsFunc(services(), func(s Service) bool { return a.matches(&s) && b.matches(&s) })
}

// meetFrom reports whether some caller is covered by both.
func meetFrom(a, b *Compiled, callers func() []Caller) bool {
	if a.rank.consumer && a.Policy.Metadata.Namespace != b.Policy.Metadata.Namespace {
		return false
	}
	x, y := a.Policy.Spec.From, b.Policy.Spec.From
	if x == nil || y == nil {
		return true
	}
	if a.fromNamespace != b.fromNamespace && a.fromNamespace != Every && b.fromNamespace != Every {
		return false
	}
	if x.Selector == nil || y.Selector == nil {
		return x.Service == y.Service
	}
	return slices.ContainsFunc(callers(), func(caller Caller) bool { return a.covers(&caller) && b.covers(&caller) })
}
