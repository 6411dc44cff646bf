package resilience

import (
	"math"
	"slices"
	"time"
)

// Outcome is the result of one attempt as the detectors see it: a status code, or one of the outcomes below.
// gRPC codes are given as GRPCOutcome maps them.
type Outcome int32

// The outcomes that are no response.
const (
	Connected      Outcome = -iota - 1 // the request got a connection; its response is another outcome
	ConnectFailed                      // refused, unreachable, or no connection within the connect timeout
	Reset                              // reset or disconnected, before or after headers
	TimedOut                           // no response headers within a timeout
	TimedOutAs204                      // the same, where the caller asked for 204 in place of 504
	OutcomeIgnored                     // not charged to the host, such as an overflow
)

// GRPCOutcome is the outcome of a response whose headers carry grpc-status.
func GRPCOutcome(status uint32) Outcome {
	codes := [...]Outcome{200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401}
	if status >= uint32(len(codes)) {
		return 500
	}
	return codes[status]
}

// Ask is a set of detectors. What Record returns is to be handed to Eject.
type Ask uint8

// The detectors.
const (
	AskGatewayFailure Ask = 1 << iota
	Ask5xx
	AskLocalOriginFailure
	AskSuccessRate
	AskFailurePercentage
	AskLocalOriginSuccessRate
	AskLocalOriginFailurePercentage
	AskDegraded
)

// Action is what became of a host.
type Action uint8

// The actions. HostEjected, HostSpared and HostOverflow mean that a detector has fired.
const (
	HostEjected   Action = iota + 1
	HostSpared           // would have been ejected, but Enforcing said no
	HostOverflow         // too many are ejected already
	HostUnejected        // back in rotation
	HostDegraded         // put behind the healthy hosts
	HostRecovered        // no longer degraded
)

// Event says what the detector did.
type Event struct {
	Host      *HostState
	By        Ask // one detector; of HostUnejected the one that had ejected
	Action    Action
	Ejections uint32 // of Host, ever

	// Since is the time from the action before this one, negative where there was none.
	Since time.Duration

	// Rate is the host's share of successes in percent, and Mean and Bound what it was compared with (of success rate only).
	Rate, Mean, Bound float64
}

// Detector is outlier detection with one configuration. It has no state of its own, so it can be replaced at any time.
type Detector struct{ config Outlier }

// NewDetector returns a detector for config.
func NewDetector(config Outlier) *Detector { return &Detector{config} }

// Config is the configuration of d.
func (d *Detector) Config() Outlier { return d.config }

// Adopt is called once when hosts come under d from another configuration, serialised with Tick. Detectors fire when a counter equals
// its threshold: one that is past a lowered threshold would never fire, so that it is set to fire at the next failure.
func (d *Detector) Adopt(hosts []*HostState) {
	for _, h := range hosts {
		lower(&h.failed5xx, d.config.Consecutive5xx.Threshold)
		lower(&h.failedGateway, d.config.ConsecutiveGatewayFailure.Threshold)
		lower(&h.failedLocal, d.config.ConsecutiveLocalOriginFailure.Threshold)
		if d.config.HalfOpen == (HalfOpen{}) {
			h.try(false)
		}
	}
}

// Record charges outcome to h. It is lock-free, and may be called from many goroutines. If ask is not 0, a detector has fired: the
// caller must call Eject with it.
func (d *Detector) Record(h *HostState, outcome Outcome) (ask Ask) {
	if outcome > 0 {
		return d.recordStatus(h, outcome)
	}
	if outcome == OutcomeIgnored || outcome == 0 {
		return 0
	}
	if d.config.SplitLocalOriginErrors {
		return d.recordLocal(h, outcome == Connected)
	}
	switch outcome {
	case ConnectFailed, Reset:
		return d.recordStatus(h, 503)
	case TimedOut:
		return d.recordStatus(h, 504)
	case TimedOutAs204:
		return d.recordStatus(h, 204)
	}
	return 0 // Connected means nothing here
}

func (d *Detector) recordStatus(h *HostState, status Outcome) (ask Ask) {
	if status < 500 || status > 599 {
		h.external.success()
		reset(&h.failed5xx)
		reset(&h.failedGateway)
		return 0
	}
	h.external.failure()
	if status >= 502 && status <= 504 {
		if h.failedGateway.Add(1) == d.config.ConsecutiveGatewayFailure.Threshold {
			ask |= AskGatewayFailure
		}
	} else {
		reset(&h.failedGateway)
	}
	if h.failed5xx.Add(1) == d.config.Consecutive5xx.Threshold {
		ask |= Ask5xx
	}
	return ask
}

