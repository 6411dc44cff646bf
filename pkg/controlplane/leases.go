package controlplane

import "github.com/breakwater-mesh/breakwater/pkg/world"

// leaseStates are the states of leased endpoints that are counted.
func leaseStates() []string {
	return []string{string(world.Live), string(world.Unheard), string(world.Protected), string(world.Stale)}
}

// leased counts the leased endpoints of w that are in a state; w may be nil.
func leased(w *world.World, state string) (n int) {
	if w == nil {
		return 0
	}
	for e := range w.Leased {
		if absence, _ := w.Absence(e); string(absence) == state {
			n++
		}
	}
	return n
}
