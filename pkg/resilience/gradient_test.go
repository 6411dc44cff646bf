package resilience

import (
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func gradientLimits() GradientLimits {
	return GradientLimits{
		UpdateInterval: 100 * time.Millisecond, MaxConcurrency: 1000, Percentile: 0.5,
		MinRTTInterval: time.Minute, MinRTTRequests: 50, MinConcurrency: 3, Jitter: 0.15, Buffer: 0.25,
	}
}

// feed has n calls end at now after latency, one after the other, and reports whether the last one completed a measurement.
func feed(t *testing.T, g *Gradient, n int, latency time.Duration, now time.Time) (complete bool) {
	t.Helper()
	for range n {
		if !g.Try() {
			t.Fatal("refused")
		}
		complete = g.Done(now.Add(-latency), now)
	}
	return complete
}

// measured is a gradient whose latency without load is 10 ms.
func measured(t *testing.T, limits GradientLimits) (*Gradient, time.Time) {
	now := time.Unix(100, 0)
	g := NewGradient(limits, now)
	now = now.Add(time.Second)
	if feed(t, g, 49, 10*time.Millisecond, now) {
		t.Fatal("complete too soon")
	}
	if !feed(t, g, 1, 10*time.Millisecond, now) {
		t.Fatal("not complete")
	}
	g.Tick(now, zero)
	if off := g.MinRTT() - 10*time.Millisecond; off < 0 || off > time.Millisecond {
		t.Fatalf("measured %v, want about 10 ms", g.MinRTT())
	}
	return g, now
}

func TestGradientFollowsLatency(t *testing.T) {
	g, now := measured(t, gradientLimits())
	g.minRTT = 10 * time.Millisecond
	for i, tt := range []struct {
		limit  uint32
		sample time.Duration
		want   uint32
	}{
		{100, 12500 * time.Microsecond, 110},     // as fast as the buffer allows: the square root is added
		{100, 25 * time.Millisecond, 57},         // half: 50 + 7
		{100, time.Second, 57},                   // no less than half
		{100, 5 * time.Millisecond, 214},         // no more than twice: 200 + 14
		{3, time.Second, 3}, {4, time.Second, 3}, // 2 + 1.4
		{900, 10 * time.Millisecond, 1000},
	} {
		if got := g.next(tt.limit, tt.sample); got != tt.want {
			t.Errorf("%d: from %d with %v: %d, want %d", i, tt.limit, tt.sample, got, tt.want)
		}
	}
	limit := g.Limit()
	feed(t, g, 5, 10*time.Millisecond, now)
	if g.Tick(now.Add(99*time.Millisecond), zero); g.Limit() != limit {
		t.Errorf("changed before its time: %d", g.Limit())
	}
	if g.Tick(now.Add(100*time.Millisecond), zero); g.Limit() <= limit {
		t.Errorf("limit %d after fast answers, want more than %d", g.Limit(), limit)
	}
	limit = g.Limit()
	if g.Tick(now.Add(200*time.Millisecond), zero); g.Limit() != limit {
		t.Errorf("changed without calls: %d", g.Limit())
	}
}

func TestGradientMeasures(t *testing.T) {
	g, now := measured(t, gradientLimits())
	for range 20 {
		feed(t, g, 3, 10*time.Millisecond, now)
		now = g.Tick(now.Add(100*time.Millisecond), zero)
	}
	grown := g.Limit()
	if grown < 100 {
		t.Fatalf("grown to %d only", grown)
	}
	due := time.Unix(161, 0)
	if g.Tick(due.Add(-time.Millisecond), zero); g.Limit() == 3 {
		t.Error("measures before its time")
	}
	if g.Tick(due, zero); g.Limit() != 3 {
		t.Errorf("limit %d, want 3 while it measures", g.Limit())
	}
	later := due.Add(5 * time.Second)
	for range 200 { // began under load
		if !g.Try() || g.Done(due.Add(-time.Millisecond), later) {
			t.Fatal("old calls complete a measurement")
		}
	}
	feed(t, g, 50, 20*time.Millisecond, later)
	g.Tick(later, zero)
	if g.Limit() != grown || g.MinRTT() < 20*time.Millisecond {
		t.Errorf("limit %d, latency %v; want %d, 20 ms", g.Limit(), g.MinRTT(), grown)
	}
	jittered := later.Add(time.Minute + 8999*time.Millisecond)
	g, now = measured(t, gradientLimits())
	g.measure(now)
	feed(t, g, 50, time.Millisecond, later)
	g.Tick(later, func() uint64 { return 8999 })
	if !g.nextRTT.Equal(jittered) {
		t.Errorf("next measurement at %v, want %v", g.nextRTT, jittered)
	}
}

func TestGradientMeasuresAgainAfterFiveTimesTheMinimum(t *testing.T) {
	g, now := measured(t, gradientLimits())
	for i := range 5 {
		if g.measuring.Load() {
			t.Fatalf("measures after %d intervals", i)
		}
		now = now.Add(100 * time.Millisecond)
		feed(t, g, 1, time.Millisecond*900, now.Add(time.Second))
		g.Tick(now, zero)
	}
	if !g.measuring.Load() {
		t.Error("does not measure")
	}
}

func TestGradientLimitsCalls(t *testing.T) {
	g := NewGradient(gradientLimits(), time.Unix(0, 0))
	got := 0
	for g.Try() {
		got++
	}
	g.Cancel()
	if !g.Try() || g.Try() || got != 3 {
		t.Errorf("%d calls, want 3, and one more after one ended", got)
	}
}

func TestGradientBesideTick(t *testing.T) {
	now := time.Unix(0, 0)
	g := NewGradient(gradientLimits(), now)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 2000 {
				if g.Try() {
					g.Done(now, now.Add(time.Millisecond))
				}
			}
		})
	}
	for i := range 200 {
		g.Tick(now.Add(time.Duration(i)*time.Second), zero)
	}
	wg.Wait()
	if n := g.outstanding.Load(); n != 0 {
		t.Errorf("%d left", n)
	}
	if n := testing.AllocsPerRun(100, func() { g.Try(); g.Done(now, now) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestHistogramBuckets(t *testing.T) {
	for bucket := range 90 * decades {
		low, high := bounds(bucket)
		if next, _ := bounds(bucket + 1); next != high {
			t.Errorf("bucket %d ends at %v, the next one begins at %v", bucket, high, next)
		}
		if bucketOf(low) != bucket || bucketOf(high-1) != bucket {
			t.Errorf("bucket %d of %v to %v: got %d and %d", bucket, low, high, bucketOf(low), bucketOf(high-1))
		}
	}
	if got := bucketOf(math.MaxInt64); got != 90*decades {
		t.Errorf("for ever is in bucket %d", got)
	}
}

func TestPercentileIsNearTheSorted(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		list := rapid.SliceOfN(rapid.Int64Range(int64(time.Microsecond), int64(900*time.Second)), 1, 60).Draw(rt, "durations")
		share := rapid.SampledFrom([]float64{0.01, 0.5, 0.9, 1}).Draw(rt, "share")
		h := new(histogram)
		for _, d := range list {
			h.add(time.Duration(d))
		}
		slices.Sort(list)
		want := float64(list[max(0, int(math.Ceil(share*float64(len(list))))-1)])
		if got := float64(h.percentile(share)); got < want*0.9 || got > want*1.1 {
			rt.Fatalf("percentile %v of %v: %v, want about %v", share, list, time.Duration(got), time.Duration(want))
		}
	})
}
