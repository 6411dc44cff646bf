package resilience

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// local is hosts of localities "0", "1" and on, one for each weight.
func local(weights ...uint32) (list []Member) {
	for i, weight := range weights {
		list = append(list, Member{State: NewHostState(), Locality: fmt.Sprint(i), LocalityWeight: weight, Key: fmt.Sprint("10.0.0.", i, ":80")})
	}
	return list
}

func TestLocalitiesHaveTheirShares(t *testing.T) {
	crowd := local(1, 1, 1, 1)
	for i := range crowd {
		crowd[i].Locality, crowd[i].LocalityWeight = "crowd", 1
	}
	for _, tt := range []struct {
		name string
		list []Member
		sick []int
		want []int
	}{
		{"by weight", local(3, 1), nil, []int{9, 3}},
		{"however many hosts", append(crowd, local(1)...), nil, []int{2, 2, 1, 1, 6}},
		{"without weight there is none", local(1, 0, 1), nil, []int{6, 0, 6}},
		{"unless nobody has any", local(0, 0, 0), nil, []int{4, 4, 4}},
		{"a sick host's share goes with it", append(crowd, local(1)...), []int{0, 1}, []int{0, 0, 3, 2, 7}},
		{"one of four is covered", append(crowd, local(1)...), []int{0}, []int{0, 2, 2, 2, 6}},
		{"where all with weight are sick the others serve", append(local(1), Member{State: NewHostState(), Locality: "x"}), []int{0}, []int{0, 12}},
	} {
		for _, m := range tt.list {
			m.State.set(flagEjected, false)
		}
		for _, i := range tt.sick {
			eject(tt.list[i])
		}
		p := NewPicker(Balancing{LocalityWeighted: true}, tt.list, zero, nil)
		got := make([]int, len(tt.list))
		for _, member := range picks(p, 12, zero) {
			got[member]++
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestHashTablesHaveLocalityShares(t *testing.T) {
	list := local(3, 1, 0)
	p := NewPicker(Balancing{Algorithm: Maglev, TableSize: 101, LocalityWeighted: true}, list, zero, nil)
	got := make([]int, 3)
	for hash := range uint64(101) {
		got[p.PickHash(hash, nil, 0).Member]++
	}
	if want := []int{75, 26, 0}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := NewPicker(Balancing{Algorithm: RingHash, LocalityWeighted: true}, local(0), zero, nil).PickHash(1, nil, 0).Member; got != -1 {
		t.Errorf("without any weight: %d, want none", got)
	}
}

func TestOverprovisioning(t *testing.T) {
	for _, tt := range []struct {
		factor   uint32
		weighted bool
		want     int // percent of priority 0
	}{{0, false, 70}, {100, false, 50}, {200, false, 100}, {100, true, 90}} {
		list := members(9, 1, 1)
		list[2].Priority = 1
		eject(list[1])
		p := NewPicker(Balancing{Overprovisioning: tt.factor, WeightedHealth: tt.weighted}, list, zero, nil)
		if got := p.view.Load().loads[0].healthy; got != tt.want {
			t.Errorf("factor %d, weighted %v: %d percent, want %d", tt.factor, tt.weighted, got, tt.want)
		}
	}
}

func TestFullScan(t *testing.T) {
	list := members(1, 1, 1, 1)
	p := NewPicker(Balancing{Algorithm: LeastRequest, FullScan: true}, list, zero, nil)
	for n := range 8 {
		m := p.Pick(seeded(uint64(n)), nil, 0).Member
		if list[m].State.Active() != n/4 {
			t.Errorf("pick %d: host %d has %d requests, and another has fewer", n, m, list[m].State.Active())
		}
		list[m].State.Begin()
	}
	seen := map[int]bool{}
	rnd := seeded(1)
	for range 100 {
		seen[p.Pick(rnd, nil, 0).Member] = true
	}
	if len(seen) != 4 {
		t.Errorf("of equals only %v are picked", seen)
	}
}

func TestActiveRequestBias(t *testing.T) {
	for _, tt := range []struct {
		bias float64
		want []int
	}{{-1, []int{3, 9}}, {0, []int{6, 6}}, {2, []int{9, 3}}} {
		list := members(1, 3)
		for range 2 {
			list[1].State.Begin() // a third of the room
		}
		p := NewPicker(Balancing{Algorithm: LeastRequest, ActiveRequestBias: tt.bias}, list, zero, nil)
		if got := count(picks(p, 12, zero)); !slices.Equal(got, tt.want) {
			t.Errorf("bias %v: %v, want %v", tt.bias, got, tt.want)
		}
	}
}

func TestSlowStart(t *testing.T) {
	now := time.Hour
	clock := func() time.Duration { return now }
	for _, algorithm := range []Algorithm{RoundRobin, LeastRequest} {
		for _, tt := range []struct {
			slow SlowStart
			age  time.Duration
			want int // of 110
		}{
			{SlowStart{Window: 10 * time.Second, MinPercent: 10}, 0, 10},
			{SlowStart{Window: 10 * time.Second, MinPercent: 10}, 5 * time.Second, 37},
			{SlowStart{Window: 10 * time.Second, MinPercent: 10}, 10 * time.Second, 55},
			{SlowStart{Window: 10 * time.Second, MinPercent: 10, Aggression: 2}, 2500 * time.Millisecond, 37},
			{SlowStart{Window: 10 * time.Second, MinPercent: 30}, time.Second, 25},
			{SlowStart{}, 0, 55},
		} {
			list := members(1, 1)
			list[0].State.Restart(time.Minute)
			list[1].State.Restart(now - tt.age)
			p := NewPicker(Balancing{Algorithm: algorithm, ChoiceCount: 2, SlowStart: tt.slow}, list, zero, clock)
			if got := count(picks(p, 110, seeded(7)))[1]; got < tt.want-2 || got > tt.want+2 {
				if algorithm == RoundRobin || tt.slow.Window > 0 { // of two equals the draws decide
					t.Errorf("algorithm %d, %+v, age %v: %d of 110, want %d", algorithm, tt.slow, tt.age, got, tt.want)
				}
			}
		}
	}
}

func TestSlowStartBeginsWithHealth(t *testing.T) {
	now := time.Hour
	list := members(1, 1)
	eject(list[1])
	p := NewPicker(Balancing{SlowStart: SlowStart{Window: time.Minute, MinPercent: 10}}, list, zero, func() time.Duration { return now })
	now += time.Hour
	list[1].State.set(flagEjected, false)
	p.Refresh()
	if got := count(picks(p, 110, zero))[1]; got < 8 || got > 12 {
		t.Errorf("a host that is healthy for the first time: %d of 110, want 10", got)
	}
	now += time.Hour
	p.Refresh()
	if got := count(picks(p, 110, zero))[1]; got != 55 {
		t.Errorf("after its window: %d of 110, want 55", got)
	}
}

func TestHashBalance(t *testing.T) {
	list := keyed(1, 1, 1, 1)
	p := NewPicker(Balancing{Algorithm: RingHash, HashBalance: 150}, list, zero, nil)
	most := 0
	for range 40 {
		m := p.PickHash(12345, nil, 0).Member
		list[m].State.Begin()
		most = max(most, list[m].State.Active())
	}
	if most < 10 || most > 17 {
		t.Errorf("one host of four works on %d of 40, want at most half as much again as the mean", most)
	}
}

// TestTwister has the numbers that any MT19937 gives.
func TestTwister(t *testing.T) {
	tw := newTwister(5489)
	got := uint32(0)
	for range 10_000 {
		got = tw.draw()
	}
	if want := uint32(4123659995); got != want {
		t.Errorf("the 10,000th number is %d, want %d", got, want)
	}
}
