package resilience

import "time"

// Check is when hosts are checked actively, and what the results mean. Envoy's defaults are filled in.
type Check struct {
	Timeout                              time.Duration // of one check
	Interval, HealthyEdge                time.Duration // after a pass; Edge: while a change is pending
	Unhealthy, UnhealthyEdge             time.Duration // after a failure
	NoTraffic, NoTrafficHealthy          time.Duration // as long as the cluster has had no connection
	InitialJitter, IntervalJitter        time.Duration
	JitterPercent                        uint32 // of an interval
	HealthyThreshold, UnhealthyThreshold uint32
}

// CheckResult is how a check ended.
type CheckResult uint8

// The results.
const (
	CheckPassed         CheckResult = iota
	CheckPassedDegraded             // the host calls itself degraded
	CheckFailed                     // by a word of the host: once is enough
	CheckRetriable                  // by a word of the host that counts as one of the next
	CheckNetwork                    // the connection failed
	CheckTimeout
	CheckPassive // by a response to a call
)

// CheckSession is the checks of one host by one checker. Its methods are serialised by its owner.
type CheckSession struct {
	check            *Check
	failed, degraded bool
	pending, checked bool
	timedOut         bool
	passes, failures uint32
}

// NewCheckSession returns a session in which the first result decides alone. Failed says what the host is until then, and pending whether
// it is left out of what panic is a share of.
func NewCheckSession(check *Check, failed, pending bool) *CheckSession {
	return &CheckSession{check: check, failed: failed, pending: pending}
}

// Failed reports whether the host is out of rotation.
func (s *CheckSession) Failed() bool { return s.failed }

// Degraded reports whether the host called itself degraded in its last check that passed.
func (s *CheckSession) Degraded() bool { return s.degraded }

// Pending reports whether the host waits for its first result and is left out until then.
func (s *CheckSession) Pending() bool { return s.pending }

// Checked reports whether there has been a result.
func (s *CheckSession) Checked() bool { return s.checked }

// TimedOut reports whether the host is out of rotation and its last check took too long.
func (s *CheckSession) TimedOut() bool { return s.timedOut }

// First is the wait before the first check.
func (s *CheckSession) First(rnd Rand) time.Duration {
	if s.check.InitialJitter <= 0 {
		return 0
	}
	return s.check.jittered(0, s.check.InitialJitter, rnd)
}

// Result takes the result of a check, and returns how long to wait for the next. Traffic says whether the cluster has ever had a
// connection. Recovering is said of a pass by a host that is or was out of rotation: its slow start begins anew.
func (s *CheckSession) Result(r CheckResult, traffic bool, rnd Rand) (wait time.Duration, recovering bool) {
	if r > CheckPassedDegraded {
		change := s.fail(r)
		return s.check.wait(false, change == pendingChange, traffic, rnd), false
	}
	recovering = s.failed
	change := s.pass(r == CheckPassedDegraded)
	return s.check.wait(true, change == pendingChange, traffic, rnd), recovering
}

// Passive takes a failure that a response to a call says. The checks go on as they are.
func (s *CheckSession) Passive() { s.fail(CheckPassive) }

// change is what a result does to a host.
type change uint8

const (
	noChange change = iota
	pendingChange
	changed
)

func (s *CheckSession) pass(degraded bool) change {
	s.failures = 0
	result := noChange
	if s.failed {
		s.passes++
		if result = pendingChange; !s.checked || s.passes == s.check.HealthyThreshold {
			s.failed, s.timedOut, result = false, false, changed
		}
	}
	if s.pending || degraded != s.degraded && result == noChange {
		result = changed
	}
	s.pending, s.degraded, s.checked = false, degraded, true
	return result
}

func (s *CheckSession) fail(r CheckResult) change {
	s.passes = 0
	result := noChange
	if !s.failed {
		atOnce := r == CheckFailed || r == CheckPassive
		if !atOnce {
			s.failures++
		}
		if result = pendingChange; atOnce || !s.checked || s.failures == s.check.UnhealthyThreshold {
			s.failed, result = true, changed
		}
	}
	s.timedOut = r == CheckTimeout && s.failed
	if s.pending {
		result = changed
	}
	s.pending, s.checked = false, true
	return result
}

// wait is the time from a result to the next check.
func (c *Check) wait(passed, edge, traffic bool, rnd Rand) time.Duration {
	base := c.Interval
	switch {
	case !traffic && passed && !edge:
		base = c.NoTrafficHealthy
	case !traffic:
		base = c.NoTraffic
	case passed && edge:
		base = c.HealthyEdge
	case !passed && edge:
		base = c.UnhealthyEdge
	case !passed:
		base = c.Unhealthy
	}
	return c.jittered(base, c.IntervalJitter, rnd)
}

// jittered counts in whole milliseconds, and is one at least.
func (c *Check) jittered(base, jitter time.Duration, rnd Rand) time.Duration {
	ms := uint64(base / time.Millisecond)
	if percent := uint64(c.JitterPercent) * ms / 100; percent > 0 {
		ms += rnd() % percent
	}
	if jitter := uint64(jitter / time.Millisecond); jitter > 0 {
		ms += rnd() % jitter
	}
	return time.Duration(max(1, ms)) * time.Millisecond
}
