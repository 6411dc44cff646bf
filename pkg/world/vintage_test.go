package world

import (
	"fmt"
	"slices"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// later is a release whose second vintage makes other routes.
func later(b *Builder) {
	b.Knows = 2
	b.Reshape = func(t envoy.Target, c *envoy.Compiled) {
		if c.Route != nil && t.Vintage > 1 {
			c.Route = view.New(view.RDS, c.Route.Name, append([]byte("2"), c.Route.Wire...), c.Route.Needs)
		}
	}
}

func TestAVintageIsRaisedAtOneRevision(t *testing.T) {
	p := key("shop", "p")
	_, c := newWorld(service(key("shop", "orders")), service(key("shop", "payments")))
	limited := policy.Sections{Limits: &policy.Limits{MaxRequests: ptr(manifest.Count(9))}}
	c.Policies[p] = compiled(t, p, policy.Spec{To: policy.Target{Service: "payments"}, Sections: limited})
	w := (&World{}).With(1, c)
	before, after := NewBuilder(), NewBuilder()
	later(after)
	before.Update(w, c)
	after.Update(w, c)
	old, now := before.Join(orders()), after.Join(orders())
	same := func(when string, a, b *Class) {
		t.Helper()
		for typ := range view.NumTypes {
			view.Diff(a.Head().Views[typ], b.Head().Views[typ], func(_, _ *view.Resource) { t.Errorf("%s: %v of %+v and %+v differ", when, typ, a.Key, b.Key) })
		}
	}
	same("two releases before it is raised", old, now)

	raise := Changes{Vintage: 2}
	if got, want := fmt.Sprint(step(after, now, 2, raise)), "[RDS shop/orders RDS shop/payments]"; got != want {
		t.Errorf("the release that knows the vintage changed %s, want %s", got, want)
	}
	if got := step(before, old, 2, raise); len(got) != 0 {
		t.Errorf("the release that does not know it changed %q, want nothing", got)
	}
	batch := after.Log().At(2)
	if want := []view.ID{{Type: view.RDS, Name: "shop/orders"}, {Type: view.RDS, Name: "shop/payments"}}; batch == nil || !batch.Touched(now) || !slices.Equal(batch.Names(), want) {
		t.Errorf("the log has %+v of the raise, want %v", batch, want)
	}

	// What was there goes on as if it had been built so from the beginning.
	edit := Changes{Policies: map[manifest.Key]*policy.Compiled{p: nil}}
	if got, want := fmt.Sprint(step(after, now, 3, edit)), fmt.Sprintf("[RTDS limits-%d]", envoy.LayerOf("shop/payments")); got != want {
		t.Errorf("an edit after the raise changed %s, want %s", got, want)
	}
	fresh := NewBuilder()
	later(fresh)
	fresh.Update(after.World(), c)
	same("a replica that starts later", now, fresh.Join(orders()))

	if got, want := fmt.Sprint(step(after, now, 4, Changes{Vintage: 1})), "[RDS shop/orders RDS shop/payments]"; got != want {
		t.Errorf("lowered again it changed %s, want %s", got, want)
	}
	step(before, old, 3, edit)
	same("two releases after it is lowered", old, now)
}

func TestAStoredVintageIsReadAsItWasWritten(t *testing.T) {
	value, err := EncodeVintage(7)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeVintage(value); got != 7 || err != nil {
		t.Errorf("%s is read as %d, %v", value, got, err)
	}
	for _, bad := range []string{"", "{}", `{"schema":1}`, `{"schema":1,"vintage":-1}`, `{"vintage":2}`} {
		if got, err := DecodeVintage([]byte(bad)); err == nil {
			t.Errorf("%q is read as %d, want an error", bad, got)
		}
	}
}
