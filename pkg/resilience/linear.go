package resilience

import (
	"slices"
	"sync/atomic"
)

// Linear chooses among several pickers whose priorities stand in a row, as an aggregate cluster does with its members: first all of the
// first picker's, then the second's. The zero Linear is ready; its methods may be called from many goroutines.
type Linear struct{ row atomic.Pointer[row] }

// row is the priorities that have hosts, and how load spreads over them. It is good as long as the pickers' views are these.
type row struct {
	pickers []*Picker
	views   []*pickView
	counts  []population
	loads   []load
	spots   []spot
}

// spot is one priority of one picker.
type spot struct{ picker, priority int }

// Pick chooses a picker and one of its members, by the aggregate's panic threshold. Member i of n is the picker of that number, nil where
// there is none. All else is as in Picker.PickRetry. Picker is -1 where no picker has hosts.
func (l *Linear) Pick(n int, member func(int) *Picker, threshold uint32, rnd Rand, hash Hasher, tried *Tried, policy *Retry) (picker int, c Choice) {
	r := l.row.Load()
	if !r.holds(n, member) {
		r = newRow(n, member, threshold)
		l.row.Store(r)
	}
	if len(r.spots) == 0 {
		return -1, Choice{Member: -1}
	}
	loads := r.loads
	if policy != nil && policy.AvoidPreviousPriorities && tried.count() > 0 {
		loads = tried.otherPriorities(r, r.counts, loads, policy.frequency(), r.spotOf)
	}
	at, degraded := choosePriority(loads, rnd())
	s := r.spots[at]
	return s.picker, r.pickers[s.picker].pickWithin(r.views[s.picker], s.priority, degraded, rnd, hash, tried, policy)
}

// holds reports whether r is still true.
func (r *row) holds(n int, member func(int) *Picker) bool {
	if r == nil || len(r.pickers) != n {
		return false
	}
	for i := range n {
		p := member(i)
		if p != r.pickers[i] || p != nil && p.view.Load() != r.views[i] {
			return false
		}
	}
	return true
}

func newRow(n int, member func(int) *Picker, threshold uint32) *row {
	r := &row{pickers: make([]*Picker, n), views: make([]*pickView, n)}
	for i := range n {
		p := member(i)
		if p == nil {
			continue
		}
		r.pickers[i], r.views[i] = p, p.view.Load()
		for priority, n := range r.views[i].counts {
			if n.all > 0 {
				r.counts, r.spots = append(r.counts, n), append(r.spots, spot{i, priority})
			}
		}
	}
	r.loads = spread(r.counts, threshold)
	return r
}

// spotOf is the place in the row of a host's priority.
func (r *row) spotOf(h *HostState) (int, bool) {
	for i, p := range r.pickers {
		if p == nil {
			continue
		}
		if priority, ok := p.priorityOf(h); ok {
			at := slices.Index(r.spots, spot{i, priority})
			return at, at >= 0
		}
	}
	return 0, false
}

// pickWithin picks of one priority. Pickers by hash know no such wish.
func (p *Picker) pickWithin(v *pickView, priority int, degraded bool, rnd Rand, hash Hasher, tried *Tried, policy *Retry) (c Choice) {
	avoid, again := policy.avoids(tried)
	if v.tables != nil {
		return p.pickHash(v, hashOr(hash, rnd), avoid, again)
	}
	for ; ; again-- {
		member, panics := p.pickAt(v, priority, degraded, rnd)
		c.Member = member
		if panics {
			c.Panics++
		}
		if member < 0 || avoid == nil || again == 0 || !avoid.Has(p.members[member].State) {
			return c
		}
	}
}
