package world

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/internal/testkit/race"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

func key(namespace, name string) manifest.Key { return manifest.Key{Namespace: namespace, Name: name} }

func ptr[T any](v T) *T { return &v }

func service(k manifest.Key, edit ...func(*catalog.Service)) *catalog.Service {
	s := &catalog.Service{APIVersion: manifest.APIVersion, Kind: catalog.Kind, Metadata: manifest.Meta{Namespace: k.Namespace, Name: k.Name}}
	s.Spec.Protocol = catalog.HTTP
	for _, f := range edit {
		f(s)
	}
	return s
}

func compiled(t testing.TB, k manifest.Key, spec policy.Spec) *policy.Compiled {
	t.Helper()
	p := &policy.Policy{APIVersion: manifest.APIVersion, Kind: policy.Kind, Metadata: manifest.Meta{Namespace: k.Namespace, Name: k.Name}, Spec: spec}
	if faults := policy.Validate(p); len(faults) > 0 {
		t.Fatalf("policy %s: %v", k, faults)
	}
	return policy.Compile(p)
}

// newWorld is a world in which the services claim their names, built in one step.
func newWorld(services ...*catalog.Service) (*World, Changes) {
	c := Changes{Services: map[manifest.Key]*catalog.Service{}, Hosts: map[string]*manifest.Key{}, Policies: map[manifest.Key]*policy.Compiled{}, Endpoints: map[EndpointKey]*catalog.Endpoint{}}
	for _, s := range services {
		k := s.Key()
		c.Services[k] = s
		for _, host := range append([]string{k.Name + "." + k.Namespace}, s.Spec.Hosts...) {
			c.Hosts[host] = &k
		}
	}
	return (&World{}).With(1, c), c
}

func orders() ClassKey {
	return ClassKey{Namespace: "shop", Service: "orders", Dialect: "envoy", Profile: "sidecar", Tier: "1.40", Outbound: "127.0.0.1:15001", Runtime: true}
}

func names(v *view.View) []string {
	var list []string
	for r := range v.All() {
		list = append(list, r.Name)
	}
	return list
}

func TestClassHoldsWhatItsCallerDependsOn(t *testing.T) {
	w, c := newWorld(
		service(key("shop", "orders"), func(s *catalog.Service) { s.Spec.DependsOn = &[]string{"payments", "mail/email", "gone"} }),
		service(key("shop", "payments"), func(s *catalog.Service) { s.Spec.Hosts = []string{"pay.example.com"} }),
		service(key("shop", "billing")),
		service(key("mail", "email")),
	)
	b := NewBuilder()
	b.Update(w, c)
	head := b.Join(orders()).Head()
	for typ, want := range map[view.Type][]string{
		view.RTDS: {"limits-0", "limits-1", "limits-2", "limits-3", "limits-4", "limits-5", "limits-6", "limits-7"},
		view.CDS:  {"mail/email", "shop/payments"},
		view.EDS:  {"mail/email", "shop/payments"},
		view.LDS:  {"outbound"},
		view.SRDS: {"email.mail", "pay.example.com", "payments", "payments.shop"},
		view.RDS:  {"mail/email", "shop/payments"},
	} {
		if got := names(head.Views[typ]); !slices.Equal(got, want) {
			t.Errorf("%v = %q, want %q", typ, got, want)
		}
	}
	if len(b.Problems()) > 0 {
		t.Errorf("problems: %v", b.Problems())
	}
}

// bell is a subscriber that is waited for.
type bell chan struct{}

func (b bell) Wake() {
	select {
	case b <- struct{}{}:
	default:
	}
}

