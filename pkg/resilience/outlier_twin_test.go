package resilience

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// twin is outlier detection told from each host's history, as slowly as can be.
type twin struct {
	c     Outlier
	hosts []*twinHost
	now   time.Duration
}

type twinHost struct {
	codes      []int // since the 5xx counter was cleared
	gateway    []int // since the gateway counter was cleared
	locals     []bool
	interval   []bool // successes by code in this interval
	intervalLO []bool // local results of this interval
	ejected    bool
	at, back   time.Duration
	everBack   bool
	multiplier int
}

func runOf[T any](list []T, bad, skip func(T) bool) int {
	n := 0
	for i := len(list) - 1; i >= 0; i-- {
		switch {
		case bad(list[i]):
			n++
		case !skip(list[i]):
			return n
		}
	}
	return n
}

func (w *twin) code(i, code int) (log []string) {
	h := w.hosts[i]
	h.codes, h.gateway, h.interval = append(h.codes, code), append(h.gateway, code), append(h.interval, code/100 != 5)
	never := func(int) bool { return false }
	is5xx := func(c int) bool { return c/100 == 5 }
	isGateway := func(c int) bool { return c == 502 || c == 503 || c == 504 }
	fire5xx := is5xx(code) && runOf(h.codes, is5xx, never) == int(w.c.Consecutive5xx.Threshold)
	fireGateway := isGateway(code) && runOf(h.gateway, isGateway, never) == int(w.c.ConsecutiveGatewayFailure.Threshold)
	if fireGateway && !h.ejected {
		log = append(log, w.eject(i, "gateway", w.c.ConsecutiveGatewayFailure.Enforcing))
		h.gateway = nil
	}
	if fire5xx && !h.ejected {
		log = append(log, w.eject(i, "5xx", w.c.Consecutive5xx.Enforcing))
		h.codes = nil
	}
	return log
}

func (w *twin) local(i int, ok bool) (log []string) {
	h := w.hosts[i]
	h.locals, h.intervalLO = append(h.locals, ok), append(h.intervalLO, ok)
	bad, never := func(ok bool) bool { return !ok }, func(bool) bool { return false }
	if !ok && runOf(h.locals, bad, never) == int(w.c.ConsecutiveLocalOriginFailure.Threshold) && !h.ejected {
		log = append(log, w.eject(i, "local", w.c.ConsecutiveLocalOriginFailure.Enforcing))
		h.locals = nil
	}
	return log
}

func (w *twin) outcome(i int, o Outcome) []string {
	if o > 0 {
		return w.code(i, int(o))
	}
	if w.c.SplitLocalOriginErrors {
		return w.local(i, o == Connected)
	}
	switch o {
	case Connected:
		return nil
	case TimedOut:
		return w.code(i, 504)
	case TimedOutAs204:
		return w.code(i, 204)
	}
	return w.code(i, 503)
}

func (w *twin) eject(i int, by string, enforcing uint32) string {
	ejected := 0
	for _, h := range w.hosts {
		if h.ejected {
			ejected++
		}
	}
	if 100*(ejected+1) > int(w.c.MaxEjectionPercent)*len(w.hosts) && !(w.c.AlwaysEjectOneHost && ejected == 0) {
		return fmt.Sprint(i, " ", by, " overflow")
	}
	if enforcing == 0 { // every roll is 0
		return fmt.Sprint(i, " ", by, " spared")
	}
	h := w.hosts[i]
	h.ejected, h.at = true, w.now
	if time.Duration(h.multiplier)*w.c.BaseEjectionTime < w.c.MaxEjectionTime+w.c.BaseEjectionTime {
		h.multiplier++
	}
	return fmt.Sprint(i, " ", by, " ejected")
}

func (w *twin) tick() (log []string) {
	for i, h := range w.hosts {
		if h.ejected && w.now-h.at >= min(time.Duration(h.multiplier)*w.c.BaseEjectionTime, w.c.MaxEjectionTime) {
			h.ejected, h.codes, h.gateway, h.locals, h.back, h.everBack = false, nil, nil, nil, w.now, true
			log = append(log, fmt.Sprint(i, " unejected"))
		}
	}
	log = append(log, w.failurePercentage("fp", w.c.FailurePercentage.Enforcing, func(h *twinHost) []bool { return h.interval })...)
	log = append(log, w.failurePercentage("local-fp", w.c.EnforcingLocalOriginFP, func(h *twinHost) []bool { return h.intervalLO })...)
	for _, h := range w.hosts {
		if !h.ejected && h.everBack && w.now-h.back >= w.c.Interval && h.multiplier > 0 {
			h.multiplier--
		}
		h.interval, h.intervalLO = nil, nil
	}
	return log
}

