package apiserver

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// claims are the hosts that a service owns: its own name and what it lists.
func claims(svc *catalog.Service) []string {
	if svc == nil {
		return nil
	}
	hosts := catalog.Hosts(svc)
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// claimHosts nets what all services of the plan claim and release, and refuses a host that stays with another service.
func (w *writer) claimHosts(ctx context.Context, p *plan, changes *world.Changes) error {
	wanted, released := map[string]*step{}, map[string]*step{}
	var clashes []api.Conflict
	for _, s := range p.steps {
		if s.kind != catalog.Kind || s.action == api.Unchanged {
			continue
		}
		for _, host := range claims(s.oldService) {
			released[host] = s
		}
		for _, host := range claims(s.service) {
			if other, twice := wanted[host]; twice {
				clashes = append(clashes, hostClash(host, other.key, s.key))
				continue
			}
			wanted[host] = s
		}
	}
	for _, host := range slices.Compact(slices.Sorted(keysOf(wanted, released))) {
		clash, err := w.claimHost(ctx, p, changes, host, wanted[host], released[host])
		if err != nil {
			return err
		}
		if clash != nil {
			clashes = append(clashes, *clash)
		}
	}
	if len(clashes) > 0 {
		return conflict(api.HostConflict, "a host belongs to one Service", clashes...)
	}
	return nil
}

// claimHost writes the claim of one host that a step wants, or releases, or both.
func (w *writer) claimHost(ctx context.Context, p *plan, changes *world.Changes, host string, wants, releases *step) (*api.Conflict, error) {
	key := store.HostKey(host)
	entry, err := w.kv.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	var owner manifest.Key
	if entry.Revision > 0 {
		if owner, err = world.DecodeHost(entry.Value); err != nil {
			return nil, fmt.Errorf("read %s: %w", key, err)
		}
	}
	if wants == nil {
		if releases != nil && owner == releases.key {
			p.cond(entry)
			p.txn.Ops = append(p.txn.Ops, store.Op{Key: key, Delete: true})
			changes.Hosts[host] = nil
		}
		return nil, nil
	}
	leaves := releases != nil && releases.key == owner
	if entry.Revision > 0 && owner != wants.key && !leaves {
		clash := hostClash(host, owner, wants.key)
		return &clash, nil
	}
	p.cond(entry)
	if owner != wants.key {
		value, err := world.EncodeHost(wants.key)
		if err != nil {
			return nil, err
		}
		p.txn.Ops = append(p.txn.Ops, store.Op{Key: key, Value: value})
		changes.Hosts[host] = &wants.key
	}
	return nil, nil
}

func hostClash(host string, owner, wants manifest.Key) api.Conflict {
	return api.Conflict{
		Kind: catalog.Kind, Namespace: owner.Namespace, Name: owner.Name, Field: "spec.hosts",
		Message: fmt.Sprintf("host %q of Service %s belongs to Service %s", host, wants, owner),
	}
}

// keysOf are the keys of several maps, some of them twice.
func keysOf(maps ...map[string]*step) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, m := range maps {
			for k := range m {
				if !yield(k) {
					return
				}
			}
		}
	}
}