func TestEditTouchesOnlyItsService(t *testing.T) {
	w, c := newWorld(service(key("shop", "orders")), service(key("shop", "payments")), service(key("shop", "email")))
	b := NewBuilder()
	b.Update(w, c)
	class := b.Join(orders())
	before := class.Head()
	wake := make(bell, 1)
	defer class.Subscribe(wake)()

	change := Changes{Policies: map[manifest.Key]*policy.Compiled{key("shop", "p"): compiled(t, key("shop", "p"), policy.Spec{
		To: policy.Target{Service: "payments"}, Sections: policy.Sections{Timeout: &policy.Timeout{Request: ptr(manifest.Duration("1s"))}},
	})}}
	b.Update(w.With(2, change), change)
	var changed []string
	for typ := range view.NumTypes {
		view.Diff(before.Views[typ], class.Head().Views[typ], func(_, now *view.Resource) {
			changed = append(changed, fmt.Sprintf("%v %s", typ, now.Name))
		})
	}
	if want := []string{"RDS shop/payments"}; !slices.Equal(changed, want) {
		t.Errorf("a timeout changed %q, want %q", changed, want)
	}
	select {
	case <-wake:
	default:
		t.Error("the class's streams were not woken")
	}
	for got := range b.Shaped(policy.Kind, key("shop", "p")) {
		if got != class {
			t.Errorf("the policy shapes class %v", got.Key)
		}
	}

	quiet := Changes{Policies: map[manifest.Key]*policy.Compiled{key("shop", "q"): compiled(t, key("shop", "q"), policy.Spec{
		To: policy.Target{Service: "elsewhere"}, Sections: policy.Sections{Timeout: &policy.Timeout{Request: ptr(manifest.Duration("1s"))}},
	})}}
	b.Update(b.World().With(3, quiet), quiet)
	select {
	case <-wake:
		t.Error("a policy that matches nothing woke the class")
	default:
	}
	if class.Head().Rev != 3 {
		t.Errorf("head is at revision %d, want 3", class.Head().Rev)
	}
}

// TestStepsEndWhereOneBuildWould is the law of the builder: however a world came about, each class holds what a builder would
// make that sees it for the first time.
func TestStepsEndWhereOneBuildWould(t *testing.T) {
	for seed := range uint64(race.Rounds(25)) {
		rng := rand.New(rand.NewPCG(seed, 7))
		g := &generator{t: t, rng: rng}
		b := NewBuilder()
		w := &World{}
		keys := []ClassKey{orders(), {Namespace: "shop", Service: "payments", Dialect: "envoy", Profile: "sidecar", Tier: "1.40", Outbound: "127.0.0.1:15001"}, {Namespace: "mail", Service: "stranger", Dialect: "envoy", Profile: "sidecar", Tier: "1.40", Outbound: "127.0.0.1:15001", Runtime: true}}
		for step := range 30 {
			if step < len(keys) {
				b.Join(keys[step])
			}
			c := g.changes(w)
			w = w.With(int64(step+1), c)
			b.Update(w, c)
			compareWithFresh(t, b, keys[:min(step+1, len(keys))])
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, step)
			}
		}
	}
}

// compareWithFresh fails where a class of b differs from what a new builder makes of the same world.
func compareWithFresh(t *testing.T, b *Builder, keys []ClassKey) {
	t.Helper()
	fresh := NewBuilder()
	fresh.Update(b.World(), all(b.World()))
	for _, k := range keys {
		got, want := b.Join(k).Head(), fresh.Join(k).Head()
		for typ := range view.NumTypes {
			view.Diff(got.Views[typ], want.Views[typ], func(old, now *view.Resource) {
				t.Errorf("class %s/%s: %v differs: in steps %v, at once %v", k.Namespace, k.Service, typ, version(old), version(now))
			})
		}
	}
}

func version(r *view.Resource) string {
	if r == nil {
		return "nothing"
	}
	return r.Name + "@" + r.Version
}

// keyed are policies or guardrails as changes name them.
func keyed(list []*policy.Compiled) map[manifest.Key]*policy.Compiled {
	m := make(map[manifest.Key]*policy.Compiled, len(list))
	for _, p := range list {
		m[p.Policy.Key()] = p
	}
	return m
}

// all are the changes that make w out of nothing.
func all(w *World) Changes {
	c := Changes{Policies: keyed(w.policies), Guardrails: keyed(w.guardrails), Services: w.services, Hosts: map[string]*manifest.Key{}, Endpoints: map[EndpointKey]*catalog.Endpoint{}, Lives: map[EndpointKey]*Life{}}
	for service, leases := range w.leases {
		for id, lease := range leases {
			c.Lives[EndpointKey{service, id}] = &Life{Lease: lease}
		}
	}
	for key, mark := range w.marks {
		c.Lives[key] = &Life{Mark: &mark}
	}
	for host, owner := range w.hosts {
		c.Hosts[host] = &owner
	}
	for _, list := range w.endpoints {
		for _, e := range list {
			c.Endpoints[EndpointKey{e.Service, e.ID}] = &e
		}
	}
	return c
}

