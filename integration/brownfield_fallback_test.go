package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// ledge is a mesh whose caller is an Envoy with routes of its own, by which payments is pay.legacy, queue, its fallback, is queue.legacy, and
// empty, which has no hosts, is empty.legacy.
type ledge struct {
	*mesh
	hosts  []*harness.Host
	queue  *harness.Host
	orders *sidecar
}

func newLedge(t *testing.T, policies ...string) *ledge {
	t.Helper()
	m := newMesh(t)
	l := &ledge{mesh: m, hosts: m.service("payments", 2, "clusterName: pay.legacy"), queue: m.service("queue", 1, "clusterName: queue.legacy")[0]}
	l.queue.Set(harness.Behaviour{Body: "queued"})
	m.service("empty", 0, "clusterName: empty.legacy")
	m.service("orders", 0)
	if len(policies) > 0 {
		m.apply(policies...)
	}
	l.orders = m.brownfieldTo("orders", []string{"pay.legacy", "queue.legacy", "empty.legacy"})
	return l
}

// accepted fails the test where Envoy rejects anything.
func (l *ledge) accepted() {
	l.t.Helper()
	if r := l.rejections(); len(r) > 0 {
		l.t.Errorf("Envoy rejects %v", r)
	}
}

// The name in the owner's routes leads to the service, and behind its last try to the fallback; there at once where no host is left.
func TestBrownfieldFallbackServiceAnswers(t *testing.T) {
	t.Parallel()
	const once = "fallback: {service: queue}"
	l := newLedge(t, policyFor("fall", "payments", once), policyFor("none", "empty", once))
	for range 20 { // from the first call on
		if call := l.orders.Get("pay", "/"); call.Status != http.StatusOK || call.Body == "queued" {
			t.Fatalf("a service that is well: %d %q, want its own answer", call.Status, call.Body)
		}
	}
	falls(t, "no hosts", l.orders, "empty.legacy", l.hosts, l.queue, 0)
	for retries := range int64(3) {
		l.apply(policyFor("fall", "payments", once, "timeout: {perTry: 100ms}", tries(retries), "circuitBreaker: {failureThreshold: 1000, recoveryTimeout: 60s}"))
		l.programmed("fall")
		what := fmt.Sprintf("%d retries, ", retries)
		for name, b := range map[string]harness.Behaviour{"503": {Status: http.StatusServiceUnavailable}, "reset": {Reset: true}, "stall": {Hang: true}} {
			setAll(l.hosts, b)
			falls(t, what+name, l.orders, "pay", l.hosts, l.queue, retries+1)
		}
	}

	// A POST must not be sent to the service twice, so nothing is retried: it falls back only where there is no host.
	setAll(l.hosts, harness.Behaviour{Status: http.StatusServiceUnavailable})
	post := func() harness.Call { return l.orders.Send(t.Context(), http.MethodPost, "pay", "/", nil) }
	before := requests(l.hosts)
	if call := post(); call.Status != http.StatusServiceUnavailable || requests(l.hosts)-before != 1 {
		t.Errorf("a POST that fails: %d after %d tries, want 503 after 1", call.Status, requests(l.hosts)-before)
	}
	// The composite spills nothing while a host is left.
	l.apply(policyFor("fall", "payments", once, tries(1), "circuitBreaker: {failureThreshold: 2, recoveryTimeout: 60s}"))
	l.programmed("fall")
	l.hosts[1].Set(harness.Behaviour{})
	ejects(t, l.orders, 1)
	spare := l.queue.Requests()
	if ok := succeeded(l.orders, 20); ok != 20 || l.queue.Requests() != spare {
		t.Errorf("with one host of two ejected %d of 20 calls succeed, %d at the fallback; want 20 and none", ok, l.queue.Requests()-spare)
	}
	l.hosts[1].Set(harness.Behaviour{Status: http.StatusServiceUnavailable})
	ejects(t, l.orders, 2)
	falls(t, "all ejected", l.orders, "pay", l.hosts, l.queue, 0)
	if call := post(); call.Body != "queued" {
		t.Errorf("a POST with all ejected: %d %q, want the fallback's answer", call.Status, call.Body)
	}
	l.accepted()
}

// Two services may stand in for each other, as their owner calls them; the fallback's own fallback is not asked.
func TestBrownfieldFallbacksOfEachOther(t *testing.T) {
	t.Parallel()
	l := newLedge(t, policyFor("payments", "payments", "fallback: {service: queue}"), policyFor("queue", "queue", "fallback: {service: payments}"))
	setAll(l.hosts, harness.Behaviour{Status: http.StatusServiceUnavailable})
	falls(t, "payments", l.orders, "pay", l.hosts, l.queue, 1)
	l.queue.Set(harness.Behaviour{Status: http.StatusServiceUnavailable})
	for _, host := range []string{"pay", "queue.legacy"} {
		before, beside := requests(l.hosts), l.queue.Requests()
		call := l.orders.Get(host, "/")
		if p, q := requests(l.hosts)-before, l.queue.Requests()-beside; call.Status != http.StatusServiceUnavailable || p != 1 || q != 1 {
			t.Errorf("%s: %d after %d tries at payments and %d at queue, want 503 after 1 and 1", host, call.Status, p, q)
		}
	}
	l.accepted()
}

// Turning the fallback on and off builds the named cluster anew, and no call is lost by it.
func TestBrownfieldFallbackComesAndGoesUnderTraffic(t *testing.T) {
	t.Parallel()
	l := newLedge(t)
	l.orders.reaches("pay", http.StatusOK)
	setAll(l.hosts, harness.Behaviour{Delay: 5 * time.Millisecond})
	stop := l.calls(4)
	for i := range 6 {
		modified := l.orders.stat("cluster_manager.cluster_modified")
		sections := []string{"limits: {maxRequests: 400}"}
		if i%2 == 0 {
			sections = append(sections, "fallback: {service: queue}")
		}
		l.apply(policyFor("fall", "payments", sections...))
		l.programmed("fall")
		if n := l.orders.stat("cluster_manager.cluster_modified") - modified; n != 1 {
			t.Errorf("step %d builds %d clusters anew, want 1", i, n)
		}
	}
	for _, call := range stop() {
		if call.Status != http.StatusOK || call.Body == "queued" {
			t.Errorf("a call while the fallback comes and goes: %d %q %v", call.Status, call.Body, call.Err)
		}
	}
	l.accepted()
}

// calls has n callers call payments all the time; stop ends that, and returns all calls.
func (l *ledge) calls(n int) (stop func() []harness.Call) {
	ctx, cancel := context.WithCancel(l.t.Context())
	var mu sync.Mutex
	var wg sync.WaitGroup
	var all []harness.Call
	for range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				call := l.orders.Get("pay", "/")
				mu.Lock()
				all = append(all, call)
				mu.Unlock()
			}
		})
	}
	return func() []harness.Call {
		cancel()
		wg.Wait()
		return all
	}
}
