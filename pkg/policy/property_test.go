package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/breakwater-mesh/breakwater/internal/testkit/draw"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// few draws one of a few values, or nothing.
func few[T any](t *rapid.T, name string, values ...T) *T {
	i := rapid.IntRange(-1, len(values)-1).Draw(t, name)
	if i < 0 {
		return nil
	}
	return &values[i]
}

// chance is rapid's, for package draw.
type chance struct{ *rapid.T }

func (c chance) IntN(n int) int { return rapid.IntRange(0, n-1).Draw(c.T, "n") }

// addSections gives p some sections, whatever the language has, each as long as p stays valid: what makes it invalid is taken out again.
func addSections(t *rapid.T, p *Policy) {
	for _, f := range draw.Fields("", reflect.ValueOf(&p.Spec.Sections).Elem()) {
		if !rapid.Bool().Draw(t, f.Path) {
			continue
		}
		if rapid.IntRange(0, 4).Draw(t, "off") == 0 {
			f.Value.Set(reflect.New(f.Value.Type().Elem()))
			f.Value.Elem().FieldByName("Disabled").Set(reflect.ValueOf(new(true)))
		} else {
			drawFields(t, f)
		}
		for errs := Validate(p); len(errs) > 0 && !f.Value.IsNil(); errs = Validate(p) {
			if at := strings.TrimPrefix(errs[0].Field, "spec."); !draw.Clear(reflect.ValueOf(&p.Spec.Sections).Elem(), at) {
				f.Value.SetZero()
			}
		}
		if len(Validate(p)) > 0 { // without its values the section is nothing
			f.Value.SetZero()
		}
	}
}

// drawFields gives a section some of its fields.
func drawFields(t *rapid.T, section draw.Field) {
	section.Value.Set(reflect.New(section.Value.Type().Elem()))
	for _, f := range draw.Fields(section.Path, section.Value.Elem()) {
		percent := 40
		switch {
		case strings.HasSuffix(f.Path, ".disabled"):
			continue
		case strings.HasSuffix(f.Path, ".observe"):
			percent = 25
		}
		if draw.Percent(chance{t}, percent) {
			f.Set(chance{t})
		}
	}
	if observe := section.Value.Elem().FieldByName("Observe"); observe.IsValid() && !observe.IsNil() {
		observe.Elem().SetBool(true)
	}
	if section.Value.Elem().IsZero() { // an empty one can't be written
		section.Value.SetZero()
	}
}

var (
	someNamespaces = []string{"shop", "bank", manifest.SystemNamespace}
	someNames      = []string{"orders", "payments", "email"}
	someLabels     = []map[string]string{{"tier": "inner"}, {"team": "money"}, {"tier": "inner", "team": "money"}}
)

// drawPolicies draws valid policies of different names.
func drawPolicies(t *rapid.T, most int) []*Policy {
	var list []*Policy
	for i := range rapid.IntRange(1, most).Draw(t, "policies") {
		p := &Policy{Metadata: manifest.Meta{Namespace: rapid.SampledFrom(someNamespaces).Draw(t, "namespace"), Name: fmt.Sprintf("p%d", i), Revision: int64(i)}}
		p.Spec.To = Target{Namespace: rapid.SampledFrom([]string{"", "", "shop", "bank", Every}).Draw(t, "to namespace")}
		switch rapid.IntRange(0, 2).Draw(t, "to") {
		case 0:
			p.Spec.To.Service = Every
		case 1:
			p.Spec.To.Selector = rapid.SampledFrom(someLabels).Draw(t, "to selector")
		default:
			p.Spec.To.Service = rapid.SampledFrom(someNames).Draw(t, "to service")
			switch rapid.IntRange(0, 3).Draw(t, "part") {
			case 0:
				p.Spec.To.Subset = rapid.SampledFrom([]string{"v1", "v2"}).Draw(t, "subset")
			case 1:
				p.Spec.To.Route = rapid.SampledFrom([]string{"reads", "default"}).Draw(t, "route")
			}
		}
		switch rapid.IntRange(0, 2).Draw(t, "from") {
		case 1:
			p.Spec.From = &Source{Selector: rapid.SampledFrom(someLabels).Draw(t, "from selector")}
		case 2:
			p.Spec.From = &Source{Service: rapid.SampledFrom(someNames).Draw(t, "from service")}
		}
		if p.Spec.From != nil {
			p.Spec.From.Namespace = rapid.SampledFrom([]string{"", "shop", "bank", Every}).Draw(t, "from namespace")
		}
		p.Spec.Precedence = few(t, "precedence", int32(1), -1)
		p.Spec.ExpiresAt = few(t, "expiresAt", manifest.Instant("2030-01-01T00:00:00Z"))
		if len(Validate(p)) > 0 { // reaches where it may not
			p.Spec.To.Namespace, p.Spec.From = "", nil
		}
		addSections(t, p)
		if errs := Validate(p); len(errs) > 0 {
			t.Fatalf("not a policy: %v\n%s", errs, asJSON(t, p))
		}
		list = append(list, p)
	}
	return list
}

