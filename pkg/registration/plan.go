package registration

import (
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// fall is how many checks in a row must fail before the application counts as down; one that succeeds makes it up.
const fall = 3

// health is what the checks have said so far.
type health struct {
	known bool // enough of them to tell
	up    bool
	fails int // in a row
}

// saw takes the result of a check, and reports whether the application came up or went down with it.
func (h *health) saw(err error) (changed bool) {
	before := *h
	if err == nil {
		*h = health{known: true, up: true}
	} else if h.fails++; h.fails >= fall {
		h.known, h.up = true, false
	}
	return before.known != h.known || before.up != h.up
}

// act is what to say to the control plane.
type act int

const (
	nothing act = iota
	put         // register or renew
	remove
)

// ledger is what was said to the control plane, and when to speak next. At first it is not known what the control plane has: an
// earlier agent of the same id may have left something.
type ledger struct {
	lease    time.Duration
	last     act       // tried last
	due      time.Time // when it is tried again
	failures uint32    // in a row
	removed  bool      // the control plane is known to have no endpoint of ours
}

// next is what to do at now, or how long nothing is to be done unless the health changes; forever is as good as never.
func (l *ledger) next(h health, now time.Time) (act, time.Duration) {
	wanted := nothing
	switch {
	case h.known && h.up:
		wanted = put
	case h.known && !l.removed:
		wanted = remove
	}
	switch {
	case wanted == nothing:
		return nothing, forever
	case wanted != l.last:
		l.failures = 0
		return wanted, 0
	case now.Before(l.due):
		return nothing, l.due.Sub(now)
	}
	return wanted, 0
}

const forever = time.Hour

// done books how an act ended at now.
func (l *ledger) done(a act, err error, now time.Time, rnd resilience.Rand) {
	l.last = a
	if err != nil {
		l.failures++
		l.removed = false // a request that failed may have been heard
		l.due = now.Add(l.backOff().Wait(l.failures, rnd))
		return
	}
	l.failures, l.removed = 0, a == remove
	l.due = now.Add(renewAfter(l.lease, rnd))
}

// backOff grows with every failure, but leaves room for several attempts before a lease runs out.
func (l *ledger) backOff() resilience.BackOff {
	return resilience.BackOff{Base: 500 * time.Millisecond, Max: max(time.Second, l.lease/4)}
}

// renewAfter is a third of the lease, give or take a tenth, so that a fleet that started as one does not renew as one.
func renewAfter(lease time.Duration, rnd resilience.Rand) time.Duration {
	third := lease / 3
	return third - third/10 + time.Duration(rnd()%uint64(max(1, third/5)))
}
