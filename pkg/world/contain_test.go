package world

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// past is a history: the generations of policies by kind and name, in order.
type past map[string][]*policy.Compiled

func (h past) before(kind string, key manifest.Key, generation int64) ([]*policy.Compiled, error) {
	var list []*policy.Compiled
	for _, p := range slices.Backward(h[kind+" "+key.String()]) {
		if p.Policy.Metadata.Generation < generation {
			list = append(list, p)
		}
	}
	return list, nil
}

// town is a world with a history, and replicas that follow it.
type town struct {
	t        *testing.T
	world    *World
	past     past
	replicas []*Builder
}

func newTown(t *testing.T, services ...*catalog.Service) *town {
	w, c := newWorld(services...)
	town := &town{t: t, world: w, past: past{}}
	b := town.replica()
	b.Update(w, c)
	return town
}

func (w *town) replica() *Builder {
	b := NewBuilder()
	b.Past = w.past.before
	w.replicas = append(w.replicas, b)
	return b
}

// write makes spec the next generation of a policy of shop, valid or not.
func (w *town) write(name string, spec policy.Spec) {
	k, id := key("shop", name), policy.Kind+" shop/"+name
	meta := manifest.Meta{Namespace: "shop", Name: name, Generation: int64(len(w.past[id]) + 1), Revision: w.world.Rev + 1}
	p := policy.Compile(&policy.Policy{APIVersion: manifest.APIVersion, Kind: policy.Kind, Metadata: meta, Spec: spec})
	w.past[id] = append(w.past[id], p)
	w.step(Changes{Policies: map[manifest.Key]*policy.Compiled{k: p}})
}

func (w *town) step(c Changes) {
	w.world = w.world.With(w.world.Rev+1, c)
	for _, b := range w.replicas {
		b.Update(w.world, c)
	}
}

// cold is a replica that starts now.
func (w *town) cold() *Builder {
	b := w.replica()
	c := Changes{Services: w.world.services, Policies: keyed(w.world.policies), Guardrails: keyed(w.world.guardrails), Hosts: map[string]*manifest.Key{}}
	for host, owner := range w.world.hosts {
		c.Hosts[host] = &owner
	}
	b.Update(w.world, c)
	return b
}

// versions are what a class holds.
func versions(c *Class) string {
	var list []string
	for typ := range view.NumTypes {
		for r := range c.Head().Views[typ].All() {
			list = append(list, fmt.Sprint(r.ID(), " ", r.Version))
		}
	}
	return strings.Join(list, "\n")
}

func quarantined(b *Builder) string { return told(b.Quarantined()) }

func told(all []Quarantined) string {
	var list []string
	for _, q := range all {
		list = append(list, fmt.Sprintf("%s %s %d->%d of %s", q.Kind, q.Key, q.Generation, q.InForce, q.Service))
	}
	return strings.Join(list, ", ")
}

func timeout(to, request string) policy.Spec {
	return policy.Spec{To: policy.Target{Service: to}, Sections: policy.Sections{Timeout: &policy.Timeout{Request: ptr(manifest.Duration(request))}}}
}

// noText can't be said in a resource. Validation keeps it out; the control plane's own mistakes would look like this.
var noText = ptr("\xff")

// poisons are policies with which a build fails, by how it does.
var poisons = map[string]func(to string) policy.Spec{
	"error": func(to string) policy.Spec {
		return policy.Spec{To: policy.Target{Service: to}, Sections: policy.Sections{
			LoadBalancing: &policy.LoadBalancing{Algorithm: ptr("ring-hash"), HashOn: []policy.HashKey{{Header: noText}}},
		}}
	},
	"panic": func(to string) policy.Spec {
		return policy.Spec{To: policy.Target{Service: to}, Sections: policy.Sections{Fallback: &policy.Fallback{Response: &policy.FallbackResponse{Body: noText}}}}
	},
}

// each runs a test for a build that fails and for one that panics.
func each(t *testing.T, test func(t *testing.T, poison func(to string) policy.Spec)) {
	for how, poison := range poisons {
		t.Run(how, func(t *testing.T) { test(t, poison) })
	}
}

// shop is a town of three services with a policy before and one after the policy p, of which generation 1 holds; and p's generations are specs.
func shop(t *testing.T, specs ...policy.Spec) (*town, *Class) {
	w := newTown(t, service(key("shop", "orders")), service(key("shop", "payments")), service(key("shop", "email")))
	class := w.replicas[0].Join(orders())
	w.write("before", policy.Spec{To: policy.Target{Service: policy.Every}, Sections: policy.Sections{Limits: &policy.Limits{MaxRequests: ptr(manifest.Count(9))}}})
	for i, spec := range specs {
		if i == 1 {
			w.write("after", policy.Spec{To: policy.Target{Service: policy.Every}, Sections: policy.Sections{Retry: &policy.Retry{NumRetries: ptr(uint32(3))}}})
		}
		w.write("p", spec)
	}
	return w, class
}

