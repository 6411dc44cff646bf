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
	healthySince          atomic.Int64 // by the Clock of pickers and checkers; 0: not known
	active                atomic.Int32
	probes                atomic.Int32  // calls that try the host
	passed                atomic.Uint32 // of them, in a row
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
	flagPendingCheck
	flagExcluded
	flagProbing
)

// NewHostState returns a host nothing is known of.
func NewHostState() *HostState { return new(HostState) }

// Ejected reports whether outlier detection holds h out of rotation.
func (h *HostState) Ejected() bool { return h.flags.Load()&flagEjected != 0 }

// Degraded reports whether h said of itself, in a response or a health check, that it is degraded.
func (h *HostState) Degraded() bool { return h.flags.Load()&(flagDegraded|flagDegradedCheck) != 0 }

// DegradedCheck reports whether h said so in its last health check.
func (h *HostState) DegradedCheck() bool { return h.flags.Load()&flagDegradedCheck != 0 }

// DegradedOutlier reports whether h said so in a response.
func (h *HostState) DegradedOutlier() bool { return h.flags.Load()&flagDegraded != 0 }

// FailedCheck reports whether h fails its active health check.
func (h *HostState) FailedCheck() bool { return h.flags.Load()&flagFailedCheck != 0 }

// Flags changes with each of what Ejected, Degraded, FailedCheck, PendingCheck and Excluded report.
func (h *HostState) Flags() uint32 { return h.flags.Load() }

// PendingCheck reports whether h waits for its first active health check, so that it is left out of what panic is a share of.
func (h *HostState) PendingCheck() bool { return h.flags.Load()&flagPendingCheck != 0 }

// Excluded reports whether h asked to be left out at once, by x-envoy-immediate-health-check-fail.
func (h *HostState) Excluded() bool { return h.flags.Load()&flagExcluded != 0 }

func (h *HostState) excluded() bool { return h.flags.Load()&(flagPendingCheck|flagExcluded) != 0 }

// SetCheck stores the result of active health checking: whether h fails, and whether it answered as degraded.
func (h *HostState) SetCheck(failed, degraded bool) {
	h.set(flagFailedCheck, failed)
	h.set(flagDegradedCheck, degraded)
}

// SetPendingCheck says whether h waits for its first check and is left out until then.
func (h *HostState) SetPendingCheck(on bool) { h.set(flagPendingCheck, on) }

// SetExcluded says whether h asked to be left out at once.
func (h *HostState) SetExcluded(on bool) { h.set(flagExcluded, on) }

// Restart begins the slow start of h anew.
// It is called for each pass of a check by a host that was out of rotation.
func (h *HostState) Restart(now time.Duration) { h.healthySince.Store(int64(max(1, now))) }

// begin says that h is healthy since now, unless it is known to be since earlier.
func (h *HostState) begin(now time.Duration) { h.healthySince.CompareAndSwap(0, int64(max(1, now))) }

// since is when h got healthy, 0 where it is not known.
func (h *HostState) since() time.Duration { return time.Duration(h.healthySince.Load()) }

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
