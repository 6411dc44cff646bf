package resilience

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// keyed is hosts 127.0.0.1:90 and on, with weights.
func keyed(weights ...uint32) []Member {
	list := members(weights...)
	for i := range list {
		list[i].Key = fmt.Sprint("127.0.0.1:", 90+i)
	}
	return list
}

func hashPicks(p *Picker, hashes ...uint64) (list []int) {
	for _, hash := range hashes {
		list = append(list, p.PickHash(hash, nil, 0).Member)
	}
	return list
}

// TestRing has the points at which Envoy puts the same six hosts in a ring of 12.
func TestRing(t *testing.T) {
	p := NewPicker(Balancing{Algorithm: RingHash, RingMinimum: 12}, keyed(1, 1, 1, 1, 1, 1), zero, nil)
	want := []ringPoint{
		{833437586790550860, 4}, {928266305478181108, 2}, {1033482794131418490, 0}, {3551244743356806947, 5},
		{3851675632748031481, 3}, {5583722120771150861, 1}, {6311230543546372928, 1}, {7700377290971790572, 3},
		{13144177310400110813, 5}, {13444792449719432967, 2}, {15516499411664133160, 4}, {16117243373044804889, 0},
	}
	if got := p.view.Load().tables[0].ring; !slices.Equal(got, want) {
		t.Fatalf("got %v\nwant %v", got, want)
	}
	got := hashPicks(p, 0, math.MaxUint64, 3551244743356806947, 3551244743356806948, 16117243373044804889, 16117243373044804890)
	if want := []int{4, 4, 5, 3, 0, 4}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRingIsInProportion(t *testing.T) {
	for _, tt := range []struct {
		weights  []uint32
		min, max uint64
		want     []int
	}{
		{[]uint32{1, 2}, 3, 0, []int{1, 2}},
		{[]uint32{1, 2}, 4, 0, []int{2, 4}}, // the least gets a whole number
		{[]uint32{1, 1, 1}, 0, 0, []int{342, 342, 342}},
		{[]uint32{1, 3}, 100, 8, []int{2, 6}},
		{[]uint32{1, 1, 1, 1}, 2, 2, []int{1, 0, 1, 0}},
	} {
		p := NewPicker(Balancing{Algorithm: RingHash, RingMinimum: tt.min, RingMaximum: tt.max}, keyed(tt.weights...), zero, nil)
		got := make([]int, len(tt.weights))
		for _, point := range p.view.Load().tables[0].ring {
			got[point.member]++
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("weights %v, ring of %d to %d: %v, want %v", tt.weights, tt.min, tt.max, got, tt.want)
		}
	}
}

// TestMaglev has the tables that Envoy builds of the same hosts.
func TestMaglev(t *testing.T) {
	p := NewPicker(Balancing{Algorithm: Maglev, TableSize: 7}, keyed(1, 1, 1, 1, 1, 1), zero, nil)
	if got, want := hashPicks(p, 0, 1, 2, 3, 4, 5, 6, 7, 8), []int{2, 4, 0, 1, 5, 0, 3, 2, 4}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	p = NewPicker(Balancing{Algorithm: Maglev, TableSize: 17}, keyed(1, 2), zero, nil)
	if got, want := count(hashPicks(p, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)), []int{6, 11}; !slices.Equal(got, want) {
		t.Errorf("weights 1 and 2: %v places of 17, want %v", got, want)
	}
	for _, tt := range []struct {
		weights []uint32
		want    []int32
	}{
		{[]uint32{1, 1}, []int32{1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1}},
		{[]uint32{8, 2}, []int32{1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0}},
	} {
		p = NewPicker(Balancing{Algorithm: Maglev, TableSize: 17}, keyed(tt.weights...), zero, nil)
		if got := p.view.Load().tables[0].maglev; !slices.Equal(got, tt.want) {
			t.Errorf("weights %v:\ngot  %v\nwant %v", tt.weights, got, tt.want)
		}
	}
	p = NewPicker(Balancing{Algorithm: Maglev}, keyed(1, 1, 1), zero, nil)
	if got := len(p.view.Load().tables[0].maglev); got != 65537 {
		t.Errorf("table of %d, want 65537", got)
	}
}

func TestHashesKeepTheirHosts(t *testing.T) {
	for _, algorithm := range []Algorithm{RingHash, Maglev} {
		list := keyed(1, 1, 1, 1, 1)
		p := NewPicker(Balancing{Algorithm: algorithm}, list, zero, nil)
		var hashes []uint64
		for i := range uint64(1000) {
			hashes = append(hashes, Hash([]byte{byte(i), byte(i >> 8)}, 0))
		}
		before := hashPicks(p, hashes...)
		eject(list[2])
		p.Refresh()
		moved := 0
		for i, now := range hashPicks(p, hashes...) {
			if now == 2 {
				t.Fatalf("algorithm %d: picked the ejected host", algorithm)
			}
			if before[i] != 2 && now != before[i] {
				moved++
			}
		}
		if moved > 150 { // by chance 600 would
			t.Errorf("algorithm %d: %d of 1,000 moved away from a host that stayed", algorithm, moved)
		}
		list[2].State.set(flagEjected, false)
		p.Refresh()
		if !slices.Equal(hashPicks(p, hashes...), before) {
			t.Errorf("algorithm %d: not as before once the host was back", algorithm)
		}
	}
}

func TestHashAvoidsTriedHosts(t *testing.T) {
	list := keyed(1, 1, 1, 1, 1, 1)
	p := NewPicker(Balancing{Algorithm: RingHash, RingMinimum: 12}, list, zero, nil)
	var tried Tried
	tried.Add(list[4].State)
	// The next attempt takes the next point of the ring.
	for _, tt := range []struct {
		again uint32
		hash  uint64
		want  int
	}{
		{0, 15_000_000_000_000_000_000, 4}, {1, 15_000_000_000_000_000_000, 0},
		{1, 12_000_000_000_000_000_000, 5}, // was not tried
		{1, 1, 2}, {9, 1, 2},
	} {
		if got := p.PickHash(tt.hash, &tried, tt.again).Member; got != tt.want {
			t.Errorf("hash %d, again %d: %d, want %d", tt.hash, tt.again, got, tt.want)
		}
	}
}

func TestHashPanics(t *testing.T) {
	list := keyed(1, 1, 1)
	p := NewPicker(Balancing{Algorithm: Maglev, TableSize: 7, PanicThreshold: 50}, list, zero, nil)
	for i := range 2 {
		eject(list[i])
	}
	p.Refresh()
	seen, panics := make(map[int]bool), 0
	for hash := range uint64(7) {
		choice := p.PickHash(hash, nil, 0)
		seen[choice.Member], panics = true, panics+choice.Panics
	}
	if len(seen) != 3 || panics != 7 {
		t.Errorf("picked %v with %d panics, want all with 7", seen, panics)
	}
	if got := NewPicker(Balancing{Algorithm: RingHash}, nil, zero, nil).Pick(zero, nil, 0).Member; got != -1 {
		t.Errorf("without members: %d", got)
	}
	if n := testing.AllocsPerRun(100, func() { p.PickHash(3, nil, 0) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
