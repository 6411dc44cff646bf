package resilience

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// DefaultBackOff is the back-off of a policy that sets none.
func DefaultBackOff() BackOff {
	return BackOff{Base: 25 * time.Millisecond, Max: 250 * time.Millisecond}
}

// Wait is the time before retry n, from 1: whole milliseconds, uniform from 0 to less than the n-th interval. Intervals double from
// Base up to Max. (Envoy's documentation has wider ranges than its code.)
func (b BackOff) Wait(n uint32, rnd Rand) time.Duration {
	return time.Duration(rnd()%b.interval(n)) * time.Millisecond
}

// interval is the n-th interval in milliseconds, at least 1.
func (b BackOff) interval(n uint32) uint64 {
	interval := uint64(max(1, b.Base/time.Millisecond))
	longest := max(interval, uint64(max(0, b.Max/time.Millisecond)))
	for ; n > 1 && interval < longest; n-- {
		interval = min(2*interval, longest)
	}
	return interval
}

// Wait is the time before a retry of a response whose headers say when to come back. The first header counts that can be read and asks
// for no more than Max: the wait is uniform from what it says to 1.5 times that. False means that no header says so.
func (b *RateLimitedBackOff) Wait(get Headers, now time.Time, rnd Rand) (time.Duration, bool) {
	if b == nil || get == nil {
		return 0, false
	}
	for _, header := range b.Headers {
		wait, ok := header.parse(get, now)
		if !ok || wait > b.Max {
			continue
		}
		if wait <= time.Millisecond {
			return 0, false
		}
		ms := uint64(wait / time.Millisecond)
		return time.Duration(ms+rnd()%(ms/2)) * time.Millisecond, true
	}
	return 0, false
}

func (h ResetHeader) parse(get Headers, now time.Time) (time.Duration, bool) {
	seconds, err := strconv.ParseUint(strings.TrimSpace(first(get(h.Name))), 10, 63)
	if err != nil {
		return 0, false
	}
	if h.Unix {
		if seconds < uint64(max(0, now.Unix())) {
			return 0, false
		}
		seconds -= uint64(max(0, now.Unix()))
	}
	if seconds > uint64(math.MaxInt64/time.Second) {
		return 0, false
	}
	return time.Duration(seconds) * time.Second, true
}
