package resilience

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestLimitsAreExactAndGivenBack(t *testing.T) {
	thresholds := &Thresholds{MaxRequests: 2, MaxPendingRequests: 1, MaxConnections: 3, MaxRetries: 0}
	var c Counters
	now := time.Unix(0, 0)
	for name, of := range map[string]struct {
		try   func() bool
		done  func()
		limit int
	}{
		"requests":    {func() bool { return c.TryRequest(thresholds) }, c.DoneRequest, 2},
		"pending":     {func() bool { return c.TryPending(thresholds) }, c.DonePending, 1},
		"connections": {func() bool { return c.TryConnection(thresholds, false) }, c.DoneConnection, 3},
		"retries":     {func() bool { return c.TryRetry(thresholds, now) }, c.DoneRetry, 0},
	} {
		for range 2 {
			got := 0
			for of.try() {
				got++
			}
			if got != of.limit || of.try() {
				t.Errorf("%s: %d, want %d", name, got, of.limit)
			}
			for range got {
				of.done()
			}
		}
	}
}

func TestFirstConnectionOfAPoolIsFree(t *testing.T) {
	var c Counters
	none := &Thresholds{MaxConnections: 0}
	first, second, third := c.TryConnection(none, true), c.TryConnection(none, true), c.TryConnection(none, false)
	if !first || !second || third || c.Connections() != 2 {
		t.Errorf("%d connections, want the first of two pools and no more", c.Connections())
	}
}

func TestALoweredLimitKnowsWhatIsInFlight(t *testing.T) {
	var c Counters
	for range 6 {
		c.TryRequest(&Thresholds{MaxRequests: Unlimited})
	}
	lowered := &Thresholds{MaxRequests: 5}
	for got, want := range []bool{false, false, true} {
		if ok := c.TryRequest(lowered); ok != want {
			t.Errorf("after %d ended: %v, want %v", got, ok, want)
		}
		c.DoneRequest()
	}
}

func TestRetryBudget(t *testing.T) {
	for _, tt := range []struct {
		budget            Budget
		requests, pending int
		want              uint64
	}{
		{Budget{Percent: 20, MinConcurrent: 3}, 0, 0, 3},
		{Budget{Percent: 20, MinConcurrent: 3}, 15, 0, 3},
		{Budget{Percent: 20, MinConcurrent: 3}, 19, 0, 3},
		{Budget{Percent: 20, MinConcurrent: 3}, 20, 0, 4},
		{Budget{Percent: 20, MinConcurrent: 3}, 15, 10, 5},
		{Budget{Percent: 20, MinConcurrent: 0}, 4, 0, 0},
		{Budget{Percent: 12.5, MinConcurrent: 0}, 16, 0, 2},
		{Budget{Percent: 0, MinConcurrent: 0}, 100, 0, 0},
		{Budget{Percent: 100, MinConcurrent: 1}, 7, 1, 8},
	} {
		var c Counters
		open := &Thresholds{MaxRequests: Unlimited, MaxPendingRequests: Unlimited}
		for range tt.requests {
			c.TryRequest(open)
		}
		for range tt.pending {
			c.TryPending(open)
		}
		thresholds := &Thresholds{MaxRetries: 1000, Budget: &tt.budget}
		got := uint64(0)
		for c.TryRetry(thresholds, time.Unix(0, 0)) {
			got++
		}
		if got != tt.want {
			t.Errorf("%+v with %d active and %d pending: %d retries, want %d", tt.budget, tt.requests, tt.pending, got, tt.want)
		}
	}
}

func TestBudgetInterval(t *testing.T) {
	var c Counters
	thresholds := &Thresholds{MaxRequests: Unlimited, Budget: &Budget{Percent: 50, Interval: time.Second}}
	start := time.Unix(5000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	for ms := range 1000 { // one request each millisecond
		c.Finished(thresholds, at(ms))
	}
	for _, tt := range []struct {
		ms   int
		want uint64
	}{{999, 500}, {1050, 450}, {1850, 50}, {2000, 0}, {60_000, 0}} {
		if got := c.RetryLimit(thresholds, at(tt.ms)); got != tt.want {
			t.Errorf("%d ms after the first: %d, want %d", tt.ms, got, tt.want)
		}
	}
	c.Finished(thresholds, at(30_000))
	c.Finished(thresholds, at(30_010))
	for range 10 {
		c.Finished(thresholds, at(0)) // was long in flight: its time is over
	}
	if got := c.RetryLimit(thresholds, at(30_020)); got != 1 {
		t.Errorf("two finished: %d, want 1", got)
	}
	c.TryRequest(thresholds)
	c.TryRequest(thresholds)
	if got := c.RetryLimit(thresholds, at(30_020)); got != 2 {
		t.Errorf("two finished, two active: %d, want 2", got)
	}
	c.Finished(&Thresholds{Budget: &Budget{Percent: 50}}, at(30_000))
	if got := c.RetryLimit(&Thresholds{Budget: &Budget{Percent: 100}}, at(30_020)); got != 2 {
		t.Errorf("without an interval: %d, want the active 2", got)
	}
}

// TestLimitHoldsUnderContention lets two goroutines take off for one place at the same moment, again and again.
func TestLimitHoldsUnderContention(t *testing.T) {
	const rounds = 20_000
	thresholds := &Thresholds{MaxRequests: 1}
	counters := make([]Counters, rounds)
	var admitted, arrived atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for round := range counters {
				arrived.Add(1)
				for arrived.Load() < int64(2*round+2) {
					runtime.Gosched()
				}
				if counters[round].TryRequest(thresholds) {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := admitted.Load(); n != rounds {
		t.Errorf("%d admitted to %d places", n, rounds)
	}
}

// TestNoRefusalWhilePlacesAreFree has two goroutines share two places: neither may ever be refused.
func TestNoRefusalWhilePlacesAreFree(t *testing.T) {
	thresholds := &Thresholds{MaxRequests: 2}
	var c Counters
	var refused atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 20_000 {
				if !c.TryRequest(thresholds) {
					refused.Add(1)
					continue
				}
				c.DoneRequest()
			}
		})
	}
	wg.Wait()
	if n := refused.Load(); n != 0 {
		t.Errorf("%d refused, want 0", n)
	}
}

func TestFinishedCountsUnderContention(t *testing.T) {
	var c Counters
	thresholds := &Thresholds{Budget: &Budget{Percent: 100, Interval: time.Second}}
	now := time.Unix(7000, 0)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				c.Finished(thresholds, now)
			}
		})
	}
	wg.Wait()
	if got := c.RetryLimit(thresholds, now); got != 4000 {
		t.Errorf("%d, want 4000", got)
	}
}

func BenchmarkTryRequest(b *testing.B) {
	thresholds := &Thresholds{MaxRequests: 1024}
	var c Counters
	b.ReportAllocs()
	for b.Loop() {
		if c.TryRequest(thresholds) {
			c.DoneRequest()
		}
	}
}