func compileAll(policies []*Policy) []*Compiled {
	var list []*Compiled
	for _, p := range policies {
		list = append(list, Compile(p))
	}
	slices.SortFunc(list, (*Compiled).Compare)
	return list
}

func drawServices() ([]Service, []Caller) {
	var services []Service
	var callers []Caller
	for _, ns := range []string{"shop", "bank"} {
		for i, name := range someNames {
			s := Service{Key: manifest.Key{Namespace: ns, Name: name}, Protocol: []string{"http", "grpc", "http2"}[i]}
			if ns == "shop" {
				s.Labels = someLabels[i]
			}
			services, callers = append(services, s), append(callers, Caller{Key: s.Key, Labels: s.Labels})
		}
	}
	return services, callers
}

func applying(all []*Compiled, svc Service, caller Caller) []*Compiled {
	var applied []*Compiled
	for _, c := range all {
		if c.Matches(svc) && c.Applies(svc, caller) {
			applied = append(applied, c)
		}
	}
	return applied
}

func asJSON(t interface{ Fatal(...any) }, v any) string {
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestMergeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policies := drawPolicies(t, 6)
		svc := Service{Key: manifest.Key{Namespace: "shop", Name: "orders"}, Protocol: rapid.SampledFrom([]string{"http", "grpc"}).Draw(t, "protocol")}
		all := compileAll(policies)
		before := asJSON(t, policies)
		e, problems := Merge(svc, all)

		if after := asJSON(t, policies); after != before {
			t.Fatalf("the merge wrote into its policies:\n%s", cmp.Diff(before, after))
		}
		orderDoesNotMatter(t, policies, svc, e)
		sayingItTwiceChangesNothing(t, svc, all, e, len(problems) > 0)
		for _, part := range e.Every() {
			everyFieldIsSomeones(t, policies, part)
			if part.Observed != nil {
				everyFieldIsSomeones(t, policies, part.Observed)
			}
		}
		observingIsApart(t, policies, svc, e)
		whatComesOutIsValid(t, svc, e, all, problems)
		partsKeepToTheirScope(t, svc, all, e, len(problems) > 0)
		if diff := cmp.Diff(asJSON(t, withoutFields(e)), asJSON(t, Result(svc, all))); diff != "" {
			t.Fatalf("the result is not that of the merge:\n%s", diff)
		}
	})
}

// withoutFields is e as Result has it.
func withoutFields(e *Effective) *Effective {
	if e == nil {
		return nil
	}
	bare := *e
	bare.Fields, bare.Observed = nil, withoutFields(e.Observed)
	for _, parts := range []*map[string]*Effective{&bare.Subsets, &bare.Routes} {
		*parts = maps.Clone(*parts)
		for name, part := range *parts {
			(*parts)[name] = withoutFields(part)
		}
	}
	return &bare
}

