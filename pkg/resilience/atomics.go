package resilience

import "sync/atomic"

// reset sets a counter to 0. It writes only what is not 0 yet: in good times nobody owns the cache line.
func reset(counter *atomic.Uint32) {
	if counter.Load() != 0 {
		counter.Store(0)
	}
}

// lower sets a counter that has reached threshold to one below it.
func lower(counter *atomic.Uint32, threshold uint32) {
	for {
		n := counter.Load()
		if threshold == 0 || n < threshold || counter.CompareAndSwap(n, threshold-1) {
			return
		}
	}
}
