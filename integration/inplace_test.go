package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// No edit of these sections rebuilds a cluster or drains a connection: a host that is ejected stays out, a call under way goes on over its
// connection, one without a call stays open, and the edit is seen all the same.
func TestRouteEditsActInPlace(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	hosts := m.service("payments", 2)
	m.service("queue", 1)[0].Set(harness.Behaviour{Body: "queued"})
	m.service("orders", 0)
	orders := m.envoy("orders")
	m.apply(policyFor("eject", "payments", outlier, "loadBalancing: {panicThreshold: 0}"))
	m.programmed("eject")
	m.eject(orders, hosts[1])
	good := hosts[0]
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	good.Set(harness.Behaviour{Hang: true})
	go orders.GetContext(ctx, "payments", "/")
	underWay(t, good, 1)
	const modified, listeners = "cluster_manager.cluster_modified", "listener_manager.listener_modified"
	const open, destroyed = payments + "upstream_cx_active", payments + "upstream_cx_destroy"
	clusters, listened := orders.stat(modified), orders.stat(listeners)
	broken, slow := harness.Behaviour{Status: http.StatusInternalServerError}, harness.Behaviour{Delay: 400 * time.Millisecond}
	routes := func(priority string) string {
		return "routes: [{name: all, match: {path: {prefix: /}}, priority: " + priority + "}]"
	}
	for _, tt := range []struct {
		name    string
		section string
		host    harness.Behaviour
		status  int
		tries   int64 // at the host, of one call
	}{
		{"retry", "retry: {numRetries: 1, retryOn: [5xx], backOff: {base: 1ms, max: 1ms}}", broken, 500, 2},
		{"retry budget", "retry: {numRetries: 1, retryOn: [5xx], backOff: {base: 1ms, max: 1ms}, budget: {percent: 0, minConcurrent: 0}}", broken, 500, 1},
		{"retry methods", "retry: {numRetries: 2, retryOn: [5xx], methods: safe, backOff: {base: 1ms, max: 1ms}}", broken, 500, 3},
		{"timeout", "timeout: {request: 150ms}", harness.Behaviour{Hang: true}, 504, 1},
		{"perTry", "timeout: {perTry: 150ms}", slow, 504, 1},
		{"hedge", "timeout: {perTry: 150ms}\n  retry: {numRetries: 1, retryOn: [5xx]}\n  hedge: {onPerTryTimeout: true}", slow, 200, 2},
		{"deadline", "timeout: {request: 900ms, deadline: {keepPercent: 50, minimum: 450ms}}", harness.Behaviour{}, 504, 0},
		{"limits", "limits: {maxRequests: 1}", harness.Behaviour{}, 503, 0},
		{"priority", "limits: {maxRequests: 1}", harness.Behaviour{}, 200, 1},
		{"limits of high priority", "limits: {maxRequests: 1, high: {maxRequests: 0}}", harness.Behaviour{}, 503, 0},
		{"bulkhead", "bulkhead: {maxConcurrent: 1}", harness.Behaviour{}, 503, 0},
		{"rate limit", "rateLimit: {requests: 1, interval: 60s}", harness.Behaviour{}, 429, 0},
		{"fallback response", "fallback: {response: {status: 203}}", broken, 203, 1},
		{"fallback service", "fallback: {service: queue}", broken, 200, 1},
		{"errorMapping", "errorMapping: {gateway: true}", harness.Behaviour{Reset: true}, 502, 1},
	} {
		good.Set(harness.Behaviour{})
		eventually(t, func() error { // limits of the section before may hold it up, they opened one then
			if n := orders.stat(open); n < 2 {
				return fmt.Errorf("%s: answered %d, with %d connections open, want 2", tt.name, orders.Get("payments", "/").Status, n)
			}
			return nil
		})
		before := orders.stat(destroyed)
		priority := "default"
		if strings.Contains(tt.name, "priority") {
			priority = "high"
		}
		m.apply(policyFor("edit", "payments", tt.section), m.manifest("payments", routes(priority)))
		m.programmed("edit")
		if n := orders.stat(destroyed) - before; n != 0 {
			t.Errorf("%s: the edit closed %d connections", tt.name, n)
		}
		good.Set(tt.host)
		eventually(t, func() error {
			tries := good.Requests()
			call := orders.Send(t.Context(), http.MethodGet, "payments", "/", http.Header{"X-Breakwater-Budget-Ms": {"800"}})
			if tries = good.Requests() - tries; call.Status != tt.status || tries != tt.tries {
				return fmt.Errorf("%s: answered %d after %d tries, want %d after %d", tt.name, call.Status, tries, tt.status, tt.tries)
			}
			return nil
		})
		if now, lds, out, active := orders.stat(modified), orders.stat(listeners), orders.stat(ejected), good.Active(); now != clusters || lds != listened || out < 1 || active < 1 {
			t.Errorf("%s: %d clusters and %d listeners changed, %d hosts are ejected and %d calls under way; want none, none, 1 and 1",
				tt.name, now-clusters, lds-listened, out, active)
		}
	}
}
