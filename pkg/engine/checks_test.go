package engine_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// clinic answers checks by address.
type clinic struct {
	mu      sync.Mutex
	results map[netip.AddrPort]resilience.CheckResult
	hold    map[netip.AddrPort]bool // no answer comes
	open    int                     // probers
}

func (c *clinic) set(i int, r resilience.CheckResult) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.results[address(i)] = r
}

func (c *clinic) probers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

type visit struct {
	clinic  *clinic
	address netip.AddrPort
}

func (c *clinic) prober(h *engine.Host, _ *dataplane.Cluster, _ *dataplane.HealthCheck) engine.Prober {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
	return &visit{c, h.CheckAddress}
}

func (v *visit) Probe(ctx context.Context) engine.Probed {
	v.clinic.mu.Lock()
	r, hold := v.clinic.results[v.address], v.clinic.hold[v.address]
	v.clinic.mu.Unlock()
	if hold {
		<-ctx.Done()
	}
	return engine.Probed{Result: r}
}

func (v *visit) Close() error {
	v.clinic.mu.Lock()
	defer v.clinic.mu.Unlock()
	v.clinic.open--
	return nil
}

// checkedWorld is a world whose cluster is checked every millisecond.
func checkedWorld(t *testing.T, hosts int, c *clinic, change func(*world)) *world {
	c.results = map[netip.AddrPort]resilience.CheckResult{}
	w := &world{}
	*w = *newWorld(t, hosts, func(w *world) {
		check := &dataplane.HealthCheck{TCP: &dataplane.TCPCheck{}, Check: resilience.Check{
			Timeout: time.Minute, Interval: time.Millisecond, HealthyEdge: time.Millisecond, Unhealthy: time.Millisecond, UnhealthyEdge: time.Millisecond,
			NoTraffic: time.Millisecond, NoTrafficHealthy: time.Millisecond, HealthyThreshold: 1, UnhealthyThreshold: 1,
		}}
		w.cluster.Checks, w.cluster.Balancing.PanicThreshold = []*dataplane.HealthCheck{check}, 0
		if change != nil {
			change(w)
		}
	})
	w.engine.Close()
	w.engine = engine.New(engine.Options{NewPool: func(*engine.Host) io.Closer { return noPool{} }, NewProber: c.prober, Rand: rand.Uint64})
	w.engine.SetTable(w.table)
	t.Cleanup(w.engine.Close)
	return w
}

