package xdsclient

import (
	"slices"
	"testing"
	"time"
)

func TestBackOff(t *testing.T) {
	most := func(n int64) int64 { return n - 1 }
	least := func(int64) int64 { return 0 }
	b := &BackOff{servers: 3}
	var got []time.Duration
	for range 9 {
		got = append(got, b.Next(false, 0, most))
	}
	if want := []time.Duration{0, 0, firstWait, 0, 0, 2 * firstWait, 0, 0, 4 * firstWait}; !slices.Equal(got, want) {
		t.Errorf("waits %v, want %v", got, want)
	}
	for range 60 {
		got = append(got, b.Next(false, 0, most))
	}
	if last := slices.Max(got); last != longestWait {
		t.Errorf("the longest wait is %v, want %v", last, longestWait)
	}
	b.Next(false, 0, most)
	b.Next(false, 0, most)
	if got := b.Next(true, time.Second, most); got != firstWait {
		t.Errorf("after an answer it waits %v, want %v", got, firstWait)
	}
	if got := b.Next(true, time.Hour, most); got != 0 {
		t.Errorf("after a long stream it waits %v, want none", got)
	}
	one := &BackOff{servers: 1}
	for range 5 {
		one.Next(false, 0, most)
	}
	one.Next(false, steadyAfter, most)
	if got := one.Next(false, 0, most); got != firstWait {
		t.Errorf("after a long stream without an answer, as nothing had changed, the next wait is %v, want %v", got, firstWait)
	}
	one = &BackOff{servers: 1}
	if got := one.Next(true, 0, least); got <= 0 {
		t.Errorf("a lone server that hangs up at once is asked again after %v", got)
	}
}
