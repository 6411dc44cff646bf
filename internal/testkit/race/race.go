// Package race says how often a random test of one goroutine is repeated.
package race

// Rounds is n, and under the race detector a tenth of it, at least 1: that makes such a test some ten times slower and finds nothing in
// the other rounds. `make test` runs the packages that use it both ways.
func Rounds(n int) int {
	if on {
		return max(1, n/10)
	}
	return n
}
