package world

import (
	"iter"
	"maps"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// touched is what a step from one world to the next asks to be built again.
type touched struct {
	services  map[manifest.Key]bool // policies or the service itself changed
	endpoints map[manifest.Key]bool // the addresses changed
	callers   map[manifest.Key]bool // what they see, or which policies hold for them, may have changed
	catalogue bool                  // a service came or went, or its hosts moved: every class's list of services may change
}

func touch(old, now *World, c Changes) touched {
	t := touched{services: map[manifest.Key]bool{}, endpoints: map[manifest.Key]bool{}, callers: map[manifest.Key]bool{}}
	for key := range c.Services {
		t.services[key] = true
		t.endpoints[key] = true
		t.callers[key] = true
		t.catalogue = true
	}
	t.backends(now, c)
	t.names(old, now, c)
	for key := range c.Endpoints {
		t.endpoints[key.Service] = true
	}
	for key := range symmetric(old.gone, now.gone) {
		t.endpoints[key.Service] = true
	}
	t.hosts(old, now, c)
	for key := range c.Policies {
		for _, p := range both(old, now, key, (*World).Policy) {
			t.policy(now, p)
		}
	}
	for key := range c.Guardrails {
		for _, g := range both(old, now, key, (*World).Guardrail) {
			t.policy(now, g)
		}
	}
	t.fallbacks(old, now, c)
	return t
}

// both are a policy or a guardrail as it was and as it is, as far as it was and is.
func both(old, now *World, key manifest.Key, in func(*World, manifest.Key) (*policy.Compiled, bool)) (list []*policy.Compiled) {
	for _, w := range []*World{old, now} {
		if p, ok := in(w, key); ok {
			list = append(list, p)
		}
	}
	return list
}

// fallbacks touches what a fallback that came or went stands in for; a policy that names one changes what callers receive.
func (t *touched) fallbacks(old, now *World, c Changes) {
	for key := range c.Policies {
		for _, p := range both(old, now, key, (*World).Policy) {
			if _, ok := p.FallbackService(); ok {
				t.catalogue = true
			}
		}
	}
	if len(c.Services) == 0 {
		return
	}
	for _, p := range now.Ranked() {
		if key, ok := p.FallbackService(); ok {
			if _, changed := c.Services[key]; changed {
				t.policy(now, p)
			}
		}
	}
}

// names touches the services whose clusters are called as those of changed ones: one of them alone is.
func (t *touched) names(old, now *World, c Changes) {
	if len(c.Services) == 0 {
		return
	}
	changed := make(map[string]bool)
	for key := range c.Services {
		for _, w := range []*World{old, now} {
			if s, ok := w.services[key]; ok {
				for _, name := range catalog.ClusterNames(s) {
					changed[name] = true
				}
			}
		}
	}
	for key, s := range now.services {
		if s.Spec.ClusterName != "" && changed[s.Spec.ClusterName] {
			t.services[key], t.endpoints[key] = true, true
		}
	}
}

// backends touches the services with routes to a changed one: it, or a subset of it, may have come or gone.
func (t *touched) backends(now *World, c Changes) {
	if len(c.Services) == 0 {
		return
	}
	for key, s := range now.services {
		for _, behind := range catalog.Backends(s) {
			if _, changed := c.Services[behind]; changed {
				t.services[key] = true
			}
		}
	}
}

// hosts touches the owners of every host that moved.
func (t *touched) hosts(old, now *World, c Changes) {
	for host := range c.Hosts {
		for _, w := range []*World{old, now} {
			if owner, ok := w.hosts[host]; ok {
				t.services[owner] = true
				t.catalogue = true
			}
		}
	}
}

// policy touches the services that p covers.
func (t *touched) policy(now *World, p *policy.Compiled) {
	if key, one := p.Service(); one {
		if _, exists := now.services[key]; exists {
			t.services[key] = true
		}
		return
	}
	for _, s := range now.byName {
		if p.Matches(calledService(s)) {
			t.services[s.Key()] = true
		}
	}
}

// symmetric are the keys that one of two sets has and the other has not.
func symmetric[K comparable](a, b map[K]bool) iter.Seq[K] {
	return func(yield func(K) bool) {
		for key := range a {
			if !b[key] && !yield(key) {
				return
			}
		}
		for key := range b {
			if !a[key] && !yield(key) {
				return
			}
		}
	}
}

// rebuild is one service that is touched, with its present state.
type rebuild struct {
	key   manifest.Key
	state *serviceState // nil: it is gone
	whole bool          // more than its addresses changed
}

// rebuilds are the services that are touched, in order: the same changes in one order are one move of all classes.
func (b *Builder) rebuilds(t touched) []rebuild {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(t.services)), maps.Keys(t.endpoints))
	slices.SortFunc(keys, manifest.Key.Compare)
	var list []rebuild
	for _, key := range slices.Compact(keys) {
		list = append(list, rebuild{key, b.services[key], t.services[key]})
	}
	return list
}
