package lint

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// town is an input that changes at random.
type town struct {
	services map[string]Service
	policies map[string]*policy.Compiled
}

var (
	townNames  = []string{"a", "b", "c", "d", "e"}
	townSpaces = []string{"k", "k", "m"}
)

func (w *town) input() Input {
	var in Input
	for _, name := range slices.Sorted(maps.Keys(w.services)) {
		in.Services = append(in.Services, w.services[name])
	}
	for _, name := range slices.Sorted(maps.Keys(w.policies)) {
		in.Policies = append(in.Policies, w.policies[name])
	}
	return in
}

// change does one thing to the town.
func (w *town) change(t *rapid.T) {
	pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	ns, name := pick("namespace", townSpaces...), pick("name", townNames...)
	switch pick("what", "policy", "policy", "policy", "service", "service", "service", "hosts", "drop policy", "drop service", "same") {
	case "policy":
		p := drawPolicy(t, ns, pick("policy", townNames...))
		w.policies[nameOf(p).String()] = p
	case "service":
		w.services[ns+"/"+name] = drawService(t, ns, name)
	case "hosts":
		if s, ok := w.services[ns+"/"+name]; ok {
			s.Hosts = rapid.IntRange(0, 12).Draw(t, "hosts")
			w.services[ns+"/"+name] = s
		}
	case "drop policy":
		for _, id := range slices.Sorted(maps.Keys(w.policies)) {
			if strings.HasSuffix(id, name) {
				delete(w.policies, id)
				break
			}
		}
	case "drop service":
		delete(w.services, ns+"/"+name)
	case "same": // as the store gives it again after a write
		for id, p := range w.policies {
			if p.Guardrail == nil {
				again := *p.Policy
				again.Metadata.Revision++
				w.policies[id] = policy.Compile(&again)
			}
		}
	}
}

func (n name) String() string { return fmt.Sprint(n.guardrail, n.key) }

func drawService(t *rapid.T, ns, name string) Service {
	pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	other := func() string { return pick("space", townSpaces...) + "/" + pick("other", townNames...) }
	next := townNames[(slices.Index(townNames, name)+1)%len(townNames)] // most often there is a path
	spec := "port: 80, subsets: {v2: {version: v2}}"
	if rapid.IntRange(0, 4).Draw(t, "says") > 0 {
		deps := []string{ns + "/" + next}
		for range rapid.IntRange(0, 2).Draw(t, "deps") {
			if dep := other(); dep != ns+"/"+name && !slices.Contains(deps, dep) {
				deps = append(deps, dep)
			}
		}
		spec += ", dependsOn: [" + strings.Join(deps, ", ") + "]"
	}
	spec += pick("routes", "", "", ", routes: [{name: r, match: {path: {prefix: /r}}}]",
		", routes: [{name: r, match: {path: {prefix: /r}}, backends: [{weight: 1}, {subset: v2}]}]",
		", routes: [{name: r, match: {path: {prefix: /r}}, backends: [{service: "+other()+"}]}, {name: s}]")
	text := fmt.Sprintf("apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: %s, name: %s, labels: {tier: %s}}\nspec: {%s}\n", ns, name, pick("tier", "one", "two"), spec)
	in, faults := parse(text)
	if len(faults) > 0 {
		t.Fatalf("%v in %s", faults, text)
	}
	s := in.Services[0]
	s.Hosts = rapid.IntRange(0, 12).Draw(t, "hosts")
	s.Subsets = map[string]int{"v2": rapid.IntRange(0, 3).Draw(t, "of v2")}
	return s
}

func drawPolicy(t *rapid.T, ns, name string) *policy.Compiled {
	pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	to := pick("to", "service: "+pick("callee", townNames...), `service: "*"`, `service: "*"`, "selector: {tier: one}",
		"service: "+pick("callee", townNames...)+", route: "+pick("route", "r", "s", "default"), "service: "+pick("callee", townNames...)+", subset: v2")
	from := pick("from", "", "", "from: {service: "+pick("caller", townNames...)+"}, ", "from: {selector: {tier: two}}, ")
	spare := pick("spare", townNames...)
	if to == "service: "+spare {
		spare = "f" // a service does not fall back to itself
	}
	route := []string{
		"retry: {numRetries: 2, retryOn: [5xx], methods: all}", "timeout: {request: 1s, perTry: 900ms}, retry: {numRetries: 3, retryOn: [gateway-error]}",
		"timeout: {request: 2s, deadline: {keepPercent: 90}}", "timeout: {request: 700ms}", "timeout: {request: 500ms}, fallback: {service: " + spare + "}",
	}
	cluster := []string{"circuitBreaker: {failureThreshold: 5}", "outlierDetection: {consecutive5xx: 5, maxEjectionPercent: 10}",
		"outlierDetection: {successRate: {minimumHosts: 5}, maxEjectionPercent: 80}", "limits: {maxRequests: " + pick("limit", "0", "10", "100") + "}"}
	var sections string
	switch {
	case strings.Contains(to, "route:"):
		sections = pick("sections", route...)
	case strings.Contains(to, "subset:"):
		sections = pick("sections", cluster...)
	default:
		sections = pick("sections", route...) + ", " + pick("more", cluster...)
	}
	kind := pick("kind", "Policy", "Policy", "Policy", "Policy", "Policy", "Guardrail")
	if strings.Contains(to, "route:") || strings.Contains(to, "subset:") {
		kind = "Policy"
	}
	if kind == "Guardrail" {
		sections = "bounds: [{field: limits.maxRequests, max: 50}]"
	}
	annotations := pick("annotations", "", "", "breakwater.lint/accept: retry-unsafe-methods")
	text := fmt.Sprintf("apiVersion: breakwater/v1alpha1\nkind: %s\nmetadata: {namespace: %s, name: %s, annotations: {%s}}\nspec: {to: {%s}, %s%s}\n", kind, ns, name, annotations, to, from, sections)
	in, faults := parse(text)
	if len(faults) > 0 {
		t.Fatalf("%v in %s", faults, text)
	}
	return in.Policies[0]
}

