package engine

import (
	"context"
	"net/http"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
)

// mutationStep edits headers: as the listener says, then as the route does.
type mutationStep struct {
	noStep
	own, route *dataplane.HeaderMutation // route may be nil
}

func mutate(own, route *dataplane.HeaderMutation) step {
	if len(own.Request)+len(own.Response) == 0 && route == nil {
		return nil
	}
	return &mutationStep{own: own, route: route}
}

func (s *mutationStep) request(_ context.Context, c *Call) *reply {
	for _, m := range [...]*dataplane.HeaderMutation{s.own, s.route} {
		if m != nil && len(m.Request) > 0 {
			c.edit(c.req.Header, m.Request, nil)
			c.req.Internal = c.req.Internal || c.http.StripEnvoyHeaders // what is left of x-envoy-* is the filter's
		}
	}
	return nil
}

func (s *mutationStep) response(c *Call, status int, h http.Header) *reply {
	for _, m := range [...]*dataplane.HeaderMutation{s.own, s.route} {
		if m != nil && len(m.Response) > 0 {
			c.edit(h, m.Response, &reply{status: status})
		}
	}
	return nil
}

// edit changes headers in order. R is the reply that they are of, nil where they are of none.
func (c *Call) edit(h http.Header, edits []dataplane.HeaderEdit, r *reply) {
	for i := range edits {
		e := &edits[i]
		if e.Action == dataplane.RemoveHeader {
			delete(h, e.Name)
			continue
		}
		_, there := h[e.Name]
		value := c.text(&e.Value, r, "")
		if value == "" && !e.KeepEmpty {
			continue
		}
		switch e.Action {
		case dataplane.AppendHeader:
			h[e.Name] = append(h[e.Name], value)
		case dataplane.AddIfAbsent:
			if !there {
				h[e.Name] = []string{value}
			}
		case dataplane.Overwrite:
			h[e.Name] = []string{value}
		case dataplane.OverwriteIfExists:
			if there {
				h[e.Name] = []string{value}
			}
		}
	}
}
