package resilience

import (
	"math"
	"sync/atomic"
)

// edf hands out hosts in the order of their deadlines; who is chosen gets another one, 1/weight later. So that weights may change with
// each pick it looks at all hosts, but it takes no lock: a pick is one exchange of the deadline.
type edf struct{ deadlines []atomic.Uint64 } // bits of floats, which sort as the numbers do

func newEDF(hosts int, weight func(host int) float64) *edf {
	e := &edf{make([]atomic.Uint64, hosts)}
	for i := range e.deadlines {
		e.deadlines[i].Store(math.Float64bits(1 / weight(i)))
	}
	return e
}

// pick returns a host, asking weight for the one it has now.
func (e *edf) pick(weight func(host int) float64) int {
	for {
		host, soonest := 0, uint64(math.MaxUint64)
		for i := range e.deadlines {
			if deadline := e.deadlines[i].Load(); deadline < soonest {
				host, soonest = i, deadline
			}
		}
		next := math.Float64frombits(soonest) + 1/weight(host)
		if e.deadlines[host].CompareAndSwap(soonest, math.Float64bits(next)) {
			return host
		}
	}
}

// longestSchedule is how many picks a schedule may hold.
const longestSchedule = 4096

// schedule is the order in which hosts with fixed weights have their turns until it repeats, or nil if that is too long.
// Of equal deadlines the one that was set first comes first.
func schedule(weights []uint32) []int32 {
	divisor, sum := uint64(0), uint64(0)
	for _, weight := range weights {
		divisor, sum = gcd(uint64(weight), divisor), sum+uint64(weight)
	}
	if divisor == 0 || sum/divisor > longestSchedule {
		return nil
	}
	type turn struct {
		deadline float64
		set      int
	}
	turns := make([]turn, len(weights))
	for i, weight := range weights {
		turns[i] = turn{1 / float64(weight), i}
	}
	order := make([]int32, sum/divisor)
	for n := range order {
		next := 0
		for i, t := range turns {
			if t.deadline < turns[next].deadline || t.deadline == turns[next].deadline && t.set < turns[next].set {
				next = i
			}
		}
		order[n] = int32(next)
		turns[next] = turn{turns[next].deadline + 1/float64(weights[next]), len(weights) + n}
	}
	return order
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
