package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// fallbackMesh is a mesh of payments with n hosts, a queue that stands in for it, and orders, who calls by way of an Envoy and of an agent.
// More are services without hosts.
func fallbackMesh(t *testing.T, n int, lines string, more ...string) (m *mesh, hosts []*harness.Host, queue *harness.Host, callers map[string]caller) {
	t.Helper()
	m = newMesh(t)
	hosts, queue = m.service("payments", n), m.service("queue", 1)[0]
	queue.Set(harness.Behaviour{Body: "queued"})
	for _, name := range more {
		m.service(name, 0)
	}
	m.service("orders", 0, lines)
	return m, hosts, queue, map[string]caller{"Envoy": m.envoy("orders"), "agent": m.agent("orders")}
}

func setAll(hosts []*harness.Host, b harness.Behaviour) {
	for _, h := range hosts {
		h.Set(b)
	}
}

func requests(hosts []*harness.Host) int64 {
	var n int64
	for _, h := range hosts {
		n += h.Requests()
	}
	return n
}

// tries is the retry section for so many retries.
func tries(retries int64) string {
	if retries == 0 {
		return "retry: {disabled: true}"
	}
	return fmt.Sprintf("retry: {numRetries: %d, retryOn: [connect-failure, 5xx], backOff: {base: 1ms, max: 1ms}}", retries)
}

// A fallback service answers after the last try, whatever keeps the service from answering, though the callers do not depend on it.
func TestFallbackServiceAnswers(t *testing.T) {
	t.Parallel()
	m, hosts, queue, callers := fallbackMesh(t, 2, "dependsOn: [payments, empty]", "empty")
	for name, orders := range callers {
		if call := orders.Get("queue", "/"); call.Status != http.StatusNotFound {
			t.Fatalf("%s: queue, on which orders does not depend: %d, want 404", name, call.Status)
		}
	}
	for retries := range int64(4) {
		m.apply(policyFor("fall", `"*"`, "timeout: {request: 5s, perTry: 200ms}", "fallback: {service: queue}", tries(retries),
			"circuitBreaker: {failureThreshold: 1000, recoveryTimeout: 60s}"))
		m.programmed("fall")
		for name, orders := range callers {
			what := fmt.Sprintf("%s, %d retries, ", name, retries)
			setAll(hosts, harness.Behaviour{Status: http.StatusServiceUnavailable})
			falls(t, what+"503", orders, "payments", hosts, queue, retries+1)
			setAll(hosts, harness.Behaviour{Reset: true})
			falls(t, what+"reset", orders, "payments", hosts, queue, retries+1)
			setAll(hosts, harness.Behaviour{Hang: true})
			falls(t, what+"stall", orders, "payments", hosts, queue, retries+1)
			falls(t, what+"no hosts", orders, "empty", hosts, queue, 0)
			setAll(hosts, harness.Behaviour{})
			if call := orders.Get("payments", "/"); call.Status != http.StatusOK || call.Body == "queued" {
				t.Errorf("%sa service that is well: %d %q, want its own answer", what, call.Status, call.Body)
			}
			if call := orders.Get("queue", "/"); call.Status != http.StatusNotFound {
				t.Errorf("%squeue by its name: %d, want 404: it is no more than a fallback", what, call.Status)
			}
		}
	}

	// A composite does not spill: with one host out, all calls go to the other.
	m.apply(policyFor("fall", `"*"`, "fallback: {service: queue}", "circuitBreaker: {failureThreshold: 2, recoveryTimeout: 60s}"))
	m.programmed("fall")
	for name, orders := range callers {
		setAll(hosts, harness.Behaviour{})
		hosts[0].Set(harness.Behaviour{Status: http.StatusServiceUnavailable})
		ejects(t, orders, 1)
		spare := queue.Requests()
		for range 20 {
			if call := orders.Get("payments", "/"); call.Status != http.StatusOK {
				t.Errorf("%s: with one host of two ejected %d, %v; want 200", name, call.Status, call.Err)
			}
		}
		if n := queue.Requests() - spare; n != 0 {
			t.Errorf("%s: with one host of two ejected %d of 20 calls went to the fallback", name, n)
		}
		hosts[1].Set(harness.Behaviour{Status: http.StatusServiceUnavailable})
		ejects(t, orders, 2)
		falls(t, name+", all ejected", orders, "payments", hosts, queue, 0)
	}
}

// ejects calls payments until n of its hosts are ejected.
func ejects(t *testing.T, orders caller, n int64) {
	t.Helper()
	eventually(t, func() error {
		orders.Get("payments", "/")
		if got := orders.stat(ejected); got != n {
			return fmt.Errorf("%d hosts are ejected, want %d", got, n)
		}
		return nil
	})
}

