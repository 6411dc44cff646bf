package resilience

import (
	"testing"
	"time"
)

// checkTimes tells every interval apart.
func checkTimes() *Check {
	return &Check{
		Interval: 10 * time.Second, HealthyEdge: 20 * time.Second, Unhealthy: 30 * time.Second, UnhealthyEdge: 40 * time.Second,
		NoTraffic: 50 * time.Second, NoTrafficHealthy: 60 * time.Second, HealthyThreshold: 2, UnhealthyThreshold: 3,
	}
}

// result is one result and what it leads to.
type result struct {
	in     CheckResult
	failed bool
	wait   time.Duration
}

func TestCheckSession(t *testing.T) {
	const pass, network, failed = CheckPassed, CheckNetwork, CheckFailed
	s := time.Second
	for _, tt := range []struct {
		name    string
		traffic bool
		results []result
	}{
		{"the first pass decides", true, []result{{pass, false, 10 * s}}},
		{"the first failure decides", true, []result{{network, true, 30 * s}}},
		{"failures of the network count up", true, []result{{pass, false, 10 * s}, {network, false, 40 * s}, {CheckTimeout, false, 40 * s}, {network, true, 30 * s}, {network, true, 30 * s}}},
		{"a pass starts the count anew", true, []result{{pass, false, 10 * s}, {network, false, 40 * s}, {network, false, 40 * s}, {pass, false, 10 * s}, {network, false, 40 * s}}},
		{"the host's word is enough", true, []result{{pass, false, 10 * s}, {failed, true, 30 * s}}},
		{"a retriable word counts as the network", true, []result{{pass, false, 10 * s}, {CheckRetriable, false, 40 * s}, {network, false, 40 * s}, {CheckRetriable, true, 30 * s}}},
		{"passes count up", true, []result{{failed, true, 30 * s}, {pass, true, 20 * s}, {pass, false, 10 * s}}},
		{"a failure starts the passes anew", true, []result{{failed, true, 30 * s}, {pass, true, 20 * s}, {network, true, 30 * s}, {pass, true, 20 * s}, {pass, false, 10 * s}}},
		{"without traffic", false, []result{{failed, true, 50 * s}, {pass, true, 50 * s}, {pass, false, 60 * s}, {network, false, 50 * s}}},
		{"degraded is a pass", true, []result{{CheckPassedDegraded, false, 10 * s}}},
	} {
		session := NewCheckSession(checkTimes(), true, false)
		for i, r := range tt.results {
			wait, _ := session.Result(r.in, tt.traffic, zero)
			if session.Failed() != r.failed || wait != r.wait {
				t.Errorf("%s: result %d: failed %v and waits %v, want %v and %v", tt.name, i+1, session.Failed(), wait, r.failed, r.wait)
			}
		}
	}
}

func TestCheckSessionOfAServingHost(t *testing.T) {
	s := NewCheckSession(checkTimes(), false, false)
	if s.Result(CheckNetwork, true, zero); !s.Failed() {
		t.Error("the first result did not decide")
	}
	s = NewCheckSession(checkTimes(), true, true)
	if !s.Pending() || s.Checked() {
		t.Errorf("new: pending %v, checked %v", s.Pending(), s.Checked())
	}
	if _, recovering := s.Result(CheckPassedDegraded, true, zero); !recovering || s.Pending() || !s.Checked() || !s.Degraded() {
		t.Errorf("after a pass: recovering %v, pending %v, checked %v, degraded %v", recovering, s.Pending(), s.Checked(), s.Degraded())
	}
	if _, recovering := s.Result(CheckPassed, true, zero); recovering || s.Degraded() {
		t.Errorf("after another: recovering %v, degraded %v", recovering, s.Degraded())
	}
	s.Passive()
	if !s.Failed() || s.TimedOut() {
		t.Errorf("after a response's word: failed %v, timed out %v", s.Failed(), s.TimedOut())
	}
	if s.Result(CheckTimeout, true, zero); !s.TimedOut() {
		t.Error("a failed host that times out does not say so")
	}
	if s.Result(CheckNetwork, true, zero); s.TimedOut() {
		t.Error("a failed host that refuses is still said to time out")
	}
}

func TestCheckJitter(t *testing.T) {
	c := checkTimes()
	c.JitterPercent, c.IntervalJitter = 50, 3*time.Second
	s := NewCheckSession(c, true, false)
	if wait, _ := s.Result(CheckPassed, true, script(4999, 2999)); wait != 10*time.Second+4999*time.Millisecond+2999*time.Millisecond {
		t.Errorf("waits %v", wait)
	}
	if wait := s.First(script(1)); wait != 0 {
		t.Errorf("without initial jitter: waits %v", wait)
	}
	c.InitialJitter = time.Second
	if wait := s.First(script(1999)); wait != 999*time.Millisecond {
		t.Errorf("at first: waits %v, want 999ms", wait)
	}
	if wait := s.First(script(0)); wait != time.Millisecond {
		t.Errorf("at first: waits %v, want 1ms at least", wait)
	}
}
