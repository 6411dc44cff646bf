package controlplane

import (
	"context"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/xds"
)

// Held is what the proxy of that id should hold and holds; with diff, only where that differs, line by line. Nil: it is not connected.
func (b book) Held(ctx context.Context, id string, diff bool) (*api.ProxyConfig, error) {
	list, class, ok := b.xds.Holdings(id)
	if !ok {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, shapedTimeout)
	defer cancel()
	shapers, err := b.loop.Shapers(ctx, class)
	if err != nil {
		return nil, err
	}
	c := &api.ProxyConfig{ID: id, Resources: []api.ProxyResource{}}
	for _, h := range list {
		if diff && h.State == xds.Acked {
			continue
		}
		r := proxyResource(h)
		for _, key := range shapers[h.ID] {
			r.Policies = append(r.Policies, key.String())
		}
		if diff {
			if err := explain(&r, h); err != nil {
				return nil, err
			}
		}
		c.Resources = append(c.Resources, r)
	}
	return c, nil
}

func proxyResource(h xds.Held) api.ProxyResource {
	r := api.ProxyResource{Type: h.ID.Type.String(), Name: h.ID.Name, State: api.DeliveryState(h.State)}
	if h.Wanted != nil {
		r.Version = h.Wanted.Version
	}
	if h.Acked != nil {
		r.Acked = h.Acked.Version
	}
	if h.Rejected != nil {
		why := refused(*h.Rejected)
		r.Rejected = &why
	}
	return r
}

// explain says line by line how what was accepted differs from what should be.
func explain(r *api.ProxyResource, h xds.Held) error {
	if h.Acked != nil && !xds.Known(h.Acked) {
		r.Unknown = true
		return nil
	}
	if h.Acked == nil && h.Wanted == nil {
		return nil
	}
	lines, err := envoy.Difference(h.Acked, h.Wanted)
	if err != nil {
		return err
	}
	for _, l := range lines {
		r.Lines = append(r.Lines, api.DiffLine(l))
	}
	return nil
}
