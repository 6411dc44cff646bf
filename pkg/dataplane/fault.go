package dataplane

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Fault says what of a resource can't be enforced. Its text is what a server is told.
type Fault struct {
	ID     view.ID
	Field  string // path in the proto, such as "cluster.outlier_detection.monitors"
	Reason string
}

// Error is the fault as one line.
func (f Fault) Error() string { return f.ID.String() + ": " + f.Field + ": " + f.Reason }

// Text joins faults to the text of a rejection, "" where there are none.
func Text(faults []Fault) string {
	lines := make([]string, len(faults))
	for i, f := range faults {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "; ")
}

func sortFaults(faults []Fault) {
	slices.SortStableFunc(faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.ID.Type, b.ID.Type), strings.Compare(a.ID.Name, b.ID.Name), strings.Compare(a.Field, b.Field))
	})
}

// reader reads one resource and collects its faults.
type reader struct {
	id     view.ID
	faults []Fault
	needs  map[view.ID]struct{}
	limits []*RateLimit // of the route configuration that is read
}

func (r *reader) fault(path, format string, args ...any) {
	r.faults = append(r.faults, Fault{ID: r.id, Field: path, Reason: fmt.Sprintf(format, args...)})
}

func (r *reader) notEnforced(path string) { r.fault(path, "not enforced by this agent") }

// need books that the resource refers to another.
func (r *reader) need(t view.Type, name string) {
	if r.needs == nil {
		r.needs = make(map[view.ID]struct{})
	}
	r.needs[view.ID{Type: t, Name: name}] = struct{}{}
}

func (r *reader) needed() []view.ID {
	var ids []view.ID
	for id := range r.needs {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b view.ID) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), strings.Compare(a.Name, b.Name))
	})
	return ids
}

// walk finds what of m is set and not known to be enforced, or harmless.
func (r *reader) walk(path string, m protoreflect.Message, known fields) {
	if len(m.GetUnknown()) > 0 {
		r.fault(path, "has a field that this agent does not know")
	}
	if _, ok := known["typed_config"]; ok { // without it a name alone would say what is meant
		if f := m.Descriptor().Fields().ByName("typed_config"); f != nil && !m.Has(f) {
			r.fault(path+".typed_config", "is missing")
		}
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		r.field(path+"."+string(f.Name()), f, v, known)
		return true
	})
}

func (r *reader) field(path string, f protoreflect.FieldDescriptor, v protoreflect.Value, known fields) {
	inner, ok := known[string(f.Name())]
	switch {
	case !ok:
		r.notEnforced(path)
	case f.IsMap():
		r.mapField(path, f, v, inner)
	case f.Message() == nil:
	case f.IsList():
		for i := range v.List().Len() {
			r.value(fmt.Sprintf("%s[%d]", path, i), v.List().Get(i).Message(), inner)
		}
	default:
		r.value(path, v.Message(), inner)
	}
}

// mapField looks into the values of a map of which inner lists the keys; a leaf is read as a whole.
func (r *reader) mapField(path string, f protoreflect.FieldDescriptor, v protoreflect.Value, inner fields) {
	if inner == nil || f.MapValue().Message() == nil {
		return
	}
	v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		at := fmt.Sprintf("%s[%q]", path, k.String())
		known, ok := inner[k.String()]
		if !ok {
			known, ok = inner["*"]
		}
		if ok {
			r.value(at, v.Message(), known)
		} else {
			r.notEnforced(at)
		}
		return true
	})
}

func (r *reader) value(path string, m protoreflect.Message, known fields) {
	switch v := m.Interface().(type) {
	case *durationpb.Duration:
		r.checkDuration(path, v)
	case *anypb.Any:
		r.packed(path, v, known)
	default:
		if known != nil {
			r.walk(path, m, known)
		}
	}
}

// longest is what Envoy takes as a duration: what an int64 of nanoseconds holds, in seconds.
const longest = 9_223_372_036

func (r *reader) checkDuration(path string, d *durationpb.Duration) {
	switch {
	case d.CheckValid() != nil:
		r.fault(path, "is no valid duration")
	case d.Seconds < 0 || d.Nanos < 0:
		r.fault(path, "is negative")
	case d.Seconds >= longest:
		r.fault(path, "is too long")
	}
}

// packed looks into an Any, of which known lists the types by "@" and their full name; nil: any is harmless.
func (r *reader) packed(path string, a *anypb.Any, known fields) {
	if known == nil {
		return
	}
	name := string(a.MessageName())
	inner, ok := known["@"+name]
	if ok && name == "" {
		return // an empty one is enough
	}
	if !ok {
		if name == "" {
			name = "this"
		}
		r.fault(path, "%s is not enforced by this agent", name)
		return
	}
	m, err := a.UnmarshalNew()
	if err != nil {
		r.fault(path, "can't be read")
		return
	}
	r.value(path, m.ProtoReflect(), inner)
	r.rules(path, m)
}

// rules applies the rules that the API generates for m.
func (r *reader) rules(path string, m proto.Message) {
	v, ok := m.(interface{ ValidateAll() error })
	if !ok {
		return
	}
	if err := v.ValidateAll(); err != nil {
		r.broken(path, err)
	}
}

// broken books each rule that err, of ValidateAll, says is broken.
func (r *reader) broken(path string, err error) {
	if all, ok := err.(interface{ AllErrors() []error }); ok {
		for _, e := range all.AllErrors() {
			r.broken(path, e)
		}
		return
	}
	e, ok := err.(interface {
		Field() string
		Reason() string
		Cause() error
	})
	switch {
	case !ok:
		r.fault(path, "breaks a rule of the API: %v", err)
	case e.Cause() != nil:
		r.broken(path+"."+snake(e.Field()), e.Cause())
	default:
		if at := path + "." + snake(e.Field()); !r.blamed(at) {
			r.fault(at, "%s", e.Reason())
		}
	}
}

// blamed reports whether there is a fault of path, or of what holds it, already.
func (r *reader) blamed(path string) bool {
	return slices.ContainsFunc(r.faults, func(f Fault) bool {
		rest, within := strings.CutPrefix(path, f.Field)
		return within && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// snake turns a Go field name into the proto's: "ConnectTimeout" is connect_timeout, "Endpoints[0]" is endpoints[0].
func snake(name string) string {
	var b strings.Builder
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			if i > 0 && name[i-1] != '_' {
				b.WriteByte('_')
			}
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}
