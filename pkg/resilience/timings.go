package resilience

import (
	"math"
	"sync/atomic"
	"time"
)

// Timings count how long things took, in whole milliseconds as Envoy counts them, with two significant digits. The zero value is
// ready; the first addition makes the buckets. It may be added to from many goroutines.
type Timings struct{ counts atomic.Pointer[histogram] }

// Add counts one thing that took d.
func (t *Timings) Add(d time.Duration) {
	h := t.counts.Load()
	if h == nil {
		t.counts.CompareAndSwap(nil, new(histogram))
		h = t.counts.Load()
	}
	h.buckets[bucketOf(d.Truncate(time.Millisecond))].Add(1)
}

// AddTo adds what was counted so far to d.
func (t *Timings) AddTo(d *Distribution) {
	h := t.counts.Load()
	if h == nil {
		return
	}
	for i := range h.buckets {
		n := h.buckets[i].Load()
		d.buckets[i] += n
		d.count += n
	}
}

// Distribution is what Timings counted up to a moment. Its figures are in milliseconds, and those that Envoy's histograms give.
type Distribution struct {
	count   uint64
	buckets [1 + 90*decades]uint64
}

// Count is how many things were counted.
func (d *Distribution) Count() uint64 { return d.count }

// UpTo is how many of them took no longer than bound.
func (d *Distribution) UpTo(bound float64) uint64 {
	n := uint64(0)
	for i, in := range d.buckets {
		if low, _ := millis(i); low > bound {
			break
		}
		n += in
	}
	return n
}

// Sum is about how long they took together.
func (d *Distribution) Sum() float64 {
	sum := 0.0
	for i, n := range d.buckets {
		if low, high := millis(i); i > 0 && n > 0 {
			sum += float64(n) * (low + (high-low)*low/(low+high))
		}
	}
	return sum
}

// Quantile is what share of them took no longer than, NaN where nothing was counted. Those of a bucket are spread evenly over it.
func (d *Distribution) Quantile(share float64) float64 {
	rank := max(1, uint64(math.Ceil(share*float64(d.count))))
	for i, n := range d.buckets {
		if rank <= n {
			low, high := millis(i)
			return low + (high-low)*float64(rank)/float64(n+1)
		}
		rank -= n
	}
	return math.NaN()
}

// millis are the ends of a bucket in milliseconds. What took less than one counts as 0, and a bucket below 10 holds one value alone.
func millis(bucket int) (low, high float64) {
	from, to := bounds(bucket)
	if bucket == 0 {
		return 0, 0
	}
	return float64(from) / float64(time.Millisecond), float64(to) / float64(time.Millisecond)
}
