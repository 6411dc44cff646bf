package world

import (
	"fmt"
	"slices"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

var twoSubsets = map[string]map[string]string{"v1": {"version": "v1"}, "v2": {"version": "v2"}}

// step moves b on by c, and lists what that changed in a class.
func step(b *Builder, class *Class, rev int64, c Changes) []string {
	before := class.Head()
	b.Update(b.World().With(rev, c), c)
	var changed []string
	for typ := range view.NumTypes {
		view.Diff(before.Views[typ], class.Head().Views[typ], func(old, now *view.Resource) {
			switch {
			case now == nil:
				changed = append(changed, fmt.Sprintf("-%v %s", typ, old.Name))
			case old == nil:
				changed = append(changed, fmt.Sprintf("+%v %s", typ, now.Name))
			default:
				changed = append(changed, fmt.Sprintf("%v %s", typ, now.Name))
			}
		})
	}
	slices.Sort(changed)
	return changed
}

// A backend of another service reaches the proxies, its clusters alone: its hosts lead nowhere, since nobody said that they are called.
func TestBackendsReachTheProxy(t *testing.T) {
	canary := []catalog.Route{{Name: "canary", Backends: []catalog.Backend{{Service: "mail/queue", Subset: "v2"}, {Service: "gone"}}}}
	w, c := newWorld(
		service(key("shop", "orders"), func(s *catalog.Service) { s.Spec.DependsOn = &[]string{"payments"} }),
		service(key("shop", "payments"), func(s *catalog.Service) { s.Spec.Routes = canary }),
		service(key("mail", "queue"), func(s *catalog.Service) { s.Spec.Subsets = twoSubsets }),
	)
	b := NewBuilder()
	b.Update(w, c)
	class := b.Join(orders())
	for typ, want := range map[view.Type][]string{
		view.CDS:  {"mail/queue", "mail/queue|v1", "mail/queue|v2", "shop/payments"},
		view.EDS:  {"mail/queue", "mail/queue|v1", "mail/queue|v2", "shop/payments"},
		view.SRDS: {"payments", "payments.shop"},
		view.RDS:  {"shop/payments"},
	} {
		if got := names(class.Head().Views[typ]); !slices.Equal(got, want) {
			t.Errorf("%v = %q, want %q", typ, got, want)
		}
	}
	route := class.Head().Views[view.RDS].Get("shop/payments")
	if want := []view.ID{{Type: view.CDS, Name: "mail/queue|v2"}, {Type: view.CDS, Name: "shop/payments"}}; !slices.Equal(route.Needs, want) {
		t.Errorf("the routes need %v, want %v: what does not exist takes no calls", route.Needs, want)
	}

	got := step(b, class, 2, Changes{Services: map[manifest.Key]*catalog.Service{key("mail", "queue"): nil}})
	want := []string{"-CDS mail/queue", "-CDS mail/queue|v1", "-CDS mail/queue|v2", "-EDS mail/queue", "-EDS mail/queue|v1", "-EDS mail/queue|v2", "RDS shop/payments"}
	// The budget that holds for whatever retries there goes with it.
	got = slices.DeleteFunc(got, func(s string) bool { return s[:4] == "RTDS" })
	if !slices.Equal(got, want) {
		t.Errorf("without the backend %q changed, want %q", got, want)
	}
}

func TestEditOfAPartTouchesOnlyIt(t *testing.T) {
	payments := service(key("shop", "payments"), func(s *catalog.Service) {
		s.Spec.Subsets = twoSubsets
		s.Spec.Routes = []catalog.Route{{Name: "canary", Match: &catalog.RouteMatch{Methods: []string{"GET"}}, Backends: []catalog.Backend{{Subset: "v2"}}}}
	})
	w, c := newWorld(service(key("shop", "orders")), payments)
	b := NewBuilder()
	b.Update(w, c)
	class := b.Join(orders())
	write := func(rev int64, to policy.Target, s policy.Sections) []string {
		k := key("shop", fmt.Sprint("p", rev))
		to.Service = "payments"
		return step(b, class, rev, Changes{Policies: map[manifest.Key]*policy.Compiled{k: compiled(t, k, policy.Spec{To: to, Sections: s})}})
	}
	breaker := policy.Sections{CircuitBreaker: &policy.CircuitBreaker{FailureThreshold: ptr(uint32(3))}}
	timeout := policy.Sections{Timeout: &policy.Timeout{Request: ptr(manifest.Duration("1s"))}}
	limits := policy.Sections{Limits: &policy.Limits{MaxRequests: ptr(manifest.Count(1))}}
	for i, tt := range []struct {
		to   policy.Target
		s    policy.Sections
		want string
	}{
		{policy.Target{Subset: "v2"}, breaker, "[CDS shop/payments|v2]"},
		{policy.Target{Route: "canary"}, timeout, "[RDS shop/payments]"},
		{policy.Target{Subset: "v1"}, limits, "[RTDS limits-1]"},
		{policy.Target{Subset: "v9"}, limits, "[]"},
	} {
		if got := fmt.Sprint(write(int64(i+2), tt.to, tt.s)); got != tt.want {
			t.Errorf("%+v: %s changed, want %s", tt.to, got, tt.want)
		}
	}
	shaped := b.Shaped(policy.Kind, key("shop", "p2"))[class]
	if !slices.Contains(shaped, view.ID{Type: view.CDS, Name: "shop/payments|v2"}) {
		t.Errorf("the policy for v2 shapes %v, want its cluster among them", shaped)
	}

	without := *payments
	without.Spec.Subsets = map[string]map[string]string{"v2": {"version": "v2"}}
	got := step(b, class, 9, Changes{Services: map[manifest.Key]*catalog.Service{key("shop", "payments"): &without}})
	if want := []string{"-CDS shop/payments|v1", "-EDS shop/payments|v1", "RTDS limits-1"}; !slices.Equal(got, want) {
		t.Errorf("without a subset %q changed, want %q", got, want)
	}
}

// Proxies get a listener for each tcp service, no routes and no scopes; of two with one port the first by name has it.
func TestTCPServices(t *testing.T) {
	tcp := func(name string, port uint32) *catalog.Service {
		return service(key("shop", name), func(s *catalog.Service) { s.Spec.Protocol, s.Spec.LocalPort = catalog.TCP, &port })
	}
	w, c := newWorld(service(key("shop", "orders")), tcp("db", 5432), tcp("other", 5432), tcp("own", 15001), tcp("queue", 5672))
	b := NewBuilder()
	b.Update(w, c)
	class := b.Join(orders())
	listeners := func(want ...string) {
		t.Helper()
		if got := names(class.Head().Views[view.LDS]); !slices.Equal(got, want) {
			t.Errorf("listeners %q, want %q", got, want)
		}
	}
	listeners("outbound", "shop/db", "shop/queue")
	if got, want := names(class.Head().Views[view.SRDS]), []string{"orders", "orders.shop"}; !slices.Equal(got, want) {
		t.Errorf("scopes %q, want %q", got, want)
	}
	for _, name := range []string{"other", "own"} {
		if b.Problems()[key("shop", name)] == nil {
			t.Errorf("shop/%s has no problem, and no listener", name)
		}
	}
	step(b, class, 2, Changes{Services: map[manifest.Key]*catalog.Service{key("shop", "db"): nil}})
	listeners("outbound", "shop/other", "shop/queue")
	if err := b.Problems()[key("shop", "other")]; err != nil {
		t.Errorf("the one with the port to itself has a problem: %v", err)
	}
	step(b, class, 3, Changes{Services: map[manifest.Key]*catalog.Service{key("shop", "queue"): service(key("shop", "queue"))}})
	listeners("outbound", "shop/other")
}

// A guardrail shapes what it applies to; a policy of its name is another matter.
func TestAGuardrailShapes(t *testing.T) {
	w, c := newWorld(service(key("shop", "orders")), service(key("shop", "payments")))
	guard := &policy.Guardrail{APIVersion: manifest.APIVersion, Kind: policy.GuardrailKind, Metadata: manifest.Meta{Namespace: "shop", Name: "guard"}}
	guard.Spec.To.Service = "payments"
	guard.Spec.Bounds = []policy.Bound{{Field: "limits.maxRequests", Max: ptr(policy.Bar("50"))}}
	if faults := policy.ValidateGuardrail(guard); len(faults) > 0 {
		t.Fatal(faults)
	}
	c.Guardrails = map[manifest.Key]*policy.Compiled{guard.Key(): policy.CompileGuardrail(guard)}
	w = w.With(2, c)
	b := NewBuilder()
	b.Update(w, c)
	class := b.Join(orders())
	shaped := b.Shaped(policy.GuardrailKind, guard.Key())[class]
	if !slices.Contains(shaped, view.ID{Type: view.CDS, Name: "shop/payments"}) || slices.Contains(shaped, view.ID{Type: view.CDS, Name: "shop/orders"}) {
		t.Errorf("the guardrail shapes %v, want what is of payments alone", shaped)
	}
	if shaped := b.Shaped(policy.Kind, guard.Key()); len(shaped) > 0 {
		t.Errorf("a policy of that name shapes %v, and there is none", shaped)
	}
}
