package world

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Life is what the store says of the agent of a leased endpoint: it is heard, or has been silent for longer than its lease.
type Life struct {
	Lease int64 // of the store; 0: it is not heard
	Mark  *Mark // since when; nil while it is heard
}

// Mark says that an agent was not heard. One replica writes it into the store, so that all take the endpoint for stale from one moment.
type Mark struct {
	Since    time.Time
	Of       int   // endpoints that the service had then
	Fleet    int   // endpoints that were registered then, of all services
	Revision int64 // at which the store has it
}

// At once means within burst: leases that one cause has cut short run out within a third of the longest of them, as agents renew that often.
const burst = 2 * time.Minute

// sharePercent is how much of a service, and of all registered endpoints, may be gone without anybody having said so.
const sharePercent = 30

// Absence is how a leased endpoint stands.
type Absence string

// How a leased endpoint stands.
const (
	Live      Absence = "live"      // its agent is heard
	Unheard   Absence = "unheard"   // its lease ran out, and no replica has had the store for long enough to say that it is stale
	Protected Absence = "protected" // stale, but too many of its service, or of all, would leave at once
	Stale     Absence = "stale"     // proxies get it no more
)

// Absence is how a leased endpoint stands, and since when it is stale or protected. Others are always Live.
func (w *World) Absence(e catalog.Endpoint) (Absence, time.Time) {
	key := EndpointKey{e.Service, e.ID}
	if e.Lease == 0 || w.LeaseOf(key) != 0 {
		return Live, time.Time{}
	}
	mark, ok := w.marks[key]
	switch {
	case !ok:
		return Unheard, time.Time{}
	case w.gone[key]:
		return Stale, mark.Since
	}
	return Protected, mark.Since
}

// LeaseOf is the store's lease of an endpoint whose agent is heard, else 0.
func (w *World) LeaseOf(key EndpointKey) int64 { return w.leases[key.Service][key.ID] }

// Serving are the registered endpoints of a service that proxies get, by id. The caller must not change the slice.
func (w *World) Serving(service manifest.Key) []catalog.Endpoint {
	list := w.endpoints[service]
	here := func(e catalog.Endpoint) bool { return w.gone[EndpointKey{service, e.ID}] }
	if len(w.gone) == 0 || !slices.ContainsFunc(list, here) {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), here)
}

// Leased yields every endpoint that lives by a lease, in no order.
func (w *World) Leased(yield func(catalog.Endpoint) bool) {
	for _, list := range w.endpoints {
		for _, e := range list {
			if e.Lease > 0 && !yield(e) {
				return
			}
		}
	}
}

// Unheard yields the leased endpoints that are Unheard, in no order.
func (w *World) Unheard(yield func(catalog.Endpoint) bool) {
	for key := range w.unheard {
		if e, ok := w.Endpoint(key); ok && !yield(e) {
			return
		}
	}
}

// withUnheard is old, with what c has changed.
func (w *World) withUnheard(old map[EndpointKey]bool, c Changes) map[EndpointKey]bool {
	next := orNew(maps.Clone(old))
	check := func(key EndpointKey) {
		delete(next, key)
		if e, ok := w.Endpoint(key); ok {
			if absence, _ := w.Absence(e); absence == Unheard {
				next[key] = true
			}
		}
	}
	for key := range c.Endpoints {
		check(key)
	}
	for key := range c.Lives {
		check(key)
	}
	return next
}

// MarkOf is the mark for an endpoint that is found silent at now.
func (w *World) MarkOf(key EndpointKey, now time.Time) Mark {
	return Mark{Since: now, Of: w.size(key.Service), Fleet: w.fleet()}
}

// Marks are the marks of the store, those without an endpoint among them. The caller must not change the map.
func (w *World) Marks() map[EndpointKey]Mark { return w.marks }

// Outlives reports whether a service has endpoints beside those whose agents are not heard: only then may one of these be forgotten.
func (w *World) Outlives(service manifest.Key) bool {
	if s, ok := w.services[service]; ok && len(s.Spec.Endpoints) > 0 {
		return true
	}
	return slices.ContainsFunc(w.endpoints[service], func(e catalog.Endpoint) bool {
		absence, _ := w.Absence(e)
		return absence == Live
	})
}

// size is how many endpoints a service has, static and registered.
func (w *World) size(service manifest.Key) int {
	n := len(w.endpoints[service])
	if s, ok := w.services[service]; ok {
		n += len(s.Spec.Endpoints)
	}
	return n
}

func (w *World) fleet() (n int) {
	for _, list := range w.endpoints {
		n += len(list)
	}
	return n
}

// absent is a leased endpoint with its mark.
type absent struct {
	EndpointKey
	Mark
}

// leaving are the marked endpoints that proxies get no more. It depends on nothing but what the store holds, so that all replicas agree.
func (w *World) leaving() map[EndpointKey]bool {
	if len(w.marks) == 0 {
		return nil
	}
	byService := map[manifest.Key][]absent{}
	for key, mark := range w.marks {
		if e, ok := w.Endpoint(key); ok && e.Lease > 0 {
			byService[key.Service] = append(byService[key.Service], absent{key, mark})
		}
	}
	var all []absent
	for service, list := range byService {
		size := w.size(service)
		list = leave(list, func(m Mark) int { return max(size, m.Of) })
		if len(list) < size { // never the last one
			all = append(all, list...)
		}
	}
	fleet := w.fleet()
	gone := map[EndpointKey]bool{}
	for _, a := range leave(all, func(m Mark) int { return max(fleet, m.Fleet) }) {
		gone[a.EndpointKey] = true
	}
	return gone
}

// leave are those of list that may leave a group of the size that it had when they were marked. What was marked at once leaves whole
// or stays whole; the oldest come first.
func leave(list []absent, size func(Mark) int) (left []absent) {
	slices.SortFunc(list, func(a, b absent) int {
		return cmp.Or(a.Since.Compare(b.Since), a.Service.Compare(b.Service), cmp.Compare(a.ID, b.ID))
	})
	for len(list) > 0 {
		n, group := 0, 0
		for n < len(list) && list[n].Since.Sub(list[0].Since) <= burst {
			group = max(group, size(list[n].Mark))
			n++
		}
		if len(left)+n <= mayLeave(group) {
			left = append(left, list[:n]...)
		}
		list = list[n:]
	}
	return left
}

// mayLeave is how many of n may be gone: the share, but one at least, and never the only one.
func mayLeave(n int) int {
	if n <= 1 {
		return 0
	}
	return max(1, n*sharePercent/100)
}

func withLives(leases map[manifest.Key]map[string]int64, marks map[EndpointKey]Mark, changes map[EndpointKey]*Life) (map[manifest.Key]map[string]int64, map[EndpointKey]Mark) {
	leases, marks = orNew(maps.Clone(leases)), orNew(maps.Clone(marks))
	fresh := map[manifest.Key]bool{} // services whose leases have been copied already
	for key, life := range changes {
		if !fresh[key.Service] {
			leases[key.Service], fresh[key.Service] = orNew(maps.Clone(leases[key.Service])), true
		}
		delete(leases[key.Service], key.ID)
		delete(marks, key)
		switch {
		case life == nil:
		case life.Lease != 0:
			leases[key.Service][key.ID] = life.Lease
		case life.Mark != nil:
			marks[key] = *life.Mark
		}
	}
	for service := range fresh {
		if len(leases[service]) == 0 {
			delete(leases, service)
		}
	}
	return leases, marks
}

func orNew[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return m
}
