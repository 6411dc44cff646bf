package policy

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// The sorts of fields that can be bounded.
const (
	numbers = iota
	counts
	durations
)

// boundable is a field of the sections that is a number, a count or a duration.
type boundable struct {
	path  string
	unit  int
	inner int // field of a nested object; -1 where the unit itself is the field
	kind  int
	tag   reflect.StructTag
	unset *amount // what holds where it is not set; nil: nothing of the sort
}

// amount is the value of such a field: a number of things, or nanoseconds.
type amount struct {
	n        uint64
	infinite bool
}

func (a amount) more(o amount) bool {
	return a.infinite && !o.infinite || !a.infinite && !o.infinite && a.n > o.n
}

// boundables are all of them, in the order of the structs; boundableByPath finds one. Read only.
var boundables = func() []boundable {
	var list []boundable
	sections := reflect.TypeFor[Sections]()
	for u, unit := range units {
		field := sections.Field(unit.section).Type.Elem().Field(unit.field)
		list = appendBoundable(list, boundable{path: unit.path, unit: u, inner: -1, tag: field.Tag}, field.Type)
		t := field.Type
		if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct || t.Implements(reflect.TypeFor[json.Marshaler]()) {
			continue
		}
		for i := range t.Elem().NumField() {
			inner := t.Elem().Field(i)
			list = appendBoundable(list, boundable{path: unit.path + "." + jsonName(inner), unit: u, inner: i, tag: inner.Tag}, inner.Type)
		}
	}
	return list
}()

var boundableByPath, boundablePaths = func() (map[string]int, []string) {
	index, paths := make(map[string]int, len(boundables)), make([]string, len(boundables))
	for i, b := range boundables {
		index[b.path], paths[i] = i, b.path
	}
	return index, paths
}()

func appendBoundable(list []boundable, b boundable, t reflect.Type) []boundable {
	switch t {
	case reflect.TypeFor[*uint32]():
		b.kind = numbers
	case reflect.TypeFor[*manifest.Count]():
		b.kind = counts
	case reflect.TypeFor[*manifest.Duration]():
		b.kind = durations
	default:
		return list
	}
	// The documented default says what holds without a value: "none", "unlimited", "5s (Envoy)"; or in words that nothing does.
	word, _, _ := strings.Cut(b.tag.Get("bwdefault"), " ")
	if a, ok := b.parse(word); ok {
		b.unset = &a
	}
	return append(list, b)
}

// parse reads a value of the field.
func (b boundable) parse(text string) (amount, bool) {
	switch b.kind {
	case durations:
		if text == string(manifest.None) {
			return amount{infinite: true}, b.tag.Get("allow") == "none"
		}
		d := manifest.Duration(text)
		return amount{n: uint64(d.D())}, d.Check(false) == ""
	case counts:
		if text == "unlimited" {
			return amount{infinite: true}, true
		}
	}
	n, err := strconv.ParseUint(text, 10, 32)
	return amount{n: n}, err == nil
}

// fits says what is wrong with an amount that the field can't have; "" when nothing is.
func (b boundable) fits(a amount) string {
	least, _ := strconv.ParseUint(b.tag.Get("minimum"), 10, 64)
	if b.kind != durations && a.n < least {
		return fmt.Sprintf("must be at least %d", least)
	}
	if most, err := strconv.ParseUint(b.tag.Get("maximum"), 10, 64); err == nil && b.kind != durations && a.n > most {
		return fmt.Sprintf("must be at most %d", most)
	}
	return ""
}

// amountOf is the value that the field has.
func (b boundable) amountOf(v reflect.Value) amount {
	switch x := v.Interface().(type) {
	case *uint32:
		return amount{n: uint64(*x)}
	case *manifest.Count:
		return amount{n: uint64(*x), infinite: *x == manifest.Unlimited}
	case *manifest.Duration:
		return amount{n: uint64(x.D()), infinite: *x == manifest.None}
	}
	return amount{}
}

// absent is what holds where the field is not set, as JSON would show it.
func (b boundable) absent() any {
	switch {
	case b.unset == nil:
		return nil
	case b.unset.infinite && b.kind == durations:
		return string(manifest.None)
	case b.unset.infinite:
		return "unlimited"
	}
	return shown(b.value(*b.unset))
}

// value makes a a value of the field.
func (b boundable) value(a amount) reflect.Value {
	switch b.kind {
	case counts:
		return reflect.ValueOf(new(manifest.Count(a.n)))
	case durations:
		return reflect.ValueOf(new(manifest.DurationOf(time.Duration(a.n))))
	}
	return reflect.ValueOf(new(uint32(a.n)))
}
