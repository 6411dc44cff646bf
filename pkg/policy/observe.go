package policy

import (
	"reflect"
	"slices"
)

// apart splits sections into those that are enforced and those that only observe.
func (s *Sections) apart() (enforced, observed Sections) {
	from, acts, counts := reflect.ValueOf(s).Elem(), reflect.ValueOf(&enforced).Elem(), reflect.ValueOf(&observed).Elem()
	for i := range from.NumField() {
		if observes(from.Field(i)) {
			counts.Field(i).Set(from.Field(i))
		} else {
			acts.Field(i).Set(from.Field(i))
		}
	}
	return enforced, observed
}

// observes reports whether a section only observes.
func observes(section reflect.Value) bool {
	if section.IsNil() {
		return false
	}
	field := section.Elem().FieldByName("Observe")
	return field.IsValid() && isTrue(field.Interface().(*bool))
}

// offs are the sections that c switches off, as something that leaves no trace where nothing was.
func (c *Compiled) offs() []clearing {
	var list []clearing
	for _, clear := range c.clears {
		if clear.off >= 0 {
			clear.off = -1
			list = append(list, clear)
		}
	}
	return list
}

// observing are the policies again, with those of their sections alone that observe; nil where none does. Guardrails hold what is
// enforced, and are not among them.
func observing(all []*Compiled) []*Compiled {
	var list []*Compiled
	some := false
	for _, c := range all {
		if o := c.observed; o != nil && len(o.sets)+len(o.clears) > 0 {
			list = append(list, o)
			some = some || len(o.sets) > 0
		}
	}
	if !some {
		return nil
	}
	return list
}

// observed checks that observe is only ever true, and has something to observe.
func (f *faults) observed(s *Sections) {
	v := reflect.ValueOf(s).Elem()
	for i, name := range sectionNames {
		if v.Field(i).IsNil() {
			continue
		}
		section := v.Field(i).Elem()
		field := section.FieldByName("Observe")
		if !field.IsValid() || field.IsNil() {
			continue
		}
		switch {
		case !observes(v.Field(i)):
			f.add(name+".observe", "is only ever true: leave it out")
		case section.FieldByName("Disabled").IsNil() && name != "circuitBreaker" && !slices.ContainsFunc(units, func(u unit) bool { return u.section == i && !isNil(section.Field(u.field)) }):
			f.add(name, "has nothing to observe: set what would be enforced")
		}
	}
}

// AllFields are the fields that are enforced, and those that are observed.
func (e *Effective) AllFields() []Field {
	if e.Observed == nil {
		return e.Fields
	}
	return slices.Concat(e.Fields, e.Observed.Fields)
}
