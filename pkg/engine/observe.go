package engine

import (
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// What is observed is counted as if it were enforced, under names of the cluster that begin so; calls go on.
const (
	observedOverflow = "observed.upstream_rq_active_overflow"
	observedRefusal  = "observed.admission_control.rq_rejected"
	observedTimeout  = "observed.upstream_rq_timeout"
	observedPerTry   = "observed.upstream_rq_per_try_timeout"
)

// observeLimit counts the attempt among those that an observed limit lets through, or as one that it refuses: that then takes nobody's
// place, as if it were not there.
func (a *Attempt) observeLimit(live *cluster, most *uint32) {
	switch {
	case most == nil || a.Priority != resilience.Default:
	case live.observed.Add(1) > int64(*most):
		live.observed.Add(-1)
		live.stats.named.add(observedOverflow)
	default:
		a.observed = true
	}
}

func (a *Attempt) endObserved(live *cluster) {
	if a.observed {
		live.observed.Add(-1)
	}
	a.observed = false
}

// observeTry counts an attempt whose head took longer than an observed time of a try, from when the request was complete and had a
// connection.
func (c *Call) observeTry(a *Attempt) {
	limit := c.route.ObservedPerTry
	if limit <= 0 || a.begun.IsZero() {
		return
	}
	took := time.Since(a.begun)
	if whole, complete := c.times.since(); complete && min(took, whole) >= limit {
		c.target.live.stats.named.add(observedPerTry)
	}
}

// observeCall counts a call that took longer than an observed time, from its complete request to its end.
func (c *Call) observeCall() {
	if c.route == nil || c.target == nil || c.route.ObservedTimeout <= 0 {
		return
	}
	if took, complete := c.times.since(); complete && took >= c.route.ObservedTimeout {
		c.target.live.stats.named.add(observedTimeout)
	}
}
