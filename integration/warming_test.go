package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// TestWarmingClusterHoldsUpNoOther changes a cluster whose health check is not answered: Envoy keeps the old one in use and answers no CDS
// response until the new one is warm. Edits of other services, clusters rebuilt among them, must be in force all the while.
func TestWarmingClusterHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	hosts := m.service("payments", 2)
	orders, release := m.warms()
	orders.reaches("payments", http.StatusOK)
	holds := func(what string) func() error {
		return func() error {
			config, err := orders.ConfigOf("shop/payments")
			if err == nil && !strings.Contains(config, what) {
				err = fmt.Errorf("the active cluster and routes lack %s: %s", what, config)
			}
			return err
		}
	}
	for i := range 5 { // each one more CDS response that is not answered
		begun := time.Now()
		m.apply(policyFor("rebuild", "payments", fmt.Sprintf("loadBalancing: {panicThreshold: %d}", 10+i)))
		eventually(t, holds(fmt.Sprintf(`"healthy_panic_threshold":{"value":%d}`, 10+i)))
		t.Logf("cluster %d in force after %v", i, time.Since(begun))
	}
	m.apply(policyFor("route", "payments", "timeout: {request: 7s}"))
	eventually(t, holds(`"timeout":"7s"`))
	hosts[1].Set(harness.Behaviour{Status: http.StatusTeapot})
	m.hosts["payments"] = hosts[:1]
	m.apply(m.manifest("payments"))
	eventually(t, func() error {
		for range 4 {
			if call := orders.Get("payments", "/"); call.Status != http.StatusOK {
				return fmt.Errorf("an endpoint that is gone answers: %d, %v", call.Status, call.Err)
			}
		}
		return nil
	})
	orders.want("slow", http.StatusOK) // by the cluster as it was
	if n := orders.stat("cluster_manager.warming_clusters"); n != 1 {
		t.Fatalf("%d clusters warm, want the slow one still: nothing was shown", n)
	}
	release()
	for _, policy := range []string{"check", "rebuild", "route"} {
		m.programmed(policy)
	}
	orders.eventuallyStat("cluster_manager.warming_clusters", 0)
	orders.want("slow", http.StatusOK)
}

// warms is the Envoy of orders while the cluster of shop/slow warms, until release is called.
func (m *mesh) warms() (orders *sidecar, release func()) {
	m.t.Helper()
	warm := make(chan struct{})
	release = sync.OnceFunc(func() { close(warm) })
	slow := startHost(m.t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			<-warm
		}
	}))
	m.t.Cleanup(release)
	m.hosts["slow"] = []*harness.Host{slow}
	m.apply(m.manifest("slow"))
	m.service("orders", 0)
	orders = m.envoy("orders")
	orders.reaches("slow", http.StatusOK)
	m.apply(policyFor("check", "slow", "healthCheck: {http: {path: /healthz}, interval: 1s, timeout: 30s}"))
	orders.eventuallyStat("cluster_manager.warming_clusters", 1)
	return orders, release
}

// TestAHostMovesToNewServicesWhileAClusterWarms gives a host that is called all the while to one new service after another. Each must have
// its calls in less than a second though Envoy answers nothing of CDS, and none may be lost.
func TestAHostMovesToNewServicesWhileAClusterWarms(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	const alias = "hosts: [pay.example.com]"
	m.service("payments", 1, alias)
	orders, release := m.warms()
	orders.reaches("pay.example.com", http.StatusOK)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var results harness.Results
	done := make(chan struct{})
	go func() {
		defer close(done)
		harness.Load(ctx, 2000, 4, &results, func() harness.Call { return orders.Get("pay.example.com", "/") })
	}()
	owner, worst := "payments", time.Duration(0)
	for i := range 10 {
		name := fmt.Sprint("new-", i)
		last, lines := m.addHost(name), []string{alias}
		documents := []string{m.manifest(owner)}
		if i%2 == 1 { // its calls go on to another new one
			last, lines = m.addHost(name+"-backend"), append(lines, "routes: [{name: further, match: {path: {prefix: /}}, backends: [{service: "+name+"-backend}]}]")
			documents = append(documents, m.manifest(name+"-backend"))
		}
		begun := time.Now()
		m.apply(append(documents, m.manifest(name, lines...))...)
		eventually(t, func() error {
			if last.Requests() == 0 {
				return fmt.Errorf("%s has no call", name)
			}
			return nil
		})
		owner, worst = name, max(worst, time.Since(begun))
	}
	if worst > time.Second {
		t.Errorf("a new service had its first call after %v, want 1 s at most", worst)
	}
	if n := orders.stat("cluster_manager.warming_clusters"); n != 1 {
		t.Fatalf("%d clusters warm, want the slow one still: nothing was shown", n)
	}
	release()
	orders.eventuallyStat("cluster_manager.warming_clusters", 0)
	m.programmed("check")
	cancel()
	<-done
	s := results.Take()
	t.Logf("worst %v, %d calls", worst, s.Calls)
	if s.Succeeded != s.Calls || s.Calls == 0 {
		t.Errorf("%d of %d calls succeeded (%v), want all", s.Succeeded, s.Calls, s.Failures)
	}
}
