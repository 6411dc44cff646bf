package resilience

import (
	"sync/atomic"
	"time"
)

// Rand returns uniformly distributed random bits. It may be called from many goroutines.
type Rand func() uint64

// HostState is what the data plane knows of one host of one cluster by using it. It lives longer than any configuration: a changed
// one finds ejections and counters as they were (Envoy forgets them with the cluster).
type HostState struct {
	// Written by calls, from many goroutines.
	flags                 atomic.Uint32
	active                atomic.Int32
	failed5xx             atomic.Uint32
	failedGateway         atomic.Uint32
	failedLocal           atomic.Uint32
	external, localOrigin window

	// Guarded by whoever serialises Detector.Eject and Detector.Tick.
	ejections   uint32 // ever
	multiplier  uint32
	ejectedAt   time.Time
	unejectedAt time.Time
	jitter      time.Duration
	lastReason  Ask
	degradation degradation

	_ [64]byte // the next host's counters are on another cache line
}

// degradation is the back-off of a host that calls itself degraded.
type degradation struct {
	since, cleared time.Time
	multiplier     uint32
	jitter         time.Duration
}

const (
	flagEjected uint32 = 1 << iota
	flagDegraded
	flagFailedCheck
	flagDegradedCheck
)

// NewHostState returns a host nothing is known of.
func NewHostState() *HostState { return new(HostState) }

// Ejected reports whether outlier detection holds h out of rotation.
func (h *HostState) Ejected() bool { return h.flags.Load()&flagEjected != 0 }

// Degraded reports whether h said of itself, in a response or a health check, that it is degraded.
func (h *HostState) Degraded() bool { return h.flags.Load()&(flagDegraded|flagDegradedCheck) != 0 }

// FailedCheck reports whether h fails its active health check.
func (h *HostState) FailedCheck() bool { return h.flags.Load()&flagFailedCheck != 0 }

// SetCheck stores the result of active health checking: whether h fails, and whether it answered as degraded.
func (h *HostState) SetCheck(failed, degraded bool) {
	h.set(flagFailedCheck, failed)
	h.set(flagDegradedCheck, degraded)
}

// Begin counts a request that h works on; End is owed for it.
func (h *HostState) Begin() { h.active.Add(1) }

// End takes back a Begin.
func (h *HostState) End() { h.active.Add(-1) }

// Active is how many requests h works on.
func (h *HostState) Active() int { return int(h.active.Load()) }

// Ejections counts the ejections of h since it is known. It is serialised with Detector.Tick.
func (h *HostState) Ejections() uint32 { return h.ejections }

func (h *HostState) set(flag uint32, on bool) {
	if on {
		h.flags.Or(flag)
	} else {
		h.flags.And(^flag)
	}
}

func (h *HostState) clearFailures() {
	h.failed5xx.Store(0)
	h.failedGateway.Store(0)
	h.failedLocal.Store(0)
}

// window counts the results of one interval: all of them in the low half, the successes in the high half, so that one addition
// counts a result and one exchange takes a pair that belongs together.
type window struct{ counts atomic.Uint64 }

func (w *window) success() { w.counts.Add(1<<32 | 1) }

func (w *window) failure() { w.counts.Add(1) }

// take ends the interval: it returns its counts and starts the next one.
func (w *window) take() (successes, total uint64) {
	counts := w.counts.Swap(0)
	return counts >> 32, counts & (1<<32 - 1)
}
