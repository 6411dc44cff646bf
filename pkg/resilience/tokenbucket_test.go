package resilience

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTokenBucket(t *testing.T) {
	start := time.Unix(100, 0)
	b := NewTokenBucket(10, 5, time.Second, start)
	for _, tt := range []struct {
		ms     int
		take   int
		want   int
		tokens uint32
		wait   time.Duration
	}{
		{0, 12, 10, 0, 200 * time.Millisecond},
		{100, 1, 0, 0, 100 * time.Millisecond},
		{200, 2, 1, 0, 200 * time.Millisecond},
		{1000, 9, 4, 0, 200 * time.Millisecond},
		{1600, 1, 1, 2, 0},
		{3_600_000, 20, 10, 0, 200 * time.Millisecond}, // no more than the bucket holds
		{3_500_000, 1, 0, 0, 200 * time.Millisecond},   // a clock that went back gives nothing
	} {
		now, got := start.Add(time.Duration(tt.ms)*time.Millisecond), 0
		for range tt.take {
			if b.Take(now) {
				got++
			}
		}
		if got != tt.want || b.Tokens(now) != tt.tokens {
			t.Errorf("at %d ms: %d of %d taken, %d left; want %d, %d", tt.ms, got, tt.take, b.Tokens(now), tt.want, tt.tokens)
		}
		if off := b.Wait(now) - tt.wait; off < -time.Millisecond || off > time.Millisecond {
			t.Errorf("at %d ms: wait %v, want %v", tt.ms, b.Wait(now), tt.wait)
		}
	}
}

// TestTokenBucketIsItsTwin counts in integers: a token each quarter of a second, at most 3.
func TestTokenBucketIsItsTwin(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		start := time.Unix(rapid.Int64Range(0, 4_000_000_000).Draw(rt, "start"), 0)
		b := NewTokenBucket(3, 2, 500*time.Millisecond, start)
		now, parts := start, 3*250 // of a token: milliseconds
		for range rapid.IntRange(1, 100).Draw(rt, "steps") {
			if ms := rapid.SampledFrom([]int{0, 0, 1, 50, 249, 250, 251, 2000, 100_000_000}).Draw(rt, "ms"); ms > 0 {
				now = now.Add(time.Duration(ms) * time.Millisecond)
				parts = min(3*250, parts+ms)
			}
			want := parts >= 250
			if want {
				parts -= 250
			}
			if got := b.Take(now); got != want {
				rt.Fatalf("%v after the start: %v, want %v", now.Sub(start), got, want)
			}
		}
	})
}

func TestTokensAreTakenOnce(t *testing.T) {
	now := time.Unix(0, 0)
	b := NewTokenBucket(1000, 1, time.Second, now)
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 2000 {
				if b.Take(now) {
					taken.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := taken.Load(); n != 1000 {
		t.Errorf("%d taken of 1000", n)
	}
	if n := testing.AllocsPerRun(100, func() { b.Take(now) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
