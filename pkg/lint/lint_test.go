package lint

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// read takes manifests as an apply would. Hosts are the static endpoints.
func read(t testing.TB, text string) Input {
	t.Helper()
	in, faults := parse(text)
	if len(faults) > 0 {
		t.Fatalf("%v in\n%s", faults, text)
	}
	return in
}

// written is when all policies of the tests were.
var written = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func parse(text string) (Input, manifest.FieldErrors) {
	var in Input
	documents, faults := manifest.Decode("", []byte(text), manifest.YAML, manifest.Limits{})
	for _, d := range documents {
		switch d.Kind {
		case policy.Kind:
			p, found := manifest.Into[policy.Spec](d)
			faults = append(append(faults, found...), policy.Validate(&p)...)
			p.Metadata.UpdatedAt = &written
			in.Policies = append(in.Policies, policy.Compile(&p))
		case policy.GuardrailKind:
			g, found := manifest.Into[policy.GuardrailSpec](d)
			faults = append(append(faults, found...), policy.ValidateGuardrail(&g)...)
			in.Policies = append(in.Policies, policy.CompileGuardrail(&g))
		case catalog.Kind:
			s, found := manifest.Into[catalog.ServiceSpec](d)
			faults = append(append(faults, found...), catalog.Validate(&s)...)
			in.Services = append(in.Services, ServiceOf(&s, nil))
		}
	}
	return in, faults
}

func codes(list []Finding) []string {
	var found []string
	for _, f := range list {
		found = append(found, f.Code)
	}
	return found
}

func find(t *testing.T, list []Finding, code string) Finding {
	t.Helper()
	i := slices.IndexFunc(list, func(f Finding) bool { return f.Code == code })
	if i < 0 {
		t.Fatalf("%s was not found among %v", code, codes(list))
	}
	return list[i]
}

func services(edges string) string {
	text := ""
	for _, s := range slices.Sorted(slices.Values([]string{"edge", "orders", "payments", "billing", "email"})) {
		text += fmt.Sprintf("apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: %s}\nspec: {dependsOn: %s}\n---\n", s, map[string]string{
			"edge": "[orders]", "orders": "[payments]", "payments": "[billing]", "billing": "[email]", "email": "[" + edges + "]",
		}[s])
	}
	return text
}

func policyText(name, annotations, spec string) string {
	return fmt.Sprintf("apiVersion: breakwater/v1alpha1\nkind: Policy\nmetadata: {namespace: shop, name: %s, annotations: {%s}}\nspec: {%s}\n---\n", name, annotations, spec)
}

func TestAPathIsNamedHopByHopWithItsFactor(t *testing.T) {
	naive := policyText("naive", "", `to: {service: "*"}, retry: {numRetries: 2, retryOn: [5xx]}`)
	f := find(t, Run(read(t, services("")+naive)), AttemptsMultiply)
	want := []string{"shop/edge", "shop/orders x3", "shop/payments x3", "shop/billing x3", "shop/email x3"}
	if !slices.Equal(f.Calls, want) || f.Severity != Warning {
		t.Errorf("%s along %v, want a warning along %v", f.Severity, f.Calls, want)
	}
	if got := "one call at the start of shop/edge -> shop/orders x3 -> shop/payments x3 -> shop/billing x3 -> shop/email x3 becomes up to 81 tries at its end"; f.Why != got {
		t.Errorf("why is %q, want %q", f.Why, got)
	}
}

func TestACircleOfCallsEnds(t *testing.T) {
	naive := policyText("naive", "", `to: {service: "*"}, retry: {numRetries: 2, retryOn: [5xx]}`)
	in := read(t, services("orders")+naive)
	f := find(t, Run(in), AttemptsMultiply)
	if len(f.Calls) != 5 {
		t.Errorf("the path is %v, want one from edge to email without going around", f.Calls)
	}
}

func TestOneFaultOfOnePolicyIsToldOnce(t *testing.T) {
	unsafe := policyText("all", "", `to: {service: "*"}, retry: {methods: all, retryOn: [5xx]}`)
	list := Run(read(t, services("")+unsafe))
	n := 0
	for _, f := range list {
		if f.Code == RetryUnsafe {
			n++
			if f.More != 4 {
				t.Errorf("said of %d services more, want 4", f.More)
			}
		}
	}
	if n != 1 {
		t.Errorf("told %d times, want once", n)
	}
}

func TestAnAuthorAcceptsAFinding(t *testing.T) {
	meant := policyText("all", `breakwater.lint/accept: "panic-undoes-ejection, retry-unsafe-methods"`, `to: {service: "*"}, retry: {methods: all, retryOn: [5xx]}`)
	if f := find(t, Run(read(t, services("")+meant)), RetryUnsafe); f.Severity != Info || !f.Accepted {
		t.Errorf("the finding is %s, accepted: %v; want an accepted info", f.Severity, f.Accepted)
	}
}

