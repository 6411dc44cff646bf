package policy

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// held is a value that some policy gave a unit.
type held struct {
	value reflect.Value // invalid: taken away, or never set
	by    *Compiled     // nil: nobody
	path  string        // as written
}

// slot is the state of one unit while policies are laid over each other.
type slot struct {
	held
	losers []held // the latest last
}

// merging lays policies over each other, least specific first.
type merging struct {
	service  *Service
	applied  []*Compiled
	slots    []slot // by unit
	off      []held // by section: who switched it off last
	problems []Problem
}

// Merge merges the policies that apply to one caller and one service, in Less order, and once more for each part of the service
// that one of them names. An invalid result falls back, section by section, to the most specific policy's own values; the
// problems say so. What it returns shares memory with the policies and must not be changed.
func Merge(svc Service, applied []*Compiled) (*Effective, []Problem) {
	return mergeParts(&svc, applied, (*merging).explained)
}

// Result is what Merge makes, without its Fields and its problems: all that proxies need.
func Result(svc Service, applied []*Compiled) *Effective {
	e, _ := mergeParts(&svc, applied, (*merging).effective)
	return e
}

func mergeParts(svc *Service, applied []*Compiled, render func(*merging) *Effective) (*Effective, []Problem) {
	e, problems := resolve(svc, part{}.of(applied), render)
	for _, p := range partsOf(applied) {
		of, more := resolve(svc, p.of(applied), render)
		into, name := &e.Subsets, p.subset
		if p.route != "" {
			into, name = &e.Routes, p.route
		}
		if *into == nil {
			*into = make(map[string]*Effective)
		}
		(*into)[name] = of
		problems = withOthers(problems, more)
	}
	return e, problems
}

// resolve merges what is enforced, and beside it what is observed.
func resolve(svc *Service, applied []*Compiled, render func(*merging) *Effective) (*Effective, []Problem) {
	m := merge(svc, applied)
	e, problems := render(m), m.problems
	if list := observing(applied); list != nil {
		o := merge(svc, list)
		e.Observed, problems = render(o), append(problems, o.problems...)
	}
	return e, problems
}

// withOthers adds the problems that are not known yet: a part of a service shares those of the whole.
func withOthers(known, more []Problem) []Problem {
	for _, p := range more {
		if !slices.ContainsFunc(known, func(k Problem) bool {
			return k.Reason == p.Reason && k.Message == p.Message && k.Winner == p.Winner && k.Loser == p.Loser
		}) {
			known = append(known, p)
		}
	}
	return known
}

func merge(svc *Service, applied []*Compiled) *merging {
	m := newMerging(svc, applied)
	for _, c := range applied {
		m.lay(c)
	}
	m.settle()
	m.findConflicts()
	return m
}

func newMerging(svc *Service, applied []*Compiled) *merging {
	return &merging{service: svc, applied: applied, slots: make([]slot, len(units)), off: make([]held, len(sectionNames))}
}

// lay puts one more specific policy on top.
func (m *merging) lay(c *Compiled) {
	for _, clear := range c.clears {
		for u := range m.slots {
			if s := &m.slots[u]; s.value.IsValid() && clear.hits(u, s.path) {
				s.replace(held{by: c, path: clear.path})
			}
		}
		if clear.off >= 0 {
			m.off[clear.off] = held{by: c, path: clear.path}
		}
	}
	for _, set := range c.sets {
		for _, other := range alternatives[set.unit] {
			if s := &m.slots[other]; s.value.IsValid() {
				s.replace(held{by: c, path: set.path})
			}
		}
		m.slots[set.unit].replace(held{set.value, c, set.path})
		section, _, _ := strings.Cut(set.path, ".")
		m.off[sectionIndex(section)] = held{}
	}
}

func (s *slot) replace(by held) {
	if s.value.IsValid() {
		s.losers = append(s.losers, s.held)
	}
	s.held = by
}

