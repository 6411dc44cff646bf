package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// alternatives are the units that a unit excludes: those of its section whose tag oneof is the same. Where a more specific policy sets
// one, the others go. Read only.
var alternatives = func() [][]int {
	tag := func(u unit) string {
		return reflect.TypeFor[Sections]().Field(u.section).Type.Elem().Field(u.field).Tag.Get("oneof")
	}
	list := make([][]int, len(units))
	for i, u := range units {
		for j, other := range units {
			if i != j && u.section == other.section && tag(u) != "" && tag(u) == tag(other) {
				list[i] = append(list[i], j)
			}
		}
	}
	return list
}()

// oneOf checks that one policy takes one of the units that exclude each other.
func (f *faults) oneOf(s *Sections) {
	sections := reflect.ValueOf(s).Elem()
	there := func(u int) bool {
		section := sections.Field(units[u].section)
		return !section.IsNil() && !isNil(section.Elem().Field(units[u].field))
	}
	for u := range units {
		others := slices.DeleteFunc(slices.Clone(alternatives[u]), func(o int) bool { return !there(o) })
		if len(others) == 0 || !there(u) || others[0] < u {
			continue
		}
		var names []string
		for _, o := range append([]int{u}, others...) {
			_, name, _ := strings.Cut(units[o].path, ".")
			names = append(names, name)
		}
		last := len(names) - 1
		f.add(sectionNames[units[u].section], "%s", fmt.Sprintf("takes %s or %s, not more than one of them", strings.Join(names[:last], ", "), names[last]))
	}
}
