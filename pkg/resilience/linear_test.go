package resilience

import "testing"

// inRow is how Linear picks among pickers.
func inRow(pickers ...*Picker) func(threshold uint32, rnd Rand, tried *Tried, policy *Retry) (int, Choice) {
	var l Linear
	return func(threshold uint32, rnd Rand, tried *Tried, policy *Retry) (int, Choice) {
		return l.Pick(len(pickers), func(i int) *Picker { return pickers[i] }, threshold, rnd, nil, tried, policy)
	}
}

func TestLinear(t *testing.T) {
	a, b := members(1, 1), members(1)
	first, second := NewPicker(Balancing{PanicThreshold: 50}, a, zero, nil), NewPicker(Balancing{}, b, zero, nil)
	pick := inRow(nil, first, second)
	at := func(percent uint64) int {
		t.Helper()
		member, choice := pick(50, script(percent-1), &Tried{}, nil)
		if choice.Member < 0 {
			t.Fatalf("no host at %d percent", percent)
		}
		return member
	}
	if got := at(100); got != 1 {
		t.Errorf("all are fit: member %d, want the first that has hosts", got)
	}
	eject(a[0])
	first.Refresh() // half of priority 0: 70 to 30
	if at(70) != 1 || at(71) != 2 {
		t.Error("one of two is ejected: load is not spread 70 to 30")
	}
	eject(a[1])
	first.Refresh()
	if got := at(1); got != 2 {
		t.Errorf("the first has none fit: member %d, want the second", got)
	}
	eject(b[0])
	second.Refresh()
	member, choice := pick(50, script(0), &Tried{}, nil)
	if member != 1 || choice.Panics != 1 || choice.Member < 0 {
		t.Errorf("in a panic: member %d, %+v, want any host of the first", member, choice)
	}
	if member, choice := inRow(nil, NewPicker(Balancing{}, nil, zero, nil))(50, zero, &Tried{}, nil); member != -1 || choice.Member != -1 {
		t.Errorf("without hosts: member %d, %+v", member, choice)
	}
}

func TestLinearAvoidsTriedPriorities(t *testing.T) {
	a, b := members(1), members(1)
	pick := inRow(NewPicker(Balancing{}, a, zero, nil), NewPicker(Balancing{}, b, zero, nil))
	policy := &Retry{AvoidPreviousPriorities: true, UpdateFrequency: 1}
	var tried Tried
	for i, want := range []int{0, 1, 0} { // after all it begins again
		member, _ := pick(50, zero, &tried, policy)
		if member != want {
			t.Errorf("attempt %d: member %d, want %d", i+1, member, want)
		}
		tried.Add([]Member{a[0], b[0]}[member].State)
	}
	if n := testing.AllocsPerRun(100, func() { pick(50, zero, &Tried{}, nil) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
