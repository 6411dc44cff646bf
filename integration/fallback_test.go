package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// A fallback service answers whatever keeps the service from answering, though the callers do not depend on it, and the limits of the
// service still hold.
func TestFallbackServiceAnswers(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	hosts := m.service("payments", 2)
	queue := m.service("queue", 1)[0]
	queue.Set(harness.Behaviour{Body: "queued"})
	m.service("empty", 0)
	m.service("orders", 0, "dependsOn: [payments, empty]")
	orders := m.envoy("orders")
	if call := orders.Get("queue", "/"); call.Status != http.StatusNotFound {
		t.Fatalf("queue, on which orders does not depend: %d, want 404", call.Status)
	}
	all := func(b harness.Behaviour) {
		for _, h := range hosts {
			h.Set(b)
		}
	}
	fallen := func(what, host string, tries int64) {
		t.Helper()
		before, spare := hosts[0].Requests()+hosts[1].Requests(), queue.Requests()
		call := orders.Get(host, "/")
		got := hosts[0].Requests() + hosts[1].Requests() - before
		if call.Status != http.StatusOK || call.Body != "queued" || got != tries || queue.Requests() != spare+1 {
			t.Errorf("%s: %d %q after %d tries, want the fallback's answer after %d", what, call.Status, call.Body, got, tries)
		}
	}
	const breaker = "circuitBreaker: {failureThreshold: 1000, recoveryTimeout: 60s}"
	for retries := range int64(3) {
		lines := []string{"timeout: {request: 5s, perTry: 200ms}", "fallback: {service: queue}", breaker}
		if retries > 0 {
			lines = append(lines, fmt.Sprintf("retry: {numRetries: %d, backOff: {base: 1ms, max: 1ms}}", retries))
		}
		m.apply(policyFor("fall", `"*"`, lines...))
		m.programmed("fall")
		all(harness.Behaviour{Status: http.StatusServiceUnavailable})
		fallen("503", "payments", retries+1)
		all(harness.Behaviour{Reset: true})
		fallen("reset", "payments", retries+1)
		all(harness.Behaviour{Hang: true})
		fallen("stall", "payments", retries+1)
		fallen("no hosts", "empty", 0)
		all(harness.Behaviour{})
		if call := orders.want("payments", http.StatusOK); call.Body == "queued" {
			t.Error("a service that is well is replaced by its fallback")
		}
		if call := orders.Get("queue", "/"); call.Status != http.StatusNotFound {
			t.Errorf("queue by its name: %d, want 404: it is no more than a fallback", call.Status)
		}
	}

	// A composite does not spill: with one host out, all calls go to the other.
	m.apply(policyFor("fall", `"*"`, "fallback: {service: queue}", "circuitBreaker: {failureThreshold: 2, recoveryTimeout: 60s}"))
	m.programmed("fall")
	hosts[0].Set(harness.Behaviour{Status: http.StatusServiceUnavailable})
	eventually(t, func() error {
		orders.Get("payments", "/")
		if n := orders.stat(ejected); n != 1 {
			return fmt.Errorf("%d hosts are ejected, want 1", n)
		}
		return nil
	})
	spare := queue.Requests()
	for range 20 {
		orders.want("payments", http.StatusOK)
	}
	if n := queue.Requests() - spare; n != 0 {
		t.Errorf("with one host of two ejected %d of 20 calls went to the fallback", n)
	}
	hosts[1].Set(harness.Behaviour{Status: http.StatusServiceUnavailable})
	eventually(t, func() error {
		orders.Get("payments", "/")
		if n := orders.stat(ejected); n != 2 {
			return fmt.Errorf("%d hosts are ejected, want 2", n)
		}
		return nil
	})
	fallen("all ejected", "payments", 0)
}

func TestFallbackKeepsTheLimitsOfTheService(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	hosts := m.service("payments", 1)
	queue := m.service("queue", 1)[0]
	queue.Set(harness.Behaviour{Body: "queued"})
	m.service("orders", 0)
	orders := m.envoy("orders")
	m.apply(policyFor("fall", "payments", "fallback: {service: queue}", "limits: {maxRequests: 2}"))
	m.programmed("fall")
	hosts[0].Set(harness.Behaviour{Hang: true})
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	for range 2 {
		go orders.GetContext(ctx, "payments", "/")
	}
	eventually(t, func() error {
		if n := hosts[0].Active(); n != 2 {
			return fmt.Errorf("%d calls are under way, want 2", n)
		}
		return nil
	})
	if call := orders.Get("payments", "/"); call.Status != http.StatusServiceUnavailable || call.Elapsed > 5*time.Second {
		t.Errorf("call 3 of 2: %d %q, want 503 from the limit", call.Status, call.Body)
	}
	// A fallback that does not exist changes nothing, until it does.
	hangUp()
	m.apply(policyFor("fall", "payments", "fallback: {service: spare}"))
	m.programmed("fall")
	hosts[0].Set(harness.Behaviour{Status: http.StatusBadGateway})
	orders.reaches("payments", http.StatusBadGateway)
	m.service("spare", 1)
	orders.reaches("payments", http.StatusOK)
}