// serve puts other hosts into the table.
func (w *world) serve(indexes ...int) {
	c := *w.cluster
	c.Hosts = nil
	for _, i := range indexes {
		c.Hosts = append(c.Hosts, dataplane.Host{Address: address(i), Weight: 1})
	}
	w.cluster = &c
	w.table = &dataplane.Table{Clusters: map[string]*dataplane.Cluster{"c": &c}}
	w.engine.SetTable(w.table)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// reached are the hosts that a number of calls get to.
func (w *world) reached(calls int) (list []string) {
	up := &hosts{act: status(200)}
	for range calls {
		w.call(up)
	}
	for _, host := range up.asked {
		if !slices.Contains(list, host) {
			list = append(list, host)
		}
	}
	slices.Sort(list)
	return list
}

func (w *world) healthy(n int64) func() bool {
	return func() bool { return w.stats()["membership_healthy"] == n }
}

func TestNewClusterWaitsForItsChecks(t *testing.T) {
	c := &clinic{hold: map[netip.AddrPort]bool{address(1): true}}
	w := checkedWorld(t, 2, c, nil)
	eventually(t, "the first host passes", w.healthy(1))
	if a := w.call(&hosts{act: status(200)}); a.Status != 503 || a.Flags != engine.NC {
		t.Errorf("before the last first check: %d %v, want 503 NC", a.Status, a.Flags)
	}
	c.mu.Lock()
	c.hold = nil
	c.mu.Unlock()
	w.serve(0) // the other is given up
	eventually(t, "the cluster serves", func() bool { return len(w.reached(1)) == 1 })
}

func TestFailingHostIsLeftOut(t *testing.T) {
	c := &clinic{}
	w := checkedWorld(t, 3, c, nil)
	eventually(t, "all pass", w.healthy(3))
	c.set(1, resilience.CheckFailed)
	eventually(t, "one fails", w.healthy(2))
	if got, want := w.reached(9), []string{address(0).String(), address(2).String()}; !slices.Equal(got, want) {
		t.Errorf("reached %v, want %v", got, want)
	}
	if got := w.engine.Clusters()[0].Hosts[1].Flags; !slices.Equal(got, []string{"failed_active_hc"}) {
		t.Errorf("flags %v", got)
	}
	c.set(1, resilience.CheckPassedDegraded)
	eventually(t, "it is degraded", func() bool { return w.stats()["membership_degraded"] == 1 })
	w.expect(t, map[string]int64{"health_check.degraded": 1, "health_check.healthy": 3})
}

func TestNewHostIsOutUntilItPasses(t *testing.T) {
	c := &clinic{}
	w := checkedWorld(t, 1, c, func(w *world) { w.cluster.PendingFirst = true })
	eventually(t, "the first passes", w.healthy(1))
	c.mu.Lock()
	c.hold = map[netip.AddrPort]bool{address(1): true}
	c.mu.Unlock()
	w.serve(0, 1)
	if got := w.reached(4); !slices.Equal(got, []string{address(0).String()}) {
		t.Errorf("reached %v, want the host that was there alone", got)
	}
	w.expect(t, map[string]int64{"membership_healthy": 1, "membership_total": 2, "membership_excluded": 1})
}

func TestRemovedHostStaysWhileItPasses(t *testing.T) {
	c := &clinic{}
	w := checkedWorld(t, 2, c, func(w *world) { w.cluster.KeepPassing = true })
	eventually(t, "both pass", w.healthy(2))
	w.serve(0)
	if got := w.reached(4); len(got) != 2 {
		t.Errorf("reached %v, want both", got)
	}
	if got := w.engine.Clusters()[0].Hosts[1].Flags; !slices.Equal(got, []string{"pending_dynamic_removal"}) {
		t.Errorf("flags %v", got)
	}
	c.set(1, resilience.CheckFailed)
	eventually(t, "it has gone", func() bool { return w.stats()["membership_total"] == 1 })
	c.set(1, resilience.CheckPassed)
	w.serve(0, 1)
	eventually(t, "it is back", w.healthy(2))
	w.engine.SetTable(&dataplane.Table{})
	eventually(t, "nobody is checked", func() bool { return c.probers() == 0 })
}

func TestRemovedHostLeavesAtOnceWithoutThat(t *testing.T) {
	c := &clinic{}
	w := checkedWorld(t, 2, c, nil)
	eventually(t, "both pass", w.healthy(2))
	w.serve(0)
	w.expect(t, map[string]int64{"membership_total": 1})
}

func TestResponseExcludesAtOnce(t *testing.T) {
	c := &clinic{}
	w := checkedWorld(t, 1, c, func(w *world) {
		w.cluster.Checks[0].Unhealthy, w.cluster.Checks[0].Interval = time.Hour, time.Hour
		w.cluster.Checks[0].NoTrafficHealthy = time.Hour
	})
	eventually(t, "it passes", w.healthy(1))
	w.call(&hosts{act: func(context.Context, *engine.Attempt) engine.Result {
		return engine.Result{Status: 200, Header: http.Header{"X-Envoy-Immediate-Health-Check-Fail": {"1"}}}
	}})
	w.expect(t, map[string]int64{"membership_healthy": 0, "membership_excluded": 1, "health_check.passive_failure": 1, "health_check.failure": 1})
}

func TestEditedChecksLeaveHostsInRotation(t *testing.T) {
	c := &clinic{}
	w := checkedWorld(t, 1, c, nil)
	eventually(t, "it passes", w.healthy(1))
	c.mu.Lock()
	c.hold = map[netip.AddrPort]bool{address(0): true}
	c.mu.Unlock()
	edited := *w.cluster
	check := *edited.Checks[0]
	check.Interval = time.Second
	edited.Checks = []*dataplane.HealthCheck{&check}
	w.cluster = &edited
	w.serve(0)
	if got := w.reached(2); len(got) != 1 {
		t.Errorf("reached %v while the first check under the new rule runs", got)
	}
	without := *w.cluster
	without.Checks = nil
	w.cluster = &without
	w.serve(0)
	eventually(t, "nobody is checked", func() bool { return c.probers() == 0 })
	w.expect(t, map[string]int64{"membership_healthy": 1})
}
