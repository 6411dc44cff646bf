package integration_test

import (
	"net/http"
	"testing"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// What counts as a failure by the criteria is counted so, by Envoy and agent, where admission control looks at the answers; one that may
// reject nothing only counts. All other statistics go by the status.
func TestFailuresAreCountedByTheCriteria(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	host := m.service("payments", 1)[0]
	m.service("orders", 0)
	m.apply(policyFor("count", "payments", "failureCriteria: {http: {statuses: [429, 503]}}", "admissionControl: {maxRejectionPercent: 0, successRatePercent: 100, aggression: 100}"))
	envoy, agent := m.envoy("orders"), m.agent("orders")
	agent.reaches("payments", http.StatusOK)
	m.programmed("count")
	for _, proxy := range []struct {
		name string
		get  func(host, path string) harness.Call
		stat func(name string) int64
	}{{"envoy", envoy.Get, envoy.stat}, {"agent", agent.Get, agent.stat}} {
		names := []string{"admission_control.rq_failure", "admission_control.rq_success", "admission_control.rq_rejected", "upstream_rq_5xx"}
		before := make([]int64, len(names))
		for i, n := range names {
			before[i] = proxy.stat(payments + n)
		}
		for _, status := range []int{429, 429, 429, 429, 429, 429, 429, 503, 500, 500, 404, 200} {
			host.Set(harness.Behaviour{Status: status})
			if call := proxy.get("payments", "/"); call.Status != status {
				t.Errorf("%s: a %d is answered %d, %v", proxy.name, status, call.Status, call.Err)
			}
		}
		host.Set(harness.Behaviour{})
		for i, want := range []int64{8, 4, 0, 3} {
			if got := proxy.stat(payments+names[i]) - before[i]; got != want {
				t.Errorf("%s: %s rose by %d, want %d", proxy.name, names[i], got, want)
			}
		}
	}
}