// sections builds what the slots hold, defaults filled in. What is nested is copied where a default goes into it.
func (m *merging) sections() Sections {
	var s Sections
	v := reflect.ValueOf(&s).Elem()
	for u, slot := range m.slots {
		if !slot.value.IsValid() {
			continue
		}
		section := v.Field(units[u].section)
		if section.IsNil() {
			section.Set(reflect.New(section.Type().Elem()))
		}
		section.Elem().Field(units[u].field).Set(slot.value)
	}
	s.complete(m.service.Protocol)
	return s
}

// effective renders the merge, without its fields.
func (m *merging) effective() *Effective {
	e, _ := m.clamped()
	return e
}

// clamped is the merge between the bounds of its guardrails, and how they have moved it.
func (m *merging) clamped() (*Effective, map[string]Clamp) {
	e := &Effective{Sections: m.sections()}
	clamps := m.clamp(&e.Sections)
	for _, c := range m.applied {
		if c.Guardrail != nil {
			e.Guardrails = append(e.Guardrails, c.Policy.Key())
		} else {
			e.Policies = append(e.Policies, c.Policy.Key())
		}
	}
	return e, clamps
}

// explained is effective with its fields.
func (m *merging) explained() *Effective {
	e, clamps := m.clamped()
	e.Fields = make([]Field, 0, len(units)/2)
	v := reflect.ValueOf(&e.Sections).Elem()
	for u := range m.slots {
		var value reflect.Value
		if section := v.Field(units[u].section); !section.IsNil() {
			value = section.Elem().Field(units[u].field)
		}
		e.Fields = m.slots[u].appendFields(e.Fields, units[u].path, value)
	}
	for i, off := range m.off {
		if off.by != nil && v.Field(i).IsNil() {
			e.Fields = append(e.Fields, Field{Path: sectionNames[i], Origin: off.origin("")})
		}
	}
	slices.SortFunc(e.Fields, func(a, b Field) int { return cmp.Compare(a.Path, b.Path) })
	for i := range e.Fields {
		if clamp, ok := clamps[e.Fields[i].Path]; ok {
			e.Fields[i].Clamp = &clamp
		}
	}
	return e
}

// appendFields appends the fields of one unit whose complete value is given: what is set, what is a default, and what was lost.
func (s *slot) appendFields(fields []Field, path string, complete reflect.Value) []Field {
	if isNil(complete) && len(s.losers) == 0 {
		return fields
	}
	lost := s.lost()
	for _, l := range leaves(complete) {
		f := Field{Path: path + l.suffix, Value: shown(l.value), Losers: lost[l.suffix]}
		if s.wrote(l) {
			f.Origin = s.origin(l.suffix)
		} else {
			f.Origin = Origin{Default: true, Path: f.Path}
		}
		delete(lost, l.suffix)
		fields = append(fields, f)
	}
	// What only losers had, and nothing took its place.
	for suffix, losers := range lost {
		fields = append(fields, Field{Path: path + suffix, Losers: losers, Origin: s.origin("")})
	}
	return fields
}

// wrote reports whether a leaf of the complete unit was written by its author, not filled in.
func (h held) wrote(l leaf) bool {
	if isNil(h.value) {
		return false
	}
	written, ok := nested(h.value)
	return !ok || l.field < 0 || !isNil(written.Field(l.field))
}

// lost are the losing values by leaf, the most specific first.
func (s *slot) lost() map[string][]Loser {
	if len(s.losers) == 0 {
		return nil
	}
	lost := make(map[string][]Loser)
	for _, h := range slices.Backward(s.losers) {
		for _, l := range leaves(h.value) {
			lost[l.suffix] = append(lost[l.suffix], Loser{Value: shown(l.value), Origin: h.origin(l.suffix)})
		}
	}
	return lost
}

// origin says where the leaf of h comes from.
func (h held) origin(suffix string) Origin {
	if h.by == nil {
		return Origin{Path: h.path + suffix}
	}
	return Origin{Policy: h.by.Policy.Key(), Revision: h.by.Policy.Metadata.Revision, Path: h.path + suffix}
}

// key is the policy's key, zero for nobody.
func (h held) key() manifest.Key {
	if h.by == nil {
		return manifest.Key{}
	}
	return h.by.Policy.Key()
}
