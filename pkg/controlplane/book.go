package controlplane

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/reconcile"
	"github.com/breakwater-mesh/breakwater/pkg/view"
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
	for _, p := range b.xds.Proxies() {
		out := api.Proxy{
			ID: p.ID, Namespace: p.Namespace, Service: p.Service, Dialect: p.Dialect, Version: p.Version, Profile: p.Profile,
			Connected: p.Connected.UTC(), Address: p.Address, Types: []api.ProxyType{}, Ejected: p.Ejected,
		}
		for _, t := range p.Types {
			out.Types = append(out.Types, proxyType(t))
		}
		list = append(list, out)
	}
	return list
}

func proxyType(t xds.TypeState) api.ProxyType {
	out := api.ProxyType{Type: t.Type.String(), Subscribed: t.Subscribed, Acked: t.Acked, Pending: t.Pending}
	for _, r := range t.Rejected {
		out.Rejected = append(out.Rejected, api.Rejection{Name: r.ID.Name, Version: r.Version, Message: r.Text})
	}
	return out
}

// shapedTimeout is far more than the loop takes between two steps.
const shapedTimeout = 2 * time.Second

// Programmed says which connected proxies hold a policy or a guardrail.
func (b book) Programmed(kind string, key manifest.Key) api.Condition {
	ctx, cancel := context.WithTimeout(context.Background(), shapedTimeout)
	defer cancel()
	shaped, err := b.loop.Shaped(ctx, kind, key)
	if err != nil {
		return api.Condition{Type: api.Programmed, Status: api.Unknown, Reason: "NotRead", Message: "the store was not read yet"}
	}
	var t tally
	for class, ids := range shaped {
		for _, d := range b.xds.Delivery(class, ids, class.Head().Rev) {
			t.add(d)
		}
	}
	return t.condition()
}

// tally counts how far a policy has come with the proxies it concerns.
type tally struct {
	acked    int
	pending  []string
	rejected []string
}

func (t *tally) add(d xds.Delivery) {
	switch d.State {
	case xds.Acked:
		t.acked++
	case xds.Pending:
		t.pending = append(t.pending, d.Proxy)
	case xds.Rejected:
		for _, r := range d.Rejected {
			t.rejected = append(t.rejected, fmt.Sprintf("%s rejected %s %s: %s", d.Proxy, typeWord(r.ID.Type), r.ID.Name, r.Text))
		}
	}
}

func (t *tally) condition() api.Condition {
	c := api.Condition{Type: api.Programmed}
	switch {
	case len(t.rejected) > 0:
		c.Status, c.Reason = api.False, "Rejected"
		c.Message = fmt.Sprintf("%d acked, %d pending; %s", t.acked, len(t.pending), strings.Join(t.rejected, "; "))
	case len(t.pending) > 0:
		c.Status, c.Reason = api.False, "Pending"
		c.Message = fmt.Sprintf("%d acked; waiting for %s", t.acked, strings.Join(t.pending, ", "))
	case t.acked == 0:
		c.Status, c.Reason, c.Message = api.Unknown, "NoProxies", "no connected proxy makes calls that it concerns"
	default:
		c.Status, c.Reason, c.Message = api.True, "Acked", fmt.Sprintf("acked by %d of %d connected proxies", t.acked, t.acked)
	}
	return c
}

func typeWord(t view.Type) string {
	return map[view.Type]string{
		view.RTDS: "runtime layer", view.CDS: "cluster", view.EDS: "assignment", view.LDS: "listener", view.SRDS: "scope", view.RDS: "route configuration",
	}[t]
}
