package resilience

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
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

	Locality       string
	LocalityWeight uint32 // of the locality in its priority
}

// Clock is the time since some moment that never changes. It may be called from many goroutines.
type Clock func() time.Duration

// Picker chooses hosts for calls. It is built once per set of members; which of them are fit it learns by Refresh.
type Picker struct {
	config     Balancing
	members    []Member
	place      []int32   // of each member's locality among those of its priority
	localities int       // the most that a priority has
	turns      []Counter // of round robin: per priority, of its healthy, degraded and all hosts, as a whole and by locality
	seed       uint64
	clock      Clock
	started    time.Duration
	view       atomic.Pointer[pickView]
}

// pickView is what is known of the members' health at one moment.
type pickView struct {
	counts []population
	loads  []load
	sets   []pickSet   // per priority, as the constants below
	tables []hashTable // of ring hash and maglev, by priority; nil for other algorithms
	sole   *pickSet    // gets every call; nil where there is a choice to make
}

const (
	setHealthy = iota
	setDegraded
	setAll
	setsPerPriority
)

// Choice is the result of a pick.
type Choice struct {
	Member int // index into the members; -1: no host is fit
	Panics int // how often the choice was among all hosts for want of fit ones (lb_healthy_panic)
}

// NewPicker returns a picker over members, which it keeps. Random numbers make pickers begin at different hosts. The clock is for slow
// start alone, and nil without.
func NewPicker(config Balancing, members []Member, rnd Rand, clock Clock) *Picker {
	priorities := 1
	for _, m := range members {
		priorities = max(priorities, int(m.Priority)+1)
	}
	p := &Picker{config: config, members: members, seed: rnd() >> 1, clock: clock}
	p.locate(priorities)
	if config.SlowStart.Window > 0 {
		p.started = clock()
	}
	p.turns = make([]Counter, priorities*setsPerPriority*(p.localities+1))
	for i := range p.turns {
		p.turns[i].n.Store(int64(rnd() >> 2))
	}
	p.Refresh()
	return p
}

// locate numbers the localities of each priority, where they matter.
func (p *Picker) locate(priorities int) {
	if !p.config.LocalityWeighted {
		return
	}
	names := make([][]string, priorities)
	for _, m := range p.members {
		if at, ok := slices.BinarySearch(names[m.Priority], m.Locality); !ok {
			names[m.Priority] = slices.Insert(names[m.Priority], at, m.Locality)
		}
	}
	p.place = make([]int32, len(p.members))
	for i, m := range p.members {
		at, _ := slices.BinarySearch(names[m.Priority], m.Locality)
		p.place[i] = int32(at)
		p.localities = max(p.localities, len(names[m.Priority]))
	}
}

// Members are the members of p, not to be changed.
func (p *Picker) Members() []Member { return p.members }

// Refresh takes notice of hosts that have been ejected, returned or changed their health. It is serialised by the caller, beside any Pick.
func (p *Picker) Refresh() {
	priorities := len(p.turns) / setsPerPriority / (p.localities + 1)
	v := &pickView{counts: make([]population, priorities), sets: make([]pickSet, priorities*setsPerPriority)}
	for i := range v.counts {
		v.counts[i].factor = cmp.Or(int(p.config.Overprovisioning), overprovisioning)
	}
	for i := range p.members {
		p.sort(i, &v.counts[p.members[i].Priority], v)
	}
	v.loads = spread(v.counts, p.config.PanicThreshold)
	if p.hashes() {
		p.hash(v)
		p.view.Store(v)
		return
	}
	slow := p.slow()
	for i := range v.sets {
		turns := p.turns[i*(p.localities+1) : (i+1)*(p.localities+1)]
		p.complete(&v.sets[i], turns[0:], slow)
		if p.config.LocalityWeighted && i%setsPerPriority != setAll {
			p.divide(&v.sets[i], &v.sets[i/setsPerPriority*setsPerPriority+setAll], turns[1:], slow)
		}
	}
	for i, load := range v.loads {
		if load.healthy == 100 && !load.panic {
			v.sole = &v.sets[i*setsPerPriority+setHealthy]
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
	weight := 1
	if p.config.WeightedHealth {
		weight = int(max(1, m.Weight))
	}
	n.all++
	n.weights.all += weight
	put(setAll)
	if m.excluded() {
		n.excluded++
		n.weights.excluded += weight
	}
	switch m.health() {
	case DeclaredHealthy:
		n.healthy++
		n.weights.healthy += weight
		put(setHealthy)
	case DeclaredDegraded:
		n.degraded++
		n.weights.degraded += weight
		put(setDegraded)
	}
}

// health is DeclaredHealthy, DeclaredDegraded or DeclaredUnhealthy, of what is declared and what is known together.
func (m *Member) health() Declared {
	switch {
	case m.Declared >= DeclaredUnhealthy || m.State.Ejected() || m.State.FailedCheck():
		return DeclaredUnhealthy
	case m.Declared == DeclaredDegraded || m.State.Degraded():
		return DeclaredDegraded
	}
	return DeclaredHealthy
}

// excluded reports whether m is no part of what panic is a share of.
func (m *Member) excluded() bool { return m.Declared == DeclaredDraining || m.State.excluded() }

// Pick chooses a host. Where tried is not nil, a host that is in it is not taken, but again chosen up to again times; what is chosen
// last is taken whatever it is. Pick is lock-free, and may be called from many goroutines.
func (p *Picker) Pick(rnd Rand, tried *Tried, again uint32) (choice Choice) {
	return p.pick(p.view.Load(), rnd, tried, again)
}

func (p *Picker) pick(v *pickView, rnd Rand, tried *Tried, again uint32) (choice Choice) {
	if v.tables != nil {
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
		return p.pickFrom(v.sole, rnd), false
	}
	priority, degraded := choosePriority(v.loads, rnd())
	return p.pickAt(v, priority, degraded, rnd)
}

// pickAt picks of one priority: of its healthy or its degraded hosts, or of all where it is in panic.
func (p *Picker) pickAt(v *pickView, priority int, degraded bool, rnd Rand) (member int, panics bool) {
	first := priority * setsPerPriority
	switch panics = v.loads[priority].panic; {
	case panics && p.config.FailTrafficOnPanic:
		return -1, true
	case panics:
		return p.pickFrom(&v.sets[first+setAll], rnd), true
	case degraded:
		return p.pickFrom(&v.sets[first+setDegraded], rnd), false
	}
	return p.pickFrom(&v.sets[first+setHealthy], rnd), false
}

func (p *Picker) pickFrom(s *pickSet, rnd Rand) int {
	if s.parts != nil {
		s = &s.parts[s.shares.pick(func(part int) float64 { return s.parts[part].share })]
	}
	n := uint64(len(s.members))
	switch {
	case n == 0:
		return -1
	case n == 1:
		return int(s.members[0])
	case s.edf != nil:
		return int(s.members[s.edf.pick(func(host int) float64 { return p.weight(s, host) })])
	case p.config.Algorithm == LeastRequest && p.config.FullScan:
		return int(s.members[s.leastOfAll(rnd)])
	case p.config.Algorithm == LeastRequest:
		return int(s.members[s.leastOf(max(1, p.config.ChoiceCount), rnd)])
	case p.config.Algorithm == Random:
		return int(s.members[rnd()%n])
	}
	at := uint64(s.turn.n.Add(1) - 1)
	if s.order != nil {
		return int(s.members[s.order[at%uint64(len(s.order))]])
	}
	return int(s.members[at%n])
}
