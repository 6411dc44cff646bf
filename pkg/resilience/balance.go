package resilience

import (
	"slices"
	"sync/atomic"
)

// Declared is the health of a host as the control plane declares it.
type Declared uint8

// The healths.
const (
	DeclaredHealthy Declared = iota
	DeclaredDegraded
	DeclaredUnhealthy
	DeclaredDraining // unhealthy, and no part of what panic is a share of
)

// Member is one host to choose from.
type Member struct {
	State    *HostState
	Priority uint32
	Weight   uint32 // 0 counts as 1
	Declared Declared
	Key      string // what RingHash and Maglev know the host by: its address and port
}

// Picker chooses hosts for calls. It is built once per set of members; which of them are fit it learns by Refresh.
type Picker struct {
	config  Balancing
	members []Member
	turns   []Counter // of round robin: per priority, of its healthy, degraded and all hosts
	seed    uint64
	view    atomic.Pointer[pickView]
}

// pickView is what is known of the members' health at one moment.
type pickView struct {
	counts []population
	loads  []load
	sets   []pickSet // as Picker.turns
	sole   *pickSet  // gets every call; nil where there is a choice to make
	turn   *Counter  // of sole
}

const (
	setHealthy = iota
	setDegraded
	setAll
	setsPerPriority
)

// pickSet is hosts that are chosen among as one.
type pickSet struct {
	members []int32
	states  []*HostState
	weights []float64 // nil: all equal
	order   []int32   // of round robin with weights
	table   hashTable // of ring hash and maglev
	edf     *edf      // of least request with weights, and of round robin where the order is too long
}

// Choice is the result of a pick.
type Choice struct {
	Member int // index into the members; -1: no host is fit
	Panics int // how often the choice was among all hosts for want of fit ones (lb_healthy_panic)
}

// NewPicker returns a picker over members, which it keeps. Random numbers make pickers begin at different hosts.
func NewPicker(config Balancing, members []Member, rnd Rand) *Picker {
	priorities := 0
	for _, m := range members {
		priorities = max(priorities, int(m.Priority)+1)
	}
	p := &Picker{config: config, members: members, turns: make([]Counter, priorities*setsPerPriority), seed: rnd() >> 1}
	for i := range p.turns {
		p.turns[i].n.Store(int64(rnd() >> 2))
	}
	p.Refresh()
	return p
}

// Members are the members of p, not to be changed.
func (p *Picker) Members() []Member { return p.members }

// Refresh takes notice of hosts that have been ejected, returned or changed their health. It is serialised by the caller, beside any Pick.
func (p *Picker) Refresh() {
	priorities := len(p.turns) / setsPerPriority
	v := &pickView{counts: make([]population, priorities), sets: make([]pickSet, len(p.turns))}
	for i := range p.members {
		p.sort(i, &v.counts[p.members[i].Priority], v)
	}
	v.loads = spread(v.counts, p.config.PanicThreshold)
	for i := range v.sets {
		p.complete(&v.sets[i])
	}
	for i, load := range v.loads {
		if load.healthy == 100 && !load.panic {
			v.sole, v.turn = &v.sets[i*setsPerPriority+setHealthy], &p.turns[i*setsPerPriority+setHealthy]
		}
	}
	p.view.Store(v)
}

// sort puts a member into its sets.
func (p *Picker) sort(member int, n *population, v *pickView) {
	m := &p.members[member]
	first := int(m.Priority) * setsPerPriority
	put := func(set int) {
		s := &v.sets[first+set]
		s.members, s.states = append(s.members, int32(member)), append(s.states, m.State)
	}
	n.all++
	put(setAll)
	if m.Declared == DeclaredDraining {
		n.excluded++
	}
	switch {
	case m.Declared >= DeclaredUnhealthy || m.State.Ejected() || m.State.FailedCheck():
	case m.Declared == DeclaredDegraded || m.State.Degraded():
		n.degraded++
		put(setDegraded)
	default:
		n.healthy++
		put(setHealthy)
	}
}