// TestALookAtWhatDiffersFindsWhatALookAtAllFinds changes a small town one thing or several at a time: a linter that has seen it before finds
// what a new one finds.
func TestALookAtWhatDiffersFindsWhatALookAtAllFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &town{make(map[string]Service), make(map[string]*policy.Compiled)}
		l := New()
		for range rapid.IntRange(1, 30).Draw(t, "turns") {
			for range rapid.IntRange(1, 4).Draw(t, "changes") {
				w.change(t)
			}
			before := make(map[identity]Severity)
			for _, f := range l.All() {
				before[identity{f.Code, f.Kind, f.Path, f.Object}] = f.Severity
			}
			news, want := l.Look(w.input()), Run(w.input())
			if got := l.All(); !reflect.DeepEqual(got, want) {
				t.Fatalf("all: %s", differing(got, want))
			}
			want = slices.DeleteFunc(want, func(f Finding) bool { return before[identity{f.Code, f.Kind, f.Path, f.Object}] == f.Severity })
			if !reflect.DeepEqual(news, want) {
				t.Fatalf("news: %s", differing(news, want))
			}
		}
		l.Look(Input{})
		if g := l.graph; len(g.nodes)+len(g.byKey)+len(g.entries)+len(g.order)+len(g.merges)+len(g.users)+len(g.samples)+len(l.told) > 0 {
			t.Errorf("of nothing it keeps %d services, %d policies, %d merges, %d users", len(g.nodes), len(g.order), len(g.merges), len(g.users))
		}
	})
}

func differing(got, want []Finding) string {
	for i := range min(len(got), len(want)) {
		if !reflect.DeepEqual(got[i], want[i]) {
			return fmt.Sprintf("got\n%+v, want\n%+v", got[i], want[i])
		}
	}
	return fmt.Sprintf("%d findings, want %d: %v and %v", len(got), len(want), codes(got), codes(want))
}

// BenchmarkOnePolicyOfMany is the cost of a look after one policy of 500 for 1,000 services has changed.
func BenchmarkOnePolicyOfMany(b *testing.B) {
	in := corpus(b, 1000, 500, rand.New(rand.NewPCG(1, 2)))
	for _, what := range []string{"service", "selector", "every"} {
		i := slices.IndexFunc(in.Policies, func(p *policy.Compiled) bool {
			to := p.Policy.Spec.To
			return map[string]bool{"service": to.Service != "" && to.Service != policy.Every && p.Policy.Spec.From == nil, "selector": p.Policy.Spec.From != nil, "every": to.Service == policy.Every}[what]
		})
		old := in.Policies[i]
		edited := *old.Policy
		request := manifest.DurationOf(3e9)
		edited.Spec.Timeout = &policy.Timeout{Request: &request}
		versions := []*policy.Compiled{policy.Compile(&edited), old}
		b.Run(what, func(b *testing.B) {
			l := New()
			l.Look(in)
			for n := range b.N {
				in.Policies[i] = versions[n%2]
				l.Look(in)
			}
		})
		in.Policies[i] = old
	}
}

// BenchmarkOneServiceOfMany is the cost of a look after one service of 1,000 has changed: its endpoints, or whether it says whom it calls.
func BenchmarkOneServiceOfMany(b *testing.B) {
	for _, what := range []string{"endpoints", "silent"} {
		b.Run(what, func(b *testing.B) {
			in := corpus(b, 1000, 500, rand.New(rand.NewPCG(1, 2)))
			old := in.Services[10]
			edited := *old.Service
			if edited.Spec.Port = new(uint32(81)); what == "silent" {
				edited.Spec.DependsOn = nil
			}
			versions := []Service{{Service: &edited, Hosts: old.Hosts + 1}, old}
			l := New()
			l.Look(in)
			b.ResetTimer()
			for n := range b.N {
				in.Services[10] = versions[n%2]
				l.Look(in)
			}
		})
	}
}