// hold fails the test unless what class holds is what it would hold if the generations of p were specs.
func hold(t *testing.T, what string, class *Class, specs ...policy.Spec) {
	t.Helper()
	w, _ := shop(t, specs...)
	if want := w.replicas[0].Join(class.Key); versions(class) != versions(want) {
		t.Errorf("%s holds\n%s\nwant\n%s", what, versions(class), versions(want))
	}
}

func (w *town) want(quarantine string) {
	w.t.Helper()
	for i, b := range w.replicas {
		if got := quarantined(b); got != quarantine || len(b.Problems()) > 0 {
			w.t.Errorf("replica %d has quarantined %q, problems %v; want %q", i, got, b.Problems(), quarantine)
		}
	}
}

// What can't be built with an edit is built with the policy as it was, also by a replica that starts then; all else is as it should be.
func TestPolicyThatCannotBeBuiltIsAsBefore(t *testing.T) {
	each(t, func(t *testing.T, poison func(string) policy.Spec) {
		good, bad := timeout("payments", "1s"), poison("payments")
		w, class := shop(t, good, bad)
		w.want("Policy shop/p 2->1 of shop/payments")
		hold(t, "a replica that saw both", class, good, good)
		hold(t, "a replica that starts", w.cold().Join(orders()), good, good)
		w.write("p", bad)
		w.want("Policy shop/p 3->1 of shop/payments")
		hold(t, "after a second edit like it, a replica that starts", w.cold().Join(orders()), good, good)
		w.write("before", timeout("email", "3s"))
		w.write("before", policy.Spec{To: policy.Target{Service: policy.Every}, Sections: policy.Sections{Limits: &policy.Limits{MaxRequests: ptr(manifest.Count(9))}}})
		hold(t, "after edits of another one, a replica that saw all", class, good, good)
		w.write("p", timeout("payments", "7s"))
		w.want("")
		hold(t, "after a good edit, a replica that saw all", class, good, timeout("payments", "7s"))
		w.write("p", bad)
		w.step(Changes{Policies: map[manifest.Key]*policy.Compiled{key("shop", "p"): nil}})
		w.want("")
	})
}

// One that could never be built is left out, and the services that it does not cover never hear of it.
func TestPolicyThatCouldNeverBeBuiltIsLeftOut(t *testing.T) {
	each(t, func(t *testing.T, poison func(string) policy.Spec) {
		w, class := shop(t, poison("payments"))
		w.want("Policy shop/p 1->0 of shop/payments")
		nothing := timeout("nobody", "1s")
		hold(t, "a replica that saw it", class, nothing)
		hold(t, "a replica that starts", w.cold().Join(orders()), nothing)
	})
}

func TestTwoPoliciesThatCannotBeBuilt(t *testing.T) {
	w, class := shop(t, timeout("payments", "1s"))
	w.write("q", poisons["panic"]("payments"))
	w.write("p", poisons["error"](policy.Every))
	w.want("Policy shop/p 2->1 of shop/email, Policy shop/p 2->1 of shop/orders, Policy shop/p 2->1 of shop/payments, Policy shop/q 1->0 of shop/payments")
	hold(t, "a replica", class, timeout("payments", "1s"))
	if a, b := versions(class), versions(w.cold().Join(orders())); a != b {
		t.Errorf("a replica that saw it holds\n%s\none that starts\n%s", a, b)
	}
}

// The earlier generation holds where it did: for its callers, of its services.
func TestEarlierGenerationHoldsForItsOwnCallers(t *testing.T) {
	each(t, func(t *testing.T, poison func(string) policy.Spec) {
		good := timeout("payments", "1s")
		good.From = &policy.Source{Service: "orders"}
		w, class := shop(t, good, poison("payments"))
		edge := orders()
		edge.Service = "edge"
		hold(t, "the caller named", class, good, good)
		hold(t, "another caller", w.replicas[0].Join(edge), good, good)
		hold(t, "the caller named, of a replica that starts", w.cold().Join(orders()), good, good)
		elsewhere := timeout("email", "1s")
		w, class = shop(t, elsewhere, poison("payments"))
		w.want("Policy shop/p 2->1 of shop/payments")
		hold(t, "a caller of two services", class, timeout("nobody", "1s"), timeout("nobody", "1s"))
	})
}

// A generation that would have ended does not come back for longer.
func TestEarlierGenerationThatEndsIsPassedOver(t *testing.T) {
	ends := timeout("payments", "1s")
	ends.ExpiresAt = ptr(manifest.Instant("2030-01-01T00:00:00Z"))
	w, _ := shop(t, timeout("payments", "5s"), ends, poisons["error"]("payments"))
	w.want("Policy shop/p 3->1 of shop/payments")
	sooner := poisons["error"]("payments")
	sooner.ExpiresAt = ptr(manifest.Instant("2029-01-01T00:00:00Z"))
	w.write("p", sooner)
	w.want("Policy shop/p 4->2 of shop/payments")
}

