package resilience

import (
	"math"
	"strconv"
	"testing"
	"time"
)

// took is the distribution of some durations in milliseconds.
func took(ms ...float64) *Distribution {
	var t Timings
	for _, n := range ms {
		t.Add(time.Duration(n * float64(time.Millisecond)))
	}
	d := new(Distribution)
	t.AddTo(d)
	return d
}

// TestTimingsAreEnvoys compares with what Envoy 1.40 says of the same ten requests.
func TestTimingsAreEnvoys(t *testing.T) {
	d := took(20, 42, 42, 43, 43, 43, 44, 44, 52, 54)
	for share, want := range map[float64]float64{
		0: 20.5, 0.25: 42.666666666666664, 0.5: 43.5, 0.75: 44.666666666666664, 0.9: 52.5, 0.95: 54.5, 0.99: 54.5, 1: 54.5,
	} {
		if got := d.Quantile(share); math.Abs(got-want) > 1e-9 {
			t.Errorf("quantile %v = %v, want %v", share, got, want)
		}
	}
	for bound, want := range map[float64]uint64{0.5: 0, 10: 0, 25: 1, 50: 8, 100: 10, math.Inf(1): 10} {
		if got := d.UpTo(bound); got != want {
			t.Errorf("up to %v: %d, want %d", bound, got, want)
		}
	}
	if got := strconv.FormatFloat(d.Sum(), 'f', 6, 64); got != "431.938214" || d.Count() != 10 {
		t.Errorf("sum %s of %d, want 431.938214 of 10", got, d.Count())
	}
}

func TestTimingsOfNothingAndOfMoments(t *testing.T) {
	if d := took(); !math.IsNaN(d.Quantile(0.5)) || d.Count() != 0 || d.Sum() != 0 {
		t.Errorf("of nothing: median %v, count %d, sum %v", d.Quantile(0.5), d.Count(), d.Sum())
	}
	d := took(0.2, 0.999, 1)
	if got := d.UpTo(0.5); got != 2 || d.Quantile(0) != 0 || d.UpTo(1) != 3 {
		t.Errorf("below a millisecond %d, want 2; smallest %v, want 0; up to 1 ms %d, want 3", got, d.Quantile(0), d.UpTo(1))
	}
	both := took(5)
	var more Timings
	more.Add(7 * time.Millisecond)
	more.AddTo(both)
	if both.Count() != 2 || both.UpTo(6) != 1 {
		t.Errorf("two added: %d, up to 6 ms %d; want 2 and 1", both.Count(), both.UpTo(6))
	}
}

func BenchmarkTimings(b *testing.B) {
	var t Timings
	for i := range b.N {
		t.Add(time.Duration(i%100) * time.Millisecond)
	}
}
