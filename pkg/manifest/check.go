package manifest

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// NotYet is the message for what the language will have, and this build has not.
const NotYet = "not supported yet"

// CheckBounds checks every scalar below v, a pointer to a struct, against the tags of its field: durations (allow:"none"),
// minimum, maximum, zero (what to write instead of 0), enum and later (words to come). Field paths start with path.
func CheckBounds(v any, path string) FieldErrors {
	return checkValue(nil, reflect.ValueOf(v), path, "")
}

func checkValue(errs FieldErrors, v reflect.Value, path string, tag reflect.StructTag) FieldErrors {
	switch x := v.Interface().(type) {
	case Duration:
		return appendFault(errs, path, x.Check(tag.Get("allow") == "none"))
	case Instant:
		return appendFault(errs, path, x.Check())
	case Count:
		if x == Unlimited {
			return errs
		}
		return appendFault(errs, path, checkNumber(uint64(x), tag))
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			errs = checkValue(errs, v.Elem(), path, tag)
		}
	case reflect.Slice:
		for i := range v.Len() {
			errs = checkValue(errs, v.Index(i), fmt.Sprintf("%s[%d]", path, i), tag)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() {
				continue
			}
			errs = checkValue(errs, v.Field(i), join(path, fieldName(f)), f.Tag)
		}
	case reflect.Uint32:
		return appendFault(errs, path, checkNumber(v.Uint(), tag))
	case reflect.Float64:
		return appendFault(errs, path, checkFraction(v.Float(), tag))
	case reflect.String:
		if enum := tag.Get("enum"); enum != "" && v.String() != "" {
			return appendFault(errs, path, CheckWord(v.String(), strings.Split(enum, ","), split(tag.Get("later"))))
		}
	}
	return errs
}

func appendFault(errs FieldErrors, path, msg string) FieldErrors {
	if msg == "" {
		return errs
	}
	return append(errs, &FieldError{Field: path, Message: msg})
}

func checkNumber(n uint64, tag reflect.StructTag) string {
	if least, ok := bound(tag, "minimum"); ok && n < least {
		if hint := tag.Get("zero"); hint != "" && n == 0 {
			return "must be at least " + strconv.FormatUint(least, 10) + ": " + hint
		}
		return fmt.Sprintf("must be at least %d", least)
	}
	if most, ok := bound(tag, "maximum"); ok && n > most {
		return fmt.Sprintf("must be at most %d", most)
	}
	return ""
}

func checkFraction(f float64, tag reflect.StructTag) string {
	if least, err := strconv.ParseFloat(tag.Get("minimum"), 64); err == nil && f < least {
		return fmt.Sprintf("must be at least %v", least)
	}
	if most, err := strconv.ParseFloat(tag.Get("maximum"), 64); err == nil && f > most {
		return fmt.Sprintf("must be at most %v", most)
	}
	return ""
}

func bound(tag reflect.StructTag, name string) (uint64, bool) {
	n, err := strconv.ParseUint(tag.Get(name), 10, 64)
	return n, err == nil
}

// CheckWord says what is wrong with a word that must be one of known; "" when nothing is. The words of later are to come.
func CheckWord(word string, known, later []string) string {
	if slices.Contains(known, word) {
		return ""
	}
	if slices.Contains(later, word) {
		return word + ": " + NotYet
	}
	if guess := Nearest(word, known); guess != "" {
		return fmt.Sprintf("%q is unknown: did you mean %s?", clip(word), guess)
	}
	return fmt.Sprintf("%q is unknown: must be one of %s", clip(word), strings.Join(known, ", "))
}

// fieldName is the name of a field in JSON; "" for an embedded struct, whose fields count as the outer one's.
func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" && !f.Anonymous {
		name = f.Name
	}
	return name
}

func join(path, name string) string {
	switch {
	case name == "":
		return path
	case path == "":
		return name
	}
	return path + "." + name
}

func split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// clip shortens text from outside that goes into a message.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// Nearest is the word that someone who wrote s may have meant; "" when there is none.
func Nearest(s string, words []string) string {
	best, least := "", 3
	if len(s) > 64 {
		return ""
	}
	for _, w := range words {
		if strings.EqualFold(s, w) {
			return w
		}
		if d := distance(strings.ToLower(s), strings.ToLower(w)); d < least && d < len(w)/2+1 {
			best, least = w, d
		}
	}
	return best
}

// distance is the number of letters to add, drop, change or swap.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
