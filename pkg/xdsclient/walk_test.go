package xdsclient

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// TestRandomWalk edits, deletes, kills and restarts by chance. Whatever happens, no route may lead to a cluster that is not there
// while one was, and in the end the agent holds exactly what the control plane has for it.
func TestRandomWalk(t *testing.T) {
	for seed := range uint64(12) {
		synctest.Test(t, func(t *testing.T) { walk(t, seed) })
	}
}

func walk(t *testing.T, seed uint64) {
	chance := rand.New(rand.NewPCG(seed, 3))
	kv, n := store.NewMemory(store.Limits{}), &network{}
	putService(t, kv, "s0", "10.0.0.1")
	names := [2]string{"one:1", "two:1"}
	planes := [2]*plane{startPlane(t, n, names[0], kv), startPlane(t, n, names[1], kv)}
	dir := t.TempDir()
	start := func() *agent {
		return startAgent(t, n, func(c *Config) {
			c.Servers, c.StateDir = names[:], dir
			apply := c.Apply
			c.Apply = func(r dataplane.Resources) []dataplane.Fault {
				for _, rc := range r.All(view.RDS) {
					for _, need := range rc.Needs {
						if r.Get(need) == nil {
							t.Errorf("seed %d: routes %s lead to %s, which is not there", seed, rc.ID.Name, need.Name)
						}
					}
				}
				return apply(r)
			}
		})
	}
	a := start()
	for step := range 60 {
		service := fmt.Sprintf("s%d", chance.IntN(5))
		switch i := chance.IntN(2); chance.IntN(9) {
		case 0, 1:
			putService(t, kv, service, "10.0.0.1", fmt.Sprintf("10.0.1.%d", 1+chance.IntN(9)))
		case 2:
			if _, err := kv.Commit(t.Context(), store.Txn{Ops: []store.Op{{Key: store.ServiceKey("shop", service), Delete: true}}}); err != nil {
				t.Fatal(err)
			}
		case 3, 4:
			putTimeout(t, kv, service, time.Duration(1+chance.IntN(9))*time.Second)
		case 5:
			planes[i].stop()
		case 6:
			planes[i].stop()
			planes[i] = startPlane(t, n, names[i], kv)
		case 7:
			if step%3 == 0 {
				a.stop()
				a = start()
			}
		case 8:
			time.Sleep(time.Duration(chance.IntN(40_000)) * time.Millisecond)
		}
		if chance.IntN(2) == 0 {
			synctest.Wait()
		}
	}
	for i := range planes {
		planes[i].stop()
		planes[i] = startPlane(t, n, names[i], kv)
	}
	time.Sleep(2 * time.Minute)
	synctest.Wait()
	a.stop()
	compare(t, seed, planes[0], a)
}

func compare(t *testing.T, seed uint64, p *plane, a *agent) {
	t.Helper()
	key := world.ClassKey{Namespace: "shop", Service: "orders", Dialect: "agent", Profile: "sidecar", Tier: "0.1", Outbound: "127.0.0.1:15001", Runtime: true}
	class, err := p.loop.Join(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer p.loop.Leave(class)
	want := 0
	for typ := range view.NumTypes {
		view.Diff(nil, class.Head().Views[typ], func(_, r *view.Resource) {
			want++
			if got := a.state.inForce.Get(r.ID()); got == nil || got.Version != r.Version {
				t.Errorf("seed %d: %s: the agent has %v, want %s", seed, r.ID(), got, r.Version)
			}
		})
	}
	if got := a.state.inForce.Len(); got != want || len(a.state.waiting) != 0 {
		t.Errorf("seed %d: the agent has %d resources, want %d; waiting %v", seed, got, want, a.state.waiting)
	}
}
