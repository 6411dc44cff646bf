package world

import (
	"fmt"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// Visible are the services that proxies of caller receive, by key: what its dependsOn names, or all of its own namespace.
func (w *World) Visible(caller manifest.Key) []manifest.Key {
	var named []manifest.Key
	said := false
	if s, ok := w.services[caller]; ok {
		named, said = catalog.Dependencies(s)
	}
	if !said {
		return w.in(caller.Namespace)
	}
	var keys []manifest.Key
	for _, key := range named {
		if _, ok := w.services[key]; ok {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, manifest.Key.Compare)
	return slices.Compact(keys)
}

// in are the services of a namespace, by key.
func (w *World) in(namespace string) (keys []manifest.Key) {
	first, _ := slices.BinarySearchFunc(w.byName, manifest.Key{Namespace: namespace}, func(s *catalog.Service, key manifest.Key) int { return s.Key().Compare(key) })
	for _, s := range w.byName[first:] {
		if s.Metadata.Namespace != namespace {
			break
		}
		keys = append(keys, s.Key())
	}
	return keys
}

// role is what a service is to the proxies of one caller.
type role struct {
	called  bool // they reach it by its hosts
	backend bool // routes of services that they call lead to it
	spare   bool // the fallback of some service that they call may be it
}

// roles are the services that proxies of caller receive.
func (w *World) roles(caller manifest.Key) map[manifest.Key]role {
	roles := make(map[manifest.Key]role)
	visible := w.Visible(caller)
	for _, key := range visible {
		roles[key] = role{called: true}
	}
	for _, key := range visible {
		for _, behind := range catalog.Backends(w.services[key]) {
			if _, exists := w.services[behind]; exists {
				roles[behind] = role{called: roles[behind].called, backend: true}
			}
		}
	}
	w.addSpares(w.Caller(caller), visible, roles)
	return roles
}

// addSpares adds the services that policies for the caller name as fallbacks: also those that a more specific policy overrides, so that
// they are there when it goes.
func (w *World) addSpares(caller policy.Caller, visible []manifest.Key, roles map[manifest.Key]role) {
	for _, p := range w.Ranked() {
		key, ok := p.FallbackService()
		if _, exists := w.services[key]; !ok || !exists {
			continue
		}
		if slices.ContainsFunc(visible, func(v manifest.Key) bool {
			called := calledService(w.services[v])
			return p.Matches(called) && p.Applies(called, caller)
		}) {
			r := roles[key]
			r.spare = true
			roles[key] = r
		}
	}
}

// dropMissing takes out of eff, which nobody else has seen, the fallbacks that do not exist, or take no calls: calls fail as they would without.
func (w *World) dropMissing(eff *policy.Effective) {
	for _, part := range eff.Every() {
		if b := part.Fallback; b != nil && b.Service != nil {
			key, _ := policy.ParseService(*b.Service)
			if !w.takesCalls(key) {
				part.Fallback = nil
			}
		}
	}
}

// routed is svc with only those backends that exist: a proxy fails the calls that it sends to no cluster. A route that is left
// without any leads to svc itself.
func (w *World) routed(svc *catalog.Service) *catalog.Service {
	missing := func(b catalog.Backend) bool { return !w.hasBackend(svc, b) }
	if !slices.ContainsFunc(svc.Spec.Routes, func(r catalog.Route) bool { return slices.ContainsFunc(r.Backends, missing) }) {
		return svc
	}
	pruned := *svc
	pruned.Spec.Routes = slices.Clone(svc.Spec.Routes)
	for i := range pruned.Spec.Routes {
		r := &pruned.Spec.Routes[i]
		r.Backends = slices.DeleteFunc(slices.Clone(r.Backends), missing)
		if !slices.ContainsFunc(r.Backends, func(b catalog.Backend) bool { return b.Share() > 0 }) {
			r.Backends = nil // a proxy refuses weights that are all 0
		}
	}
	return &pruned
}

// called is svc with the name of its cluster, unless another service has that: the first by key keeps it, but for whose own name it is.
// An error says which. A write is refused that would make this so; two that meet may.
func (w *World) called(svc *catalog.Service) (*catalog.Service, error) {
	name := svc.Spec.ClusterName
	if name == "" {
		return svc, nil
	}
	for key, other := range w.services {
		if key == svc.Key() || key.String() != name && (other.Spec.ClusterName != name || svc.Key().Less(key)) {
			continue
		}
		plain := *svc
		plain.Spec.ClusterName = ""
		return &plain, fmt.Errorf("service %s: its cluster is not called %s: that of %s is", svc.Key(), name, key)
	}
	return svc, nil
}

// hasBackend reports whether there is what a backend of svc names.
func (w *World) hasBackend(svc *catalog.Service, b catalog.Backend) bool {
	key := b.Key(svc)
	if !w.takesCalls(key) || b.Subset == "" {
		return w.takesCalls(key)
	}
	_, ok := w.services[key].Spec.Subsets[b.Subset]
	return ok
}

// takesCalls reports whether the service of that key exists, and is one to which a route can lead.
func (w *World) takesCalls(key manifest.Key) bool {
	s, ok := w.services[key]
	return ok && catalog.ProtocolOf(s) != catalog.TCP
}

// aliases are the hosts under which callers of one namespace reach svc. A host that another service claims is left out.
func (w *World) aliases(svc *catalog.Service, namespace string) []string {
	if catalog.ProtocolOf(svc) == catalog.TCP {
		return nil
	}
	key := svc.Key()
	var list []string
	for i, host := range catalog.Hosts(svc) {
		if owner, ok := w.hosts[host]; i == 0 || ok && owner == key { // its own name comes first
			list = append(list, host)
		}
	}
	if key.Namespace == namespace {
		list = append(list, key.Name)
	}
	return list
}
