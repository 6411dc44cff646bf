package apiserver

import (
	"slices"
	"sync"

	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// powerless keeps, of the newest world that was asked for, which policies a kind of proxies can enforce nothing of: lists and watches ask
// for all of them again and again.
type powerless struct {
	mu    sync.Mutex
	of    *world.World // guarded by mu
	known map[told]bool
}

// told is a policy and who is to enforce it.
type told struct {
	policy manifest.Key
	proxy  envoy.Target
}

// any reports whether some of the kinds of proxies can enforce nothing of p.
func (s *powerless) any(w *world.World, p *policy.Compiled, kinds []envoy.Target) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of != w {
		s.of, s.known = w, make(map[told]bool)
	}
	return slices.ContainsFunc(kinds, func(kind envoy.Target) bool {
		key := told{p.Policy.Key(), kind}
		none, known := s.known[key]
		if !known {
			none = enforcesNothing(w, p, kind)
			s.known[key] = none
		}
		return none
	})
}
