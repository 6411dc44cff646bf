package engine

import (
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// usePool counts the attempt as a user of its host's pool, unless too many hosts have pools in use: unused ones give way.
func (a *Attempt) usePool(limit int64) bool {
	pools, users := &a.serving.live.pools[a.Priority], &a.Host.users[a.Priority]
	if users.Add(1) == 1 && pools.Add(1) > limit {
		pools.Add(-1)
		users.Add(-1)
		return false
	}
	a.pooled = true
	return true
}

func (a *Attempt) leavePool() {
	if a.pooled && a.Host.users[a.Priority].Add(-1) == 0 {
		a.serving.live.pools[a.Priority].Add(-1)
	}
	a.pooled = false
}

// countReset counts a stream that did not end by itself. Streams of HTTP/1 are their connections, which are counted elsewhere.
func (a *Attempt) countReset(f Failure) {
	if !a.HTTP2 {
		return
	}
	stats := &a.serving.live.stats
	switch f {
	case LocalReset, ProtocolError:
		stats.add(rqTxReset)
	case RemoteReset:
		stats.add(rqRxReset)
	case Termination:
		stats.add(rqPendingFailureEject)
	}
}

// Queue counts the attempt as pending.
func (a *Attempt) Queue() bool {
	live := a.serving.live
	if !live.counters[a.Priority].TryPending(&live.config.Load().Thresholds[a.Priority]) {
		live.stats.add(rqPendingOverflow)
		return false
	}
	live.stats.add(rqPendingTotal)
	live.stats.add(rqPendingActive)
	return true
}

// Unqueue takes back a Queue that was granted.
func (a *Attempt) Unqueue() {
	a.serving.live.counters[a.Priority].DonePending()
	a.serving.live.stats.sub(rqPendingActive)
}

// Admit counts the attempt as an active request, now that it has a connection. The time of the try starts.
func (a *Attempt) Admit() bool {
	live := a.serving.live
	thresholds := &live.config.Load().Thresholds[a.Priority]
	a.met = true
	if !live.counters[a.Priority].TryRequest(thresholds) {
		live.stats.add(rqActiveOverflow)
		return false
	}
	if b := thresholds.Budget; b != nil && b.Interval > 0 {
		a.started = steady()
	}
	a.admitted = true
	a.observeLimit(live, live.config.Load().ObservedRequests)
	if a.call.route.ObservedPerTry > 0 {
		a.begun = time.Now()
	}
	live.stats.add(rqTotal)
	live.stats.add(rqActive)
	a.Host.counts.rqTotal.Add(1)
	a.Host.State.Begin()
	live.record(a.Host, resilience.Connected)
	a.call.times.admitted(a)
	return true
}

// endAttempt takes back an Admit.
func (c *Call) endAttempt(a *Attempt) {
	c.times.endTry(a)
	a.endProbe()
	a.leavePool()
	if !a.admitted {
		return
	}
	a.admitted = false
	live := a.serving.live
	if !a.started.IsZero() {
		live.counters[a.Priority].Finished(&live.config.Load().Thresholds[a.Priority], a.started)
	}
	a.endObserved(live)
	live.counters[a.Priority].DoneRequest()
	live.stats.sub(rqActive)
	a.Host.State.End()
}

func (h *hostCounts) result(ok bool) {
	if ok {
		h.rqSuccess.Add(1)
	} else {
		h.rqError.Add(1)
	}
}
