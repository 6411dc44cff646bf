// Package resilience holds the algorithms of the data plane, as Envoy measurably behaves: outlier detection, limits, retry
// conditions, back-off, budgets, timeouts, load balancing. It is pure: now and random numbers are arguments, it takes no lock and
// starts nothing. What many goroutines share is made of atomics, or says who must serialise its use.
package resilience
