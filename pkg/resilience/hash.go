package resilience

import (
	"math"
	"slices"
	"strconv"
)

// Envoy's defaults.
const (
	ringMinimum = 1024
	ringMaximum = 8 << 20
	maglevTable = 65537
)

// hashTable finds hosts by hash.
type hashTable struct {
	ring   []ringPoint // by hash
	maglev []int32     // members
}

// ringPoint is the end of the stretch of hashes that a member serves.
type ringPoint struct {
	hash   uint64
	member int32
}

func (p *Picker) hashes() bool { return p.config.Algorithm >= RingHash }

// PickHash is Pick for RingHash and Maglev: calls with the same hash go to the same host while that is fit. A call without a hash takes
// a random one. For other algorithms the hash is the only random number there is.
func (p *Picker) PickHash(hash uint64, tried *Tried, again uint32) (choice Choice) {
	return p.pickHash(p.view.Load(), hash, tried, again)
}

func (p *Picker) pickHash(v *pickView, hash uint64, tried *Tried, again uint32) (choice Choice) {
	at, panics := p.setFor(v, hash)
	for attempt := uint64(0); ; attempt++ {
		if panics {
			choice.Panics++
		}
		choice.Member = -1
		if at >= 0 {
			choice.Member = v.sets[at].table.find(otherHash(hash, attempt))
		}
		if choice.Member < 0 || tried == nil || attempt >= uint64(again) || !tried.Has(p.members[choice.Member].State) {
			return choice
		}
	}
}

// otherHash is what a further attempt at choosing looks for: far from hash.
func otherHash(hash, attempt uint64) uint64 {
	if attempt == 0 {
		return hash
	}
	return hash ^ (math.MaxUint64 - attempt + 1)
}

func (p *Picker) hashTable(s *pickSet) hashTable {
	if len(s.members) == 0 {
		return hashTable{}
	}
	sum, least, most := 0.0, math.MaxFloat64, 0.0
	shares := make([]float64, len(s.members))
	for i, member := range s.members {
		shares[i] = float64(max(1, p.members[member].Weight))
		sum, least, most = sum+shares[i], min(least, shares[i]), max(most, shares[i])
	}
	for i := range shares {
		shares[i] /= sum
	}
	if p.config.Algorithm == Maglev {
		return hashTable{maglev: p.maglev(s.members, shares, most/sum)}
	}
	return hashTable{ring: p.ring(s.members, shares, least/sum)}
}

// ring gives each member points in proportion to its share: the one with the least a whole number, and all together at least the minimum.
func (p *Picker) ring(members []int32, shares []float64, least float64) []ringPoint {
	smallest, largest := p.config.RingMinimum, p.config.RingMaximum
	if smallest == 0 {
		smallest = ringMinimum
	}
	if largest == 0 {
		largest = ringMaximum
	}
	scale := min(math.Ceil(least*float64(smallest))/least, float64(largest))
	ring := make([]ringPoint, 0, int(math.Ceil(scale)))
	target, key := 0.0, []byte(nil)
	for i, member := range members {
		target += scale * shares[i]
		for n := 0; float64(len(ring)) < target; n++ {
			key = append(append(key[:0], p.members[member].Key...), '_')
			key = strconv.AppendInt(key, int64(n), 10)
			ring = append(ring, ringPoint{Hash(key, 0), member})
		}
	}
	slices.SortStableFunc(ring, func(a, b ringPoint) int {
		if a.hash < b.hash {
			return -1
		} else if a.hash > b.hash {
			return 1
		}
		return 0
	})
	return ring
}

// maglev fills a table in rounds: each member takes the next free place of its own permutation, one of less weight only in some rounds.
func (p *Picker) maglev(members []int32, shares []float64, most float64) []int32 {
	size := uint64(p.config.TableSize)
	if size < 2 {
		size = maglevTable
	}
	type walk struct{ at, step uint64 }
	walks, targets := make([]walk, len(members)), make([]float64, len(members))
	for i, member := range members {
		key := []byte(p.members[member].Key)
		walks[i] = walk{Hash(key, 0) % size, Hash(key, 1)%(size-1) + 1}
	}
	table := slices.Repeat([]int32{-1}, int(size))
	free := size
	for round := 1.0; free > 0; round++ {
		for i := range walks {
			if free == 0 || round*shares[i] < targets[i] {
				continue
			}
			targets[i] += most
			w := &walks[i]
			for table[w.at] >= 0 {
				w.at = (w.at + w.step) % size
			}
			table[w.at] = members[i]
			free--
		}
	}
	return table
}

// find returns a member, or -1 if there is none.
func (t *hashTable) find(hash uint64) int {
	if len(t.maglev) > 0 {
		return int(t.maglev[hash%uint64(len(t.maglev))])
	}
	if len(t.ring) == 0 {
		return -1
	}
	low, high := 0, len(t.ring)
	for low < high {
		if middle := (low + high) / 2; t.ring[middle].hash < hash {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return int(t.ring[low%len(t.ring)].member)
}
