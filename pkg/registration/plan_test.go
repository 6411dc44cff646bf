package registration

import (
	"errors"
	"testing"
	"time"
)

var (
	noon     = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	errNo    = errors.New("no")
	up, down = health{known: true, up: true}, health{known: true}
)

func TestHealthFallsSlowlyAndRisesAtOnce(t *testing.T) {
	var h health
	for i, step := range []struct {
		err         error
		known, up   bool
		saysChanged bool
	}{
		{errNo, false, false, false},
		{errNo, false, false, false},
		{nil, true, true, true},
		{errNo, true, true, false},
		{errNo, true, true, false},
		{nil, true, true, false}, // in a row is what counts
		{errNo, true, true, false},
		{errNo, true, true, false},
		{errNo, true, false, true},
		{errNo, true, false, false},
		{nil, true, true, true},
	} {
		if changed := h.saw(step.err); changed != step.saysChanged || h.known != step.known || h.up != step.up {
			t.Errorf("after check %d: %+v, changed %v; want %+v", i+1, h, changed, step)
		}
	}
	h = health{}
	for range fall {
		h.saw(errNo)
	}
	if !h.known || h.up {
		t.Errorf("never up: %+v, want known to be down", h)
	}
}

// most is the random number that makes every wait the longest.
func most() uint64 { return 1<<64 - 1 }

func least() uint64 { return 0 }

func wantNext(t *testing.T, l *ledger, h health, now time.Time, want act, least, most time.Duration) {
	t.Helper()
	if got, wait := l.next(h, now); got != want || wait < least || wait > most {
		t.Errorf("next = %v in %v, want %v in %v to %v", got, wait, want, least, most)
	}
}

func TestLedgerRenewsEveryThirdOfTheLease(t *testing.T) {
	l := &ledger{lease: time.Minute}
	wantNext(t, l, health{}, noon, nothing, forever, forever)
	wantNext(t, l, up, noon, put, 0, 0)
	for _, rnd := range []func() uint64{least, most} {
		l.done(put, nil, noon, rnd)
		wantNext(t, l, up, noon, nothing, 18*time.Second, 22*time.Second)
	}
	wantNext(t, l, up, noon.Add(22*time.Second), put, 0, 0)
}

func TestLedgerBacksOffAndGivesUpNever(t *testing.T) {
	l := &ledger{lease: time.Minute}
	var longest time.Duration
	for n := range 50 {
		l.done(put, errNo, noon, func() uint64 { return uint64(1<<40 - 1) })
		_, wait := l.next(up, noon)
		if wait > 15*time.Second {
			t.Fatalf("failure %d: a wait of %v, want at most a quarter of the lease", n+1, wait)
		}
		longest = max(longest, wait)
	}
	if longest < time.Second {
		t.Errorf("the longest wait of 50 failures is %v: it does not grow", longest)
	}
	wantNext(t, l, up, noon.Add(time.Minute), put, 0, 0)
	l.done(put, nil, noon, least)
	if l.failures != 0 {
		t.Error("a success does not end the back-off")
	}
}

func TestLedgerTurnsAtOnce(t *testing.T) {
	l := &ledger{lease: time.Minute}
	l.done(put, nil, noon, least)
	wantNext(t, l, down, noon, remove, 0, 0)
	l.done(remove, errNo, noon, most)
	wantNext(t, l, up, noon, put, 0, 0) // though a removal waits for its next attempt
	l.done(put, errNo, noon, most)
	wantNext(t, l, down, noon, remove, 0, 0)
	l.done(remove, nil, noon, least)
	wantNext(t, l, down, noon.Add(time.Hour), nothing, forever, forever)
	wantNext(t, l, up, noon, put, 0, 0)
	l.done(put, errNo, noon, most) // perhaps it was heard all the same
	wantNext(t, l, down, noon, remove, 0, 0)
}

// What an earlier agent of the same id registered is taken out where the application is down from the beginning.
func TestLedgerTakesOutWhatItDidNotPut(t *testing.T) {
	l := &ledger{lease: time.Minute}
	wantNext(t, l, down, noon, remove, 0, 0)
	l.done(remove, nil, noon, least)
	wantNext(t, l, down, noon, nothing, forever, forever)
}
