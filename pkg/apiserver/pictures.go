package apiserver

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// picture is what proxies or deliveries looked like at one moment. It is immutable; an item that has not changed is the same in the next one, so
// that a watch keeps no more than a pointer.
type picture struct {
	items   map[string]*api.Watched
	changed <-chan struct{} // closed when it may be out of date
	edited  int64           // likewise, of the world
	taken   time.Time
	rest    time.Duration // how long the next one is not taken
}

// camera takes pictures for all watches together: however many there are, it is at work for a tenth of the time at most.
type camera struct {
	mu   sync.Mutex
	last *picture // guarded by mu
	take func(*world.World) ([]api.Watched, error)
}

// leastRest is how long a picture counts as new.
const leastRest = 250 * time.Millisecond

// look is the present picture, or one that is hardly older. Nothing says when something has changed at other replicas: where there are some, it is out
// of date when it has rested.
func (c *camera) look(w *world.World, book Book, others bool) (*picture, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.last; p != nil && (time.Since(p.taken) < p.rest || !others && p.edited == w.Edited() && !closed(p.changed)) {
		return p, nil
	}
	next := &picture{items: make(map[string]*api.Watched), changed: book.Changed(), edited: w.Edited(), taken: time.Now()}
	list, err := c.take(w)
	if err != nil {
		return nil, err
	}
	for i := range list {
		item := &list[i]
		key := strings.Join([]string{item.Of, item.Namespace, item.Name}, "/")
		if old := c.before(key); old != nil && old.Revision == item.Revision && bytes.Equal(old.Object, item.Object) {
			item = old
		}
		next.items[key] = item
	}
	next.rest = leastRest + 9*time.Since(next.taken)
	c.last = next
	return next, nil
}

func (c *camera) before(key string) *api.Watched {
	if c.last == nil {
		return nil
	}
	return c.last.items[key]
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// roll is the connected proxies as a watch tells of them. Its camera guards it.
type roll struct {
	*server
	known map[string][]api.Proxy // by replica, of the others: what those said last
}

// take asks all replicas. Of one that does not answer it tells that, and what it said last.
func (r *roll) take(*world.World) ([]api.Watched, error) {
	var list []api.Watched
	put := func(kind, namespace, name string, object any) error {
		text, err := json.Marshal(object)
		list = append(list, api.Watched{Change: api.Put, Kind: kind, Namespace: namespace, Name: name, Object: text})
		return err
	}
	replies := askOthers[api.ProxyList](context.Background(), r.Peers, r.askWait(), api.ProxiesPath)
	for _, u := range unreachable(replies) {
		if err := put(api.UnreachableKind, "", u.Replica, u); err != nil {
			return nil, err
		}
	}
	lists, known := [][]api.Proxy{r.ownProxies()}, make(map[string][]api.Proxy, len(replies))
	for _, reply := range replies {
		id := reply.from.ID
		if known[id] = reply.body.Items; reply.err != nil {
			known[id] = r.known[id]
		}
		lists = append(lists, known[id])
	}
	r.known = known
	for _, p := range api.MergeProxies(lists...) {
		if err := put(api.ProxyKind, p.Namespace, p.ID, p); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// watchedDeliveries are how far the policies and guardrails have come.
func (s *server) watchedDeliveries(w *world.World) ([]api.Watched, error) {
	var q api.DeliveriesQuery
	all, err := s.tally(context.Background(), w, q, false).all(context.Background(), w, q)
	if err != nil {
		return nil, err
	}
	var list []api.Watched
	for _, of := range all {
		text, err := json.Marshal(of.Delivery)
		if err != nil {
			return nil, err
		}
		list = append(list, api.Watched{
			Change: api.Put, Kind: api.DeliveryKind, Of: of.Kind, Namespace: of.Namespace, Name: of.Name, Revision: of.Delivery.Revision, Object: text,
		})
	}
	return list, nil
}

// glance is how one watch looks at pictures.
type glance struct {
	told  *picture         // what its client knows; nil: nothing
	pause <-chan time.Time // until the next look; nil: it is over
}

// changed is closed when it is time to look again.
func (g *glance) changed() <-chan struct{} {
	if g.told == nil || g.pause != nil {
		return nil
	}
	return g.told.changed
}

// failedPause is how long a watch does not look where no picture could be taken.
const failedPause = time.Second

// glance tells what is new in the pictures of c, if the kind is watched and it is time to look.
func (w *watcher) glance(kind string, g *glance, c *camera, now *world.World) error {
	if !w.wants(kind) || g.pause != nil {
		return nil
	}
	others := len(w.Peers.Others()) > 0
	next, err := c.look(now, w.Book, others)
	if err != nil {
		w.Log.Debug("a watch can't look", "kind", kind, "error", err)
		g.pause = time.After(failedPause)
		return nil
	}
	old := g.told
	if g.told = next; next != old || others || closed(next.changed) {
		g.pause = time.After(max(next.rest-time.Since(next.taken), leastRest/10))
	}
	return w.differences(old, next)
}

// differences tells how next differs from old, by name.
func (w *watcher) differences(old, next *picture) error {
	if old == nil {
		old = &picture{}
	}
	if old == next {
		return nil
	}
	var list []api.Watched
	for key, item := range next.items {
		if old.items[key] != item {
			list = append(list, *item)
		}
	}
	for key, item := range old.items {
		if next.items[key] == nil {
			list = append(list, api.Watched{Change: api.Delete, Kind: item.Kind, Of: item.Of, Namespace: item.Namespace, Name: item.Name})
		}
	}
	slices.SortFunc(list, func(a, b api.Watched) int {
		return cmp.Or(cmp.Compare(a.Of, b.Of), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, e := range list {
		if w.namespace != "" && w.namespace != e.Namespace && e.Kind != api.UnreachableKind {
			continue
		}
		if err := w.out.event(e, ""); err != nil {
			return err
		}
	}
	return nil
}
