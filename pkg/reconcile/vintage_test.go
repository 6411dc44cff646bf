package reconcile

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// later makes l a release whose second vintage has other routes.
func later(l *Loop) {
	l.knows = 2
	l.reshape = func(t envoy.Target, c *envoy.Compiled) {
		if c.Route != nil && t.Vintage > 1 {
			c.Route = view.New(view.RDS, c.Route.Name, append([]byte("2"), c.Route.Wire...), c.Route.Needs)
		}
	}
}

// given is the version of the routes to payments that a client gets which comes new, if it is answered.
func given(t *testing.T, l *Loop) (version string, err error) {
	t.Helper()
	ctx := context.Background()
	if err := l.Confirm(ctx); err != nil {
		return "", err
	}
	class, err := l.Join(ctx, ordersClass)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Leave(class)
	return class.Head().Views[view.RDS].Get("shop/payments").Version, nil
}

// Two releases that make different bytes run side by side over one store, and a client moves between them at random: it never goes back to
// bytes that it had before, neither before the vintage is raised nor after.
func TestTwoReleasesSideBySideDoNotFlap(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	synctest.Test(t, func(t *testing.T) {
		kv := store.NewMemory(store.Limits{})
		before, after := New(kv, hclog.NewNullLogger(), nil), New(kv, hclog.NewNullLogger(), nil)
		later(after)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		for _, l := range []*Loop{before, after} {
			go func() { done <- l.Run(ctx) }()
		}
		defer func() { cancel(); <-done; <-done }()
		r := &running{before, t, kv, nil}
		r.settled(r.putService("orders"))
		r.settled(r.putService("payments"))

		var seen []string
		refused := 0
		for i := range 200 {
			l := []*Loop{before, after}[random.IntN(2)]
			if i == 100 {
				value, err := world.EncodeVintage(2)
				if err != nil {
					t.Fatal(err)
				}
				r.put(store.VintageKey, value)
			}
			version, err := given(t, l)
			switch {
			case err != nil && (l == after || i < 100 || !strings.Contains(err.Error(), "vintage 2")):
				t.Fatalf("seed %d, move %d: %v", seed, i, err)
			case err != nil:
				refused++
			case len(seen) == 0 || seen[len(seen)-1] != version:
				seen = append(seen, version)
			}
		}
		if len(seen) != 2 || refused == 0 {
			t.Errorf("seed %d: the client was given %d versions in turn and refused %d times, want two, and to be refused where the vintage is not known", seed, len(seen), refused)
		}
		if err := before.Ready(); err == nil || !strings.Contains(err.Error(), "run a newer one") {
			t.Errorf("the release that does not know the vintage is ready: %v", err)
		}
		if err := after.Ready(); err != nil {
			t.Error(err)
		}
		r.settled(r.put(store.VintageKey, []byte("{}"))) // what can't be read leaves what it replaces
		if v := after.World().Vintage(); v != 2 {
			t.Errorf("after a value that can't be read the vintage is %d, want 2", v)
		}
	})
}
