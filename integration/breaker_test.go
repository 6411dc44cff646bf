package integration_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// A breaker of one host that stays broken opens ten times, and each time for as long: from recoveryTimeout to the tick after it, one second
// later at most. Ejections that grow with each one would be six seconds longer at the tenth.
func TestBreakerIsOpenAsLongEachTime(t *testing.T) {
	t.Parallel()
	const recovery, tick, busy = 600 * time.Millisecond, time.Second, 900 * time.Millisecond
	m := newMesh(t)
	host := m.service("payments", 1)[0]
	m.service("orders", 0)
	orders := m.envoy("orders")
	m.apply(policyFor("breaker", "payments", "circuitBreaker: {failureThreshold: 2, recoveryTimeout: "+recovery.String()+"}"))
	m.programmed("breaker")
	host.Set(harness.Behaviour{Status: http.StatusBadGateway})
	var reached time.Time // when the host was last asked
	for opening := 0; opening < 10; {
		begun := time.Now()
		if orders.Get("payments", "/").Status == http.StatusServiceUnavailable { // no host
			<-time.After(10 * time.Millisecond)
			continue
		}
		if open := begun.Sub(reached); !reached.IsZero() && open > 300*time.Millisecond {
			opening++
			if open < recovery-50*time.Millisecond || open > recovery+tick+busy {
				t.Errorf("opening %d lasted %v, want %v to %v", opening, open, recovery, recovery+tick)
			}
		}
		reached = time.Now()
	}
	if n := orders.stat(payments + "outlier_detection.ejections_enforced_total"); n < 10 {
		t.Errorf("%d ejections, want at least 10", n)
	}
}
