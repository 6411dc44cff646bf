package policy

import (
	"encoding/json"
	"reflect"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// unit is what merges as one value: a field of a section. A nested object or a list is one unit.
type unit struct {
	path    string // such as retry.numRetries
	section int    // field of Sections
	field   int    // field of the section
	scope   string // route or cluster; empty where it is of both
}

// sectionNames are the names of the fields of Sections, in order.
var sectionNames = func() []string {
	var names []string
	for f := range reflect.TypeFor[Sections]().Fields() {
		names = append(names, jsonName(f))
	}
	return names
}()

// units are all the units there are, in the order of the struct. Read only.
var units = func() []unit {
	var list []unit
	sections := reflect.TypeFor[Sections]()
	for s := range sections.NumField() {
		section := sections.Field(s).Type.Elem()
		for f := range section.NumField() {
			if name := jsonName(section.Field(f)); name != "disabled" && name != "observe" {
				list = append(list, unit{sectionNames[s] + "." + name, s, f, section.Field(f).Tag.Get("scope")})
			}
		}
	}
	return list
}()

// unitByPath finds a unit. Read only.
var unitByPath = func() map[string]int {
	index := make(map[string]int, len(units))
	for i, u := range units {
		index[u.path] = i
	}
	return index
}()

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// fill sets *p to the default where no author has set it.
func fill[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}

// own replaces *p with a copy that may be written to; the original belongs to a policy.
func own[T any](p **T) {
	var fresh T
	if *p != nil {
		fresh = **p
	}
	*p = &fresh
}

func isTrue(b *bool) bool { return b != nil && *b }

// nested is the struct that v points to, where v is a nested object with fields of its own.
func nested(v reflect.Value) (reflect.Value, bool) {
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return reflect.Value{}, false
	}
	if _, ok := v.Interface().(json.Marshaler); ok {
		return reflect.Value{}, false
	}
	return v.Elem(), true
}

// leaf is a scalar or list within a unit.
type leaf struct {
	suffix string // ".base"; empty for a unit without fields of its own
	field  int    // of the unit; 0 for a unit without, -1 for one with nothing in it
	value  reflect.Value
}

// leaves are the parts of a unit that are set, in the order of the struct.
func leaves(v reflect.Value) []leaf {
	if isNil(v) {
		return nil
	}
	s, ok := nested(v)
	if !ok {
		return []leaf{{value: v}}
	}
	var list []leaf
	for i := range s.NumField() {
		if field := s.Field(i); !isNil(field) {
			list = append(list, leaf{"." + jsonName(s.Type().Field(i)), i, field})
		}
	}
	if len(list) == 0 {
		return []leaf{{field: -1, value: v}} // that it is there says all
	}
	return list
}

func isNil(v reflect.Value) bool {
	if !v.IsValid() {
		return true
	}
	return (v.Kind() == reflect.Pointer || v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.IsNil()
}

// shown is v as JSON would show it: nil, bool, a number, a string, a list or a map.
func shown(v reflect.Value) any {
	if isNil(v) {
		return nil
	}
	switch x := v.Interface().(type) {
	case *bool:
		return *x
	case *uint32:
		return *x
	case *float64:
		return *x
	case *string:
		return *x
	case *manifest.Duration:
		return string(*x)
	case *manifest.Count:
		if *x == manifest.Unlimited {
			return "unlimited"
		}
		return uint32(*x)
	case []string:
		return x
	case []uint32:
		return x
	}
	data, err := json.Marshal(v.Interface())
	if err != nil {
		return nil
	}
	var out any
	if json.Unmarshal(data, &out) != nil {
		return nil
	}
	return out
}

// same reports whether two values of one unit mean the same: "1s" and "1000ms" do.
func same(a, b reflect.Value) bool {
	if isNil(a) || isNil(b) {
		return isNil(a) == isNil(b)
	}
	if x, ok := a.Interface().(*manifest.Duration); ok {
		return x.Same(*b.Interface().(*manifest.Duration))
	}
	x, ok := nested(a)
	if !ok {
		return reflect.DeepEqual(a.Interface(), b.Interface())
	}
	y, _ := nested(b)
	for i := range x.NumField() {
		if !same(x.Field(i), y.Field(i)) {
			return false
		}
	}
	return true
}
