package world

import (
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Visible are the services that proxies of caller receive, by key: what its dependsOn names, or all of its own namespace.
func (w *World) Visible(caller manifest.Key) []manifest.Key {
	var named []manifest.Key
	said := false
	if s, ok := w.services[caller]; ok {
		named, said = catalog.Dependencies(s)
	}
	var keys []manifest.Key
	if said {
		for _, key := range named {
			if _, ok := w.services[key]; ok {
				keys = append(keys, key)
			}
		}
	} else {
		for key := range w.services {
			if key.Namespace == caller.Namespace {
				keys = append(keys, key)
			}
		}
	}
	slices.SortFunc(keys, byKey)
	return slices.Compact(keys)
}

// aliases are the hosts under which callers of one namespace reach svc. A host that another service claims is left out.
func (w *World) aliases(svc *catalog.Service, namespace string) []string {
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
