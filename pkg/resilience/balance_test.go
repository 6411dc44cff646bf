package resilience

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func seeded(seed uint64) Rand { return rand.New(rand.NewPCG(seed, 1)).Uint64 }

// script returns draws in order, then zeros.
func script(draws ...uint64) Rand {
	return func() uint64 {
		if len(draws) == 0 {
			return 0
		}
		n := draws[0]
		draws = draws[1:]
		return n
	}
}

// members is hosts of one priority with weights.
func members(weights ...uint32) (list []Member) {
	for _, weight := range weights {
		list = append(list, Member{State: NewHostState(), Weight: weight})
	}
	return list
}

func eject(m Member) { m.State.set(flagEjected, true) }

func picks(p *Picker, n int, rnd Rand) (list []int) {
	for range n {
		list = append(list, p.Pick(rnd, nil, 0).Member)
	}
	return list
}

// people is a population whose weights are equal.
func people(n heads) population { return population{heads: n, weights: n, factor: overprovisioning} }

func TestSpread(t *testing.T) {
	fit := func(healthy, all int) population { return people(heads{all: all, healthy: healthy}) }
	for _, tt := range []struct {
		name       string
		threshold  uint32
		priorities []population
		want       string
	}{
		{"all healthy", 50, []population{fit(10, 10), fit(10, 10)}, "100 0"},
		{"72 of 100", 50, []population{fit(72, 100), fit(1, 1)}, "100 0"},
		{"71 of 100", 50, []population{fit(71, 100), fit(1, 1)}, "99 1"},
		{"7 of 10", 50, []population{fit(7, 10), fit(1, 1)}, "98 2"},
		{"8 of 10", 50, []population{fit(8, 10), fit(1, 1)}, "100 0"},
		{"half", 50, []population{fit(5, 10), fit(1, 1)}, "70 30"},
		{"a quarter", 50, []population{fit(25, 100), fit(1, 1)}, "35 65"},
		{"none", 50, []population{fit(0, 10), fit(1, 1)}, "0 100"},
		{"a quarter each, of two", 0, []population{fit(25, 100), fit(25, 100)}, "50 50"},
		{"rounding goes to the first", 0, []population{fit(20, 100), fit(20, 100), fit(20, 100)}, "34 33 33"},
		{"rounding goes to degraded hosts if they come first", 0, []population{people(heads{all: 100, degraded: 20}), fit(20, 100), fit(20, 100)}, "0/34 33 33"},
		{"a quarter each panics, by number of hosts", 50, []population{fit(25, 100), fit(75, 300)}, "25! 75!"},
		{"nobody is fit: panic", 50, []population{fit(0, 10)}, "100!"},
		{"nobody is fit: no panic", 0, []population{fit(0, 10)}, "100"},
		{"one of two in panic keeps its load", 50, []population{fit(10, 100), fit(55, 100)}, "16! 84"},
		{"no panic while the sum suffices", 50, []population{fit(10, 100), fit(90, 100)}, "14 86"},
		{"exactly at the threshold", 50, []population{fit(50, 100)}, "100"},
		{"just below", 51, []population{fit(50, 100)}, "100!"},
		{"a threshold over 100 is 100", 400, []population{fit(71, 100)}, "100!"},
		{"4 healthy, 3 degraded", 50, []population{people(heads{all: 7, healthy: 4, degraded: 3})}, "80/20"},
		{"degraded take what health leaves", 50, []population{people(heads{all: 10, healthy: 0, degraded: 10}), fit(10, 10)}, "0/0 100"},
		{"degraded after healthy of lower priorities", 50, []population{people(heads{all: 10, healthy: 1, degraded: 9}), fit(5, 10)}, "14/16 70"},
		{"degraded hosts prevent panic", 50, []population{people(heads{all: 10, healthy: 2, degraded: 3})}, "40/60"},
		{"the excluded don't count", 50, []population{people(heads{all: 10, healthy: 3, excluded: 6})}, "100"},
		{"but do by number of hosts", 50, []population{people(heads{all: 10, healthy: 1, excluded: 2}), fit(0, 10)}, "50! 50!"},
		{"an empty priority", 50, []population{fit(0, 0), fit(3, 3)}, "0 100"},
		{"empty priorities", 50, []population{fit(0, 0), fit(0, 0)}, "100! 0!"},
		{"nothing", 50, nil, ""},
	} {
		var got []string
		for i, l := range spread(tt.priorities, tt.threshold) {
			text := fmt.Sprint(l.healthy)
			if tt.priorities[i].degraded > 0 {
				text += fmt.Sprint("/", l.degraded)
			}
			if l.panic {
				text += "!"
			}
			got = append(got, text)
		}
		if got := strings.Join(got, " "); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestLoadsSumTo100(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var priorities []population
		for range rapid.IntRange(1, 4).Draw(rt, "priorities") {
			all := rapid.IntRange(0, 12).Draw(rt, "all")
			healthy := rapid.IntRange(0, all).Draw(rt, "healthy")
			degraded := rapid.IntRange(0, all-healthy).Draw(rt, "degraded")
			excluded := rapid.IntRange(0, all-healthy-degraded).Draw(rt, "excluded")
			priorities = append(priorities, people(heads{all, healthy, degraded, excluded}))
		}
		threshold := rapid.SampledFrom([]uint32{0, 50, 100}).Draw(rt, "threshold")
		sum := 0
		for i, l := range spread(priorities, threshold) {
			sum += l.healthy + l.degraded
			n := priorities[i]
			if l.healthy < 0 || l.degraded < 0 || l.degraded > 0 && n.degraded == 0 || l.panic && threshold == 0 {
				rt.Fatalf("%+v: priority %d has %+v", priorities, i, l)
			}
		}
		if sum != 100 {
			rt.Fatalf("%+v: loads sum to %d", priorities, sum)
		}
	})
}

