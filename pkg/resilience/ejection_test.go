package resilience

import (
	"testing"
	"time"
)

func TestAnEjectionSaysWhyAndHowLong(t *testing.T) {
	d := NewDetector(Outlier{Consecutive5xx: Consecutive{Threshold: 2, Enforcing: 100}, BaseEjectionTime: 30 * time.Second, MaxEjectionTime: time.Minute, MaxEjectionPercent: 100})
	h := NewHostState()
	now := time.Unix(1000, 0)
	if _, ejected := d.Ejection(h); ejected {
		t.Error("a fresh host is ejected")
	}
	d.Record(h, 503)
	d.Eject([]*HostState{h}, h, d.Record(h, 503), now, func() uint64 { return 0 })
	got, ejected := d.Ejection(h)
	if want := (Ejection{Ask5xx, now, now.Add(30 * time.Second)}); !ejected || got != want {
		t.Errorf("%+v %v, want %+v", got, ejected, want)
	}
	if got := (Ask5xx | AskDegraded).String(); got != "consecutive_5xx,degraded" || Ask(0).String() != "" {
		t.Errorf("names %q and %q", got, Ask(0).String())
	}
}