// observingIsApart: what is enforced is as if nothing observed, and what is observed as if that alone were written, and enforced.
func observingIsApart(t *rapid.T, policies []*Policy, svc Service, e *Effective) {
	var acting, counting []*Policy
	for _, p := range policies {
		enforced, observed := p.Spec.Sections.apart()
		acts, counts := *p, *p
		acts.Spec.Sections, counts.Spec.Sections = enforced, observed
		from, into := reflect.ValueOf(enforced), reflect.ValueOf(&counts.Spec.Sections).Elem()
		for i := range sectionNames {
			if section := into.Field(i); !section.IsNil() {
				plain := reflect.New(section.Type().Elem())
				plain.Elem().Set(section.Elem())
				plain.Elem().FieldByName("Observe").SetZero()
				section.Set(plain)
			} else if off := from.Field(i); !off.IsNil() && isTrue(off.Elem().FieldByName("Disabled").Interface().(*bool)) {
				section.Set(off)
			}
		}
		acting, counting = append(acting, &acts), append(counting, &counts)
	}
	alone, _ := Merge(svc, compileAll(acting))
	if !sameSections(e, alone) {
		t.Fatalf("what is observed changes what is enforced:\n%s", cmp.Diff(asJSON(t, alone), asJSON(t, e)))
	}
	want, _ := Merge(svc, compileAll(counting))
	none := &Effective{}
	for i, part := range e.Every() {
		got := orElse(part.Observed, none)
		if diff := cmp.Diff(asJSON(t, want.Every()[i].Sections), asJSON(t, got.Sections)); diff != "" {
			t.Fatalf("what is observed is not what would be enforced:\n%s", diff)
		}
	}
}

func orderDoesNotMatter(t *rapid.T, policies []*Policy, svc Service, want *Effective) {
	shuffled := slices.Clone(policies)
	r := rand.New(rand.NewPCG(uint64(len(policies)), rapid.Uint64().Draw(t, "shuffle")))
	r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	got, _ := Merge(svc, compileAll(shuffled))
	if diff := cmp.Diff(asJSON(t, want), asJSON(t, got)); diff != "" {
		t.Fatalf("order matters:\n%s", diff)
	}
}

// sayingItTwiceChangesNothing repeats the last policy, and merges what came out once more.
func sayingItTwiceChangesNothing(t *rapid.T, svc Service, all []*Compiled, e *Effective, fellBack bool) {
	if len(all) > 0 && !fellBack {
		twice, _ := Merge(svc, append(slices.Clone(all), all[len(all)-1]))
		if !sameSections(e, twice) {
			t.Fatalf("applying a policy twice changes the result:\n%s", cmp.Diff(asJSON(t, e), asJSON(t, twice)))
		}
	}
	if e.CircuitBreaker != nil {
		return // what is left of it would expand again
	}
	again, problems := Merge(svc, []*Compiled{Compile(&Policy{Spec: Spec{To: Target{Service: "orders"}, Sections: e.Sections}})})
	if diff := cmp.Diff(asJSON(t, e.Sections), asJSON(t, again.Sections)); diff != "" || len(problems) > 0 {
		t.Fatalf("merging the result changes it: %v\n%s", problems, diff)
	}
}

// everyFieldIsSomeones checks presence: what nobody wrote is a default or not there, and what someone wrote says so.
func everyFieldIsSomeones(t *rapid.T, policies []*Policy, e *Effective) {
	wrote := make(map[manifest.Key]*Policy)
	for _, p := range policies {
		wrote[p.Key()] = p
	}
	on := make(map[string]bool)
	for _, f := range e.Fields {
		if f.Origin.Default {
			if f.Origin.Policy != (manifest.Key{}) || f.Value == nil {
				t.Fatalf("a default that is someone's, or nothing: %+v", f)
			}
			continue
		}
		p := wrote[f.Origin.Policy]
		if p == nil {
			if f.Value != nil {
				t.Fatalf("%s has a value, and nobody wrote it: %+v", f.Path, f)
			}
			continue
		}
		value, ok := at(reflect.ValueOf(p.Spec.Sections), f.Origin.Path)
		if !ok {
			t.Fatalf("%s is said to be written at %s, where %s has nothing", f.Path, f.Origin.Path, p.Key())
		}
		if f.Value != nil && f.Path == f.Origin.Path && !says(f.Value, shown(value)) {
			t.Fatalf("%s = %v, but its origin says %v", f.Path, f.Value, shown(value))
		}
		if f.Value != nil {
			on[f.Path] = true
		}
	}
	for i, name := range sectionNames {
		if section := reflect.ValueOf(e.Sections).Field(i); section.IsNil() {
			continue
		}
		if !slices.ContainsFunc(e.Fields, func(f Field) bool { return on[f.Path] && under(f.Path, name) }) {
			t.Fatalf("%s is on, and nobody set anything in it", name)
		}
	}
}

// says reports whether v is what was written; the items of a list may have defaults beside.
func says(v, written any) bool {
	switch w := written.(type) {
	case map[string]any:
		m, ok := v.(map[string]any)
		for name := range w {
			ok = ok && says(m[name], w[name])
		}
		return ok
	case []any:
		list, ok := v.([]any)
		return ok && slices.EqualFunc(list, w, says)
	}
	return reflect.DeepEqual(v, written)
}