func TestRoundRobin(t *testing.T) {
	p := NewPicker(Balancing{Algorithm: RoundRobin}, members(1, 1, 1), zero, nil)
	if got, want := picks(p, 7, zero), []int{0, 1, 2, 0, 1, 2, 0}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, tt := range []struct {
		weights []uint32
		starts  int
	}{{[]uint32{1, 1, 1}, 3}, {[]uint32{1, 1, 2}, 3}, {[]uint32{9000, 8999, 8998}, 3}} {
		starts := make(map[int]bool)
		for seed := range uint64(30) {
			starts[picks(NewPicker(Balancing{}, members(tt.weights...), seeded(seed), nil), 1, zero)[0]] = true
		}
		if len(starts) != tt.starts {
			t.Errorf("weights %v: pickers start at %v, want anywhere", tt.weights, starts)
		}
	}
}

func TestRoundRobinWithWeights(t *testing.T) {
	for _, tt := range []struct {
		weights []uint32
		want    []int
	}{
		{[]uint32{1, 2}, []int{1, 0, 1, 1, 0, 1}},
		{[]uint32{2, 1}, []int{0, 1, 0, 0, 1, 0}},
		{[]uint32{10, 20}, []int{1, 0, 1, 1, 0, 1}},
		{[]uint32{5, 1, 1}, []int{0, 0, 0, 0, 1, 2, 0}},
		{[]uint32{0, 2}, []int{1, 0, 1, 1, 0, 1}},
	} {
		if got := picks(NewPicker(Balancing{}, members(tt.weights...), zero, nil), len(tt.want), zero); !slices.Equal(got, tt.want) {
			t.Errorf("weights %v: %v, want %v", tt.weights, got, tt.want)
		}
	}
}

// TestWeightsAreKept has any weights, short schedules and long ones: over a full round everyone has as many turns as weight.
func TestWeightsAreKept(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		weights := rapid.SliceOfN(rapid.Uint32Range(1, rapid.SampledFrom([]uint32{3, 100, 2000}).Draw(rt, "most")), 1, 6).Draw(rt, "weights")
		sum := uint32(0)
		for _, weight := range weights {
			sum += weight
		}
		list := members(weights...)
		p := NewPicker(Balancing{Algorithm: rapid.SampledFrom([]Algorithm{RoundRobin, LeastRequest}).Draw(rt, "algorithm")}, list, zero, nil)
		if p.view.Load().sets[0].weights == nil {
			return // all equal
		}
		counts := make([]int, len(weights))
		for _, member := range picks(p, int(sum), zero) {
			counts[member]++
		}
		for i, weight := range weights {
			if off := counts[i] - int(weight); off < -1 || off > 1 {
				rt.Fatalf("weights %v: %v turns in a round", weights, counts)
			}
		}
	})
}

