package integration_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/api"
)

// TestClampedLimitHolds lets a policy ask for more calls than a guardrail lets through, on Envoy and on the agent: the guardrail's number
// holds from the moment it is written, and the policy's once it is gone.
func TestClampedLimitHolds(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	hosts := m.service("payments", 1)
	m.service("orders", 0)
	m.service("edge", 0)
	callers := map[string]interface {
		Get(host, path string) harness.Call
	}{"Envoy": m.envoy("orders"), "agent": m.agent("edge")}
	hosts[0].Set(harness.Behaviour{Delay: 300 * time.Millisecond})
	m.apply(policyFor("wide", "payments", "bulkhead: {maxConcurrent: 20}"))
	m.programmed("wide")

	for name, c := range callers {
		if ok := together(c.Get, 8); ok != 8 {
			t.Errorf("%s: %d of 8 calls at once got through without a guardrail, want 8", name, ok)
		}
	}
	m.apply("apiVersion: breakwater/v1alpha1\nkind: Guardrail\nmetadata: {namespace: shop, name: guard}\nspec: {to: {service: \"*\"}, bounds: [{field: limits.maxRequests, max: 3}]}\n")
	m.delivered(api.Guardrails, "guard") // by both
	for name, c := range callers {
		eventually(t, func() error {
			if ok := together(c.Get, 8); ok != 3 {
				return fmt.Errorf("%s: %d of 8 calls at once got through, want the guardrail's 3", name, ok)
			}
			return nil
		})
	}
	m.remove("guardrails", "guard")
	for name, c := range callers {
		eventually(t, func() error {
			if ok := together(c.Get, 8); ok != 8 {
				return fmt.Errorf("%s: %d of 8 calls at once got through after the guardrail went, want 8", name, ok)
			}
			return nil
		})
	}
}

// together sends n calls at once and counts those that got through.
func together(get func(host, path string) harness.Call, n int) int {
	var wg sync.WaitGroup
	answers := make([]int, n)
	for i := range n {
		wg.Go(func() { answers[i] = get("payments", "/").Status })
	}
	wg.Wait()
	ok := 0
	for _, status := range answers {
		if status == 200 {
			ok++
		}
	}
	return ok
}
