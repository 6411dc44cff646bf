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

// What only observes is counted, and changes nothing for any call: no host leaves, and no call over the rate is refused. It does not take the
// place of what a less specific policy enforces. Enforcing a rate limit acts in place; enforcing ejection rebuilds the cluster.
func TestObservedSectionsCountAndDoNothing(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	hosts := m.service("payments", 2)
	m.service("orders", 0)
	envoy := m.envoy("orders")
	proxies := map[string]interface {
		Get(host, path string) harness.Call
		Stat(name string) (int64, error)
	}{"envoy": envoy, "agent": m.agent("orders")}
	hosts[1].Set(harness.Behaviour{Status: http.StatusServiceUnavailable})
	const detected, limited = payments + "outlier_detection.ejections_detected_consecutive_gateway_failure", "shop/payments.observed.http_local_rate_limit.rate_limited"
	dry := func(section string) string { return strings.Replace(section, "{", "{observe: true, ", 1) }
	const rate = "rateLimit: {requests: 1, interval: 60s}"
	m.apply(policyFor("all", `"*"`, "timeout: {request: 5s}"), policyFor("dry", "payments", dry(outlier), dry(rate), "timeout: {observe: true, request: 1ms}"))
	m.programmed("dry")
	for name, p := range proxies {
		before := hosts[1].Requests()
		for i := range 24 {
			if call := p.Get("payments", "/"); call.Status != http.StatusOK && call.Status != http.StatusServiceUnavailable {
				t.Fatalf("%s: call %d is answered %d, want what the host says", name, i+1, call.Status)
			}
			if i%6 == 5 { // three failures: Envoy's main thread must have counted them before more come
				want(t, p.Stat, name, map[string]int64{detected: int64(i+1) / 6})
			}
		}
		if got := hosts[1].Requests() - before; got != 12 {
			t.Errorf("%s: the failing host got %d of 24 calls, want half of them", name, got)
		}
		want(t, p.Stat, name, map[string]int64{detected: 4, ejected: 0, payments + "outlier_detection.ejections_enforced_total": 0, limited: 23})
	}

	const rebuilt = "cluster_manager.cluster_modified"
	clusters := envoy.stat(rebuilt)
	m.apply(policyFor("dry", "payments", dry(outlier), rate))
	m.programmed("dry")
	if n := envoy.stat(rebuilt) - clusters; n != 0 {
		t.Errorf("enforcing the rate limit rebuilt %d clusters, want none", n)
	}
	for name, p := range proxies {
		eventually(t, func() error {
			if call := p.Get("payments", "/"); call.Status != http.StatusTooManyRequests {
				return fmt.Errorf("%s: answered %d once the limit is enforced, want 429", name, call.Status)
			}
			return nil
		})
		if n, err := p.Stat(detected); err != nil || n < 4 {
			t.Errorf("%s: %d detections after an edit of the rate limit, %v; want those from before: it acts in place", name, n, err)
		}
	}

	m.apply(policyFor("dry", "payments", outlier))
	m.programmed("dry")
	if n := envoy.stat(rebuilt) - clusters; n != 1 {
		t.Errorf("enforcing ejection rebuilt %d clusters, want 1", n)
	}
	for name, p := range proxies {
		eventually(t, func() error {
			p.Get("payments", "/")
			if n, err := p.Stat(ejected); err != nil || n != 1 {
				return fmt.Errorf("%s: %d hosts are ejected, %v; want 1", name, n, err)
			}
			return nil
		})
	}
}

// The agent counts more than Envoy can: calls over a bulkhead, calls and tries over a time, and what admission control would shed. All of them go on,
// as they do on Envoy, which counts nothing there.
func TestAgentCountsWhatItWouldDo(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	host := m.service("payments", 1)[0]
	m.service("orders", 0)
	envoy, agent := m.envoy("orders"), m.agent("orders")
	m.apply(policyFor("dry", "payments", "bulkhead: {observe: true, maxConcurrent: 2}", "timeout: {observe: true, request: 250ms, perTry: 200ms}"))
	m.programmed("dry")
	slow := harness.Behaviour{Delay: 500 * time.Millisecond}
	const limited, late, lateTry = payments + "observed.upstream_rq_active_overflow", payments + "observed.upstream_rq_timeout", payments + "observed.upstream_rq_per_try_timeout"
	for name, client := range map[string]*harness.Client{"envoy": envoy.Client, "agent": agent.Client} {
		host.Set(harness.Behaviour{})
		client.Get("payments", "/") // in time
		host.Set(slow)
		var calls sync.WaitGroup
		for range 5 {
			calls.Go(func() {
				if call := client.Get("payments", "/"); call.Status != http.StatusOK {
					t.Errorf("%s: answered %d, want 200: nothing is enforced", name, call.Status)
				}
			})
		}
		calls.Wait()
	}
	want(t, agent.Stat, "agent", map[string]int64{limited: 3, late: 5, lateTry: 5})

	m.apply(policyFor("dry", "payments", "admissionControl: {observe: true, successRatePercent: 100, maxRejectionPercent: 100, window: 30s}"))
	m.programmed("dry")
	host.Set(harness.Behaviour{Status: http.StatusInternalServerError})
	for name, client := range map[string]*harness.Client{"envoy": envoy.Client, "agent": agent.Client} {
		before := host.Requests()
		for range 40 {
			client.Get("payments", "/")
		}
		if got := host.Requests() - before; got != 40 {
			t.Errorf("%s: the host got %d of 40 calls, want all: nothing is shed", name, got)
		}
	}
	if n, err := agent.Stat(payments + "observed.admission_control.rq_rejected"); err != nil || n < 10 || n > 39 {
		t.Errorf("of 40 calls to a failing host the agent would have shed %d, %v; want most", n, err)
	}
	want(t, agent.Stat, "agent", map[string]int64{payments + "admission_control.rq_rejected": 0, limited: 3, late: 5})
}

// want compares statistics of a proxy, which may lag behind its answers.
func want(t *testing.T, stat func(string) (int64, error), proxy string, stats map[string]int64) {
	t.Helper()
	for name, want := range stats {
		eventually(t, func() error {
			if got, err := stat(name); err != nil || got != want {
				return fmt.Errorf("%s: %s = %d, %v; want %d", proxy, name, got, err, want)
			}
			return nil
		})
	}
}