func TestLeastRequest(t *testing.T) {
	list := members(1, 1, 1)
	p := NewPicker(Balancing{Algorithm: LeastRequest, ChoiceCount: 2}, list, zero, nil)
	list[0].State.Begin()
	list[0].State.Begin()
	list[1].State.Begin()
	for _, tt := range []struct {
		a, b uint64
		want int
	}{{0, 1, 1}, {1, 0, 1}, {0, 2, 2}, {2, 0, 2}, {1, 2, 2}, {0, 0, 0}, {1, 1, 1}, {3, 4, 1}} {
		if got := p.Pick(script(tt.a, tt.b), nil, 0).Member; got != tt.want {
			t.Errorf("draws %d and %d: %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
	list[1].State.Begin()
	if got := p.Pick(script(1, 0), nil, 0).Member; got != 1 {
		t.Errorf("of equals %d, want the first drawn", got)
	}
	many := NewPicker(Balancing{Algorithm: LeastRequest, ChoiceCount: 3}, list, zero, nil)
	if got := many.Pick(script(0, 1, 2), nil, 0).Member; got != 2 {
		t.Errorf("three draws: %d, want 2", got)
	}
	list[0].State.End()
	if got := p.Pick(script(1, 0), nil, 0).Member; got != 0 {
		t.Errorf("after an end %d, want 0", got)
	}
}

func TestLeastRequestWithWeights(t *testing.T) {
	list := members(1, 3)
	p := NewPicker(Balancing{Algorithm: LeastRequest}, list, zero, nil)
	if got, want := picks(p, 8, zero), []int{1, 1, 0, 1, 1, 1, 0, 1}; !slices.Equal(count(got), count(want)) {
		t.Errorf("idle: %v, want 0 twice of 8", got)
	}
	for range 2 {
		list[1].State.Begin() // three times the weight, a third of the room
	}
	p.Refresh()
	if got := count(picks(p, 8, zero)); !slices.Equal(got, []int{4, 4}) {
		t.Errorf("the heavy one is busy: %v, want halves", got)
	}
}

func count(list []int) []int {
	counts := make([]int, slices.Max(list)+1)
	for _, n := range list {
		counts[n]++
	}
	return counts
}

func TestRandomIgnoresWeights(t *testing.T) {
	p := NewPicker(Balancing{Algorithm: Random}, members(1, 100), zero, nil)
	if got, want := []int{p.Pick(script(4), nil, 0).Member, p.Pick(script(7), nil, 0).Member}, []int{0, 1}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestWhoIsFit(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(list []Member)
		fit    []int
	}{
		{"all", func([]Member) {}, []int{0, 1, 2, 3}},
		{"not the ejected", func(l []Member) { eject(l[0]) }, []int{1, 2, 3}},
		{"not who fails its check", func(l []Member) { l[1].State.SetCheck(true, false) }, []int{0, 2, 3}},
		{"not who is declared unhealthy", func(l []Member) { l[2].Declared = DeclaredUnhealthy }, []int{0, 1, 3}},
		{"nor draining", func(l []Member) { l[2].Declared = DeclaredDraining }, []int{0, 1, 3}},
		{"the degraded wait while the others suffice", func(l []Member) { l[0].State.SetCheck(false, true) }, []int{1, 2, 3}},
		{"so do those that say so themselves", func(l []Member) { l[1].State.set(flagDegraded, true) }, []int{0, 2, 3}},
		{"so do those declared degraded", func(l []Member) { l[2].Declared = DeclaredDegraded }, []int{0, 1, 3}},
		{"degraded take what health leaves", func(l []Member) { l[0].State.SetCheck(false, true); eject(l[1]); eject(l[2]) }, []int{0, 3}},
		{"ejected and degraded is ejected", func(l []Member) { l[0].State.set(flagDegraded, true); eject(l[0]); eject(l[1]) }, []int{2, 3}},
	} {
		list := members(1, 1, 1, 1)
		tt.change(list)
		p, seen, rnd := NewPicker(Balancing{}, list, zero, nil), make(map[int]bool), seeded(1)
		for range 400 {
			seen[p.Pick(rnd, nil, 0).Member] = true
		}
		for i := range list {
			if seen[i] != slices.Contains(tt.fit, i) {
				t.Errorf("%s: picked %v, want %v", tt.name, seen, tt.fit)
				break
			}
		}
	}
}

func TestPanic(t *testing.T) {
	for _, tt := range []struct {
		name    string
		config  Balancing
		ejected int // of 4
		want    string
	}{
		{"half is enough", Balancing{PanicThreshold: 50}, 2, "[2 3 2 3] 0"},
		{"less is a panic: all are used", Balancing{PanicThreshold: 50}, 3, "[0 1 2 3] 4"},
		{"a panic that fails", Balancing{PanicThreshold: 50, FailTrafficOnPanic: true}, 3, "[-1 -1 -1 -1] 4"},
		{"no panic: the last one takes it all", Balancing{}, 3, "[3 3 3 3] 0"},
		{"no panic and no host", Balancing{}, 4, "[-1 -1 -1 -1] 0"},
		{"all ejected: panic", Balancing{PanicThreshold: 50}, 4, "[0 1 2 3] 4"},
	} {
		list := members(1, 1, 1, 1)
		p := NewPicker(tt.config, list, zero, nil)
		for i := range tt.ejected {
			eject(list[i])
		}
		p.Refresh()
		var hosts []int
		panics := 0
		for range 4 {
			choice := p.Pick(zero, nil, 0)
			hosts, panics = append(hosts, choice.Member), panics+choice.Panics
		}
		if got := fmt.Sprint(hosts, panics); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if got := NewPicker(Balancing{PanicThreshold: 50}, nil, zero, nil).Pick(zero, nil, 0); got.Member != -1 {
		t.Errorf("without members: %+v", got)
	}
}

func TestPrioritiesAreDrawn(t *testing.T) {
	list := slices.Concat(members(1, 1), members(1))
	list[2].Priority = 1
	p := NewPicker(Balancing{PanicThreshold: 50}, list, zero, nil)
	eject(list[0])
	p.Refresh() // half of priority 0: 70 to 30
	for _, tt := range []struct {
		draw uint64
		want int
	}{{0, 1}, {69, 1}, {70, 2}, {99, 2}, {169, 1}} {
		if got := p.Pick(script(tt.draw), nil, 0).Member; got != tt.want {
			t.Errorf("draw %d: %d, want %d", tt.draw, got, tt.want)
		}
	}
	degraded := members(1, 1, 1, 1, 1, 1, 1)
	for i := range 3 {
		degraded[i].Declared = DeclaredDegraded
	}
	p = NewPicker(Balancing{PanicThreshold: 50}, degraded, zero, nil)
	low, high := p.Pick(script(79), nil, 0).Member, p.Pick(script(80), nil, 0).Member
	if low < 3 || high >= 3 {
		t.Errorf("draw 79: %d, 80: %d; want a healthy one, then a degraded one", low, high)
	}
}

func TestTriedHostsAreAvoided(t *testing.T) {
	list := members(1, 1, 1)
	p := NewPicker(Balancing{}, list, zero, nil)
	var tried Tried
	for _, tt := range []struct {
		again uint32
		want  int
	}{
		{1, 0}, // 0 is new
		{0, 1}, // 1 is new
		{0, 2},
		{1, 1}, // 0 was tried, then 1, which is taken though it was tried as well
		{5, 1}, // 2 and on for five more: all were tried, the sixth is taken
	} {
		got := p.Pick(zero, &tried, tt.again).Member
		if got != tt.want {
			t.Errorf("again %d: %d, want %d", tt.again, got, tt.want)
		}
		tried.Add(list[got].State)
	}
	tried = Tried{}
	for _, i := range []int{0, 1, 0, 1, 0, 1} {
		tried.Add(list[i].State)
	}
	if !tried.Has(list[1].State) || tried.Has(list[2].State) {
		t.Error("more than a few tried: wrong")
	}
	if got := p.Pick(zero, &tried, 5).Member; got != 2 {
		t.Errorf("got %d, want the one that was not tried", got)
	}
}

func TestPicksBesideRefresh(t *testing.T) {
	list := members(3, 1, 2, 5)
	for _, algorithm := range []Algorithm{RoundRobin, LeastRequest, Random} {
		p := NewPicker(Balancing{Algorithm: algorithm}, list, zero, nil)
		var wg sync.WaitGroup
		for g := range uint64(2) {
			wg.Go(func() {
				rnd := seeded(g)
				for range 3000 {
					if got := p.Pick(rnd, nil, 0).Member; got < 0 || got > 3 {
						t.Errorf("picked %d", got)
						return
					}
				}
			})
		}
		for i := range 300 {
			list[i%3].State.set(flagEjected, i%2 == 0)
			p.Refresh()
		}
		wg.Wait()
	}
}

// call is what the happy path does for one attempt.
func call(p *Picker, d *Detector, c *Counters, t *Thresholds, rnd Rand) bool {
	choice := p.Pick(rnd, nil, 0)
	if choice.Member < 0 || !c.TryRequest(t) {
		return false
	}
	h := p.Members()[choice.Member].State
	h.Begin()
	ask := d.Record(h, 200)
	h.End()
	c.DoneRequest()
	return ask == 0
}

func TestCallAllocatesNothing(t *testing.T) {
	for _, algorithm := range []Algorithm{RoundRobin, LeastRequest, Random} {
		for _, weights := range [][]uint32{{1, 1, 1}, {1, 2, 3}, {4000, 3999, 1}} {
			p, d, c := NewPicker(Balancing{Algorithm: algorithm}, members(weights...), zero, nil), NewDetector(envoyDefaults()), new(Counters)
			thresholds := &Thresholds{MaxRequests: 1024}
			if n := testing.AllocsPerRun(100, func() { call(p, d, c, thresholds, rand.Uint64) }); n != 0 {
				t.Errorf("algorithm %d, weights %v: %v allocations, want 0", algorithm, weights, n)
			}
		}
	}
}

func BenchmarkCall(b *testing.B) {
	for name, bench := range map[string]struct {
		algorithm Algorithm
		weights   []uint32
	}{
		"round robin": {RoundRobin, slices.Repeat([]uint32{1}, 10)}, "least request": {LeastRequest, slices.Repeat([]uint32{1}, 10)},
		"random": {Random, slices.Repeat([]uint32{1}, 10)}, "weighted round robin": {RoundRobin, []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		"weighted least request": {LeastRequest, []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
	} {
		b.Run(name, func(b *testing.B) {
			p := NewPicker(Balancing{Algorithm: bench.algorithm}, members(bench.weights...), rand.Uint64, nil)
			d, c, thresholds := NewDetector(envoyDefaults()), new(Counters), &Thresholds{MaxRequests: 1024}
			b.ReportAllocs()
			for b.Loop() {
				if !call(p, d, c, thresholds, rand.Uint64) {
					b.Fatal("refused")
				}
			}
		})
	}
	b.Run("with two clock reads", func(b *testing.B) {
		p := NewPicker(Balancing{Algorithm: LeastRequest}, members(slices.Repeat([]uint32{1}, 10)...), rand.Uint64, nil)
		d, c, thresholds := NewDetector(envoyDefaults()), new(Counters), &Thresholds{MaxRequests: 1024}
		b.ReportAllocs()
		for b.Loop() {
			start := time.Now()
			if !call(p, d, c, thresholds, rand.Uint64) || time.Since(start) < 0 {
				b.Fatal("refused")
			}
		}
	})
}