func (d *Detector) recordLocal(h *HostState, ok bool) (ask Ask) {
	if ok {
		h.localOrigin.success()
		reset(&h.failedLocal)
		return 0
	}
	h.localOrigin.failure()
	if h.failedLocal.Add(1) == d.config.ConsecutiveLocalOriginFailure.Threshold {
		return AskLocalOriginFailure
	}
	return 0
}

// Eject decides on what Record asked for h, one of hosts, which are all hosts of the cluster. It and Tick are serialised by the caller.
// A host that is no longer among hosts, or ejected already, is left alone. There is an event for each detector of ask.
func (d *Detector) Eject(hosts []*HostState, h *HostState, ask Ask, now time.Time, rnd Rand) []Event {
	if !slices.Contains(hosts, h) {
		return nil
	}
	var events []Event
	for by := AskGatewayFailure; by <= AskLocalOriginFailure; by <<= 1 {
		if ask&by == 0 || h.Ejected() {
			continue
		}
		events = append(events, d.eject(hosts, Event{Host: h, By: by}, now, rnd))
		switch by {
		case AskGatewayFailure:
			h.failedGateway.Store(0)
		case Ask5xx:
			h.failed5xx.Store(0)
		case AskLocalOriginFailure:
			h.failedLocal.Store(0)
		}
	}
	return events
}

// eject completes event: it ejects its host if the limits and the roll allow it.
func (d *Detector) eject(hosts []*HostState, event Event, now time.Time, rnd Rand) Event {
	h := event.Host
	event.Since = since(h.unejectedAt, now)
	switch {
	case !d.mayEject(hosts):
		event.Action = HostOverflow
	case rnd()%100 >= uint64(d.enforcing(event.By)):
		event.Action = HostSpared
	default:
		event.Action = HostEjected
		h.ejections++
		h.ejectedAt, h.lastReason = now, event.By
		h.jitter = d.jitter(rnd)
		h.multiplier = d.grow(h.multiplier)
		h.try(false)
		h.set(flagEjected, true)
	}
	event.Ejections = h.ejections
	return event
}

// mayEject reports whether one more host may be ejected.
func (d *Detector) mayEject(hosts []*HostState) bool {
	ejected := 0
	for _, h := range hosts {
		if h.Ejected() {
			ejected++
		}
	}
	if d.config.AlwaysEjectOneHost && ejected == 0 {
		return true
	}
	return 100*float64(ejected+1)/float64(len(hosts)) <= float64(min(100, d.config.MaxEjectionPercent))
}

func (d *Detector) enforcing(by Ask) uint32 {
	switch by {
	case AskGatewayFailure:
		return d.config.ConsecutiveGatewayFailure.Enforcing
	case Ask5xx:
		return d.config.Consecutive5xx.Enforcing
	case AskLocalOriginFailure:
		return d.config.ConsecutiveLocalOriginFailure.Enforcing
	case AskSuccessRate:
		return d.config.SuccessRate.Enforcing
	case AskFailurePercentage:
		return d.config.FailurePercentage.Enforcing
	case AskLocalOriginSuccessRate:
		return d.config.EnforcingLocalOriginSR
	case AskLocalOriginFailurePercentage:
		return d.config.EnforcingLocalOriginFP
	}
	return 0
}

// grow is the multiplier after one more ejection: it stops growing once it has reached the longest time.
func (d *Detector) grow(multiplier uint32) uint32 {
	if time.Duration(multiplier)*d.config.BaseEjectionTime < d.config.MaxEjectionTime+d.config.BaseEjectionTime {
		return multiplier + 1
	}
	return multiplier
}

// jitter is drawn anew for each ejection, in whole milliseconds.
func (d *Detector) jitter(rnd Rand) time.Duration {
	longest := uint64(d.config.MaxEjectionTimeJitter / time.Millisecond)
	return time.Duration(rnd()%(longest+1)) * time.Millisecond
}

// duration is how long an ejection lasts at least; it ends at a tick.
func (d *Detector) duration(multiplier uint32, jitter time.Duration) time.Duration {
	return min(d.config.BaseEjectionTime*time.Duration(multiplier), d.config.MaxEjectionTime) + jitter
}

