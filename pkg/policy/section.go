package policy

import "reflect"

// What the type of a section may say of itself beside its fields. A section without such a method has no such rules.
type (
	// completable fills in the defaults after the merge. s are the sections that it stands beside, which it only reads.
	completable interface {
		complete(protocol string, s *Sections)
	}
	// checkable tells the rules between fields that do not hold, once everything is merged and complete.
	checkable interface{ check() []clash }
	// checkableAlone tells those of them that one policy alone can break. Where there is no such method, that is all of them.
	checkableAlone interface{ checkAlone() []clash }
	// validatable checks one author's section, beside the other sections of the same policy.
	validatable interface{ validate(f *faults, s *Sections) }
)

// each calls f with every section that is there, in the order of the struct.
func (s *Sections) each(f func(section any)) {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		if !v.Field(i).IsNil() {
			f(v.Field(i).Interface())
		}
	}
}

// Enabled is s without the sections that are switched off.
func (s Sections) Enabled() Sections {
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		section := v.Field(i)
		if section.IsNil() {
			continue
		}
		if off, ok := section.Elem().FieldByName("Disabled").Interface().(*bool); ok && isTrue(off) {
			section.SetZero()
		}
	}
	return s
}

// complete fills in the defaults of every section that is on.
func (s *Sections) complete(protocol string) {
	s.each(func(section any) {
		if c, ok := section.(completable); ok {
			c.complete(protocol, s)
		}
	})
}

// check is what is wrong with complete sections.
func (s *Sections) check() []clash {
	var found []clash
	s.each(func(section any) {
		if c, ok := section.(checkable); ok {
			found = append(found, c.check()...)
		}
	})
	return found
}

// checkAlone is what is wrong with one author's sections, as far as it can be told before the merge.
func (s *Sections) checkAlone() []clash {
	var found []clash
	s.each(func(section any) {
		switch c := section.(type) {
		case checkableAlone:
			found = append(found, c.checkAlone()...)
		case checkable:
			found = append(found, c.check()...)
		}
	})
	return found
}