// While nobody can say what a policy was before, proxies keep what they hold, and new ones do without it.
func TestHistoryThatCannotBeReadYet(t *testing.T) {
	good := timeout("payments", "1s")
	w, class := shop(t, good)
	first := w.replicas[0]
	unread := func(string, manifest.Key, int64) ([]*policy.Compiled, error) { return nil, errors.New("no quorum") }
	first.Past = unread
	w.write("after", policy.Spec{To: policy.Target{Service: policy.Every}, Sections: policy.Sections{Retry: &policy.Retry{NumRetries: ptr(uint32(3))}}})
	w.write("p", poisons["panic"]("payments"))
	hold(t, "a replica that saw both", class, good, good)
	if text := fmt.Sprint(first.Problems()[key("shop", "payments")]); !strings.Contains(text, "its history can't be read: no quorum") {
		t.Errorf("problem %q, want that the history can't be read", text)
	}
	edge := orders()
	edge.Service = "edge"
	hold(t, "a new caller", first.Join(edge), timeout("nobody", "1s"), timeout("nobody", "1s"))
	first.Past = w.past.before
	first.Again()
	hold(t, "the new caller, once the history is read", first.Join(edge), good, good)
	w.want("Policy shop/p 2->1 of shop/payments")
	first.Past = unread // it is known by now
	first.Again()
	w.want("Policy shop/p 2->1 of shop/payments")
}

// A service that can't be built without any policy is at fault itself.
func TestServiceThatCannotBeBuiltBlamesNoPolicy(t *testing.T) {
	w, class := shop(t, timeout("payments", "1s"))
	before := versions(class)
	s := service(key("shop", "payments"), func(s *catalog.Service) { s.Spec.Routes = []catalog.Route{{Name: *noText}} })
	w.step(Changes{Services: map[manifest.Key]*catalog.Service{s.Key(): s}})
	if b := w.replicas[0]; quarantined(b) != "" || b.Problems()[s.Key()] == nil || versions(class) != before {
		t.Errorf("quarantined %q, problems %v, want the service's alone, and its callers as before", quarantined(b), b.Problems())
	}
}

// A write is foreseen to be one that can't be built, and blamed itself, whatever else takes part; what is in quarantine before is not told of.
func TestUnbuildableIsForeseen(t *testing.T) {
	hashes := policy.Spec{To: policy.Target{Service: "payments"}, Sections: policy.Sections{LoadBalancing: &policy.LoadBalancing{Algorithm: ptr("ring-hash")}}}
	byNothing := policy.Spec{To: policy.Target{Service: "payments"}, Sections: policy.Sections{LoadBalancing: &policy.LoadBalancing{HashOn: []policy.HashKey{{Header: noText}}}}}
	for _, tt := range []struct {
		name         string
		there, write policy.Spec
		writes, want string
	}{
		{"fine", timeout("payments", "1s"), timeout("payments", "2s"), "q", ""},
		{"poison", timeout("payments", "1s"), poisons["error"]("payments"), "q", "Policy shop/q 1->0 of shop/payments"},
		{"poison in place of what was fine", timeout("payments", "1s"), poisons["panic"]("payments"), "p", "Policy shop/p 1->0 of shop/payments"},
		{"for nobody", timeout("payments", "1s"), poisons["panic"]("nobody"), "q", ""},
		{"fine alone", hashes, byNothing, "q", "Policy shop/q 1->0 of shop/payments"},
		{"fine alone, the other way round", byNothing, hashes, "q", "Policy shop/q 1->0 of shop/payments"},
		{"mends", poisons["error"]("payments"), timeout("payments", "1s"), "p", ""},
		{"mends not", poisons["error"]("payments"), poisons["panic"]("payments"), "p", ""},
		{"another one", poisons["error"]("payments"), timeout("payments", "1s"), "q", ""},
	} {
		w, _ := shop(t, tt.there)
		k := key("shop", tt.writes)
		p := policy.Compile(&policy.Policy{APIVersion: manifest.APIVersion, Kind: policy.Kind, Metadata: manifest.Meta{Namespace: "shop", Name: tt.writes, Generation: 1}, Spec: tt.write})
		c := Changes{Policies: map[manifest.Key]*policy.Compiled{k: p}}
		if got := told(Foresee(w.world, w.world.With(w.world.Rev+1, c), c).Unbuildable([]ClassKey{orders()})); got != tt.want {
			t.Errorf("%s: %q can't be built, want %q", tt.name, got, tt.want)
		}
	}
}
