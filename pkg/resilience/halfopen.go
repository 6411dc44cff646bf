package resilience

// consecutive are the detectors after which an ejection ends half open.
const consecutive = AskGatewayFailure | Ask5xx | AskLocalOriginFailure

// Probing reports whether h is back on trial: a call to it needs a TryProbe.
func (h *HostState) Probing() bool { return h.flags.Load()&flagProbing != 0 }

// TryProbe counts one call more that tries h, if no more than limit are then under way. EndProbe is owed for it. It may be called from
// many goroutines.
func (h *HostState) TryProbe(limit uint32) bool {
	for {
		n := h.probes.Load()
		if n >= int32(limit) {
			return false
		}
		if h.probes.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Probes is how many calls try h just now.
func (h *HostState) Probes() uint32 { return uint32(max(0, h.probes.Load())) }

// EndProbe takes back a TryProbe.
func (h *HostState) EndProbe() { h.probes.Add(-1) }

// try puts h on trial, or ends its trial.
func (h *HostState) try(on bool) {
	h.passed.Store(0)
	h.set(flagProbing, on)
}

// Probed judges a call that tried h, lock-free. What it asks for must be handed to Eject: one failure is enough. After as many successes
// in a row as are wanted, h is on trial no more.
func (d *Detector) Probed(h *HostState, outcome Outcome) (ask Ask) {
	if !h.Probing() || outcome == OutcomeIgnored || outcome == Connected {
		return 0
	}
	if ask = d.failure(outcome); ask != 0 {
		return ask
	}
	if h.passed.Add(1) >= d.config.HalfOpen.Successes {
		h.try(false)
	}
	return 0
}

// failure is the detector that counts outcome as a failure, 0 if none does.
func (d *Detector) failure(outcome Outcome) Ask {
	switch outcome {
	case ConnectFailed, Reset:
		if d.config.SplitLocalOriginErrors {
			return AskLocalOriginFailure
		}
		outcome = 503
	case TimedOut:
		outcome = 504
	case TimedOutAs204:
		outcome = 204
	}
	switch {
	case outcome < 500 || outcome > 599:
		return 0
	case d.config.Consecutive5xx.Threshold > 0:
		return Ask5xx
	case d.config.ConsecutiveGatewayFailure.Threshold > 0 && outcome >= 502 && outcome <= 504:
		return AskGatewayFailure
	}
	return 0
}
