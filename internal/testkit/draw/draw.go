// Package draw makes random values of the language's types, by their tags: a field that is new is drawn as soon as it is there.
package draw

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Chance chooses. *rand.Rand does.
type Chance interface {
	IntN(n int) int // of [0, n)
}

// Of chooses one of some values.
func Of[T any](c Chance, values ...T) T { return values[c.IntN(len(values))] }

// Percent is true so often.
func Percent(c Chance, n int) bool { return c.IntN(100) < n }

// Unknown is what Set panics with where a field is of a kind that it knows no values of.
type Unknown string

// Field is one field of a struct, as an author knows it.
type Field struct {
	Path  string // such as retry.numRetries; Words are looked up by it
	Value reflect.Value
	Tag   reflect.StructTag
}

// Fields are those of a struct, but not what is embedded in it. Path is the struct's own, "" for the outermost.
func Fields(path string, v reflect.Value) []Field {
	var list []Field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := jsonName(f)
		if f.Anonymous || name == "-" || name == "" {
			continue
		}
		if path != "" {
			name = path + "." + name
		}
		list = append(list, Field{name, v.Field(i), f.Tag})
	}
	return list
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// Set gives f a random value within the bounds that its tag says. It is not nil afterwards, and what is in it may break rules between fields.
func (f Field) Set(c Chance) {
	if literals, ok := words[f.Path]; ok {
		literal := Of(c, literals...)
		f.Value.SetZero()
		if err := json.Unmarshal([]byte(literal), f.Value.Addr().Interface()); err != nil {
			panic(Unknown(fmt.Sprintf("%s: %s: %v", f.Path, literal, err)))
		}
		return
	}
	switch f.Value.Kind() {
	case reflect.Pointer:
		f.Value.Set(reflect.New(f.Value.Type().Elem()))
		f.elem().Set(c)
	case reflect.Slice:
		f.list(c)
	case reflect.Struct:
		f.object(c)
	default:
		f.scalar(c)
	}
}

func (f Field) elem() Field { return Field{f.Path, f.Value.Elem(), f.Tag} }

func (f Field) list(c Chance) {
	n := 1 + c.IntN(2)
	f.Value.Set(reflect.MakeSlice(f.Value.Type(), n, n))
	for i := range n {
		Field{f.Path + "[]", f.Value.Index(i), f.Tag}.Set(c)
	}
}

// object sets each of the fields, or not; at least one.
func (f Field) object(c Chance) {
	fields := Fields(f.Path, f.Value)
	if len(fields) == 0 {
		if f.Value.NumField() > 0 {
			panic(Unknown(fmt.Sprintf("%s is of the type %s, of which nothing is known: add values to the words", f.Path, f.Value.Type())))
		}
		return
	}
	must := c.IntN(len(fields))
	for i, field := range fields {
		optional := strings.Contains(field.Tag.Get("json"), "omitempty")
		if i == must || !optional || Percent(c, 60) {
			field.Set(c)
		}
	}
}

func (f Field) scalar(c Chance) {
	v := f.Value
	switch x := v.Addr().Interface().(type) {
	case *manifest.Duration:
		times := someTimes
		if f.Tag.Get("allow") == "none" {
			times = append([]manifest.Duration{manifest.None}, times...)
		}
		*x = Of(c, times...)
		return
	case *manifest.Count:
		*x = manifest.Unlimited
		if Percent(c, 80) {
			*x = manifest.Count(f.number(c))
		}
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(Percent(c, 50))
	case reflect.Uint32, reflect.Int32:
		v.Set(reflect.ValueOf(f.number(c)).Convert(v.Type()))
	case reflect.Float64:
		v.SetFloat(f.fraction(c))
	case reflect.String:
		values := strings.Split(f.Tag.Get("enum"), ",")
		if values[0] == "" {
			panic(Unknown(fmt.Sprintf("%s is a text of which nothing is known: add values to the words", f.Path)))
		}
		v.SetString(Of(c, values...))
	default:
		panic(Unknown(fmt.Sprintf("%s is of the type %s, of which nothing is known: add values to the words", f.Path, v.Type())))
	}
}

var someTimes = []manifest.Duration{"1s", "10ms", "50ms", "200ms", "900ms", "2s", "3s", "30s", "2m", "1h"}

// number is between the bounds, and often near one of them.
func (f Field) number(c Chance) uint32 {
	least, most := f.bound("minimum", 0), f.bound("maximum", 1_000_000)
	values := []uint32{uint32(least), uint32(most)}
	for _, n := range []float64{least + 1, 3, 5, 20, 50, 90, 100, 429, 503, 1000} {
		if n > least && n < most {
			values = append(values, uint32(n))
		}
	}
	return Of(c, values...)
}

func (f Field) fraction(c Chance) float64 {
	least, most := f.bound("minimum", 0), f.bound("maximum", 1000)
	return Of(c, least, (least+most)/2, least+0.5, most)
}

func (f Field) bound(name string, or float64) float64 {
	n, err := strconv.ParseFloat(f.Tag.Get(name), 64)
	if err != nil {
		return or
	}
	return n
}
