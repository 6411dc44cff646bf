package envoy

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	customv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/custom_response/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	ratev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

// The filters that routes configure, by the name under which a route speaks of them.
const (
	fallbackFilter  = "breakwater.fallback"
	rateLimitFilter = "breakwater.rate-limit"
	deadlineFilter  = "breakwater.deadline"
	floorFilter     = "breakwater.deadline-floor"
)

// httpFilters are all filters that any policy needs. Each does nothing until a route configures it, so that no edit of a policy touches
// the listener, which would drain the application's connections. Their order is that of a request:
//
//   - the fixed response of a fallback is outermost, so that it stands in for whatever the others answer;
//   - what is over the rate goes no further;
//   - the deadline is written, and a request without time left ends at the floor;
//   - own are filters that have no configuration by route, one for each service that needs one; they count only what is sent on;
//   - the application's x-forwarded-proto comes back last, when nothing looks at it any more.
func httpFilters(own ...Filter) []*hcmv3.HttpFilter {
	list := []*hcmv3.HttpFilter{
		httpFilter(fallbackFilter, &customv3.CustomResponse{}),
		httpFilter(rateLimitFilter, &ratev3.LocalRateLimit{StatPrefix: Outbound}),
		httpFilter(deadlineFilter, &mutationv3.HeaderMutation{}),
		httpFilter(floorFilter, &faultv3.HTTPFault{}),
	}
	for _, f := range own {
		list = append(list, f.config)
	}
	return append(list,
		httpFilter("envoy.filters.http.header_mutation", restoreForwardedProto()),
		httpFilter("envoy.filters.http.router", &routerv3.Router{SuppressEnvoyHeaders: true}))
}

func httpFilter(name string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(config)}}
}

// configured are the filters that a route, or the virtual host, configures, by their names; nil where there are none.
type configured map[string]*anypb.Any

// add leaves a filter without configuration alone.
func (c *configured) add(filter string, config proto.Message) {
	if config == nil {
		return
	}
	if *c == nil {
		*c = make(configured)
	}
	(*c)[filter] = pack(config)
}

// hostFilters are what a virtual host says of filters: what all its routes share.
func (in input) hostFilters() configured {
	var c configured
	c.add(rateLimitFilter, in.rateLimit())
	if in.sections.AdaptiveConcurrency != nil {
		c.add(in.adaptiveName(), &routev3.FilterConfig{Config: &anypb.Any{}}) // no more than: switched on
	}
	return c
}

// routeFilters are what a route says of filters beside its virtual host, which stands for whole.
func (in input) routeFilters(whole input) configured {
	var c configured
	c.add(fallbackFilter, in.fallbackResponse())
	c.add(deadlineFilter, in.deadlineMutations())
	c.add(floorFilter, in.deadlineFloor())
	if own := in.rateLimit(); !proto.Equal(own, whole.rateLimit()) {
		if own == nil {
			own = &routev3.FilterConfig{Disabled: true}
		}
		c.add(rateLimitFilter, own)
	}
	return c
}
