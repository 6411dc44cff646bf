package resilience

import "math"

// bounded is member, or another where it works on more than its bound: HashBalance percent of its share of all that the cluster works on.
// The others are gone through in an order that the hash decides; where all are over their bounds the one that is least so is taken.
func (p *Picker) bounded(t *hashTable, member int, hash uint64) int {
	active := 1
	for i := range p.members {
		active += p.members[i].State.Active()
	}
	slots := float64((active*int(p.config.HashBalance) + 99) / 100)
	excess := func(at int) float64 {
		return float64(p.members[t.members[at]].State.Active()) / max(1, math.Ceil(slots*t.shares[at]))
	}
	least := math.MaxFloat64
	for at := range t.members {
		if int(t.members[at]) == member {
			least = excess(at)
		}
	}
	if least <= 1 {
		return member
	}
	order, draws := make([]int, len(t.members)), newTwister(uint32(hash))
	for i := range order {
		order[i] = i
	}
	best := member
	for i := range order {
		j := i + int(draws.below(uint32(len(order)-i)))
		order[i], order[j] = order[j], order[i]
		other := int(t.members[order[i]])
		if other == member {
			continue
		}
		e := excess(order[i])
		if e <= 1 {
			return other
		}
		if e < least {
			best, least = other, e
		}
	}
	return best
}

// twister is the MT19937 generator, by which Envoy shuffles.
type twister struct {
	state [624]uint32
	next  int
}

func newTwister(seed uint32) *twister {
	t := &twister{next: 624}
	t.state[0] = seed
	for i := 1; i < len(t.state); i++ {
		t.state[i] = 1812433253*(t.state[i-1]^t.state[i-1]>>30) + uint32(i)
	}
	return t
}

func (t *twister) draw() uint32 {
	if t.next == len(t.state) {
		t.turn()
	}
	y := t.state[t.next]
	t.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

func (t *twister) turn() {
	const n, m = 624, 397
	for i := range n {
		y := t.state[i]&0x80000000 | t.state[(i+1)%n]&0x7fffffff
		t.state[i] = t.state[(i+m)%n] ^ y>>1 ^ y&1*0x9908b0df
	}
	t.next = 0
}

// below is uniform in [0, n).
func (t *twister) below(n uint32) uint32 {
	for {
		if x := uint64(t.draw()) / (1 << 32 / uint64(n)); x < uint64(n) {
			return uint32(x)
		}
	}
}
