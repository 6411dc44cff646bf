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
			c.req.Internal = true // what is left of x-envoy-* is the filter's
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

// editLevels changes headers level by level: of each, headers are removed, values are made of what is left, and then headers are
// overwritten before others are added. R is as for edit.
func (c *Call) editLevels(h http.Header, levels [][]dataplane.HeaderEdit, r *reply) {
	for _, level := range levels {
		if len(level) == 1 {
			c.edit(h, level, r)
		} else {
			c.editLevel(h, level, r)
		}
	}
}

func (c *Call) editLevel(h http.Header, level []dataplane.HeaderEdit, r *reply) {
	values, due := make([]string, len(level)), make([]bool, len(level))
	for i := range level {
		if e := &level[i]; e.Action == dataplane.RemoveHeader {
			delete(h, e.Name)
		} else {
			values[i], due[i] = c.editedTo(h, e, r)
		}
	}
	for i := range level {
		if e := &level[i]; due[i] && (e.Action == dataplane.Overwrite || e.Action == dataplane.OverwriteIfExists) {
			h[e.Name], due[i] = []string{values[i]}, false
		}
	}
	for i := range level {
		if due[i] {
			h[level[i].Name] = append(h[level[i].Name], values[i])
		}
	}
}

// editedTo is the value that e gives its header in h; false: it leaves h as it is.
func (c *Call) editedTo(h http.Header, e *dataplane.HeaderEdit, r *reply) (string, bool) {
	value := c.text(&e.Value, r, "")
	_, there := h[e.Name]
	due := value != "" || e.KeepEmpty
	switch e.Action {
	case dataplane.AddIfAbsent:
		due = due && !there
	case dataplane.OverwriteIfExists:
		due = due && there
	}
	return value, due
}

// edit changes headers in order. R is the reply that they are of, nil where they are of none.
func (c *Call) edit(h http.Header, edits []dataplane.HeaderEdit, r *reply) {
	for i := range edits {
		e := &edits[i]
		if e.Action == dataplane.RemoveHeader {
			delete(h, e.Name)
			continue
		}
		value, due := c.editedTo(h, e, r)
		switch {
		case !due:
		case e.Action == dataplane.AppendHeader:
			h[e.Name] = append(h[e.Name], value)
		default:
			h[e.Name] = []string{value}
		}
	}
}
