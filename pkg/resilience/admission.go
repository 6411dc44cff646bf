package resilience

import (
	"math"
	"sync/atomic"
	"time"
)

// AdmissionLimits is the configuration of admission control. Rates are shares of 1.
type AdmissionLimits struct {
	Window       time.Duration // whole seconds, at least one
	SuccessRate  float64       // calls are refused while fewer succeed
	Aggression   float64       // at least 1
	MinimumRate  float64       // calls per second, under which none is refused
	MaxRejection float64
}

// DefaultAdmission is what Envoy's admission_control does by default.
func DefaultAdmission() AdmissionLimits {
	return AdmissionLimits{Window: 30 * time.Second, SuccessRate: 0.95, Aggression: 1, MaxRejection: 0.8}
}

// Admission refuses calls as the success rate falls. It may be used from many goroutines.
// (Envoy has one for each of its workers, and starts a second with its first call; here seconds are those of the clock.)
type Admission struct {
	limits  AdmissionLimits
	seconds []atomic.Uint64 // a ring: the number of the second, its calls, its successes
}

const (
	admissionBits = 22
	admissionMask = 1<<admissionBits - 1
)

// NewAdmission returns admission control that knows of no calls yet.
func NewAdmission(limits AdmissionLimits) *Admission {
	return &Admission{limits, make([]atomic.Uint64, max(1, limits.Window/time.Second))}
}

// Record counts a call that was admitted, when it ends. Refused calls are not recorded.
func (a *Admission) Record(success bool, now time.Time) {
	second := secondOf(now)
	slot := &a.seconds[uint64(now.Unix())%uint64(len(a.seconds))]
	add := uint64(1) << admissionBits
	if success {
		add++
	}
	for {
		old := slot.Load()
		next := old + add
		if old>>(2*admissionBits) != second {
			next = second<<(2*admissionBits) + add
		} else if old>>admissionBits&admissionMask == admissionMask {
			return
		}
		if slot.CompareAndSwap(old, next) {
			return
		}
	}
}

// secondOf numbers seconds; the number returns after twelve days.
func secondOf(now time.Time) uint64 { return uint64(now.Unix()) & (1<<(64-2*admissionBits) - 1) }

// Refuse decides on a call: true means 503, "denied by admission control".
func (a *Admission) Refuse(now time.Time, rnd Rand) bool {
	const accuracy = 10_000
	return accuracy*a.Probability(now) > float64(rnd()%accuracy)
}

// Probability is the share of calls that are refused at now.
func (a *Admission) Probability(now time.Time) float64 {
	calls, successes, age := a.sum(now)
	if calls == 0 || calls/max(1, age) < a.limits.MinimumRate {
		return 0
	}
	p := (calls - successes/a.limits.SuccessRate) / (calls + 1)
	if p <= 0 {
		return 0
	}
	if a.limits.Aggression > 1 {
		p = math.Pow(p, 1/a.limits.Aggression)
	}
	return min(p, a.limits.MaxRejection)
}

// sum is what happened within the window, and the age of its oldest second.
func (a *Admission) sum(now time.Time) (calls, successes, age float64) {
	current := secondOf(now)
	for i := range a.seconds {
		slot := a.seconds[i].Load()
		old := (current - slot>>(2*admissionBits)) & (1<<(64-2*admissionBits) - 1)
		if slot == 0 || old >= uint64(len(a.seconds)) {
			continue
		}
		calls += float64(slot >> admissionBits & admissionMask)
		successes += float64(slot & admissionMask)
		age = max(age, float64(old))
	}
	return calls, successes, age
}
