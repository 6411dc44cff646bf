package integration_test

import (
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
	warm := make(chan struct{})
	release := sync.OnceFunc(func() { close(warm) })
	slow := startHost(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			<-warm
		}
	}))
	t.Cleanup(release)
	m.hosts["slow"] = []*harness.Host{slow}
	m.apply(m.manifest("slow"))
	hosts := m.service("payments", 2)
	m.service("orders", 0)
	orders := m.envoy("orders")
	orders.reaches("slow", http.StatusOK)
	orders.reaches("payments", http.StatusOK)

	m.apply(policyFor("check", "slow", "healthCheck: {http: {path: /healthz}, interval: 1s, timeout: 30s}"))
	orders.eventuallyStat("cluster_manager.warming_clusters", 1)

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
