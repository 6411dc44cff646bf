package resilience

import (
	"math"
	"sync/atomic"
	"time"
)

// histogram counts durations with two significant digits: 90 buckets for each power of ten of microseconds. It may be added to from
// many goroutines; what is added while it is cleared may be lost.
type histogram struct {
	total   atomic.Uint32
	buckets [1 + 90*decades]atomic.Uint64 // the first one is for less than a microsecond
}

// decades reach from 1 us to 1,000 s; longer counts as that.
const decades = 9

// add returns how many durations there are.
func (h *histogram) add(d time.Duration) uint32 {
	h.buckets[bucketOf(d)].Add(1)
	return h.total.Add(1)
}

func (h *histogram) count() uint32 { return h.total.Load() }

func (h *histogram) clear() {
	h.total.Store(0)
	for i := range h.buckets {
		h.buckets[i].Store(0)
	}
}

// bucketOf is 0 for less than a microsecond. Bucket 1+90*e+m holds from (10+m) to (11+m) times 10^e tenths of a microsecond.
func bucketOf(d time.Duration) int {
	tenths := int64(d / (time.Microsecond / 10))
	if tenths < 10 {
		return 0
	}
	for e := range decades {
		if tenths < 100 {
			return 1 + 90*e + int(tenths-10)
		}
		tenths /= 10
	}
	return 90 * decades
}

// bounds are the ends of a bucket.
func bounds(bucket int) (low, high time.Duration) {
	if bucket == 0 {
		return 0, time.Microsecond
	}
	e, m := (bucket-1)/90, (bucket-1)%90
	unit := time.Duration(math.Pow10(e)) * time.Microsecond / 10
	return time.Duration(10+m) * unit, time.Duration(11+m) * unit
}

// percentile is the duration that share of all are not longer than, taking those of a bucket as spread evenly over it.
func (h *histogram) percentile(share float64) time.Duration {
	rank := share * float64(h.total.Load())
	below := 0.0
	last := time.Duration(0)
	for i := range h.buckets {
		n := float64(h.buckets[i].Load())
		if n == 0 {
			continue
		}
		low, high := bounds(i)
		if below+n >= rank {
			return low + time.Duration(float64(high-low)*max(0, rank-below)/n)
		}
		below, last = below+n, high
	}
	return last
}
