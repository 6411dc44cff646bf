package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// The reasons of problems.
const (
	InvalidMerge = "InvalidMerge"
	Conflicted   = "Conflicted"
)

// Problem is what Merge found wrong.
type Problem struct {
	Reason  string // InvalidMerge | Conflicted
	Field   string // of the effective policy, such as timeout.perTry
	Winner  *Compiled
	Loser   *Compiled // the policy that carries the condition (both, when Conflicted); never nil
	Message string

	// WinnerPath and LoserPath are the fields as written in the two policies, such as circuitBreaker.recoveryTimeout.
	WinnerPath, LoserPath string

	parties []*Compiled // whose values clash, or took away what one of them needs
	takers  []held      // who took that away, and where that is written
}

// PathOf is the field by which a policy has a part in the problem, as it is written there; false: it has none.
func (p *Problem) PathOf(by *Policy) (string, bool) {
	switch {
	case p.Winner != nil && p.Winner.Policy == by:
		return p.WinnerPath, true
	case p.Loser.Policy == by:
		return p.LoserPath, true
	}
	for _, h := range p.takers {
		if h.by.Policy == by {
			return h.path, true
		}
	}
	return "", false
}

// clash is a rule between two fields that does not hold: "a rule b". Without b it is one of a section, which lacks each of oneOf.
type clash struct {
	a, rule, b string
	oneOf      []string
}

func (c clash) section() string {
	section, _, _ := strings.Cut(c.a, ".")
	return section
}

// settle looks for what is invalid though every policy is valid alone, and lets those sections fall back.
func (m *merging) settle() {
	for range sectionNames {
		s := m.sections()
		found := s.check()
		if len(found) == 0 {
			return
		}
		m.fallBack(found[0].section(), found)
	}
}

// fallBack reduces a section to the values of the most specific policy that is valid there by itself; without one it is off.
func (m *merging) fallBack(section string, all []clash) {
	index := sectionIndex(section)
	found := slices.DeleteFunc(slices.Clone(all), func(c clash) bool { return c.section() != section })
	live := m.live(index)
	winner := m.standsAlone(index, live)
	for _, c := range found {
		m.report(c, winner, live)
	}
	for u := range m.slots {
		s := &m.slots[u]
		if belongs(u, s.path, index) {
			if s.value.IsValid() && s.by != winner {
				s.replace(held{by: winner, path: section})
			}
		}
	}
	if winner == nil {
		return
	}
	for _, set := range winner.sets {
		if s := &m.slots[set.unit]; units[set.unit].section == index && !s.value.IsValid() {
			s.held = held{set.value, winner, set.path}
			s.losers = slices.DeleteFunc(s.losers, func(h held) bool { return h.by == winner })
		}
	}
}

// belongs reports whether a value of unit u, written at path, stands and falls with a section. What a circuit breaker wrote does so
// with outlier detection, wherever it is.
func belongs(u int, path string, section int) bool {
	switch breakers := under(path, "circuitBreaker"); sectionNames[section] {
	case "outlierDetection":
		return breakers || units[u].section == section
	case "loadBalancing":
		return !breakers && units[u].section == section
	}
	return units[u].section == section
}

// live are the policies with a value in force in a section, the most specific first.
func (m *merging) live(section int) []*Compiled {
	holders := make(map[*Compiled]bool)
	for u, s := range m.slots {
		if s.value.IsValid() && belongs(u, s.path, section) {
			holders[s.by] = true
		}
	}
	var list []*Compiled
	for _, c := range slices.Backward(m.applied) {
		if holders[c] {
			list = append(list, c)
		}
	}
	return list
}

// standsAlone is the first of live whose own values are valid in the section, nil where there is none.
func (m *merging) standsAlone(section int, live []*Compiled) *Compiled {
	for _, c := range live {
		alone := newMerging(m.service, []*Compiled{c})
		alone.lay(c)
		s := alone.sections()
		if !slices.ContainsFunc(s.check(), func(c clash) bool { return sectionIndex(c.section()) == section }) {
			return c
		}
	}
	return nil
}

// report says of every policy that loses its values what clashes.
func (m *merging) report(c clash, winner *Compiled, live []*Compiled) {
	p := Problem{Reason: InvalidMerge, Field: c.a, Winner: winner, Message: m.text(c)}
	for _, path := range []string{c.a, c.b} {
		if u, ok := unitByPath[path]; ok && m.slots[u].value.IsValid() {
			p.parties = append(p.parties, m.slots[u].by)
		}
	}
	if c.b == "" {
		p.parties = slices.Clone(live)
	}
	for _, t := range m.taken(c) {
		p.parties, p.takers = append(p.parties, t.by), append(p.takers, t.held)
	}
	p.WinnerPath = m.pathOf(winner, c)
	for _, loser := range live {
		if loser != winner {
			p.Loser, p.LoserPath = loser, m.pathOf(loser, c)
			m.problems = append(m.problems, p)
		}
	}
}

// pathOf is where policy by has written its part of the clash, or the section where it has no part in it.
func (m *merging) pathOf(by *Compiled, c clash) string {
	for _, path := range []string{c.a, c.b} {
		if u, ok := unitByPath[path]; ok && m.slots[u].value.IsValid() && m.slots[u].by == by {
			return m.slots[u].path
		}
	}
	return c.section()
}

// taking is a value that one policy set and a more specific one took away.
type taking struct {
	held      // who took it
	from held // whose it was
}

// taken is what a clash lacks since somebody took it away.
func (m *merging) taken(c clash) []taking {
	var list []taking
	for _, path := range append([]string{c.a, c.b}, c.oneOf...) {
		u, ok := unitByPath[path]
		if !ok {
			continue
		}
		if s := &m.slots[u]; !s.value.IsValid() && s.by != nil && len(s.losers) > 0 {
			list = append(list, taking{s.held, s.losers[len(s.losers)-1]})
		}
	}
	return list
}

// text names both fields, their values and their policies, and who has taken away what is lacking.
func (m *merging) text(c clash) string {
	var text string
	if c.b == "" {
		var by []string
		for u, s := range m.slots {
			if s.value.IsValid() && sectionNames[units[u].section] == c.section() {
				by = append(by, fmt.Sprintf("%s of policy %s", s.path, s.key()))
			}
		}
		text = fmt.Sprintf("%s (%s) %s", c.a, strings.Join(slices.Compact(by), ", "), c.rule)
	} else {
		text = m.side(c.a) + " " + c.rule + " " + m.side(c.b)
	}
	for _, t := range m.taken(c) {
		text += fmt.Sprintf("; %s of policy %s takes away %s of policy %s", t.path, t.key(), t.from.path, t.from.key())
	}
	return text
}

func (m *merging) side(path string) string {
	u := unitByPath[path]
	if s := m.slots[u]; s.value.IsValid() {
		if value := shown(s.value); !isList(value) {
			return fmt.Sprintf("%s %v of policy %s", s.path, value, s.key())
		}
		return fmt.Sprintf("%s of policy %s", s.path, s.key())
	}
	s := m.sections()
	section := reflect.ValueOf(s).Field(units[u].section)
	if value := section.Elem().Field(units[u].field); !isNil(value) {
		return fmt.Sprintf("%s %v (default)", path, shown(value))
	}
	return path + " (not set)"
}

func isList(v any) bool {
	switch v.(type) {
	case []string, []uint32, []any, map[string]any:
		return true
	}
	return false
}
