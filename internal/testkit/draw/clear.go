package draw

import (
	"reflect"
	"strings"
)

// Clear takes what stands at a path out of a struct, such as retry.retryOn[1] of a Spec: the innermost that can be left out and is there.
// What is empty without it goes too. It reports whether anything was there.
func Clear(v reflect.Value, path string) bool {
	for path != "" {
		if at := find(v, path); at.IsValid() && !at.IsZero() && at.Kind() != reflect.String {
			at.SetZero()
			clearEmpty(v, path)
			return true
		}
		path = outer(path)
	}
	return false
}

// outer is the path of what holds it, "" for the outermost.
func outer(path string) string { return path[:max(0, strings.LastIndexByte(path, '.'))] }

// clearEmpty clears the objects around path that have nothing in them any more.
func clearEmpty(v reflect.Value, path string) {
	for path = outer(path); path != ""; path = outer(path) {
		if at := find(v, path); at.Kind() == reflect.Pointer && !at.IsNil() && at.Elem().IsZero() {
			at.SetZero()
		}
	}
}

// find is the field at a path, a list for what is in it; invalid where nothing is there.
func find(v reflect.Value, path string) reflect.Value {
	name, rest, _ := strings.Cut(path, ".")
	name, _, inList := strings.Cut(name, "[")
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			if at := find(v.Field(i), path); at.IsValid() {
				return at
			}
			continue
		}
		if jsonName(f) != name {
			continue
		}
		if rest == "" || inList {
			return v.Field(i)
		}
		return find(v.Field(i), rest)
	}
	return reflect.Value{}
}
