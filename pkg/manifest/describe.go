package manifest

import (
	"reflect"
	"strings"
)

// FieldDoc is what is known of a field beforehand. It comes from the tags of the structs, which are the schema.
type FieldDoc struct {
	Path    string   // such as spec.retry.backOff.base; items of a list as spec.endpoints[].port
	Type    string   // text, number, boolean, duration, instant, count, object, list, map
	Doc     string   // what it does
	Unit    string   // such as percent; empty where there is none
	Default string   // and in brackets whose it is
	Scope   string   // route or cluster; empty where it makes no difference
	Effect  string   // what a change does to live traffic; empty for an object
	Minimum string   // smallest number
	Maximum string   // greatest number
	Values  []string // all the words it may be; nil where any will do
}

// Describe lists the fields of S in the order of the structs, each before what is in it.
func Describe[S any](path string) []FieldDoc {
	return describe(nil, reflect.TypeFor[S](), path)
}

func describe(list []FieldDoc, t reflect.Type, path string) []FieldDoc {
	for _, f := range fieldsOf(t) {
		at, ft := join(path, f.name), t.FieldByIndex(f.index).Type
		kind := typeName(ft)
		list = append(list, FieldDoc{
			Path: at, Type: kind, Doc: f.tag.Get("doc"), Unit: f.tag.Get("unit"), Default: f.tag.Get("bwdefault"), Scope: f.tag.Get("scope"),
			Effect: f.tag.Get("effect"), Minimum: f.tag.Get("minimum"), Maximum: f.tag.Get("maximum"), Values: split(f.tag.Get("enum")),
		})
		for ft.Kind() == reflect.Pointer || ft.Kind() == reflect.Slice {
			if ft.Kind() == reflect.Slice {
				at += "[]"
			}
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct && typeName(ft) == "object" {
			list = describe(list, ft, at)
		}
	}
	return list
}

// typeName names a type the way an author knows it.
func typeName(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[Duration]():
		return "duration"
	case reflect.TypeFor[Instant]():
		return "instant"
	case reflect.TypeFor[Count]():
		return "count"
	}
	switch t.Kind() {
	case reflect.Struct:
		if _, own := t.MethodByName("MarshalJSON"); own {
			return strings.ToLower(t.Name())
		}
		return "object"
	case reflect.Slice:
		return "list"
	case reflect.Map:
		return "map"
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		return "text"
	}
	return "number"
}
