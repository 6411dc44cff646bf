package manifest

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// laterFields is what a type implements whose fields are not all there yet: field name -> what to say.
type laterFields interface{ NotYet() map[string]string }

// raw is a field that is not read here.
type raw struct{}

func value(p any) reflect.Value { return reflect.ValueOf(p).Elem() }

// walker reads nodes into Go values, and reports what does not fit.
type walker struct{ *tree }

// value reads n into v. What the tree has reported is passed over.
func (w *walker) value(n *yaml.Node, v reflect.Value, path string, tag reflect.StructTag) {
	if w.bad[n] {
		return
	}
	switch target := v.Addr().Interface().(type) {
	case *raw:
		return
	case *Duration:
		w.duration(n, target, path, tag)
		return
	case *Instant:
		w.instant(n, target, path)
		return
	case *Count:
		w.count(n, target, path, tag)
		return
	case json.Unmarshaler:
		if err := target.UnmarshalJSON(appendJSON(nil, n)); err != nil {
			w.fault(path, n, err.Error())
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		w.pointer(n, v, path, tag)
	case reflect.Struct:
		w.structure(n, v, path, tag)
	case reflect.Slice:
		w.list(n, v, path)
	case reflect.Map:
		w.dictionary(n, v, path)
	default:
		w.scalar(n, v, path, tag)
	}
}

func (w *walker) pointer(n *yaml.Node, v reflect.Value, path string, tag reflect.StructTag) {
	fresh := reflect.New(v.Type().Elem())
	if fresh.Elem().Kind() == reflect.Slice && n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		fresh.Elem().Set(reflect.MakeSlice(fresh.Elem().Type(), 0, 0)) // an empty list that means something
	} else {
		w.value(n, fresh.Elem(), path, tag)
	}
	v.Set(fresh)
}

// field is a field of a struct, those of embedded structs included.
type field struct {
	name   string
	index  []int
	server bool // the server's: accepted and ignored
	tag    reflect.StructTag
}

func fieldsOf(t reflect.Type) []field {
	var list []field
	for f := range t.Fields() {
		if !f.IsExported() {
			continue
		}
		name := fieldName(f)
		if name == "-" {
			continue
		}
		if name == "" {
			for _, inner := range fieldsOf(f.Type) {
				inner.index = append(slices.Clone(f.Index), inner.index...)
				list = append(list, inner)
			}
			continue
		}
		list = append(list, field{name, f.Index, f.Tag.Get("set") == "server", f.Tag})
	}
	return list
}

func (w *walker) structure(n *yaml.Node, v reflect.Value, path string, tag reflect.StructTag) {
	if n.Kind != yaml.MappingNode {
		w.fault(path, n, "must be an object with fields, not "+kindOf(n))
		return
	}
	if len(n.Content) == 0 && tag.Get("empty") != "allowed" {
		w.fault(path, n, "is empty: set a field or leave it out")
		return
	}
	fields := fieldsOf(v.Type())
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, item := n.Content[i], n.Content[i+1]
		if w.bad[key] || key.Kind != yaml.ScalarNode {
			continue
		}
		f := slices.IndexFunc(fields, func(f field) bool { return f.name == key.Value })
		if f < 0 {
			w.fault(entry(path, key.Value), key, unknown(key.Value, v, fields))
			continue
		}
		if !fields[f].server {
			w.value(item, v.FieldByIndex(fields[f].index), join(path, key.Value), fields[f].tag)
		}
	}
}

// unknown is what to say of a field that a struct does not have.
func unknown(name string, v reflect.Value, fields []field) string {
	if later, ok := v.Interface().(laterFields); ok {
		if msg := later.NotYet()[name]; msg != "" {
			return msg
		}
	}
	var names, deeper []string
	for _, f := range fields {
		names = append(names, f.name)
		if t := v.Type().FieldByIndex(f.index).Type; t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct {
			for _, inner := range fieldsOf(t.Elem()) {
				if inner.name == name {
					deeper = append(deeper, f.name+"."+name)
				}
			}
		}
	}
	if guess := Nearest(name, names); guess != "" {
		return "unknown field: did you mean " + guess + "?"
	}
	if len(deeper) > 0 {
		return "unknown field: did you mean " + strings.Join(deeper, " or ") + "?"
	}
	return "unknown field"
}

func (w *walker) list(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		w.fault(path, n, "must be a list, not "+kindOf(n))
		return
	}
	if len(n.Content) == 0 {
		w.fault(path, n, "is empty: name at least one or leave it out")
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		w.value(item, list.Index(i), fmt.Sprintf("%s[%d]", path, i), "")
	}
	v.Set(list)
}

func (w *walker) dictionary(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		w.fault(path, n, "must be an object of keys and values, not "+kindOf(n))
		return
	}
	m := reflect.MakeMap(v.Type())
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, item := n.Content[i], n.Content[i+1]
		if w.bad[key] || key.Kind != yaml.ScalarNode {
			continue
		}
		entryValue := reflect.New(v.Type().Elem()).Elem()
		w.value(item, entryValue, entry(path, key.Value), "")
		m.SetMapIndex(reflect.ValueOf(key.Value), entryValue)
	}
	v.Set(m)
}