// at finds what is written at a path.
func at(v reflect.Value, path string) (reflect.Value, bool) {
	if path == "" {
		return v, !isNil(v)
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return v, false
		}
		v = v.Elem()
	}
	for i := range v.NumField() {
		if name := jsonName(v.Type().Field(i)); under(path, name) {
			rest := path[len(name):]
			if rest != "" {
				rest = rest[1:]
			}
			return at(v.Field(i), rest)
		}
	}
	return v, false
}

func whatComesOutIsValid(t *rapid.T, svc Service, e *Effective, all []*Compiled, problems []Problem) {
	for _, part := range e.Every() {
		if found := part.check(); len(found) > 0 {
			t.Fatalf("the result is invalid: %v\n%s", found, asJSON(t, part))
		}
		if errs := manifest.CheckBounds(&part.Sections, "spec"); len(errs) > 0 {
			t.Fatalf("the result has values out of bounds: %v", errs)
		}
		var both faults
		if both.oneOf(&part.Sections); len(both.errs) > 0 {
			t.Fatalf("the result has what replaces each other: %v", both.errs)
		}
	}
	want := false
	for _, p := range append(partsOf(all), part{}) {
		for _, list := range [][]*Compiled{p.of(all), observing(p.of(all))} {
			again := newMerging(&svc, nil)
			for _, c := range list {
				again.lay(c)
			}
			s := again.sections()
			want = want || len(s.check()) > 0
		}
	}
	invalid := slices.ContainsFunc(problems, func(p Problem) bool { return p.Reason == InvalidMerge })
	if invalid != want {
		t.Fatalf("InvalidMerge reported: %v, want %v", invalid, want)
	}
}

func orElse(e, otherwise *Effective) *Effective {
	if e == nil {
		return otherwise
	}
	return e
}

func sameSections(a, b *Effective) bool {
	return slices.EqualFunc(a.Every(), b.Every(), func(x, y *Effective) bool { return reflect.DeepEqual(x.Sections, y.Sections) })
}

// partsKeepToTheirScope: what a policy says of a route leaves the fields of clusters as they are in the whole, and the other way round.
func partsKeepToTheirScope(t *rapid.T, svc Service, all []*Compiled, e *Effective, fellBack bool) {
	if fellBack {
		return
	}
	for _, p := range partsOf(all) {
		other, of := scopeCluster, e.Routes[p.route]
		if p.subset != "" {
			other, of = scopeRoute, e.Subsets[p.subset]
		}
		for _, f := range e.Fields {
			if f.Origin.Default || scopeOf(f.Path) != other {
				continue
			}
			i := slices.IndexFunc(of.Fields, func(o Field) bool { return o.Path == f.Path })
			if i >= 0 && f.Value == nil && of.Fields[i].Origin.Default {
				continue // the section is off in the whole, and on in the part: defaults come with it
			}
			if i < 0 || !reflect.DeepEqual(of.Fields[i].Value, f.Value) || of.Fields[i].Origin != f.Origin {
				t.Fatalf("%+v: a policy for it has changed %s, which is of scope %s", p, f.Path, other)
			}
		}
	}
}