// falls calls a host once and wants the answer of queue, after so many tries at the hosts.
func falls(t *testing.T, what string, orders caller, host string, hosts []*harness.Host, queue *harness.Host, want int64) {
	t.Helper()
	before, spare := requests(hosts), queue.Requests()
	call := orders.Get(host, "/")
	got := requests(hosts) - before
	if call.Status != http.StatusOK || call.Body != "queued" || got != want || queue.Requests() != spare+1 {
		t.Errorf("%s: %d %q after %d tries, want the fallback's answer after %d", what, call.Status, call.Body, got, want)
	}
}

// The limits of the service hold for its tries, however many there are, and what they refuse does not fall back.
func TestFallbackKeepsTheLimitsOfTheService(t *testing.T) {
	t.Parallel()
	m, hosts, queue, callers := fallbackMesh(t, 1, "")
	for _, retries := range []int64{0, 3} {
		m.apply(policyFor("fall", "payments", "fallback: {service: queue}", "limits: {maxRequests: 2}", tries(retries)))
		m.programmed("fall")
		for name, orders := range callers {
			hosts[0].Set(harness.Behaviour{Hang: true})
			ctx, hangUp := context.WithCancel(t.Context())
			for range 2 {
				go orders.GetContext(ctx, "payments", "/")
			}
			underWay(t, hosts[0], 2)
			spare := queue.Requests()
			if call := orders.Get("payments", "/"); call.Status != http.StatusServiceUnavailable || call.Elapsed > 5*time.Second || queue.Requests() != spare {
				t.Errorf("%s, %d retries: call 3 of 2: %d %q after %v, want 503 from the limit", name, retries, call.Status, call.Body, call.Elapsed)
			}
			hangUp()
			underWay(t, hosts[0], 0)
			hosts[0].Set(harness.Behaviour{Status: http.StatusServiceUnavailable})
			falls(t, fmt.Sprintf("%s, %d retries, with room again", name, retries), orders, "payments", hosts, queue, retries+1)
		}
	}
}

// underWay waits until n calls are at the host.
func underWay(t *testing.T, host *harness.Host, n int64) {
	t.Helper()
	eventually(t, func() error {
		if got := host.Active(); got != n {
			return fmt.Errorf("%d calls are under way, want %d", got, n)
		}
		return nil
	})
}

// Two services may stand in for each other: a fallback's own fallback is not asked. One that stands in for itself, as a policy for several
// services may say, gets every call once more, a POST too.
func TestFallbacksOfEachOtherAndOfItself(t *testing.T) {
	t.Parallel()
	m, hosts, queue, callers := fallbackMesh(t, 1, "dependsOn: [payments, queue]")
	broken := harness.Behaviour{Status: http.StatusServiceUnavailable}
	setAll(append(hosts, queue), broken)
	asks := func(what string, orders caller, host string, payments, spare int64) {
		t.Helper()
		before, beside := requests(hosts), queue.Requests()
		call := orders.Send(t.Context(), http.MethodPost, host, "/", nil)
		if p, q := requests(hosts)-before, queue.Requests()-beside; call.Status != http.StatusServiceUnavailable || p != payments || q != spare {
			t.Errorf("%s, a call of %s: %d after %d tries at payments and %d at queue, want 503 after %d and %d", what, host, call.Status, p, q, payments, spare)
		}
	}
	m.apply(policyFor("payments", "payments", "fallback: {service: queue}"), policyFor("queue", "queue", "fallback: {service: payments}"))
	m.programmed("payments")
	m.programmed("queue")
	for name, orders := range callers {
		asks(name, orders, "payments", 1, 1)
		asks(name, orders, "queue", 1, 1)
	}
	m.apply(policyFor("queue", `"*"`, "fallback: {service: queue}"))
	m.programmed("queue")
	for name, orders := range callers {
		asks(name, orders, "payments", 1, 1)
		asks(name, orders, "queue", 0, 2)
	}
}

// A fallback that does not exist changes nothing, until it does.
func TestFallbackThatDoesNotExistYet(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.service("payments", 1)[0].Set(harness.Behaviour{Status: http.StatusBadGateway})
	m.service("orders", 0)
	orders := m.envoy("orders")
	m.apply(policyFor("fall", "payments", "fallback: {service: spare}"))
	m.programmed("fall")
	orders.reaches("payments", http.StatusBadGateway)
	m.service("spare", 1)
	orders.reaches("payments", http.StatusOK)
}
