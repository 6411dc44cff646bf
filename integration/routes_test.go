package integration_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

const (
	subsetsOfTwo = "subsets: {v1: {host: h0}, v2: {host: h1}}"
	canary       = "cluster.shop/payments|v2."
)

// routesOf are the lines of a service whose routes are these.
func routesOf(routes string) []string { return []string{subsetsOfTwo, "routes: [" + routes + "]"} }

// counts are the requests that hosts have got.
func counts(hosts []*harness.Host) []int64 {
	list := make([]int64, len(hosts))
	for i, h := range hosts {
		list[i] = h.Requests()
	}
	return list
}

// calls sends n requests that must succeed and returns how many each host got.
func (s *sidecar) calls(n int, path string, hosts []*harness.Host) []int64 {
	s.t.Helper()
	before := counts(hosts)
	for range n {
		if call := s.Get("payments", path); call.Status != http.StatusOK {
			s.t.Fatalf("GET %s = %d, %v; want 200", path, call.Status, call.Err)
		}
	}
	after := counts(hosts)
	for i := range after {
		after[i] -= before[i]
	}
	return after
}

func TestTrafficGoesWhereTheRoutesSay(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	hosts := m.service("payments", 2)
	queue := m.service("queue", 1)
	m.service("orders", 0, "dependsOn: [payments]")
	orders := m.envoy("orders")
	orders.reaches("payments", http.StatusOK)
	all := append(append([]*harness.Host{}, hosts...), queue...)

	// Subsets and a backend that the proxy has never heard of come without a lost call.
	stop := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if call := orders.Get("payments", "/canary/x"); call.Status != http.StatusOK {
				t.Errorf("while the routes came: %d, %v", call.Status, call.Err)
			}
		}
	})
	m.apply(m.manifest("payments", routesOf("{name: canary, match: {path: {prefix: /canary/}}, backends: [{subset: v2}]},"+
		"{name: split, match: {path: {prefix: /split/}, methods: [GET]}, backends: [{subset: v1, weight: 3}, {subset: v2}]},"+
		"{name: away, match: {path: {exact: /away}}, backends: [{service: queue}]}")...))
	eventually(t, func() error {
		before := queue[0].Requests()
		if orders.Get("payments", "/away"); queue[0].Requests() == before {
			return fmt.Errorf("the route does not lead to the queue yet")
		}
		return nil
	})
	close(stop)
	background.Wait()

	if got := orders.calls(10, "/canary/x?y=z", all); got[1] != 10 {
		t.Errorf("the hosts got %v of 10 calls of the canary, want all on the second", got)
	}
	if got := orders.calls(10, "/away", all); got[2] != 10 {
		t.Errorf("the hosts got %v of 10 calls to the queue, want all on its host", got)
	}
	if got := orders.calls(10, "/", all); got[0] != 5 || got[1] != 5 {
		t.Errorf("the hosts got %v of 10 calls on no route, want 5 on each of the service", got)
	}
	// A quarter of 400: within five standard deviations.
	if got := orders.calls(400, "/split/", all); got[1] < 57 || got[1] > 143 || got[0]+got[1] != 400 {
		t.Errorf("the hosts got %v of 400 calls, want about 300 and 100", got)
	}
	orders.want("queue", http.StatusNotFound) // nobody said that Orders calls it

	// A subset loses its labels' last endpoint: it has no host, and the others are as before.
	m.apply(m.manifest("payments", "subsets: {v1: {host: h0}, v2: {host: none}}", "routes: [{name: canary, match: {path: {prefix: /canary/}}, backends: [{subset: v2}]}]"))
	eventually(t, func() error {
		if call := orders.Get("payments", "/canary/"); call.Status != http.StatusServiceUnavailable {
			return fmt.Errorf("a subset without endpoints answers %d", call.Status)
		}
		return nil
	})
	orders.calls(4, "/", all)
	// And where the backend is gone, the service itself takes its calls.
	m.apply(m.manifest("payments"))
	eventually(t, func() error {
		if call := orders.Get("payments", "/canary/"); call.Status != http.StatusOK {
			return fmt.Errorf("without the subset the path answers %d", call.Status)
		}
		return nil
	})
}

func TestSubsetHasItsOwnEjectionsAndLimits(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	routes := "{name: canary, match: {path: {prefix: /canary/}}, backends: [{subset: v2}]}"
	hosts := m.service("payments", 2, routesOf(routes)...)
	m.service("orders", 0)
	orders := m.envoy("orders")
	m.apply(policyFor("v2", "payments, subset: v2", "circuitBreaker: {failureThreshold: 3, recoveryTimeout: 60s}", "limits: {maxRequests: 1}"))
	m.programmed("v2")

	hosts[1].Set(harness.Behaviour{Status: http.StatusServiceUnavailable})
	eventually(t, func() error {
		orders.Get("payments", "/canary/")
		if n, err := orders.Stat(canary + "outlier_detection.ejections_active"); err != nil || n != 1 {
			return fmt.Errorf("%d ejections in the subset, %v; want 1", n, err)
		}
		return nil
	})
	before := hosts[1].Requests()
	for range 5 {
		if call := orders.Get("payments", "/canary/"); call.Status != http.StatusServiceUnavailable {
			t.Errorf("the open breaker of the subset answers %d, want 503", call.Status)
		}
	}
	if got := hosts[1].Requests(); got != before {
		t.Errorf("the ejected host got %d calls of the subset", got-before)
	}
	hosts[1].Set(harness.Behaviour{})
	if got := orders.calls(10, "/", hosts); got[1] != 5 {
		t.Errorf("the hosts got %v of 10 calls outside of the subset, want 5 each: the ejection is the subset's alone", got)
	}

	// An edit of routes, of the policy of a route, or of a limit loses neither the ejection nor a connection.
	warm := orders.stat(payments + "upstream_cx_total")
	m.apply(m.manifest("payments", routesOf(routes+", {name: urgent, match: {path: {prefix: /urgent/}}, priority: high}")...),
		policyFor("canary", "payments, route: canary", "timeout: {request: 2s}", "retry: {numRetries: 3}"),
		policyFor("all", "payments", "limits: {maxRequests: 2, high: {maxRequests: 3}}"))
	m.programmed("all")
	m.programmed("canary")
	orders.calls(4, "/", hosts)
	if got := orders.stat(canary + "outlier_detection.ejections_active"); got != 1 {
		t.Errorf("%d ejections in the subset after the edit, want 1", got)
	}
	if got := orders.stat(payments + "upstream_cx_total"); got != warm {
		t.Errorf("the edit opened %d connections", got-warm)
	}

	// Two calls fill the limit; one of high priority passes all the same.
	for _, h := range hosts {
		h.Set(harness.Behaviour{Delay: 2 * time.Second})
	}
	answers := inFlight(t, orders, hosts, 2)
	for _, h := range hosts {
		h.Set(harness.Behaviour{})
	}
	orders.want("payments", http.StatusServiceUnavailable)
	orders.calls(3, "/urgent/", hosts)
	for _, a := range answers() {
		if a.Status != http.StatusOK {
			t.Errorf("a call under way = %d, %v; want 200", a.Status, a.Err)
		}
	}
	if got, err := orders.Runtime("circuit_breakers.shop/payments|v2.default.max_requests"); err != nil || got != "1" {
		t.Errorf("the subset's limit is %q, %v; want 1", got, err)
	}
}
