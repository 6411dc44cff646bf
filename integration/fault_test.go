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

const faulty = "cluster.shop/payments~fault."

// faultFor is a policy with a fault that ends in that time, and more sections.
func faultFor(in time.Duration, fault string, more ...string) string {
	return policyFor("fault", "payments", append(more, "fault: {"+fault+"}", "expiresAt: "+time.Now().Add(in).UTC().Format(time.RFC3339))...)
}

// faultMesh is payments with two hosts, of which the second is ejected at every caller; a call is under way at the first one.
func faultMesh(t *testing.T) (m *mesh, hosts []*harness.Host, callers map[string]caller) {
	t.Helper()
	m = newMesh(t)
	hosts = m.service("payments", 2)
	m.service("orders", 0)
	callers = map[string]caller{"Envoy": m.envoy("orders"), "agent": m.agent("orders")}
	m.apply(policyFor("eject", "payments", strings.Replace(outlier, "consecutiveGatewayFailure: 3", "consecutiveGatewayFailure: 15", 1), "loadBalancing: {panicThreshold: 0}"))
	m.programmed("eject")
	hosts[1].Set(harness.Behaviour{Status: http.StatusServiceUnavailable})
	for _, orders := range callers {
		for range 30 {
			orders.Get("payments", "/")
		}
		ejects(t, orders, 1)
	}
	ctx, hangUp := context.WithCancel(context.Background())
	t.Cleanup(hangUp)
	hosts[0].Set(harness.Behaviour{Hang: true})
	for _, orders := range callers {
		go orders.GetContext(ctx, "payments", "/")
	}
	underWay(t, hosts[0], int64(len(callers)))
	hosts[0].Set(harness.Behaviour{})
	return m, hosts, callers
}

// Retries, the time limit of a try and ejection see an injected fault. The service's own cluster sees nothing: an ejected host stays out, a
// call under way goes on, no connection is closed, whether a fault comes, changes or ends.
func TestFaultsAreSeenByRetriesAndEjection(t *testing.T) {
	t.Parallel()
	m, hosts, callers := faultMesh(t)
	untouched := map[string]func(string){}
	for name, orders := range callers {
		destroyed := orders.stat(payments + "upstream_cx_destroy")
		untouched[name] = func(when string) {
			t.Helper()
			if n, out, active := orders.stat(payments+"upstream_cx_destroy")-destroyed, orders.stat(ejected), hosts[0].Active(); n != 0 || out != 1 || active != int64(len(callers)) {
				t.Errorf("%s, %s: %d connections were closed, %d hosts are ejected, %d calls under way; want 0, 1 and %d", name, when, n, out, active, len(callers))
			}
		}
	}
	const twice = "retry: {numRetries: 2, retryOn: [gateway-error], backOff: {base: 1ms, max: 1ms}}"
	for _, tt := range []struct {
		name, fault, more string
		status            int
		retried, reached  int64         // retries of one call, and how many tries came to the host
		least             time.Duration // that the call takes
	}{
		{"aborts are retried", "abort: {status: 503}", twice, 503, 2, 0, 0},
		{"an edit acts in place", "abort: {status: 501}", twice, 501, 0, 0, 0},
		{"a delay", "delay: {duration: 200ms}", twice, 200, 0, 1, 200 * time.Millisecond},
		{"a delay longer than a try may take", "delay: {duration: 5s}", "timeout: {perTry: 100ms}\n  " + twice, 504, 2, 0, 300 * time.Millisecond},
		{"an abort after a delay", "delay: {duration: 100ms}, abort: {status: 503}", twice, 503, 2, 0, 300 * time.Millisecond},
		{"a status that nobody retries", "abort: {status: 429}", twice, 429, 0, 0, 0},
	} {
		m.apply(faultFor(time.Hour, tt.fault, tt.more))
		m.programmed("fault")
		for name, orders := range callers {
			eventually(t, func() error {
				retried, reached := orders.stat(faulty+"upstream_rq_retry"), requests(hosts)
				call := orders.Get("payments", "/")
				retried, reached = orders.stat(faulty+"upstream_rq_retry")-retried, requests(hosts)-reached
				if call.Status != tt.status || retried != tt.retried || reached != tt.reached || call.Elapsed < tt.least {
					return fmt.Errorf("%s, %s: %d after %v, %d retries, %d calls at the host; want %d after %v, %d and %d",
						name, tt.name, call.Status, call.Elapsed, retried, reached, tt.status, tt.least, tt.retried, tt.reached)
				}
				return nil
			})
			untouched[name](tt.name)
		}
	}

	m.apply(faultFor(time.Hour, "abort: {status: 503}", "retry: {disabled: true}"))
	m.programmed("fault")
	for name, orders := range callers {
		for range 15 {
			orders.Get("payments", "/")
		}
		eventually(t, func() error {
			call := orders.Get("payments", "/")
			if n := orders.stat(faulty + "outlier_detection.ejections_active"); n != 1 {
				return fmt.Errorf("%s: %d, %d ejections for faults; want one", name, call.Status, n)
			}
			return nil
		})
		untouched[name]("faults have ejected")
	}

	m.apply(faultFor(2*time.Second, "abort: {status: 503}", "retry: {disabled: true}")) // and ends by itself
	for name, orders := range callers {
		eventually(t, func() error {
			if call := orders.Get("payments", "/"); call.Status != http.StatusOK {
				return fmt.Errorf("%s: %d, want 200 when the fault has expired", name, call.Status)
			}
			return nil
		})
		untouched[name]("the fault has expired")
	}
	eventually(t, func() error {
		if n := callers["Envoy"].stat("listener_manager.total_listeners_active"); n != 1 {
			return fmt.Errorf("%d listeners are left, want one", n)
		}
		return nil
	})
}

// No call is lost where a fault comes, changes and goes under load: the route moves when what it needs is there, and that goes last.
func TestNoCallIsLostWhenAFaultComesAndGoes(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.service("payments", 2)
	list, load := m.callers()
	m.apply(m.manifest("payments"))
	for _, orders := range list {
		eventually(t, func() error {
			if call := orders.Get("payments", "/"); call.Status != http.StatusOK {
				return fmt.Errorf("%d, want 200", call.Status)
			}
			return nil
		})
	}
	stop := load()
	for range 4 {
		for _, ms := range []int{1, 2} {
			m.apply(faultFor(time.Hour, fmt.Sprintf("delay: {duration: %dms}", ms)))
			m.programmed("fault")
		}
		m.remove("policies", "fault")
		time.Sleep(50 * time.Millisecond)
	}
	wantNoFailures(t, stop(), "a fault came and went")
}