// failurePercentage judges the successes of an interval; the twin does not know the success rate detector.
func (w *twin) failurePercentage(by string, enforcing uint32, successes func(*twinHost) []bool) (log []string) {
	eligible, outliers := 0, []int{}
	for i, h := range w.hosts {
		total, bad := 0, 0
		for _, ok := range successes(h) {
			total++
			if !ok {
				bad++
			}
		}
		if h.ejected || total == 0 || total < int(w.c.FailurePercentage.RequestVolume) {
			continue
		}
		eligible++
		if 100*bad >= int(w.c.FailurePercentage.Threshold)*total {
			outliers = append(outliers, i)
		}
	}
	if eligible < int(w.c.FailurePercentage.MinimumHosts) {
		return nil
	}
	for _, i := range outliers {
		log = append(log, w.eject(i, by, enforcing))
	}
	return log
}

func drawOutlier(t *rapid.T) Outlier {
	small := func(name string, most uint32) uint32 { return rapid.Uint32Range(0, most).Draw(t, name) }
	enforcing := func(name string) uint32 { return rapid.SampledFrom([]uint32{0, 100}).Draw(t, name) }
	base := time.Duration(rapid.IntRange(1, 5).Draw(t, "base")) * time.Second
	return Outlier{
		Consecutive5xx:                Consecutive{small("5xx", 4), enforcing("enforcing 5xx")},
		ConsecutiveGatewayFailure:     Consecutive{small("gateway", 4), enforcing("enforcing gateway")},
		ConsecutiveLocalOriginFailure: Consecutive{small("local", 3), enforcing("enforcing local")},
		SplitLocalOriginErrors:        rapid.Bool().Draw(t, "split"),
		SuccessRate:                   SuccessRate{MinimumHosts: 1000},
		FailurePercentage:             FailurePercentage{Threshold: 50, MinimumHosts: small("fp hosts", 3), RequestVolume: small("fp volume", 4), Enforcing: enforcing("enforcing fp")},
		EnforcingLocalOriginFP:        enforcing("enforcing local fp"),
		Interval:                      2 * time.Second,
		BaseEjectionTime:              base,
		MaxEjectionTime:               base * time.Duration(rapid.IntRange(1, 4).Draw(t, "max")),
		MaxEjectionPercent:            rapid.SampledFrom([]uint32{0, 10, 34, 50, 100}).Draw(t, "percent"),
		AlwaysEjectOneHost:            rapid.Bool().Draw(t, "always one"),
	}
}

func TestDetectorIsItsTwin(t *testing.T) {
	outcomes := []Outcome{200, 500, 503, 504, 404, Connected, ConnectFailed, Reset, TimedOut, TimedOutAs204}
	rapid.Check(t, func(rt *rapid.T) {
		c := drawOutlier(rt)
		n := rapid.IntRange(1, 5).Draw(rt, "hosts")
		r, w := newRing(t, n, c), &twin{c: c}
		for range n {
			w.hosts = append(w.hosts, new(twinHost))
		}
		start := r.now
		for step := range rapid.IntRange(1, 150).Draw(rt, "steps") {
			r.log = nil
			var want []string
			if rapid.IntRange(0, 9).Draw(rt, "what") == 0 {
				r.tick(c.Interval)
				w.now = r.now.Sub(start)
				want = w.tick()
			} else {
				host, o := rapid.IntRange(0, n-1).Draw(rt, "host"), rapid.SampledFrom(outcomes).Draw(rt, "outcome")
				r.record(host, o)
				want = w.outcome(host, o)
			}
			if got := logWithoutReasonOfReturn(r.log); fmt.Sprint(got) != fmt.Sprint(want) {
				rt.Fatalf("step %d of %+v: got %q, twin %q", step, c, got, want)
			}
			for i, h := range r.hosts {
				if h.Ejected() != w.hosts[i].ejected || h.multiplier != uint32(w.hosts[i].multiplier) {
					rt.Fatalf("step %d, host %d: ejected %v multiplier %d, twin %v %d", step, i, h.Ejected(), h.multiplier, w.hosts[i].ejected, w.hosts[i].multiplier)
				}
			}
		}
	})
}

// logWithoutReasonOfReturn drops which detector had ejected a host that returns.
func logWithoutReasonOfReturn(log []string) []string {
	var short []string
	for _, line := range log {
		var host int
		var by, action string
		if _, err := fmt.Sscan(line, &host, &by, &action); err == nil && action == "unejected" {
			line = fmt.Sprint(host, " unejected")
		}
		short = append(short, line)
	}
	return short
}
