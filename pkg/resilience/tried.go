package resilience

import "slices"

// Tried is the hosts that a call has used up. It belongs to the call's goroutine.
type Tried struct {
	few  [4]*HostState
	n    int
	more []*HostState

	forgotten int     // so many of them no longer speak against their priority
	picker    *Picker // that loads are of
	loads     []load
}

// Add puts h into the set.
func (t *Tried) Add(h *HostState) {
	if t.n < len(t.few) {
		t.few[t.n] = h
		t.n++
		return
	}
	t.more = append(t.more, h)
}

// Has reports whether h is in the set.
func (t *Tried) Has(h *HostState) bool {
	return slices.Contains(t.few[:t.n], h) || slices.Contains(t.more, h)
}

func (t *Tried) count() int { return t.n + len(t.more) }

// at is the i-th host that was added.
func (t *Tried) at(i int) *HostState {
	if i < t.n {
		return t.few[i]
	}
	return t.more[i-t.n]
}

// PickRetry is Pick as policy, which may be nil, wants it: other hosts than tried, or other priorities. It serves the first attempt as well.
func (p *Picker) PickRetry(rnd Rand, tried *Tried, policy *Retry) Choice {
	v := p.view.Load()
	if policy == nil || tried.count() == 0 {
		return p.pick(v, rnd, nil, 0)
	}
	if policy.AvoidPreviousPriorities {
		v = &pickView{loads: p.otherPriorities(v, tried, max(1, int(policy.UpdateFrequency))), sets: v.sets}
	}
	if !policy.AvoidPreviousHosts {
		return p.pick(v, rnd, nil, 0)
	}
	return p.pick(v, rnd, tried, policy.HostSelectionAttempts)
}

// otherPriorities spreads load over the priorities that no host was tried of. It looks anew at every so many hosts (frequency). When all
// priorities have been tried it begins again.
func (p *Picker) otherPriorities(v *pickView, tried *Tried, frequency int) []load {
	n := tried.count() - tried.forgotten
	if n < frequency {
		return v.loads
	}
	if n%frequency != 0 && tried.picker == p {
		return tried.loads
	}
	counts := slices.Clone(v.counts)
	for i := tried.forgotten; i < tried.count(); i++ {
		if priority, ok := p.priorityOf(tried.at(i)); ok {
			counts[priority].healthy, counts[priority].degraded = 0, 0
		}
	}
	total := available(counts)
	if total == 0 {
		tried.forgotten = tried.count()
		counts, total = v.counts, available(v.counts)
	}
	if total == 0 {
		return v.loads
	}
	loads := slices.Clone(v.loads)
	fill(loads, counts, total)
	tried.picker, tried.loads = p, loads
	return loads
}

func (p *Picker) priorityOf(h *HostState) (uint32, bool) {
	for i := range p.members {
		if p.members[i].State == h {
			return p.members[i].Priority, true
		}
	}
	return 0, false
}
