package engine

import (
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// jumped is t as time.Now would return it had the wall's clock been set by then: another time of day at the same point on the clock that
// only goes forward. Time.Time keeps the seconds of the former above bit 30 of its first word.
func jumped(t *testing.T, at time.Time, by time.Duration) time.Time {
	t.Helper()
	set := at
	*(*uint64)(unsafe.Pointer(&set)) += uint64(by/time.Second) << 30
	if got := set.Round(0).Sub(at.Round(0)); got != by || set.Sub(at) != 0 {
		t.Fatalf("the wall's clock jumped by %v and the other by %v, want %v and 0", got, set.Sub(at), by)
	}
	return set
}

func TestAClockThatIsSetMovesNothing(t *testing.T) {
	now := time.Now()
	for _, by := range []time.Duration{10 * time.Hour, -10 * time.Hour} {
		if got, want := steadyAt(jumped(t, now, by)).UnixNano(), steadyAt(now).UnixNano(); got != want {
			t.Errorf("set by %v, the slots of budgets move by %v, want 0", by, time.Duration(got-want))
		}
		host := resilience.NewHostState()
		hosts := []*resilience.HostState{host}
		d := resilience.NewDetector(resilience.Outlier{
			Consecutive5xx: resilience.Consecutive{Threshold: 1, Enforcing: 100}, Interval: time.Second, BaseEjectionTime: time.Minute,
			MaxEjectionTime: time.Minute, MaxEjectionPercent: 100,
		})
		d.Eject(hosts, host, d.Record(host, resilience.TimedOut), now, rand.Uint64)
		d.Tick(hosts, jumped(t, now.Add(time.Second), by), rand.Uint64)
		if !host.Ejected() {
			t.Errorf("set by %v, an ejection of a minute ended after a second", by)
		}
		d.Tick(hosts, jumped(t, now.Add(2*time.Minute), by), rand.Uint64)
		if host.Ejected() {
			t.Errorf("set by %v, an ejection of a minute lasts two", by)
		}
	}
}
