package apiserver

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

func (w *watcher) wants(kind string) bool { return slices.Contains(w.kinds, kind) }

// tell tells what is new in now, and of the proxies.
func (w *watcher) tell(now *world.World) error {
	first := w.told == nil
	anew, err := w.tellObjects(now)
	if err != nil {
		return err
	}
	if err := w.glance(api.Proxies, &w.proxies, &w.server.watches.proxies, now); err != nil {
		return err
	}
	if err := w.glance(api.Deliveries, &w.deliveries, &w.server.watches.deliveries, now); err != nil {
		return err
	}
	if first || anew {
		if err := w.out.event(api.Watched{Change: api.Synced, Kinds: w.kinds, Revision: now.Rev}, idOf(now.Cluster, now.Rev)); err != nil {
			return err
		}
	}
	return w.out.flush()
}

// tellObjects tells what was edited and removed since the world before, or everything: then anew is true.
func (w *watcher) tellObjects(now *world.World) (anew bool, err error) {
	before, from := w.told, w.from
	w.told = now
	if before != nil {
		from = before.Rev
	}
	removed, remembered := now.RemovedSince(from)
	switch {
	case before == nil && from > 0:
		if forget := w.forgetful(); len(forget) > 0 {
			err = w.out.event(api.Watched{Change: api.Resync, Kinds: forget, Reason: "no id says what was told of these"}, "")
		}
		if err != nil || now.Edited() <= from {
			return false, err
		}
	case before == nil:
		return true, w.everything(now, cmp.Or(w.why, "a new watch"))
	case !now.Follows(before):
		return true, w.everything(now, "the store is another one, or went back")
	case !remembered:
		return true, w.everything(now, "too much was removed since")
	case now.Edited() <= from:
		return false, nil
	}
	return false, w.changes(now, from, removed)
}

// forgetful are the kinds of what is watched that have no history.
func (w *watcher) forgetful() []string {
	return slices.DeleteFunc(slices.Clone(w.kinds), func(kind string) bool { return kind != api.Proxies && kind != api.Deliveries })
}

// everything tells all there is, after the client has forgotten what it knows.
func (w *watcher) everything(now *world.World, reason string) error {
	if err := w.out.event(api.Watched{Change: api.Resync, Kinds: w.kinds, Reason: reason}, ""); err != nil {
		return err
	}
	w.proxies, w.deliveries = glance{}, glance{}
	for _, o := range w.editedSince(now, 0) {
		if err := w.put(o, ""); err != nil {
			return err
		}
	}
	return nil
}

// news is what became of a policy, a guardrail or a service.
type news struct {
	kind string
	key  manifest.Key
	rev  int64
	body any // nil: it is no more
}

// changes tells what was removed and edited after from. What went comes first: nobody knows exactly at which revision. Then, by revision, what was
// edited: once the last event of a revision is told, everything up to it is.
func (w *watcher) changes(now *world.World, from int64, removed []world.Removal) error {
	var list []news
	for _, r := range removed {
		if w.concerns(r.Kind, r.Key.Namespace) && !exists(now, r) {
			list = append(list, news{kind: r.Kind, key: r.Key, rev: r.Rev})
		}
	}
	edited := w.editedSince(now, from)
	slices.SortStableFunc(edited, func(a, b news) int { return cmp.Compare(a.rev, b.rev) })
	list = append(list, edited...)
	for i, e := range list {
		id := ""
		switch {
		case i+1 == len(list):
			id = idOf(now.Cluster, now.Rev)
		case e.body != nil && list[i+1].rev > e.rev:
			id = idOf(now.Cluster, e.rev)
		}
		if err := w.put(e, id); err != nil {
			return err
		}
	}
	return nil
}

func exists(w *world.World, r world.Removal) (ok bool) {
	switch r.Kind {
	case policy.Kind:
		_, ok = w.Policy(r.Key)
	case policy.GuardrailKind:
		_, ok = w.Guardrail(r.Key)
	default:
		_, ok = w.Service(r.Key)
	}
	return ok
}

// concerns reports whether objects of that kind in that namespace are watched.
func (w *watcher) concerns(kind, namespace string) bool {
	return (w.namespace == "" || w.namespace == namespace) && w.wants(pluralOf[kind])
}

// editedSince are the watched objects that were edited after rev, in no order.
func (w *watcher) editedSince(now *world.World, rev int64) (list []news) {
	add := func(kind string, m manifest.Meta, body any) {
		if m.Revision > rev && w.concerns(kind, m.Namespace) {
			list = append(list, news{kind, m.Key(), m.Revision, body})
		}
	}
	if w.wants(api.Services) {
		for _, o := range now.Services() {
			add(catalog.Kind, o.Metadata, o)
		}
	}
	if w.wants(api.Policies) || w.wants(api.Guardrails) {
		for _, o := range now.Ranked() {
			if o.Guardrail != nil {
				add(policy.GuardrailKind, o.Guardrail.Metadata, o.Guardrail)
			} else {
				add(policy.Kind, o.Policy.Metadata, o.Policy)
			}
		}
	}
	return list
}

// put tells o; id, if any, is where a watch goes on that has seen it.
func (w *watcher) put(o news, id string) error {
	e := api.Watched{Change: api.Delete, Kind: o.kind, Namespace: o.key.Namespace, Name: o.key.Name, Revision: o.rev}
	if o.body != nil {
		text, err := json.Marshal(o.body)
		if err != nil {
			return err
		}
		e.Change, e.Object = api.Put, text
	}
	return w.out.event(e, id)
}
