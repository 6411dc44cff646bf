package policy

import (
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Validate is everything that is wrong with one policy alone, whose namespace must be filled in. The faults carry field paths; Document.Locate adds positions.
func Validate(p *Policy) manifest.FieldErrors {
	f := &faults{prefix: "spec."}
	f.errs = append(f.errs, manifest.CheckMeta(&p.Metadata)...)
	validateTarget(p, f)
	f.errs = append(f.errs, manifest.CheckBounds(&p.Spec.Sections, "spec")...)
	if at := p.Spec.ExpiresAt; at != nil {
		f.errs = append(f.errs, manifest.CheckBounds(at, "spec.expiresAt")...)
	}
	faultEnds(p, f)
	fallsBackElsewhere(p, f)
	s := &p.Spec.Sections
	f.offAlone(s)
	f.observed(s)
	f.oneOf(s)
	f.together(s)
	s.each(func(section any) {
		if v, ok := section.(validatable); ok {
			v.validate(f, s)
		}
	})
	return f.errs
}

// together checks the rules between fields of one section, as far as they hold before the merge.
func (f *faults) together(s *Sections) {
	for _, c := range s.checkAlone() {
		f.add(c.a, "%s %s", c.rule, f.withValue(s, c.b))
	}
}

// withValue is the path with the value that the author gave it.
func (f *faults) withValue(s *Sections, path string) string {
	u := units[unitByPath[path]]
	value := shown(reflect.ValueOf(*s).Field(u.section).Elem().Field(u.field))
	if value == nil || isList(value) {
		return path
	}
	return fmt.Sprintf("%s (%v)", path, value)
}

// offAlone checks that disabled: true stands alone.
func (f *faults) offAlone(s *Sections) {
	v := reflect.ValueOf(s).Elem()
	for i, name := range sectionNames {
		if v.Field(i).IsNil() {
			continue
		}
		section := v.Field(i).Elem()
		disabled := section.FieldByName("Disabled").Interface().(*bool)
		if disabled == nil {
			continue
		}
		if !*disabled {
			f.add(name+".disabled", "is only ever true: leave it out")
			continue
		}
		if observes(v.Field(i)) {
			f.add(name+".observe", "can't stand beside %s.disabled: true", name)
		}
		for u, unit := range units {
			if unit.section == i && !isNil(section.Field(unit.field)) {
				f.add(units[u].path, "can't stand beside %s.disabled: true", name)
			}
		}
	}
}

// faults collects what is wrong with a policy.
type faults struct {
	prefix string
	errs   manifest.FieldErrors
}

func (f *faults) add(path, format string, args ...any) {
	f.errs = append(f.errs, &manifest.FieldError{Field: f.prefix + path, Message: fmt.Sprintf(format, args...)})
}

func (f *faults) name(path, name string) {
	if msg := manifest.CheckName(name); msg != "" {
		f.add(path, "%s", msg)
	}
}

// word checks that s is one of known.
func (f *faults) word(path, s string, known, later []string) {
	if msg := manifest.CheckWord(s, known, later); msg != "" {
		f.add(path, "%s", msg)
	}
}

func (f *faults) unique(path string, list []string) {
	for i, s := range list {
		if slices.Contains(list[:i], s) {
			f.add(fmt.Sprintf("%s[%d]", path, i), "%q is there twice", s)
		}
	}
}

func (f *faults) header(path, name string, pseudo bool) {
	switch {
	case name == "":
		f.add(path, "is required")
	case pseudo && strings.HasPrefix(name, ":"):
		if name != ":status" {
			f.add(path, "the only pseudo header of a response is :status")
		}
	case headerName(strings.ToLower(name)) && name != strings.ToLower(name):
		f.add(path, "must be in lower case: %s", strings.ToLower(name))
	case !headerName(name):
		f.add(path, "%q can't be the name of a header", name)
	}
}

// labelText writes labels the way a shell takes them: a=1,b=2.
func labelText(labels map[string]string) string {
	var list []string
	for k, v := range labels {
		list = append(list, k+"="+v)
	}
	sort.Strings(list)
	return strings.Join(list, ",")
}