// Tick is called each Interval with all hosts of the cluster, serialised with Eject: it returns hosts whose time is over, and judges the
// interval that ends.
func (d *Detector) Tick(hosts []*HostState, now time.Time, rnd Rand) []Event {
	var events []Event
	external, local := make([]rated, 0, len(hosts)), make([]rated, 0, len(hosts))
	for _, h := range hosts {
		if h.Ejected() && d.duration(h.multiplier, h.jitter) <= now.Sub(h.ejectedAt) {
			events = append(events, uneject(h, now))
			h.try(d.config.HalfOpen != HalfOpen{} && h.lastReason&consecutive != 0)
		}
		external, local = rate(external, h, &h.external), rate(local, h, &h.localOrigin)
	}
	events = d.judge(events, hosts, external, AskSuccessRate, AskFailurePercentage, now, rnd)
	events = d.judge(events, hosts, local, AskLocalOriginSuccessRate, AskLocalOriginFailurePercentage, now, rnd)
	for _, h := range hosts {
		if !h.Ejected() && h.multiplier > 0 && now.Sub(h.unejectedAt) >= d.config.Interval {
			h.multiplier--
		}
		events = d.recover(events, h, now)
	}
	return events
}

// CheckPassed is called when h has passed an active health check, serialised with Tick: an ejected host returns at once, if so configured.
func (d *Detector) CheckPassed(h *HostState, now time.Time) (event Event, unejected bool) {
	if !d.config.UnejectOnHealthCheck || !h.Ejected() || h.FailedCheck() {
		return Event{}, false
	}
	return uneject(h, now), true
}

// Release returns all ejected hosts: outlier detection has been switched off. It is serialised with Tick.
func Release(hosts []*HostState, now time.Time) []Event {
	var events []Event
	for _, h := range hosts {
		h.try(false)
		if h.Ejected() {
			events = append(events, uneject(h, now))
		}
	}
	return events
}

func uneject(h *HostState, now time.Time) Event {
	h.set(flagEjected, false)
	h.clearFailures()
	h.unejectedAt = now
	return Event{Host: h, By: h.lastReason, Action: HostUnejected, Ejections: h.ejections, Since: since(h.ejectedAt, now)}
}

// rated is a host and how it did in the interval that ends.
type rated struct {
	host   *HostState
	rate   float64 // percent
	volume uint64
}

// rate ends the interval of w, and adds h to list unless it had no traffic.
func rate(list []rated, h *HostState, w *window) []rated {
	successes, total := w.take()
	if total == 0 {
		return list
	}
	return append(list, rated{h, 100 * float64(successes) / float64(total), total})
}

// judge compares hosts with their mean, then with the fixed bound. As in Envoy, who is ejected by the first is judged by the second too,
// so that both together grow the multiplier by two. (Envoy also counts such a host twice among the ejected; we don't.)
func (d *Detector) judge(events []Event, hosts []*HostState, list []rated, bySR, byFP Ask, now time.Time, rnd Rand) []Event {
	list = slices.DeleteFunc(list, func(r rated) bool { return r.host.Ejected() })
	sr := enough(list, d.config.SuccessRate.RequestVolume, d.config.SuccessRate.MinimumHosts)
	mean, bound := successBound(sr, d.config.SuccessRate.StdevFactor)
	for _, r := range sr {
		if r.rate < bound {
			events = append(events, d.eject(hosts, Event{Host: r.host, By: bySR, Rate: r.rate, Mean: mean, Bound: bound}, now, rnd))
		}
	}
	for _, r := range enough(list, d.config.FailurePercentage.RequestVolume, d.config.FailurePercentage.MinimumHosts) {
		if 100-r.rate >= float64(d.config.FailurePercentage.Threshold) {
			events = append(events, d.eject(hosts, Event{Host: r.host, By: byFP, Rate: r.rate}, now, rnd))
		}
	}
	return events
}

// enough returns the hosts with enough traffic, or none if they are too few.
func enough(list []rated, volume, hosts uint32) []rated {
	eligible := make([]rated, 0, len(list))
	for _, r := range list {
		if r.volume >= uint64(volume) {
			eligible = append(eligible, r)
		}
	}
	if len(eligible) < int(hosts) {
		return nil
	}
	return eligible
}

// successBound is the mean of the rates, and the bound under which a host is an outlier. factor is in thousandths.
func successBound(list []rated, factor uint32) (mean, bound float64) {
	if len(list) == 0 {
		return 0, 0
	}
	for _, r := range list {
		mean += r.rate
	}
	mean /= float64(len(list))
	variance := 0.0
	for _, r := range list {
		variance += (r.rate - mean) * (r.rate - mean)
	}
	variance /= float64(len(list))
	return mean, mean - float64(factor)/1000*math.Sqrt(variance)
}

// since is the time from then to now, or -1 if then never was.
func since(then, now time.Time) time.Duration {
	if then.IsZero() {
		return -1
	}
	return now.Sub(then)
}
