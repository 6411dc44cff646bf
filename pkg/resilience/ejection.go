package resilience

import (
	"strings"
	"time"
)

// askNames are Envoy's names of the detectors, by bit.
var askNames = [...]string{
	"consecutive_gateway_failure", "consecutive_5xx", "consecutive_local_origin_failure", "success_rate", "failure_percentage",
	"local_origin_success_rate", "local_origin_failure_percentage", "degraded",
}

// String is Envoy's names of the detectors in a, with commas between; "" of none.
func (a Ask) String() string {
	var names []string
	for i, name := range askNames {
		if a&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// Ejection says why a host is out of rotation and for how long.
type Ejection struct {
	By    Ask
	Since time.Time
	Until time.Time // not before; it is the first tick from then on that takes the host back
}

// Ejection is that of h, false where it is in rotation. It is serialised with Tick.
func (d *Detector) Ejection(h *HostState) (Ejection, bool) {
	if !h.Ejected() {
		return Ejection{}, false
	}
	return Ejection{h.lastReason, h.ejectedAt, h.ejectedAt.Add(d.duration(h.multiplier, h.jitter))}, true
}
