package engine

import (
	"context"
	"net/http"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
)

// step is one filter's part in one call.
type step interface {
	// request sees the request on its way to the router. A reply ends the call there.
	request(ctx context.Context, c *Call) *reply
	// response sees the head of the answer; the last filter comes first. A reply takes the answer's place, and no filter sees it.
	response(c *Call, status int, h http.Header) *reply
	// end is the end of the call. Whole says that its own answer was brought to the end.
	end(whole bool)
}

// noStep does nothing.
type noStep struct{}

func (noStep) request(context.Context, *Call) *reply   { return nil }
func (noStep) response(*Call, int, http.Header) *reply { return nil }
func (noStep) end(bool)                                {}

// filter takes the request through the filters of its listener. True means that one of them has answered.
func (c *Call) filter(ctx context.Context) bool {
	for i := range c.http.Filters {
		if s := c.step(&c.http.Filters[i]); s != nil {
			c.steps = append(c.steps, s)
		}
	}
	for _, s := range c.steps {
		if r := s.request(ctx, c); r != nil {
			c.early = new(c.local(r))
		}
		if c.early != nil {
			return true
		}
	}
	return false
}

// step is the part of f in the call, nil where it has none.
func (c *Call) step(f *dataplane.HTTPFilter) step {
	disabled := f.Disabled
	var said dataplane.RouteFilter
	if c.route != nil && c.route.Filters != nil {
		var ok bool
		if said, ok = c.route.Filters[f.Name]; ok {
			disabled = said.Disabled
		}
	}
	if disabled {
		return nil
	}
	switch own := f.Filter.(type) {
	case *dataplane.RateLimit:
		return c.rateStep(orSaid(own, said))
	case *dataplane.FaultInjection:
		return c.faultStep(orSaid(own, said))
	case *dataplane.AdaptiveConcurrency:
		return c.adaptiveStep(own)
	case *dataplane.HeaderMutation:
		route, _ := said.Filter.(*dataplane.HeaderMutation)
		return mutate(own, route)
	case *dataplane.CustomResponse:
		return customStep(orSaid(own, said))
	}
	return nil
}

// orSaid is what a route says in place of own. Something of another filter it does not heed, as Envoy does not.
func orSaid[T any](own *T, said dataplane.RouteFilter) *T {
	if other, ok := said.Filter.(*T); ok {
		return other
	}
	return own
}

// filterStates are what the filters of a table keep from call to call. It is immutable.
type filterStates struct {
	limits    map[*dataplane.RateLimit]*rateLimit
	gradients map[*dataplane.AdaptiveConcurrency]*gradient
}

// adoptFilters keeps what goes on at the same place with the same numbers, begins what is new, and ends what t does not name.
func (e *Engine) adoptFilters(t *dataplane.Table) filterStates {
	next := filterStates{map[*dataplane.RateLimit]*rateLimit{}, map[*dataplane.AdaptiveConcurrency]*gradient{}}
	for _, config := range limitsOf(t) {
		next.limits[config] = e.adoptLimit(config)
	}
	for _, l := range t.Listeners {
		if l.HTTP == nil {
			continue
		}
		for _, f := range l.HTTP.Filters {
			switch config := f.Filter.(type) {
			case *dataplane.AdaptiveConcurrency:
				next.gradients[config] = e.adoptGradient(config, l.HTTP.StatPrefix)
			case *dataplane.FaultInjection:
				e.faultStats(l.HTTP.StatPrefix)
			}
		}
	}
	e.limits = make(map[string]*rateLimit, len(next.limits))
	for config, l := range next.limits {
		e.limits[config.Place] = l
	}
	old := e.gradients
	e.gradients = make(map[string]*gradient, len(next.gradients))
	for config, g := range next.gradients {
		e.gradients[config.Place] = g
	}
	for place, g := range old {
		if e.gradients[place] != g {
			g.close()
		}
	}
	return next
}

// limitsOf are all rate limits of a table.
func limitsOf(t *dataplane.Table) []*dataplane.RateLimit {
	var all []*dataplane.RateLimit
	for _, routes := range t.Routes {
		all = append(all, routes.Limits...)
	}
	for _, l := range t.Listeners {
		if l.HTTP == nil {
			continue
		}
		if l.HTTP.Routes != nil {
			all = append(all, l.HTTP.Routes.Limits...)
		}
		for _, f := range l.HTTP.Filters {
			if limit, ok := f.Filter.(*dataplane.RateLimit); ok {
				all = append(all, limit)
			}
		}
	}
	return all
}

// hits reports whether chance picks a request of f.
func hits(f dataplane.Fraction, rnd func() uint64) bool {
	switch f.Numerator {
	case 0:
		return false
	case f.Denominator:
		return true
	}
	return rnd()%uint64(f.Denominator) < uint64(f.Numerator)
}