// complete prepares a set for the algorithm.
func (p *Picker) complete(s *pickSet) {
	if p.config.Algorithm == Random {
		return
	}
	if p.hashes() {
		s.table = p.hashTable(s)
		return
	}
	weights := make([]uint32, len(s.members))
	for i, member := range s.members {
		weights[i] = max(1, p.members[member].Weight)
	}
	if len(weights) == 0 || slices.Min(weights) == slices.Max(weights) {
		return
	}
	s.weights = make([]float64, len(weights))
	for i, weight := range weights {
		s.weights[i] = float64(weight)
	}
	if p.config.Algorithm == RoundRobin {
		if s.order = schedule(weights); s.order != nil {
			return
		}
	}
	s.edf = newEDF(len(weights), p.weightOf(s))
	for range p.seed % uint64(len(weights)) {
		s.edf.pick(p.weightOf(s))
	}
}

// Pick chooses a host. Where tried is not nil, a host that is in it is not taken, but again chosen up to again times; what is chosen
// last is taken whatever it is. Pick is lock-free, and may be called from many goroutines.
func (p *Picker) Pick(rnd Rand, tried *Tried, again uint32) (choice Choice) {
	return p.pick(p.view.Load(), rnd, tried, again)
}

func (p *Picker) pick(v *pickView, rnd Rand, tried *Tried, again uint32) (choice Choice) {
	if p.hashes() {
		return p.pickHash(v, rnd(), tried, again)
	}
	for ; ; again-- {
		member, panics := p.pickOnce(v, rnd)
		choice.Member = member
		if panics {
			choice.Panics++
		}
		if member < 0 || tried == nil || again == 0 || !tried.Has(p.members[member].State) {
			return choice
		}
	}
}

func (p *Picker) pickOnce(v *pickView, rnd Rand) (member int, panics bool) {
	if v.sole != nil {
		return p.pickFrom(v.sole, v.turn, rnd), false
	}
	at, panics := p.setFor(v, rnd())
	if at < 0 {
		return -1, panics
	}
	return p.pickFrom(&v.sets[at], &p.turns[at], rnd), panics
}

// setFor returns the set that a draw falls to, or -1 where calls fail in a panic.
func (p *Picker) setFor(v *pickView, draw uint64) (at int, panics bool) {
	left := int(draw%100) + 1
	for set := setHealthy; set <= setDegraded; set++ {
		for i, load := range v.loads {
			share := load.healthy
			if set == setDegraded {
				share = load.degraded
			}
			if left -= share; left > 0 {
				continue
			}
			switch first := i * setsPerPriority; {
			case !load.panic:
				return first + set, false
			case p.config.FailTrafficOnPanic:
				return -1, true
			default:
				return first + setAll, true
			}
		}
	}
	return -1, false
}

func (p *Picker) pickFrom(s *pickSet, turn *Counter, rnd Rand) int {
	n := uint64(len(s.members))
	switch {
	case n == 0:
		return -1
	case n == 1:
		return int(s.members[0])
	case s.edf != nil:
		return int(s.members[s.edf.pick(p.weightOf(s))])
	case p.config.Algorithm == LeastRequest:
		return int(s.members[p.leastOf(s, rnd)])
	case p.config.Algorithm == Random:
		return int(s.members[rnd()%n])
	}
	at := uint64(turn.n.Add(1) - 1)
	if s.order != nil {
		return int(s.members[s.order[at%uint64(len(s.order))]])
	}
	return int(s.members[at%n])
}

// weightOf returns the weights for turns; least request divides a host's weight by what it works on.
func (p *Picker) weightOf(s *pickSet) func(host int) float64 {
	if p.config.Algorithm == LeastRequest {
		return func(host int) float64 { return s.weights[host] / float64(max(0, s.states[host].Active())+1) }
	}
	return func(host int) float64 { return s.weights[host] }
}

// leastOf draws hosts, with replacement, and returns the one that works on the fewest requests; of equals the first.
func (p *Picker) leastOf(s *pickSet, rnd Rand) int {
	n := uint64(len(s.states))
	best := int(rnd() % n)
	fewest := s.states[best].Active()
	for range max(2, p.config.ChoiceCount) - 1 {
		other := int(rnd() % n)
		if active := s.states[other].Active(); active < fewest {
			best, fewest = other, active
		}
	}
	return best
}
