package resilience

import "time"

// RecordDegraded is called when a response of h carries x-envoy-degraded, serialised with Tick. With DetectDegradedHosts it puts h behind
// the healthy hosts, for as long as an ejection would last; each further time is longer.
func (d *Detector) RecordDegraded(h *HostState, now time.Time, rnd Rand) (event Event, changed bool) {
	if !d.config.DetectDegradedHosts || h.flags.Load()&flagDegraded != 0 {
		return Event{}, false
	}
	g := &h.degradation
	event = Event{Host: h, By: AskDegraded, Action: HostDegraded, Ejections: h.ejections, Since: since(g.cleared, now)}
	g.since, g.jitter, g.multiplier = now, d.jitter(rnd), d.grow(g.multiplier)
	h.set(flagDegraded, true)
	return event, true
}

// recover ends a degradation whose time is over, and lets the back-off of one long past decay.
func (d *Detector) recover(events []Event, h *HostState, now time.Time) []Event {
	g := &h.degradation
	if h.flags.Load()&flagDegraded == 0 {
		if g.multiplier > 0 && now.Sub(g.cleared) >= d.config.Interval {
			g.multiplier--
		}
		return events
	}
	if d.duration(g.multiplier, g.jitter) > now.Sub(g.since) {
		return events
	}
	g.cleared = now
	h.set(flagDegraded, false)
	return append(events, Event{Host: h, By: AskDegraded, Action: HostRecovered, Ejections: h.ejections, Since: since(g.since, now)})
}