// generator makes random changes in a small world, so that they meet.
type generator struct {
	t   *testing.T
	rng *rand.Rand
}

func pick[T any](g *generator, list ...T) T { return list[g.rng.IntN(len(list))] }

func (g *generator) serviceKey() manifest.Key {
	return key(pick(g, "shop", "mail"), pick(g, "orders", "payments", "email"))
}

func (g *generator) changes(w *World) Changes {
	c := Changes{Services: map[manifest.Key]*catalog.Service{}, Hosts: map[string]*manifest.Key{}, Policies: map[manifest.Key]*policy.Compiled{}, Endpoints: map[EndpointKey]*catalog.Endpoint{}, Lives: map[EndpointKey]*Life{}}
	for range 1 + g.rng.IntN(3) {
		switch g.rng.IntN(5) {
		case 0:
			g.service(w, c)
		case 1:
			k := key(pick(g, "shop", "mail", manifest.SystemNamespace), pick(g, "a", "b", "c"))
			c.Policies[k] = pick(g, nil, g.policy(k))
		case 2:
			e := EndpointKey{g.serviceKey(), pick(g, "one", "two")}
			c.Endpoints[e] = pick(g, nil, &catalog.Endpoint{Service: e.Service, ID: e.ID, Spec: catalog.EndpointSpec{Address: pick(g, "127.0.0.1", "127.0.0.2"), Port: ptr(uint32(80 + g.rng.IntN(3))), Labels: pick(g, nil, map[string]string{"version": "v1"})}, Lease: pick(g, 0, time.Minute)})
		case 3: // the host moves, whoever lists it
			c.Hosts["pay.example.com"] = pick(g, nil, ptr(g.serviceKey()))
		case 4: // an agent is heard, or not
			e := EndpointKey{g.serviceKey(), pick(g, "one", "two")}
			mark := w.MarkOf(e, noon.Add(time.Duration(g.rng.IntN(9))*time.Minute))
			c.Lives[e] = pick(g, nil, &Life{Lease: 1}, &Life{Mark: &mark})
		}
	}
	return c
}

func (g *generator) service(w *World, c Changes) {
	k := g.serviceKey()
	if g.rng.IntN(4) == 0 {
		c.Services[k] = nil
		c.Hosts[k.Name+"."+k.Namespace] = nil
		return
	}
	c.Services[k] = service(k, func(s *catalog.Service) {
		s.Metadata.Labels = map[string]string{"tier": pick(g, "front", "back")}
		s.Spec.Protocol = pick(g, catalog.HTTP, catalog.GRPC)
		s.Spec.Hosts = pick(g, nil, []string{"pay.example.com"})
		s.Spec.DependsOn = pick(g, nil, &[]string{}, &[]string{"payments", "mail/email"})
		if g.rng.IntN(5) == 0 {
			s.Spec.Protocol, s.Spec.LocalPort, s.Spec.Hosts = catalog.TCP, ptr(uint32(pick(g, 5432, 5433, 15001))), nil
			return
		}
		s.Spec.Subsets = pick(g, nil, map[string]map[string]string{"v1": {"version": "v1"}}, map[string]map[string]string{"v1": {"version": "v1"}, "v2": {"version": "v2"}})
		s.Spec.Routes = pick(g, nil, nil, []catalog.Route{{Name: "reads", Backends: []catalog.Backend{{Service: pick(g, "email", "mail/orders"), Subset: pick(g, "", "v1", "v2")}, {}}, Priority: pick(g, "", catalog.PriorityHigh)}})
	})
	c.Hosts[k.Name+"."+k.Namespace] = &k
}