func TestADeadlineKeepsTheInnerCallWithinTheOuter(t *testing.T) {
	outer := policyText("outer", "", `to: {service: payments}, timeout: {request: 500ms, deadline: {keepPercent: 90}}`)
	for inner, want := range map[string]bool{"timeout: {request: 1s}": true, "timeout: {request: 1s, deadline: {keepPercent: 90}}": false} {
		list := Run(read(t, services("")+outer+policyText("inner", "", "to: {service: billing}, "+inner)))
		if got := slices.Contains(codes(list), OuterTryEndsFirst); got != want {
			t.Errorf("%s under a try of 500ms: found: %v, want %v", inner, got, want)
		}
	}
}

func TestAStallThatUsesUpTheRequestNeverFallsBack(t *testing.T) {
	for retries, want := range map[int]bool{1: false, 2: true} {
		spec := fmt.Sprintf(`to: {service: email}, timeout: {request: 400ms, perTry: 150ms}, retry: {numRetries: %d}, fallback: {service: orders}`, retries)
		if got := slices.Contains(codes(Run(read(t, services("")+policyText("queue", "", spec)))), StallNeverFallsBack); got != want {
			t.Errorf("with %d retries of 150ms in 400ms: found: %v, want %v", retries, got, want)
		}
	}
}

func TestWithoutPoliciesThereIsNothingToFind(t *testing.T) {
	if list := Run(read(t, services(""))); len(list) > 0 {
		t.Errorf("found %v", list)
	}
	if list := Run(Input{}); len(list) > 0 {
		t.Errorf("found %v in nothing", list)
	}
}

// corpus is a catalogue with policies of every sort: chains, fans, selectors, consumers.
func corpus(t testing.TB, services, policies int, r *rand.Rand) Input {
	var in Input
	name := func(i int) string { return fmt.Sprintf("s%d", i) }
	namespace := func(i int) string { return fmt.Sprintf("n%d", i%10) }
	for i := range services {
		s := &catalog.Service{Metadata: manifest.Meta{Namespace: namespace(i), Name: name(i), Labels: map[string]string{"tier": fmt.Sprint(i % 3)}}}
		deps := []string{}
		for range r.IntN(6) {
			if to := r.IntN(services); to > i {
				deps = append(deps, namespace(to)+"/"+name(to))
			}
		}
		s.Spec.DependsOn = &deps
		in.Services = append(in.Services, Service{Service: s, Hosts: r.IntN(20)})
	}
	specs := []string{
		`to: {service: "*"}, retry: {numRetries: 2, retryOn: [5xx], methods: all}`,
		`to: {service: %s}, from: {selector: {tier: "1"}}, timeout: {request: 1s, perTry: 900ms}, bulkhead: {maxConcurrent: 20}`,
		`to: {service: %s}, timeout: {request: 2s}, retry: {numRetries: 4, retryOn: [gateway-error]}, circuitBreaker: {failureThreshold: 5}`,
		`to: {selector: {tier: "2"}}, outlierDetection: {consecutive5xx: 5, maxEjectionPercent: 10}`,
		`to: {service: %s}, limits: {maxRequests: 100}, outlierDetection: {successRate: {minimumHosts: 5}, maxEjectionPercent: 80}`,
	}
	for i := range policies {
		spec := specs[i%len(specs)]
		to := r.IntN(services)
		for to%10 != i%10 {
			to = r.IntN(services)
		}
		if i%len(specs) == 0 && i >= 10 || i%len(specs) == 3 && i >= 20 {
			spec = specs[1]
		}
		if slices.Contains([]byte(spec), '%') {
			spec = fmt.Sprintf(spec, name(to))
		}
		text := fmt.Sprintf("apiVersion: breakwater/v1alpha1\nkind: Policy\nmetadata: {namespace: %s, name: p%d}\nspec: {%s}\n", namespace(i), i, spec)
		in.Policies = append(in.Policies, read(t, text).Policies...)
	}
	return in
}

func TestTheOrderOfTheInputCountsForNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	in := corpus(t, 120, 60, r)
	want := Run(in)
	if len(want) < 20 {
		t.Fatalf("only %d findings: the corpus shows nothing", len(want))
	}
	for range 5 {
		r.Shuffle(len(in.Policies), func(i, j int) { in.Policies[i], in.Policies[j] = in.Policies[j], in.Policies[i] })
		r.Shuffle(len(in.Services), func(i, j int) { in.Services[i], in.Services[j] = in.Services[j], in.Services[i] })
		got := Run(in)
		if !reflect.DeepEqual(got, want) {
			for i := range min(len(got), len(want)) {
				if !reflect.DeepEqual(got[i], want[i]) {
					t.Fatalf("shuffled: got %+v, want %+v", got[i], want[i])
				}
			}
			t.Fatalf("shuffled: %d findings, want %d", len(got), len(want))
		}
	}
}

func BenchmarkThousandServices(b *testing.B) {
	in := corpus(b, 1000, 500, rand.New(rand.NewPCG(1, 2)))
	b.ResetTimer()
	for range b.N {
		Run(in)
	}
}
