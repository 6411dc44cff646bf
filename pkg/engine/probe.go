package engine

import "github.com/breakwater-mesh/breakwater/pkg/resilience"

// fit reports whether a call may go to h now: a host on trial takes only so many at once. It notes in c whether the call tries it.
func (c *Call) fit(t *target, h *Host) bool {
	c.probes = false
	if !h.State.Probing() {
		return true
	}
	d := t.live.detector.Load()
	if d == nil {
		return true
	}
	c.probes = h.State.TryProbe(d.Config().HalfOpen.MaxProbes)
	return c.probes
}

// record charges the host with an outcome, which also decides the trial that the attempt is.
func (a *Attempt) record(outcome resilience.Outcome) {
	live := a.serving.live
	if a.probe {
		live.probed(a.Host, outcome)
		a.endProbe()
	}
	live.record(a.Host, outcome)
}

func (a *Attempt) endProbe() {
	if a.probe {
		a.probe = false
		a.Host.State.EndProbe()
	}
}

// probed judges a call that tried h: a failure ejects it again.
func (c *cluster) probed(h *Host, outcome resilience.Outcome) {
	d := c.detector.Load()
	if d == nil {
		return
	}
	if ask := d.Probed(h.State, outcome); ask != 0 {
		c.eject(d, h, ask)
	}
}
