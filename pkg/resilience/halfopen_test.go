package resilience

import (
	"testing"
	"time"
)

// breakerOf opens after two failures in a row, for a second, and ends half open.
func breakerOf(h HalfOpen) *Detector {
	return NewDetector(Outlier{
		Consecutive5xx: Consecutive{2, 100}, Interval: time.Second, BaseEjectionTime: time.Second, MaxEjectionTime: time.Second,
		MaxEjectionPercent: 100, HalfOpen: h,
	})
}

// opened ejects a host and lets its time pass.
func opened(t *testing.T, d *Detector) (h *HostState, hosts []*HostState, now time.Time, rnd Rand) {
	t.Helper()
	h, now, rnd = NewHostState(), time.Unix(1000, 0), func() uint64 { return 0 }
	hosts = []*HostState{h}
	d.Record(h, 503)
	d.Eject(hosts, h, d.Record(h, 503), now, rnd)
	if !h.Ejected() {
		t.Fatal("two failures in a row eject nobody")
	}
	now = now.Add(time.Second)
	d.Tick(hosts, now, rnd)
	if h.Ejected() {
		t.Fatal("the host is still out when its time is over")
	}
	return h, hosts, now, rnd
}

func TestATrialEndsAfterSuccessesInARow(t *testing.T) {
	d := breakerOf(HalfOpen{MaxProbes: 2, Successes: 2})
	h, _, _, _ := opened(t, d)
	if !h.Probing() || !h.TryProbe(2) || !h.TryProbe(2) || h.TryProbe(2) {
		t.Fatal("a host on trial takes other than two calls at once")
	}
	h.EndProbe()
	if !h.TryProbe(2) {
		t.Error("a trial that ended holds its place")
	}
	d.Probed(h, Connected)
	d.Probed(h, OutcomeIgnored)
	d.Probed(h, 200)
	if !h.Probing() {
		t.Error("one success, a connection and what counts for nothing end the trial of two")
	}
	d.Probed(h, 404)
	if h.Probing() {
		t.Error("two successes do not end the trial")
	}
}

func TestOneFailureOpensAgain(t *testing.T) {
	for _, outcome := range []Outcome{503, 500, ConnectFailed, Reset, TimedOut} {
		d := breakerOf(HalfOpen{MaxProbes: 1, Successes: 3})
		h, hosts, now, rnd := opened(t, d)
		d.Probed(h, 200)
		d.Eject(hosts, h, d.Probed(h, outcome), now, rnd)
		if !h.Ejected() || h.Probing() {
			t.Errorf("after %d on trial: ejected %v, on trial %v", outcome, h.Ejected(), h.Probing())
		}
		d.Tick(hosts, now.Add(time.Second), rnd)
		d.Probed(h, 200)
		d.Probed(h, 200)
		if !h.Probing() {
			t.Errorf("after %d: successes of an earlier trial count", outcome)
		}
	}
}

func TestWithoutHalfOpenAHostReturnsWhole(t *testing.T) {
	d := breakerOf(HalfOpen{})
	h, _, _, _ := opened(t, d)
	if h.Probing() {
		t.Error("the host is on trial though nothing asks for it")
	}
	on := breakerOf(HalfOpen{MaxProbes: 1, Successes: 1})
	h, hosts, _, _ := opened(t, on)
	d.Adopt(hosts)
	if h.Probing() {
		t.Error("a trial outlives the configuration that asked for it")
	}
	h, hosts, now, _ := opened(t, on)
	Release(hosts, now)
	if h.Probing() {
		t.Error("a trial outlives outlier detection")
	}
}
