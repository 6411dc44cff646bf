package resilience

import (
	"math"
	"slices"
	"time"
)

// pickSet is hosts that are chosen among as one.
type pickSet struct {
	members []int32
	states  []*HostState
	weights []float64 // nil: all equal
	turn    *Counter  // of round robin
	order   []int32   // of round robin with weights
	edf     *edf      // of least request with weights, of round robin where the order is too long, and of slow start

	parts  []pickSet // the set by locality, where these have weights; nil: it is chosen from as a whole
	shares *edf      // of parts
	share  float64   // of a part
}

// complete prepares a set for the algorithm. Its first turn is turns[0].
func (p *Picker) complete(s *pickSet, turns []Counter, slow bool) {
	s.turn = &turns[0]
	if p.config.Algorithm == Random || len(s.members) < 2 {
		return
	}
	weights := make([]uint32, len(s.members))
	for i, member := range s.members {
		weights[i] = max(1, p.members[member].Weight)
	}
	equal := slices.Min(weights) == slices.Max(weights)
	if equal && !slow {
		return
	}
	s.weights = make([]float64, len(weights))
	for i, weight := range weights {
		s.weights[i] = float64(weight)
	}
	if p.config.Algorithm == RoundRobin && !slow {
		if s.order = schedule(weights); s.order != nil {
			return
		}
	}
	weight := func(host int) float64 { return p.weight(s, host) }
	s.edf = newEDF(len(weights), weight)
	for range p.seed % uint64(len(weights)) {
		s.edf.pick(weight)
	}
}

// divide splits a set by locality: each gets its weight's share, less where more of its hosts are missing than overprovisioning covers.
func (p *Picker) divide(s, all *pickSet, turns []Counter, slow bool) {
	present := make([]int, p.localities)
	for _, member := range all.members {
		if !p.members[member].excluded() {
			present[p.place[member]]++
		}
	}
	parts := make([]pickSet, p.localities)
	for i, member := range s.members {
		part := &parts[p.place[member]]
		part.members, part.states = append(part.members, member), append(part.states, s.states[i])
		part.share = float64(p.members[member].LocalityWeight)
	}
	for i := range parts {
		if part := &parts[i]; part.share > 0 && present[i] > 0 {
			p.complete(part, turns[i:], slow)
			part.share *= min(1, float64(p.factor())/100*float64(len(part.members))/float64(present[i]))
			s.parts = append(s.parts, *part)
		}
	}
	if s.parts == nil {
		return
	}
	share := func(part int) float64 { return s.parts[part].share }
	s.shares = newEDF(len(s.parts), share)
	for range p.seed % uint64(len(s.parts)) {
		s.shares.pick(share)
	}
}

func (p *Picker) factor() int {
	if p.config.Overprovisioning > 0 {
		return int(p.config.Overprovisioning)
	}
	return overprovisioning
}

// weight is a host's weight for its next turn. Least request divides it by what the host works on.
func (p *Picker) weight(s *pickSet, host int) float64 {
	weight := s.weights[host]
	if p.config.Algorithm == LeastRequest {
		active := float64(max(0, s.states[host].Active()) + 1)
		switch bias := p.config.ActiveRequestBias; {
		case bias == 0 || bias == 1:
			weight /= active
		case bias > 0:
			weight /= math.Pow(active, bias)
		}
	}
	if p.config.SlowStart.Window > 0 {
		weight *= p.warmth(&p.members[s.members[host]])
	}
	return weight
}

// leastOf draws hosts, with replacement, and returns the one that works on the fewest requests; of equals the first.
func (s *pickSet) leastOf(draws uint32, rnd Rand) int {
	n := uint64(len(s.states))
	best := int(rnd() % n)
	fewest := s.states[best].Active()
	for range draws - 1 {
		other := int(rnd() % n)
		if active := s.states[other].Active(); active < fewest {
			best, fewest = other, active
		}
	}
	return best
}

// leastOfAll is the host that works on the fewest requests; of equals any.
func (s *pickSet) leastOfAll(rnd Rand) int {
	best, equals := 0, uint64(1)
	fewest := s.states[0].Active()
	for i := 1; i < len(s.states); i++ {
		switch active := s.states[i].Active(); {
		case active < fewest:
			best, fewest, equals = i, active, 1
		case active == fewest:
			if equals++; rnd()%equals == 0 {
				best = i
			}
		}
	}
	return best
}

// slow reports whether a host is in its slow start, or has been since the picker was made. Hosts that are healthy for the first time
// begin theirs now. As long as it says so, turns go by weights though these be equal.
func (p *Picker) slow() bool {
	window := p.config.SlowStart.Window
	if window <= 0 {
		return false
	}
	now, latest := p.clock(), p.started
	for i := range p.members {
		m := &p.members[i]
		if m.health() != DeclaredHealthy {
			continue
		}
		m.State.begin(now)
		if since := m.State.since(); now-since <= window {
			latest = max(latest, since)
		}
	}
	return now-latest <= window
}

// warmth is the part of its weight that a host gets by its age.
func (p *Picker) warmth(m *Member) float64 {
	slow := &p.config.SlowStart
	age := p.clock() - m.State.since()
	if m.State.since() == 0 || age >= slow.Window || m.health() != DeclaredHealthy {
		return 1
	}
	part := float64(max(time.Millisecond, age)) / float64(slow.Window)
	if slow.Aggression > 0 && slow.Aggression != 1 {
		part = math.Pow(part, 1/slow.Aggression)
	}
	return max(part, slow.MinPercent/100)
}
