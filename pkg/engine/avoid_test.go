package engine_test

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// TestRetriesAvoidWhatWasTried looks at which hosts two retries go to, of two hosts in each of two priorities.
func TestRetriesAvoidWhatWasTried(t *testing.T) {
	for name, tt := range map[string]struct {
		avoid func(*resilience.Retry)
		want  func(asked []string) bool
	}{
		"nothing avoided": {func(*resilience.Retry) {}, func(asked []string) bool { return first(asked[0]) && first(asked[1]) && first(asked[2]) }},
		"hosts": {func(r *resilience.Retry) { r.AvoidPreviousHosts, r.HostSelectionAttempts = true, 100 },
			func(asked []string) bool { return asked[0] != asked[1] && first(asked[0]) && first(asked[1]) }},
		"priorities": {func(r *resilience.Retry) { r.AvoidPreviousPriorities, r.UpdateFrequency = true, 1 },
			func(asked []string) bool { return first(asked[0]) && !first(asked[1]) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 4, func(w *world) {
					for i := range w.cluster.Hosts {
						w.cluster.Hosts[i].Priority = uint32(i / 2)
					}
					w.cluster.Balancing.Algorithm = resilience.Random
					w.route.Retry = retrying(resilience.On5xx, 2)
					tt.avoid(w.route.Retry)
				})
				for range 20 {
					up := &hosts{act: status(503)}
					w.call(up)
					if len(up.asked) != 3 || !tt.want(up.asked) {
						t.Fatalf("asked %q", up.asked)
					}
				}
			})
		})
	}
}

// first reports whether an address is of the first priority.
func first(a string) bool {
	return slices.Contains([]string{address(0).String(), address(1).String()}, a)
}