func (w *walker) scalar(n *yaml.Node, v reflect.Value, path string, tag reflect.StructTag) {
	if n.Kind != yaml.ScalarNode {
		w.fault(path, n, "must be "+wanted(v.Kind())+", not "+kindOf(n))
		return
	}
	msg := ""
	switch v.Kind() {
	case reflect.String:
		if n.ShortTag() != "!!str" {
			msg = fmt.Sprintf("must be text, not %s: put it in quotes", kindOf(n))
		}
		v.SetString(n.Value)
	case reflect.Bool:
		if n.ShortTag() != "!!bool" || n.Value != "true" && n.Value != "false" {
			msg = "must be true or false"
		}
		v.SetBool(n.Value == "true")
	case reflect.Uint32, reflect.Int32:
		msg = number(n, v, most(tag, math.MaxUint32))
	case reflect.Float64:
		msg = fraction(n, v)
	default:
		msg = "can't be read"
	}
	if msg != "" {
		v.SetZero()
		w.fault(path, n, msg)
	}
}

// most is the maximum of a field's tag.
func most(tag reflect.StructTag, fallback uint64) uint64 {
	if m, ok := bound(tag, "maximum"); ok {
		return m
	}
	return fallback
}

// number reads a whole number, in decimal and without quotes. What is too large for it is over most, too.
func number(n *yaml.Node, v reflect.Value, most uint64) string {
	text := n.Value
	switch tag := n.ShortTag(); {
	case tag == "!!float" && !decimal(text):
		if strings.ContainsAny(text, "nN") { // .nan, .inf
			return "must be a whole number"
		}
		return "must be a whole number, in digits"
	case tag == "!!str" && decimal(text):
		return "must be a number, not text: remove the quotes"
	case tag != "!!int" && tag != "!!float":
		return "must be a whole number, not " + kindOf(n)
	case !decimal(text):
		return "must be written in decimal digits"
	}
	if v.Kind() == reflect.Int32 {
		i, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return "must be between -2147483648 and 2147483647"
		}
		v.SetInt(i)
		return ""
	}
	if text[0] == '-' {
		return "must not be negative"
	}
	u, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return fmt.Sprintf("must be at most %d", most)
	}
	v.SetUint(u)
	return ""
}

// fraction reads a number that need not be whole, in decimal and without quotes.
func fraction(n *yaml.Node, v reflect.Value) string {
	whole, part, dotted := strings.Cut(n.Value, ".")
	digits := !dotted || part != "" && strings.Trim(part, "0123456789") == ""
	switch tag := n.ShortTag(); {
	case tag == "!!str" && decimal(whole) && digits:
		return "must be a number, not text: remove the quotes"
	case tag != "!!int" && tag != "!!float":
		return "must be a number, not " + kindOf(n)
	case !decimal(whole) || !digits:
		return "must be written in decimal digits"
	}
	f, err := strconv.ParseFloat(n.Value, 64)
	if err != nil {
		return "is too large"
	}
	v.SetFloat(f)
	return ""
}

// decimal reports whether s is a decimal number the way JSON writes it.
func decimal(s string) bool {
	s = strings.TrimPrefix(s, "-")
	return s != "" && strings.Trim(s, "0123456789") == "" && (s == "0" || s[0] != '0')
}

func (w *walker) duration(n *yaml.Node, d *Duration, path string, tag reflect.StructTag) {
	if n.Kind != yaml.ScalarNode {
		w.fault(path, n, "must be a duration such as 5s, not "+kindOf(n))
		return
	}
	switch n.ShortTag() {
	case "!!str":
		*d = Duration(n.Value)
	case "!!int", "!!float":
		msg := "write a unit, such as 5s or 250ms"
		if tag.Get("allow") == "none" && Duration(n.Value).endless() {
			msg = toNone
		} else if n.Value == "0" {
			msg = "must be at least 1ms"
		} else if decimal(n.Value) && len(n.Value) < 10 && n.Value[0] != '-' {
			msg = fmt.Sprintf("write a unit, such as %ss or %sms", n.Value, n.Value)
		}
		w.fault(path, n, msg)
	default:
		w.fault(path, n, "must be a duration such as 5s, not "+kindOf(n))
	}
}

func (w *walker) instant(n *yaml.Node, i *Instant, path string) {
	if tag := n.ShortTag(); n.Kind != yaml.ScalarNode || tag != "!!str" && tag != "!!timestamp" {
		w.fault(path, n, "must be a moment, not "+kindOf(n)+": "+instantHint)
		return
	}
	*i = Instant(n.Value)
}

func (w *walker) count(n *yaml.Node, c *Count, path string, tag reflect.StructTag) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" && n.Value == unlimited {
		*c = Unlimited
		return
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!str" && !decimal(n.Value) || n.ShortTag() == "!!bool" {
		w.fault(path, n, `must be a number or "unlimited", not `+kindOf(n))
		return
	}
	var u uint32
	if msg := number(n, value(&u), most(tag, uint64(Unlimited)-1)); msg != "" {
		w.fault(path, n, msg)
		return
	}
	if Count(u) == Unlimited {
		w.fault(path, n, `must be less than 4294967295: write "unlimited" for no limit`)
		return
	}
	*c = Count(u)
}

// kindOf names what was written.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!bool":
		return "a boolean"
	case "!!int", "!!float":
		return "a number"
	case "!!timestamp":
		return "a date"
	case "!!str":
		return fmt.Sprintf("%q", clip(n.Value))
	}
	return "this"
}

func wanted(k reflect.Kind) string {
	switch k {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Float64:
		return "a number"
	}
	return "a whole number"
}
