package resilience

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Envoy's defaults.
const (
	ringMinimum = 1024
	ringMaximum = 8 << 20
	maglevTable = 65537
)

// hashTable finds hosts by hash.
type hashTable struct {
	members []int32
	shares  []float64   // of members
	ring    []ringPoint // by hash
	maglev  []int32     // members
}

// ringPoint is the end of the stretch of hashes that a member serves.
type ringPoint struct {
	hash   uint64
	member int32
}

func (p *Picker) hashes() bool { return p.config.Algorithm >= RingHash }

// hash builds the table of each priority: of its healthy hosts, or of all in a panic. Degraded hosts are in none, as in Envoy.
func (p *Picker) hash(v *pickView) {
	v.tables = make([]hashTable, len(v.loads))
	for i, load := range v.loads {
		set := setHealthy
		if load.panic {
			set = setAll
		}
		v.tables[i] = p.hashTable(v.sets[i*setsPerPriority+set].members)
	}
}

// PickHash is Pick for RingHash and Maglev: calls with the same hash go to the same host while that is fit.
func (p *Picker) PickHash(hash uint64, tried *Tried, again uint32) (choice Choice) {
	return p.pickHash(p.view.Load(), hash, tried, again)
}

// Hasher returns the hash of a call, false where it has none.
type Hasher func() (uint64, bool)

// hashOr is the hash, or a random one.
func hashOr(hash Hasher, rnd Rand) uint64 {
	if hash != nil {
		if h, ok := hash(); ok {
			return h
		}
	}
	return rnd()
}

func (p *Picker) pickHash(v *pickView, hash uint64, tried *Tried, again uint32) (choice Choice) {
	priority, _ := choosePriority(v.loads, hash)
	if v.loads[priority].panic {
		choice.Panics = 1
	}
	table := &v.tables[priority]
	for attempt := uint64(0); ; attempt++ {
		choice.Member = table.find(hash, attempt)
		if choice.Member >= 0 && p.config.HashBalance > 0 {
			choice.Member = p.bounded(table, choice.Member, hash)
		}
		if choice.Member < 0 || tried == nil || attempt >= uint64(again) || !tried.Has(p.members[choice.Member].State) {
			return choice
		}
	}
}

// hashTable builds the table of some members.
func (p *Picker) hashTable(members []int32) hashTable {
	members, shares := p.shares(members)
	if len(members) == 0 {
		return hashTable{}
	}
	t := hashTable{members: members, shares: shares}
	if p.config.Algorithm == Maglev {
		t.maglev = p.maglev(members, shares)
	} else {
		t.ring = p.ring(members, shares)
	}
	return t
}

// shares are the members that take part, and what part of the calls each gets.
func (p *Picker) shares(members []int32) (part []int32, shares []float64) {
	groups, weights := [][]int32{members}, []float64{1}
	if p.config.LocalityWeighted {
		groups, weights = p.byLocality(members)
	}
	for i, group := range groups {
		sum := 0.0
		for _, member := range group {
			sum += float64(max(1, p.members[member].Weight))
		}
		for _, member := range group {
			part = append(part, member)
			shares = append(shares, float64(max(1, p.members[member].Weight))*weights[i]/sum)
		}
	}
	return part, shares
}

// byLocality groups members by locality; those of localities without weight are left out. The weights make 1 together, also where a
// locality has no members.
func (p *Picker) byLocality(members []int32) (groups [][]int32, weights []float64) {
	if len(members) == 0 {
		return nil, nil
	}
	all, total := make([]float64, p.localities), 0.0
	for i, m := range p.members {
		if m.Priority == p.members[members[0]].Priority {
			all[p.place[i]] = float64(m.LocalityWeight)
		}
	}
	by := make([][]int32, p.localities)
	for _, member := range members {
		by[p.place[member]] = append(by[p.place[member]], member)
	}
	for _, weight := range all {
		total += weight
	}
	for i, group := range by {
		if len(group) > 0 && all[i] > 0 {
			groups, weights = append(groups, group), append(weights, all[i]/total)
		}
	}
	return groups, weights
}

// ring gives each member points in proportion to its share: the one with the least a whole number, and all together at least the minimum.
func (p *Picker) ring(members []int32, shares []float64) []ringPoint {
	least := slices.Min(shares)
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
			ring = append(ring, ringPoint{p.pointHash(key), member})
		}
	}
	slices.SortStableFunc(ring, func(a, b ringPoint) int { return cmp.Compare(a.hash, b.hash) })
	return ring
}

func (p *Picker) pointHash(key []byte) uint64 {
	if p.config.Murmur {
		return murmur(key)
	}
	return Hash(key, 0)
}

// maglev fills a table in rounds: each member, in the order of their keys, takes the next free place of its own permutation, one of less
// weight only in some rounds.
func (p *Picker) maglev(members []int32, shares []float64) []int32 {
	size := uint64(p.config.TableSize)
	if size < 2 {
		size = maglevTable
	}
	type walk struct {
		at, step uint64
		share    float64
		member   int32
	}
	walks, targets := make([]walk, len(members)), make([]float64, len(members))
	for i, member := range members {
		key := []byte(p.members[member].Key)
		walks[i] = walk{Hash(key, 0) % size, Hash(key, 1)%(size-1) + 1, shares[i], member}
	}
	slices.SortStableFunc(walks, func(a, b walk) int { return strings.Compare(p.members[a.member].Key, p.members[b.member].Key) })
	table, most := slices.Repeat([]int32{-1}, int(size)), slices.Max(shares)
	free := size
	for round := 1.0; free > 0; round++ {
		for i := range walks {
			w := &walks[i]
			if free == 0 || round*w.share < targets[i] {
				continue
			}
			targets[i] += most
			for table[w.at] >= 0 {
				w.at = (w.at + w.step) % size
			}
			table[w.at] = w.member
			free--
		}
	}
	return table
}

// find returns a member, or -1 if there is none. A further attempt at choosing looks elsewhere.
func (t *hashTable) find(hash, attempt uint64) int {
	if len(t.maglev) > 0 {
		if attempt > 0 {
			hash ^= math.MaxUint64 - attempt + 1
		}
		return int(t.maglev[hash%uint64(len(t.maglev))])
	}
	if len(t.ring) == 0 {
		return -1
	}
	at, _ := slices.BinarySearchFunc(t.ring, hash, func(p ringPoint, hash uint64) int { return cmp.Compare(p.hash, hash) })
	return int(t.ring[(uint64(at)+attempt)%uint64(len(t.ring))].member)
}
