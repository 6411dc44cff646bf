package resilience

import "slices"

// Tried is the hosts that a call has used up. It belongs to the call's goroutine.
type Tried struct {
	few  [4]*HostState
	n    int
	more []*HostState

	forgotten int // so many of them no longer speak against their priority
	of        any // that loads are of
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
// Hash, which may be nil, is asked where RingHash or Maglev go by it; they know no other priorities.
func (p *Picker) PickRetry(rnd Rand, hash Hasher, tried *Tried, policy *Retry) Choice {
	v := p.view.Load()
	avoid, again := policy.avoids(tried)
	if v.tables != nil {
		return p.pickHash(v, hashOr(hash, rnd), avoid, again)
	}
	if policy != nil && policy.AvoidPreviousPriorities && tried.count() > 0 {
		v = &pickView{loads: tried.otherPriorities(p, v.counts, v.loads, policy.frequency(), p.priorityOf), sets: v.sets}
	}
	return p.pick(v, rnd, avoid, again)
}

// avoids is what hosts not to pick, and how often to pick again. R may be nil.
func (r *Retry) avoids(tried *Tried) (avoid *Tried, again uint32) {
	if r == nil || !r.AvoidPreviousHosts || tried.count() == 0 {
		return nil, 0
	}
	return tried, r.HostSelectionAttempts
}

func (r *Retry) frequency() int { return max(1, int(r.UpdateFrequency)) }

// otherPriorities spreads load, which is loads, over the priorities that no host was tried of. It looks anew at every so many hosts
// (frequency). When all priorities have been tried it begins again. Of is whose priorities they are.
func (t *Tried) otherPriorities(of any, counts []population, loads []load, frequency int, priorityOf func(*HostState) (int, bool)) []load {
	n := t.count() - t.forgotten
	if n < frequency {
		return loads
	}
	if n%frequency != 0 && t.of == of {
		return t.loads
	}
	left := slices.Clone(counts)
	for i := t.forgotten; i < t.count(); i++ {
		if priority, ok := priorityOf(t.at(i)); ok {
			left[priority].weights.healthy, left[priority].weights.degraded = 0, 0
		}
	}
	total := available(left)
	if total == 0 {
		t.forgotten = t.count()
		left, total = counts, available(counts)
	}
	if total == 0 {
		return loads
	}
	spread := slices.Clone(loads)
	fill(spread, left, total)
	t.of, t.loads = of, spread
	return spread
}

func (p *Picker) priorityOf(h *HostState) (int, bool) {
	for i := range p.members {
		if p.members[i].State == h {
			return int(p.members[i].Priority), true
		}
	}
	return 0, false
}
