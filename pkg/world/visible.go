package world

import (
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Visible are the services that proxies of caller receive, by key: what its dependsOn names, or all of its own namespace.
func (w *World) Visible(caller manifest.Key) []manifest.Key {
	var keys []manifest.Key
	if s, ok := w.services[caller]; ok && s.Spec.DependsOn != nil {
		for _, ref := range *s.Spec.DependsOn {
			key := refKey(ref, caller.Namespace)
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

// refKey reads "name" or "namespace/name".
func refKey(ref, namespace string) manifest.Key {
	if ns, name, ok := strings.Cut(ref, "/"); ok {
		return manifest.Key{Namespace: ns, Name: name}
	}
	return manifest.Key{Namespace: namespace, Name: ref}
}

// aliases are the hosts under which callers of one namespace reach svc. A host that another service claims is left out.
func (w *World) aliases(svc *catalog.Service, namespace string) []string {
	key := svc.Key()
	list := []string{key.Name + "." + key.Namespace}
	for _, host := range svc.Spec.Hosts {
		if owner, ok := w.hosts[host]; ok && owner == key {
			list = append(list, host)
		}
	}
	if key.Namespace == namespace {
		list = append(list, key.Name)
	}
	return list
}
