package resilience

import (
	"math"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestAdmissionProbability(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	for _, tt := range []struct {
		name      string
		change    func(*AdmissionLimits)
		calls, ok int
		want      float64
	}{
		{"no calls", nil, 0, 0, 0},
		{"all good", nil, 100, 100, 0},
		{"as good as asked for", nil, 100, 95, 0},
		{"half", nil, 100, 50, (100 - 50/0.95) / 101},
		{"none: no more than the maximum", nil, 100, 0, 0.8},
		{"one failure alone", nil, 1, 0, 0.5},
		{"aggression", func(l *AdmissionLimits) { l.Aggression = 2 }, 100, 50, math.Sqrt((100 - 50/0.95) / 101)},
		{"another maximum", func(l *AdmissionLimits) { l.MaxRejection = 1 }, 100, 0, 100.0 / 101},
		{"too few calls", func(l *AdmissionLimits) { l.MinimumRate = 101 }, 100, 0, 0},
		{"just enough calls", func(l *AdmissionLimits) { l.MinimumRate = 100 }, 100, 0, 0.8},
	} {
		limits := DefaultAdmission()
		if tt.change != nil {
			tt.change(&limits)
		}
		a := NewAdmission(limits)
		for i := range tt.calls {
			a.Record(i < tt.ok, now)
		}
		if got := a.Probability(now); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestAdmissionRoll(t *testing.T) {
	now := time.Unix(0, 0)
	a := NewAdmission(DefaultAdmission())
	a.Record(false, now) // 0.5
	for _, tt := range []struct {
		draw uint64
		want bool
	}{{0, true}, {4999, true}, {5000, false}, {9999, false}, {14_999, true}} {
		if got := a.Refuse(now, script(tt.draw)); got != tt.want {
			t.Errorf("draw %d: %v, want %v", tt.draw, got, tt.want)
		}
	}
	if NewAdmission(DefaultAdmission()).Refuse(now, zero) {
		t.Error("refused though it knows nothing")
	}
}

// TestAdmissionIsItsTwin sums over the history of all calls.
func TestAdmissionIsItsTwin(t *testing.T) {
	type recorded struct {
		second int64
		ok     bool
	}
	rapid.Check(t, func(rt *rapid.T) {
		limits := DefaultAdmission()
		limits.Window = time.Duration(rapid.IntRange(1, 5).Draw(rt, "window")) * time.Second
		a, now := NewAdmission(limits), time.Unix(rapid.Int64Range(0, 1<<31).Draw(rt, "start"), 0)
		var history []recorded
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 300, 1000, 3000, 60_000}).Draw(rt, "ms")) * time.Millisecond)
			if rapid.Bool().Draw(rt, "record") {
				ok := rapid.Bool().Draw(rt, "ok")
				a.Record(ok, now)
				history = append(history, recorded{now.Unix(), ok})
			}
			calls, good := 0.0, 0.0
			for _, r := range history {
				if now.Unix()-r.second < int64(limits.Window/time.Second) {
					calls++
					if r.ok {
						good++
					}
				}
			}
			want := min(0.8, max(0, (calls-good/0.95)/(calls+1)))
			if got := a.Probability(now); math.Abs(got-want) > 1e-9 {
				rt.Fatalf("%v of %v good: %v, want %v", good, calls, got, want)
			}
		}
	})
}

func TestAdmissionStopsCountingAtTheTop(t *testing.T) {
	a, now := NewAdmission(DefaultAdmission()), time.Unix(1_700_000_000, 0)
	a.Record(false, now)
	slot := &a.seconds[now.Unix()%30]
	slot.Store(slot.Load() | admissionMask<<admissionBits)
	a.Record(true, now)
	if calls, successes, _ := a.sum(now); calls != admissionMask || successes != 0 {
		t.Errorf("%v of %v, want 0 of %d", successes, calls, admissionMask)
	}
}

func TestAdmissionBesideItself(t *testing.T) {
	a, now := NewAdmission(DefaultAdmission()), time.Unix(5, 0)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 1000 {
				a.Record(i%2 == 0, now)
			}
		})
	}
	wg.Wait()
	if calls, successes, _ := a.sum(now); calls != 4000 || successes != 2000 {
		t.Errorf("%v of %v, want 2000 of 4000", successes, calls)
	}
	if n := testing.AllocsPerRun(100, func() { a.Record(true, now); a.Refuse(now, zero) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
