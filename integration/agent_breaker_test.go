package integration_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// A breaker that is half open lets single calls through, and closes after as many successes in a row as are wanted.
func TestAgentTriesAnOpenBreaker(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	host := m.service("payments", 1)[0]
	m.service("orders", 0)
	a := m.agent("orders")
	a.reaches("payments", http.StatusOK)
	m.apply(policyFor("breaker", "payments", "circuitBreaker: {failureThreshold: 3, recoveryTimeout: 1s, halfOpen: {maxProbes: 1, successes: 2}}"))

	open := func() {
		t.Helper()
		host.Set(harness.Behaviour{Status: http.StatusServiceUnavailable})
		eventually(t, func() error {
			before := host.Requests()
			a.Get("payments", "/")
			if host.Requests() > before {
				return fmt.Errorf("the breaker is closed")
			}
			return nil
		})
	}
	open()

	eventually(t, func() error {
		text, err := a.Page("/outliers?format=json")
		if err == nil && (!strings.Contains(text, `"state": "half-open"`) || !strings.Contains(text, `"probes_left": 1`)) {
			err = fmt.Errorf("no host is half open: %s", text)
		}
		return err
	})

	// While it is half open one call at a time reaches the host, and others are refused at once.
	host.Set(harness.Behaviour{Delay: 300 * time.Millisecond})
	var most int64
	eventually(t, func() error {
		var wg sync.WaitGroup
		statuses := make([]int, 6)
		before := host.Requests()
		for i := range statuses {
			wg.Go(func() { statuses[i] = a.Get("payments", "/").Status })
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		for most = 0; ; {
			select {
			case <-done:
				if got := host.Requests() - before; got == 0 {
					return fmt.Errorf("it is still open: %v", statuses)
				}
				return nil
			case <-time.After(5 * time.Millisecond):
				most = max(most, host.Active())
			}
		}
	})
	if most != 1 {
		t.Errorf("%d calls at once reached the host of a breaker that is half open, want 1", most)
	}

	// A failure opens it again at once.
	host.Set(harness.Behaviour{Status: http.StatusServiceUnavailable})
	before := host.Requests()
	for range 4 {
		a.Get("payments", "/")
	}
	if got := host.Requests() - before; got != 1 {
		t.Errorf("%d calls reached a failing host on trial, want 1", got)
	}

	// It closes.
	host.Set(harness.Behaviour{})
	eventually(t, func() error {
		for range 10 {
			if call := a.Get("payments", "/"); call.Status != http.StatusOK {
				return fmt.Errorf("status %d", call.Status)
			}
		}
		return nil
	})
}