func (g *generator) policy(k manifest.Key) *policy.Compiled {
	spec := policy.Spec{Precedence: ptr(int32(g.rng.IntN(3)))}
	switch g.rng.IntN(4) {
	case 3:
		return g.partPolicy(k, spec)
	case 0:
		spec.To.Service = "*"
	case 1:
		spec.To.Service = pick(g, "orders", "payments", "email")
	case 2:
		spec.To.Selector = map[string]string{"tier": pick(g, "front", "back")}
	}
	if k.Namespace == manifest.SystemNamespace {
		spec.To = policy.Target{Namespace: "*", Service: "*"}
	}
	if g.rng.IntN(2) == 0 {
		spec.From = pick(g, &policy.Source{Service: "orders"}, &policy.Source{Selector: map[string]string{"tier": "front"}})
	}
	if k.Namespace == manifest.SystemNamespace && spec.From != nil {
		spec.From.Namespace = pick(g, "shop", "mail")
	}
	spec.Sections = pick(g,
		policy.Sections{Timeout: &policy.Timeout{Request: ptr(pick(g, manifest.Duration("1s"), manifest.Duration("2s")))}},
		policy.Sections{Limits: &policy.Limits{MaxRequests: ptr(manifest.Count(1 + g.rng.IntN(3)))}},
		policy.Sections{CircuitBreaker: &policy.CircuitBreaker{FailureThreshold: ptr(uint32(1 + g.rng.IntN(3)))}},
		policy.Sections{Retry: &policy.Retry{NumRetries: ptr(uint32(1 + g.rng.IntN(3)))}},
		policy.Sections{AdaptiveConcurrency: pick(g, &policy.AdaptiveConcurrency{MaxConcurrency: ptr(uint32(4 + g.rng.IntN(3)))}, &policy.AdaptiveConcurrency{Disabled: ptr(true)})},
	)
	return compiled(g.t, k, spec)
}

// partPolicy is a policy for a route or a subset.
func (g *generator) partPolicy(k manifest.Key, spec policy.Spec) *policy.Compiled {
	spec.To = policy.Target{Namespace: pick(g, "shop", "mail"), Service: pick(g, "orders", "payments")}
	if g.rng.IntN(2) == 0 {
		spec.To.Route = pick(g, "reads", catalog.DefaultRoute)
		spec.Retry = &policy.Retry{NumRetries: ptr(uint32(1 + g.rng.IntN(3)))}
	} else {
		spec.To.Subset = pick(g, "v1", "v2")
		spec.Limits = &policy.Limits{MaxRequests: ptr(manifest.Count(1 + g.rng.IntN(3)))}
	}
	return compiled(g.t, k, spec)
}

// An endpoint that has lost its port, since its service dropped the default, must cost nobody but itself: after a restart the
// service keeps its other endpoints, and a further edit is no end of the program.
func TestAnEndpointThatCannotBeBuilt(t *testing.T) {
	payments := key("shop", "payments")
	endpoint := func(id, address string, port *uint32) (EndpointKey, *catalog.Endpoint) {
		return EndpointKey{Service: payments, ID: id}, &catalog.Endpoint{Service: payments, ID: id, Spec: catalog.EndpointSpec{Address: address, Port: port}}
	}
	_, c := newWorld(service(key("shop", "orders")), service(payments))
	bad, broken := endpoint("bad", "10.0.0.1", nil)
	good, whole := endpoint("good", "10.0.0.2", ptr(uint32(80)))
	c.Endpoints[bad], c.Endpoints[good] = broken, whole
	b := NewBuilder()
	b.Update((&World{}).With(1, c), c)
	class := b.Join(orders())
	step := func(rev int64, k EndpointKey, e *catalog.Endpoint) string {
		change := Changes{Endpoints: map[EndpointKey]*catalog.Endpoint{k: e}}
		b.Update(b.World().With(rev, change), change)
		return version(class.Head().Views[view.EDS].Get(payments.String()))
	}
	want := func(endpoints ...catalog.Endpoint) string {
		r, err := envoy.Assignment(service(payments), endpoints)
		if err != nil {
			t.Fatal(err)
		}
		return version(r)
	}
	if got, want := version(class.Head().Views[view.EDS].Get(payments.String())), want(*whole); got != want {
		t.Errorf("at the start the assignment is %s, want %s: the good endpoint alone", got, want)
	}
	more, another := endpoint("more", "10.0.0.3", ptr(uint32(80)))
	if got, want := step(2, more, another), want(*whole); got != want {
		t.Errorf("after another endpoint the assignment is %s, want %s still", got, want)
	}
	if b.Problems()[payments] == nil {
		t.Error("the service has no problem")
	}
	if got, want := step(3, bad, nil), want(*whole, *another); got != want {
		t.Errorf("without the bad endpoint the assignment is %s, want %s", got, want)
	}
	if err := b.Problems()[payments]; err != nil {
		t.Errorf("without the bad endpoint the service has a problem: %v", err)
	}
}
