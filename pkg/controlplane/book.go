package controlplane

import (
	"context"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/reconcile"
	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
	"github.com/breakwater-mesh/breakwater/pkg/xds"
)

// book answers the API's questions about proxies from what the streams know.
type book struct {
	loop *reconcile.Loop
	xds  *xds.Server
}

// Proxies are the connected proxies.
func (b book) Proxies() []api.Proxy {
	var list []api.Proxy
	stale := b.stale()
	for _, p := range b.xds.Proxies() {
		out := api.Proxy{
			ID: p.ID, Namespace: p.Namespace, Service: p.Service, Dialect: p.Dialect, Version: p.Version, Profile: p.Profile,
			Connected: p.Connected.UTC(), Address: p.Address, Stale: stale, Types: []api.ProxyType{}, Ejected: p.Ejected,
		}
		for _, t := range p.Types {
			out.Types = append(out.Types, proxyType(t))
		}
		list = append(list, out)
	}
	return list
}

// stale is since when the store can't be heard; nil: it can.
func (b book) stale() *time.Time {
	s := b.loop.Stale()
	if s == nil {
		return nil
	}
	since := s.Since.UTC()
	return &since
}

func proxyType(t xds.TypeState) api.ProxyType {
	out := api.ProxyType{Type: t.Type.String(), Subscribed: t.Subscribed, Acked: t.Acked, Pending: t.Pending}
	for _, r := range t.Rejected {
		out.Rejected = append(out.Rejected, api.Rejection{Name: r.ID.Name, Version: r.Version, Message: r.Text})
	}
	return out
}

// Changed is closed when something has come of a delivery.
func (b book) Changed() <-chan struct{} { return b.xds.Changed() }

// Look is the fleet as it is now.
func (b book) Look() apiserver.Fleet {
	return &moment{loop: b.loop, xds: b.xds.Look(), stale: b.stale()}
}

// moment is the proxies of this replica at one moment.
type moment struct {
	loop *reconcile.Loop
	xds  *xds.Fleet

	stale *time.Time
}

// Revision is how far a revision has come, which the world must have reached. What a batch touched says whom it concerns: also of a
// deletion, when what it shaped is no more. A class that is younger, or a log that does not reach back, leaves nothing but to ask for all.
func (m *moment) Revision(rev int64, all bool) api.Delivery {
	d := api.Delivery{Revision: rev, Stale: m.stale}
	if w := m.loop.World(); w != nil {
		d.World = w.Rev
	}
	if d.World < rev {
		d.Sum()
		return d
	}
	batches := m.loop.Batches()
	batch := batches.At(rev)
	var names *xds.Wanted
	if batch != nil {
		names = &xds.Wanted{Names: batch.Names()}
	}
	progress := m.xds.Progress(func(c *world.Class) *xds.Wanted {
		switch {
		case batch == nil || c.Born() >= batch.To:
			return &xds.Wanted{All: true}
		case batch.Touched(c):
			return names
		}
		return nil
	}, rev, all)
	newer := func(r xds.Rejection) bool { return batch != nil && batches.Since(rev, r.ID) }
	addProgress(&d, progress, newer)
	return d
}

// shapedTimeout is far more than the loop takes between two steps.
const shapedTimeout = 2 * time.Second

// Object is how far an object has come, in what is its present form.
func (m *moment) Object(ctx context.Context, kind string, key manifest.Key, all bool) (api.Delivery, error) {
	ctx, cancel := context.WithTimeout(ctx, shapedTimeout)
	defer cancel()
	shaped, err := m.loop.Shaped(ctx, kind, key)
	if err != nil {
		return api.Delivery{}, err
	}
	d := api.Delivery{Stale: m.stale}
	if w := m.loop.World(); w != nil {
		d.World = w.Rev
	}
	progress := m.xds.Progress(func(c *world.Class) *xds.Wanted {
		if ids, ok := shaped[c]; ok {
			return &xds.Wanted{Names: ids}
		}
		return nil
	}, 0, all)
	addProgress(&d, progress, func(xds.Rejection) bool { return false })
	return d, nil
}

// addProgress puts what the streams say into d. Newer says of a rejection that it is of something newer than what is asked for.
func addProgress(d *api.Delivery, p xds.Progress, newer func(xds.Rejection) bool) {
	d.Acked = p.Acked
	for _, of := range p.Proxies {
		out := api.ProxyDelivery{
			ID: of.ID, Namespace: of.Namespace, Service: of.Service, Dialect: of.Dialect, Version: of.Version, Profile: of.Profile,
			Address: of.Address, State: api.DeliveryState(of.State), Waiting: texts(of.Waiting),
		}
		if of.State == xds.Offline {
			left := of.Left.UTC()
			out.Since = &left
		} else {
			connected := of.Connected.UTC()
			out.Connected = &connected
		}
		superseded := len(of.Rejected) > 0
		for _, r := range of.Rejected {
			superseded = superseded && newer(r)
			out.Rejected = append(out.Rejected, refused(r))
		}
		if superseded {
			out.State = api.DeliverySuperseded
		}
		d.Proxies = append(d.Proxies, out)
	}
	d.Sum()
}

func refused(r xds.Rejection) api.Refused {
	return api.Refused{Type: r.ID.Type.String(), Name: r.ID.Name, Version: r.Version, Message: r.Text}
}

// mostWaiting is how many resources are named that a proxy is waited for.
const mostWaiting = 10

func texts(ids []view.ID) []string {
	var list []string
	for _, id := range ids[:min(len(ids), mostWaiting)] {
		list = append(list, id.String())
	}
	return list
}
