package breakwater_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/breakwater-mesh/breakwater/internal/testkit/fields"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	envoycarriers "github.com/breakwater-mesh/breakwater/pkg/envoy/carriers"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// carried is a field and what Envoy gets of it. TestDocsFields holds it against the compiler: setting the field and changing it must change
// that carrier, at that place, and no other.
type carried struct{ fields.Field }

// spec is that of a policy in which the field has a value.
func (c carried) spec(t *testing.T, value string, further ...string) map[string]any {
	t.Helper()
	spec, err := c.Spec(value, further...)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// compiledWith is what comes of policies, the least specific first, for a service that speaks what the field needs.
func (c carried) compiledWith(t *testing.T, specs ...map[string]any) map[string]map[string]string {
	t.Helper()
	return resources(t, catalog.Protocol(c.Protocol()), specs...)
}

// alsoIn holds a field against another place that it reaches.
func (c carried) alsoIn(t *testing.T, p fields.Place) {
	t.Helper()
	of := func(value string) map[string]string {
		return c.compiledWith(t, c.spec(t, value, p.With))[fields.Cluster]
	}
	changed := differing(of(c.First), of(c.Second))
	if !c.In(p) {
		if len(changed) > 0 {
			t.Errorf("beside %s %v changed, want nothing", p.With, changed)
		}
		return
	}
	if !slices.ContainsFunc(changed, func(at string) bool { return strings.Contains(at, p.At) }) {
		t.Errorf("beside %s %v changed, want %s", p.With, changed, p.At)
	}
}

// gets is the documents' text for what Envoy gets of a field.
func gets(field string) string {
	i := slices.IndexFunc(fields.All, func(f fields.Field) bool { return f.Path == field })
	switch {
	case i < 0:
		return ""
	case fields.All[i].Carrier == fields.Nothing:
		c, _ := envoycarriers.Of(field)
		return c.Text()
	}
	return fields.All[i].Carrier + " `" + fields.All[i].At + "`"
}

// TestDocsFields holds what the documents say of a field (what Envoy gets, and what a change does to live traffic) against what the
// compiler does with it.
func TestDocsFields(t *testing.T) {
	known := make(map[string]bool)
	for _, f := range fields.All {
		known[f.Path] = true
		t.Run(f.Path, carried{f}.check)
	}
	for _, d := range manifest.Describe[policy.Sections]("") {
		if d.Type != "object" && !strings.Contains(d.Path, "[]") && !mark(d.Path) && !known[d.Path] {
			t.Errorf("%s is missing in the list of what Envoy gets", d.Path)
		}
	}
}

func (c carried) check(t *testing.T) {
	tag := tagOf(t, reflect.TypeFor[policy.Sections](), c.Path)
	// What is hashed belongs to the endpoints that are chosen by it, though Envoy asks the route.
	if scope := tag.Get("scope"); scope != "" && c.Carrier != fields.Nothing && c.Path != "loadBalancing.hashOn" && (scope == "route") != (c.Carrier == fields.Route) {
		t.Errorf("scope %s, but Envoy gets it in the %s", scope, c.Carrier)
	}
	of := func(value string) map[string]map[string]string { return c.compiledWith(t, c.spec(t, value)) }
	without, first, second := of(""), of(c.First), of(c.Second)
	for _, p := range fields.Elsewhere[c.Section()] {
		c.alsoIn(t, p)
	}
	c.compare(t, "set", tag.Get("effect"), without, first)
	c.compare(t, "changed", tag.Get("effect"), first, second)
}

// TestDocsDisabled looks at what switching a section off does: it rebuilds the cluster if a field that it takes away does.
func TestDocsDisabled(t *testing.T) {
	for _, f := range fields.All {
		c := carried{f}
		with := c.spec(t, c.First)
		c.whole(t, "disabled", c.compiledWith(t, with), c.compiledWith(t, with, c.Off()))
	}
}

// whole holds what a change of a mark of the whole section does against what the language says of the mark.
func (c carried) whole(t *testing.T, mark string, before, after map[string]map[string]string) {
	t.Helper()
	effect := tagOf(t, reflect.TypeFor[policy.Sections](), c.Section()+"."+mark).Get("effect")
	rebuilt := len(differing(before[fields.Cluster], after[fields.Cluster])) > 0
	if want := c.Rebuilds(effect); rebuilt != want {
		t.Errorf("%s.%s over %s: cluster rebuilt: %v, but the mark says %q", c.Section(), mark, c.Path, rebuilt, effect)
	}
}

// TestDocsObserve looks at what a section does that only observes: nothing, but for the two that proxies can count; and at what comes of
// enforcing it, which is what enforcing it from the start does.
func TestDocsObserve(t *testing.T) {
	for _, f := range fields.All {
		c := carried{f}
		section := c.Section()
		if section == "failureCriteria" || section == "fault" { // which do nothing by themselves, and nothing that could be counted
			continue
		}
		observed := c.spec(t, c.First)
		observed[section].(map[string]any)["observe"] = true
		without := c.spec(t, c.First)
		delete(without, section)
		none, counts, acts := c.compiledWith(t, without), c.compiledWith(t, observed), c.compiledWith(t, c.spec(t, c.First))
		counted := section == "outlierDetection" || section == "circuitBreaker"
		if changed := len(differing(none[fields.Cluster], counts[fields.Cluster])) > 0; changed != counted {
			t.Errorf("%s, observed: it is in the cluster: %v, want %v", c.Path, changed, counted)
		}
		if changed := len(differing(none[fields.Route], counts[fields.Route])) > 0; changed != (section == "rateLimit") || len(counts[fields.Runtime]) > 0 {
			t.Errorf("%s, observed: it is in the route: %v, and these limits are: %v", c.Path, changed, counts[fields.Runtime])
		}
		c.whole(t, "observe", counts, acts)
	}
}

// compare looks at what a change of the field did to the carriers.
func (c carried) compare(t *testing.T, what, effect string, before, after map[string]map[string]string) {
	t.Helper()
	var touched []string
	for _, carrier := range []string{fields.Cluster, fields.Route, fields.Runtime, fields.Listener} {
		places := differing(before[carrier], after[carrier])
		if len(places) == 0 {
			continue
		}
		touched = append(touched, carrier)
		if carrier == c.Carrier && !slices.ContainsFunc(places, func(p string) bool { return strings.Contains(p, c.At) }) {
			t.Errorf("%s: %s changed at %v, want %s", what, carrier, places, c.At)
		}
	}
	switch want := []string{c.Carrier}; {
	case c.Carrier == fields.Nothing && len(touched) == 0:
		return
	case !slices.Equal(touched, want):
		t.Errorf("%s: %v changed, want %v", what, touched, want)
	}
	if rebuilt := slices.Contains(touched, fields.Cluster); rebuilt != (effect == fields.Rebuilds) {
		t.Errorf("%s: cluster rebuilt: %v, but the field says %q", what, rebuilt, effect)
	}
}

// resources compiles policies of these sections, the least specific first; what comes out is place -> value, by carrier.
func resources(t *testing.T, protocol catalog.Protocol, specs ...map[string]any) map[string]map[string]string {
	t.Helper()
	var applied []*policy.Compiled
	for i, spec := range specs {
		applied = append(applied, policyOf(t, fmt.Sprintf("probe-%d", i), spec))
	}
	s := &catalog.Service{Metadata: manifest.Meta{Namespace: "shop", Name: "payments"}}
	s.Spec.Protocol = protocol
	c := compiled(t, s, applied)
	out := map[string]map[string]string{fields.Cluster: places(t, c.Cluster), fields.Route: places(t, c.Route), fields.Runtime: {}}
	frame, err := envoy.Target{Profile: envoy.Sidecar, Version: "1.40", Runtime: true}.Frame("127.0.0.1:15001", c.Filters...)
	if err != nil {
		t.Fatal(err)
	}
	out[fields.Listener] = places(t, frame[0])
	for _, k := range c.Limits {
		out[fields.Runtime][k.Key] = fmt.Sprint(k.Value)
	}
	for _, r := range c.Faults { // their routes hold the fault, and no part of them changes what is there without
		if r.Type == view.RDS {
			for place, value := range places(t, r) {
				out[fields.Route][r.Name+place] = value
			}
		}
	}
	return out
}

// policyOf reads a policy the way an apply does.
func policyOf(t *testing.T, name string, spec map[string]any) *policy.Compiled {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"apiVersion": manifest.APIVersion, "kind": policy.Kind, "metadata": map[string]string{"namespace": "shop", "name": name}, "spec": spec,
	})
	if err != nil {
		t.Fatal(err)
	}
	documents, faults := manifest.Decode("", text, manifest.JSON, manifest.Limits{})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	p, faults := manifest.Into[policy.Spec](documents[0])
	if faults = append(faults, policy.Validate(&p)...); len(faults) > 0 {
		t.Fatalf("%v in %s", faults, text)
	}
	return policy.Compile(&p)
}

// places are the scalars of a resource, by path without indices of lists.
func places(t *testing.T, r *view.Resource) map[string]string {
	t.Helper()
	a := new(anypb.Any)
	if err := proto.Unmarshal(r.Any(), a); err != nil {
		t.Fatal(err)
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	flat := make(map[string]string)
	flatten(flat, "", v)
	return flat
}

func flatten(into map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			into[path] += "{}; "
		}
		for name, inner := range v {
			flatten(into, path+"."+name, inner)
		}
	case []any:
		for _, inner := range v {
			flatten(into, path, inner)
		}
	default:
		into[path] += fmt.Sprint(v) + "; "
	}
}

// differing are the places at which two resources differ, sorted.
func differing(a, b map[string]string) []string {
	var list []string
	for place := range maps.Keys(a) {
		if a[place] != b[place] {
			list = append(list, place)
		}
	}
	for place := range maps.Keys(b) {
		if _, both := a[place]; !both {
			list = append(list, place)
		}
	}
	slices.Sort(list)
	return list
}
