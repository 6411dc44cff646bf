package resilience

import (
	"slices"
	"testing"
)

// ranked is members with priorities.
func ranked(priorities ...uint32) []Member {
	list := members(slices.Repeat([]uint32{1}, len(priorities))...)
	for i := range list {
		list[i].Priority = priorities[i]
	}
	return list
}

// attempts has a call try n times, and returns the hosts it is sent to.
func attempts(p *Picker, policy *Retry, n int) (list []int) {
	var tried Tried
	for range n {
		member := p.PickRetry(zero, nil, &tried, policy).Member
		if list = append(list, member); member >= 0 {
			tried.Add(p.members[member].State)
		}
	}
	return list
}

func TestRetriesGoToOtherPriorities(t *testing.T) {
	others := func(frequency uint32) *Retry {
		return &Retry{AvoidPreviousPriorities: true, UpdateFrequency: frequency}
	}
	for _, tt := range []struct {
		name       string
		priorities []uint32
		ejected    []int
		policy     *Retry
		want       []int
	}{
		{"no policy", []uint32{0, 1}, nil, nil, []int{0, 0, 0}},
		{"a policy that doesn't mind", []uint32{0, 1}, nil, &Retry{}, []int{0, 0, 0}},
		{"each time, and then anew", []uint32{0, 1, 2}, nil, others(1), []int{0, 1, 2, 0, 1, 2, 0}},
		{"0 is 1", []uint32{0, 1}, nil, others(0), []int{0, 1, 0}},
		{"every second time", []uint32{0, 1}, nil, others(2), []int{0, 0, 1, 1, 0, 0, 1}},
		{"every third time", []uint32{0, 1, 2}, nil, others(3), []int{0, 0, 0, 1, 1, 1, 2, 2, 2, 0}},
		{"who is not fit is no other", []uint32{0, 1, 2}, []int{1}, others(1), []int{0, 2, 0, 2}},
		{"only one priority", []uint32{0}, nil, others(1), []int{0, 0, 0}},
		{"none is fit", []uint32{0, 1}, []int{0, 1}, others(1), []int{-1, -1}},
		{"other hosts and other priorities", []uint32{0, 0, 1, 1}, nil,
			&Retry{AvoidPreviousPriorities: true, UpdateFrequency: 2, AvoidPreviousHosts: true, HostSelectionAttempts: 3}, []int{0, 1, 2, 3}},
		{"other hosts", []uint32{0, 0}, nil, &Retry{AvoidPreviousHosts: true, HostSelectionAttempts: 1}, []int{0, 1, 1, 1}},
	} {
		list := ranked(tt.priorities...)
		for _, i := range tt.ejected {
			eject(list[i])
		}
		if got := attempts(NewPicker(Balancing{}, list, zero, nil), tt.policy, len(tt.want)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestPrioritiesBeginAgainByHealth: in a panic of all, load goes by the number of hosts, but by health once all priorities were tried.
func TestPrioritiesBeginAgainByHealth(t *testing.T) {
	list := ranked(slices.Concat(slices.Repeat([]uint32{0}, 10), slices.Repeat([]uint32{1}, 30))...)
	for i, m := range list {
		if i != 0 && i != 39 {
			eject(m)
		}
	}
	p := NewPicker(Balancing{Algorithm: Random, PanicThreshold: 50}, list, zero, nil)
	middle := func() uint64 { return 50 }
	var tried Tried
	var got []uint32
	for range 3 {
		m := p.members[p.PickRetry(middle, nil, &tried, &Retry{AvoidPreviousPriorities: true}).Member]
		tried.Add(m.State)
		got = append(got, m.Priority)
	}
	if want := []uint32{1, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("priorities %v, want %v", got, want)
	}
}

func TestTriedSurvivesAnotherPicker(t *testing.T) {
	list := ranked(0, 1)
	var tried Tried
	policy := &Retry{AvoidPreviousPriorities: true, UpdateFrequency: 2}
	first := NewPicker(Balancing{}, list, zero, nil)
	tried.Add(list[0].State)
	tried.Add(list[0].State)
	if got := first.PickRetry(zero, nil, &tried, policy).Member; got != 1 {
		t.Fatalf("got %d, want 1", got)
	}
	tried.Add(list[0].State) // 3: no time to look anew, but for another picker it is
	longer := append(slices.Clone(list), ranked(2)...)
	if got := NewPicker(Balancing{}, longer, zero, nil).PickRetry(zero, nil, &tried, policy).Member; got != 1 {
		t.Errorf("another picker: %d, want 1", got)
	}
	if got := NewPicker(Balancing{}, nil, zero, nil).PickRetry(zero, nil, &tried, policy).Member; got != -1 {
		t.Errorf("a picker without members: %d, want none", got)
	}
}

func TestFirstPickOfARetryAllocatesNothing(t *testing.T) {
	p, policy := NewPicker(Balancing{}, ranked(0, 1), zero, nil), &Retry{AvoidPreviousPriorities: true, AvoidPreviousHosts: true}
	if n := testing.AllocsPerRun(100, func() {
		var tried Tried
		tried.Add(p.members[p.PickRetry(zero, nil, &tried, policy).Member].State)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
