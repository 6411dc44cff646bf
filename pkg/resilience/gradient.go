package resilience

import (
	"math"
	"sync/atomic"
	"time"
)

// GradientLimits is the configuration of adaptive concurrency. Shares are of 1.
type GradientLimits struct {
	UpdateInterval time.Duration // between changes of the limit
	MaxConcurrency uint32
	Percentile     float64 // of the latencies of an interval

	MinRTTInterval time.Duration // between measurements of the latency without load
	MinRTTRequests uint32        // how many such a measurement takes
	MinConcurrency uint32        // during it, and ever
	Jitter         float64       // share of MinRTTInterval, added at random
	Buffer         float64       // share of the latency without load that is not yet held against the limit
}

// Gradient limits concurrency by how far latency rises above what it is without load. Try, Done and Cancel may be called from many
// goroutines; Tick is serialised by the caller.
type Gradient struct {
	limits      GradientLimits
	outstanding Counter
	limit       atomic.Uint32
	measuring   atomic.Bool // the latency without load
	samples     histogram
	epoch       atomic.Int64 // start of the last measurement, in nanoseconds after start
	start       time.Time

	// Touched by Tick alone.
	deferred           uint32 // the limit from before the measurement
	minRTT             time.Duration
	atMinimum          int // updates in a row that left the limit at its minimum
	nextRTT, nextLimit time.Time
}

// NewGradient returns a limit that begins with a measurement.
func NewGradient(limits GradientLimits, now time.Time) *Gradient {
	g := &Gradient{limits: limits, start: now}
	g.limit.Store(limits.MinConcurrency)
	g.measure(now)
	g.nextLimit = now.Add(limits.UpdateInterval)
	return g
}

// Limit is how many calls may be in flight.
func (g *Gradient) Limit() uint32 { return g.limit.Load() }

// Measuring reports whether the latency without load is being measured.
func (g *Gradient) Measuring() bool { return g.measuring.Load() }

// MinRTT is the latency without load that the limit is based on; 0 before the first measurement. It is serialised with Tick.
func (g *Gradient) MinRTT() time.Duration { return g.minRTT }

// Try admits a call, for which Done or Cancel is owed. False means: 503, "reached concurrency limit".
func (g *Gradient) Try() bool { return g.outstanding.try(uint64(g.limit.Load())) }

// Cancel ends a call whose latency says nothing.
func (g *Gradient) Cancel() { g.outstanding.n.Add(-1) }

// Done ends a call that has been answered. If it returns true a measurement is complete, and the caller calls Tick at once.
func (g *Gradient) Done(started, now time.Time) (complete bool) {
	g.outstanding.n.Add(-1)
	if int64(started.Sub(g.start)) < g.epoch.Load() {
		return false // it ran under the load from before the measurement
	}
	n := g.samples.add(now.Sub(started))
	return g.measuring.Load() && n >= g.limits.MinRTTRequests
}

// Tick does what is due at now, and returns when to call it again.
func (g *Gradient) Tick(now time.Time, rnd Rand) (next time.Time) {
	switch {
	case g.measuring.Load():
		if g.samples.count() < g.limits.MinRTTRequests {
			return now.Add(g.limits.UpdateInterval) // waits for calls
		}
		g.measured(now, rnd)
	case !now.Before(g.nextRTT):
		g.measure(now)
	case !now.Before(g.nextLimit):
		g.update()
		g.nextLimit = now.Add(g.limits.UpdateInterval)
		if g.atMinimum >= 5 { // the latency without load may have been measured wrongly
			g.measure(now)
		}
	}
	if g.nextRTT.Before(g.nextLimit) && !g.measuring.Load() {
		return g.nextRTT
	}
	return g.nextLimit
}

// measure begins to measure the latency without load.
func (g *Gradient) measure(now time.Time) {
	g.deferred, g.atMinimum = g.limit.Load(), 0
	g.limit.Store(g.limits.MinConcurrency)
	g.epoch.Store(int64(now.Sub(g.start)))
	g.samples.clear()
	g.measuring.Store(true)
}

func (g *Gradient) measured(now time.Time, rnd Rand) {
	g.minRTT = g.samples.percentile(g.limits.Percentile)
	g.samples.clear()
	g.measuring.Store(false)
	g.limit.Store(g.deferred)
	jitter := time.Duration(0)
	if spread := uint64(math.Ceil(float64(g.limits.MinRTTInterval/time.Millisecond) * g.limits.Jitter)); spread > 0 {
		jitter = time.Duration(rnd()%spread) * time.Millisecond
	}
	g.nextRTT, g.nextLimit = now.Add(g.limits.MinRTTInterval+jitter), now.Add(g.limits.UpdateInterval)
}

// update moves the limit by the gradient of the interval that ends. An interval without calls changes nothing.
func (g *Gradient) update() {
	if g.samples.count() == 0 {
		return
	}
	sample := max(g.samples.percentile(g.limits.Percentile), time.Microsecond)
	g.samples.clear()
	old := g.limit.Load()
	next := g.next(old, sample)
	g.limit.Store(next)
	if old == g.limits.MinConcurrency && next == old {
		g.atMinimum++
	} else {
		g.atMinimum = 0
	}
}

// next is the limit after an interval with latency sample.
func (g *Gradient) next(limit uint32, sample time.Duration) uint32 {
	gradient := float64(g.minRTT) * (1 + g.limits.Buffer) / float64(sample)
	scaled := float64(limit) * max(0.5, min(2, gradient))
	return max(g.limits.MinConcurrency, min(g.limits.MaxConcurrency, uint32(scaled+math.Sqrt(scaled))))
}
