package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// No edit of these sections rebuilds a cluster or drains a connection: a host that is ejected stays out, a call under way goes on over its
// connection, and the edit is seen all the same.
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
	eventually(t, func() error {
		if n := good.Active(); n != 1 {
			return fmt.Errorf("%d calls are under way, want 1", n)
		}
		return nil
	})
	const modified, listeners, destroyed = "cluster_manager.cluster_modified", "listener_manager.listener_modified", payments + "upstream_cx_destroy"
	clusters, listened := orders.stat(modified), orders.stat(listeners)
	broken := harness.Behaviour{Status: http.StatusInternalServerError}
	for _, tt := range []struct {
		name    string
		section string
		host    harness.Behaviour
		status  int
	}{
		{"retry", "retry: {numRetries: 1, retryOn: [5xx]}", broken, 500},
		{"timeout", "timeout: {request: 150ms}", harness.Behaviour{Hang: true}, 504},
		{"deadline", "timeout: {request: 900ms, deadline: {keepPercent: 50, minimum: 450ms}}", harness.Behaviour{}, 504},
		{"limits", "limits: {maxRequests: 1}", harness.Behaviour{}, 503},
		{"rate limit", "rateLimit: {requests: 1, interval: 60s}", harness.Behaviour{}, 429},
		{"fallback response", "fallback: {response: {status: 203}}", broken, 203},
		{"fallback service", "fallback: {service: queue}", broken, 200},
		{"errorMapping", "errorMapping: {gateway: true}", harness.Behaviour{Reset: true}, 502},
	} {
		good.Set(harness.Behaviour{})
		before := orders.stat(destroyed)
		m.apply(policyFor("edit", "payments", tt.section))
		m.programmed("edit")
		if n := orders.stat(destroyed) - before; n != 0 {
			t.Errorf("%s: the edit closed %d connections", tt.name, n)
		}
		good.Set(tt.host)
		eventually(t, func() error {
			call := orders.Send(t.Context(), http.MethodGet, "payments", "/", http.Header{"X-Breakwater-Budget-Ms": {"800"}})
			if call.Status != tt.status {
				return fmt.Errorf("%s: answered %d, want %d", tt.name, call.Status, tt.status)
			}
			return nil
		})
		if now, lds, out, active := orders.stat(modified), orders.stat(listeners), orders.stat(ejected), good.Active(); now != clusters || lds != listened || out < 1 || active < 1 {
			t.Errorf("%s: %d clusters and %d listeners changed, %d hosts are ejected and %d calls under way; want none, none, 1 and 1",
				tt.name, now-clusters, lds-listened, out, active)
		}
	}
}