// TestCheckAgainstEveryPair compares Check and Conflicts with what merging for every caller and service one by one says.
func TestCheckAgainstEveryPair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := compileAll(drawPolicies(t, 5))
		services, callers := drawServices()
		everyone, everything := slices.Clone(callers), slices.Clone(services)
		for _, ns := range []string{"", "shop", "bank", manifest.SystemNamespace} {
			everyone, everything = append(everyone, Caller{Key: manifest.Key{Namespace: ns}}), append(everything, Service{Key: manifest.Key{Namespace: ns}})
			for _, c := range all {
				if labels := c.Policy.Spec.To.Selector; c.toNamespace == ns || c.toNamespace == Every {
					everything = append(everything, Service{Key: manifest.Key{Namespace: ns}, Labels: labels})
				}
				if from := c.Policy.Spec.From; from != nil && (c.fromNamespace == ns || c.fromNamespace == Every) {
					named := Caller{Key: manifest.Key{Namespace: ns, Name: from.Service}, Labels: from.Selector}
					// One of the catalogue has the labels that it has there.
					if !slices.ContainsFunc(callers, func(c Caller) bool { return c.Key == named.Key }) {
						everyone = append(everyone, named)
					}
				}
			}
			for _, name := range someNames {
				if ns == "" || ns == manifest.SystemNamespace {
					everything = append(everything, Service{Key: manifest.Key{Namespace: ns, Name: name}})
				}
			}
		}
		want, wantConflicts := make(map[string]bool), make(map[string]bool)
		for _, svc := range everything {
			for _, caller := range everyone {
				applied := applying(all, svc, caller)
				_, problems := Merge(svc, applied)
				for _, p := range problems {
					if p.Reason == InvalidMerge {
						want[fmt.Sprint(p.Field, p.Loser.Policy.Key(), p.Message)] = true
					}
				}
				for i, a := range applied {
					for _, b := range applied[i+1:] {
						_, enforced := differ(a, b)
						_, observed := differ(a.observed, b.observed)
						if (enforced || observed) && a.rank == b.rank && a.part == b.part {
							wantConflicts[fmt.Sprint(a.Policy.Key(), b.Policy.Key())] = true
						}
					}
				}
			}
		}
		got, gotConflicts := make(map[string]bool), make(map[string]bool)
		for _, v := range Check(services, callers, all, nil) {
			got[fmt.Sprint(v.Field, v.Loser.Policy.Key(), v.Message)] = true
		}
		for _, c := range Conflicts(all, services, callers, nil) {
			gotConflicts[fmt.Sprint(c.A.Policy.Key(), c.B.Policy.Key())] = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("Check differs from the brute way (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(wantConflicts, gotConflicts); diff != "" {
			t.Fatalf("Conflicts differs from the brute way (-want +got):\n%s", diff)
		}
	})
}

// bigFleet is 1,000 services in ten namespaces and 500 policies of every sort.
func bigFleet() ([]Service, []Caller, []*Compiled) {
	var services []Service
	var callers []Caller
	for i := range 1000 {
		labels := map[string]string{"tier": fmt.Sprint(i % 7), "team": fmt.Sprint(i % 11)}
		s := Service{Key: manifest.Key{Namespace: fmt.Sprintf("ns%d", i%10), Name: fmt.Sprintf("svc%d", i)}, Labels: labels, Protocol: "http"}
		services, callers = append(services, s), append(callers, Caller{s.Key, labels})
	}
	var all []*Compiled
	for i := range 500 {
		p := &Policy{Metadata: manifest.Meta{Namespace: fmt.Sprintf("ns%d", i%10), Name: fmt.Sprintf("p%d", i)}}
		p.Spec.To.Service = services[i].Name
		switch {
		case i < 10:
			p.Spec.To.Service = Every
		case i < 60:
			p.Spec.To = Target{Selector: map[string]string{"tier": fmt.Sprint(i % 7)}}
		}
		switch i % 4 {
		case 1:
			p.Spec.From = &Source{Service: services[(i*10+i%10)%1000].Name}
		case 2:
			p.Spec.From = &Source{Selector: map[string]string{"team": fmt.Sprint(i % 11)}}
		}
		p.Spec.Precedence = new(int32(i))
		p.Spec.Timeout = &Timeout{Request: new(manifest.Duration("2s")), PerTry: new(manifest.Duration("1s"))}
		p.Spec.Retry = &Retry{NumRetries: new(uint32(2))}
		p.Spec.CircuitBreaker = &CircuitBreaker{FailureThreshold: new(uint32(i%9 + 1))}
		all = append(all, Compile(p))
	}
	return services, callers, all
}

func BenchmarkCheckEverything(b *testing.B) {
	services, callers, all := bigFleet()
	for b.Loop() {
		Check(services, callers, all, nil)
	}
}

func BenchmarkCheckOneWrite(b *testing.B) {
	services, callers, all := bigFleet()
	written := map[manifest.Key]bool{all[3].Policy.Key(): true}
	for b.Loop() {
		Check(services, callers, all, written)
		Conflicts(all, services, callers, written)
	}
}

func BenchmarkMerge(b *testing.B) {
	_, _, all := bigFleet()
	svc := Service{Key: manifest.Key{Namespace: "ns0", Name: "svc0"}, Protocol: "http"}
	applied := []*Compiled{all[0], all[10], all[20]}
	for b.Loop() {
		Merge(svc, applied)
	}
}
