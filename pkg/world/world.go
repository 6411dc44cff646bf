package world

import (
	"maps"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// World is everything that is configured at one revision. It is immutable: With makes the next one.
type World struct {
	Rev     int64
	Cluster uint64 // identity of the store it was read from
	vintage int    // 0: nobody has raised it

	policies   []*policy.Compiled // by key
	guardrails []*policy.Compiled // by key
	ranking    policy.Ranking     // both
	services   map[manifest.Key]*catalog.Service
	byName     []*catalog.Service                  // the services, by key
	endpoints  map[manifest.Key][]catalog.Endpoint // registered by API, by id
	hosts      map[string]manifest.Key

	leases  map[manifest.Key]map[string]int64 // of the agents that are heard, by service and id
	marks   map[EndpointKey]Mark              // of the agents that are not
	unheard map[EndpointKey]bool              // leased endpoints with neither
	gone    map[EndpointKey]bool              // leased endpoints that proxies get no more

	memory
}

// EndpointKey names a registered endpoint.
type EndpointKey struct {
	Service manifest.Key
	ID      string
}

// Changes are what one batch does to the world. A nil value deletes.
type Changes struct {
	Policies   map[manifest.Key]*policy.Compiled
	Guardrails map[manifest.Key]*policy.Compiled
	Services   map[manifest.Key]*catalog.Service
	Endpoints  map[EndpointKey]*catalog.Endpoint
	Hosts      map[string]*manifest.Key
	Lives      map[EndpointKey]*Life
	Vintage    int // 0: as it was
}

// Empty reports whether c changes nothing.
func (c Changes) Empty() bool {
	return len(c.Policies)+len(c.Guardrails)+len(c.Services)+len(c.Endpoints)+len(c.Hosts)+len(c.Lives)+c.Vintage == 0
}

// With is the world after c, at revision rev. Maps that c does not touch are shared.
func (w *World) With(rev int64, c Changes) *World {
	next := *w
	next.Rev = rev
	if c.Vintage > 0 {
		next.vintage = c.Vintage
	}
	next.memory = w.memory.with(w, rev, c)
	if len(c.Policies)+len(c.Guardrails) > 0 {
		var gone, come []*policy.Compiled
		next.policies = exchanged(w.policies, c.Policies, &gone, &come)
		next.guardrails = exchanged(w.guardrails, c.Guardrails, &gone, &come)
		next.ranking = w.ranking.With(gone, come)
	}
	next.services = overlay(w.services, c.Services)
	if len(c.Services) > 0 {
		next.byName = sorted(next.services)
	}
	if len(c.Endpoints) > 0 {
		next.endpoints = withEndpoints(w.endpoints, c.Endpoints)
	}
	if len(c.Hosts) > 0 {
		next.hosts = withHosts(w.hosts, c.Hosts)
	}
	if len(c.Lives) > 0 {
		next.leases, next.marks = withLives(w.leases, w.marks, c.Lives)
	}
	if len(c.Lives)+len(c.Endpoints) > 0 {
		next.unheard = next.withUnheard(w.unheard, c)
	}
	if len(c.Lives)+len(c.Endpoints)+len(c.Services) > 0 {
		next.gone = next.leaving()
	}
	return &next
}

// exchanged is a list after some changes. What leaves it is added to gone, what joins it to come.
func exchanged(list []*policy.Compiled, changes map[manifest.Key]*policy.Compiled, gone, come *[]*policy.Compiled) []*policy.Compiled {
	if len(changes) == 0 {
		return list
	}
	next := make([]*policy.Compiled, 0, len(list)+len(changes))
	for _, key := range slices.SortedFunc(maps.Keys(changes), manifest.Key.Compare) {
		i, found := slices.BinarySearchFunc(list, key, byKey)
		next, list = append(next, list[:i]...), list[i:]
		if found {
			*gone, list = append(*gone, list[0]), list[1:]
		}
		if p := changes[key]; p != nil {
			*come, next = append(*come, p), append(next, p)
		}
	}
	return append(next, list...)
}

func byKey(p *policy.Compiled, key manifest.Key) int { return p.Policy.Key().Compare(key) }

func overlay[K comparable, V any](old map[K]*V, changes map[K]*V) map[K]*V {
	if len(changes) == 0 {
		return old
	}
	next := make(map[K]*V, len(old)+len(changes))
	maps.Copy(next, old)
	for k, v := range changes {
		if v == nil {
			delete(next, k)
		} else {
			next[k] = v
		}
	}
	return next
}

func withHosts(old map[string]manifest.Key, changes map[string]*manifest.Key) map[string]manifest.Key {
	next := maps.Clone(old)
	if next == nil {
		next = make(map[string]manifest.Key)
	}
	for host, owner := range changes {
		if owner == nil {
			delete(next, host)
		} else {
			next[host] = *owner
		}
	}
	return next
}

func withEndpoints(old map[manifest.Key][]catalog.Endpoint, changes map[EndpointKey]*catalog.Endpoint) map[manifest.Key][]catalog.Endpoint {
	next := maps.Clone(old)
	if next == nil {
		next = make(map[manifest.Key][]catalog.Endpoint)
	}
	fresh := make(map[manifest.Key]bool) // services whose list has been copied already
	for key, e := range changes {
		list := next[key.Service]
		if !fresh[key.Service] {
			list, fresh[key.Service] = slices.Clone(list), true
		}
		i, found := slices.BinarySearchFunc(list, key.ID, byID)
		switch {
		case e == nil && found:
			list = slices.Delete(list, i, i+1)
		case e != nil && found:
			list[i] = *e
		case e != nil:
			list = slices.Insert(list, i, *e)
		}
		next[key.Service] = list
	}
	for key := range fresh {
		if len(next[key]) == 0 {
			delete(next, key)
		}
	}
	return next
}

func byID(e catalog.Endpoint, id string) int { return strings.Compare(e.ID, id) }

// Policy is the policy of that key.
func (w *World) Policy(key manifest.Key) (*policy.Compiled, bool) {
	return found(w.policies, key)
}

func found(list []*policy.Compiled, key manifest.Key) (*policy.Compiled, bool) {
	if i, ok := slices.BinarySearchFunc(list, key, byKey); ok {
		return list[i], true
	}
	return nil, false
}

// Policies are all policies, by key. The caller must not change the slice.
func (w *World) Policies() []*policy.Compiled { return w.policies }

// Guardrail is the guardrail of that key.
func (w *World) Guardrail(key manifest.Key) (*policy.Compiled, bool) {
	return found(w.guardrails, key)
}

// Guardrails are all guardrails, by key. The caller must not change the slice.
func (w *World) Guardrails() []*policy.Compiled { return w.guardrails }

// Ranked are all policies and guardrails, least specific first. The caller must not change the slice.
func (w *World) Ranked() []*policy.Compiled { return w.ranking.All() }

// Service is the service of that key.
func (w *World) Service(key manifest.Key) (*catalog.Service, bool) {
	s, ok := w.services[key]
	return s, ok
}

// Services are all services, by key. The caller must not change the slice.
func (w *World) Services() []*catalog.Service { return w.byName }

func sorted[V any](m map[manifest.Key]*V) []*V {
	list := make([]*V, 0, len(m))
	for _, key := range slices.SortedFunc(maps.Keys(m), manifest.Key.Compare) {
		list = append(list, m[key])
	}
	return list
}

// Endpoints are the endpoints of a service that were registered by the API, by id. The static ones are in its spec. The caller must
// not change the slice.
func (w *World) Endpoints(service manifest.Key) []catalog.Endpoint { return w.endpoints[service] }

// Endpoint is the endpoint of that key that was registered by the API.
func (w *World) Endpoint(key EndpointKey) (catalog.Endpoint, bool) {
	list := w.endpoints[key.Service]
	if i, found := slices.BinarySearchFunc(list, key.ID, byID); found {
		return list[i], true
	}
	return catalog.Endpoint{}, false
}

// HostOwner is the service that claims host.
func (w *World) HostOwner(host string) (manifest.Key, bool) {
	owner, ok := w.hosts[host]
	return owner, ok
}

// Caller is the service of that key seen as the one that calls; one that is not in the catalogue has no labels.
func (w *World) Caller(key manifest.Key) policy.Caller {
	caller := policy.Caller{Key: key}
	if s, ok := w.services[key]; ok {
		caller.Labels = s.Metadata.Labels
	}
	return caller
}

// Called is what resolving needs to know of the service of that key; one that is not in the catalogue is http without labels.
func (w *World) Called(key manifest.Key) policy.Service {
	called := policy.Service{Key: key, Protocol: string(catalog.HTTP)}
	if s, ok := w.services[key]; ok {
		called = calledService(s)
	}
	return called
}

func calledService(s *catalog.Service) policy.Service {
	return policy.Service{Key: s.Key(), Labels: s.Metadata.Labels, Protocol: string(catalog.ProtocolOf(s))}
}

// Matching are the policies and guardrails whose target covers svc, least specific first.
func (w *World) Matching(svc policy.Service) []*policy.Compiled { return w.ranking.Matching(svc) }

// Effective merges the policies that apply to calls from caller to the service of that key.
func (w *World) Effective(caller policy.Caller, service manifest.Key) (*policy.Effective, []policy.Problem) {
	svc := w.Called(service)
	var applied []*policy.Compiled
	for _, p := range w.Matching(svc) {
		if p.Applies(svc, caller) {
			applied = append(applied, p)
		}
	}
	return policy.Merge(svc, applied)
}
