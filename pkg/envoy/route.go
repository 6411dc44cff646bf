package envoy

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// routeConfiguration holds the routes of the service; scopes lead to it by host, so it takes every domain. An edit of it acts in
// place.
func (in input) routeConfiguration() *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{
		Name: in.name,
		VirtualHosts: []*routev3.VirtualHost{{
			Name:    in.name,
			Domains: []string{"*"},
			Routes:  in.routes(),
		}},
	}
}

// routes are the catch-all, in two where only some methods may be sent twice: the second takes the other methods.
func (in input) routes() []*routev3.Route {
	all := []*routev3.Route{in.route(in.retryPolicy())}
	methods := in.retriedMethods()
	if methods == nil {
		return all
	}
	guarded := in.guardedRetryPolicy()
	if proto.Equal(guarded, in.retryPolicy()) {
		return all // nothing is retried that a host may have begun on
	}
	all[0].Match.Headers = []*routev3.HeaderMatcher{methodMatcher(methods)}
	return append(all, in.route(guarded))
}

func (in input) route(retry *routev3.RetryPolicy) *routev3.Route {
	action := &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: in.name},
		RetryPolicy:      retry,
	}
	in.addTimeouts(action)
	route := &routev3.Route{
		Name:   "default",
		Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_Route{Route: action},
	}
	if r := in.sections.Retry; r != nil && r.BufferBytes != nil {
		route.RequestBodyBufferLimit = wrapperspb.UInt64(uint64(*r.BufferBytes))
	}
	return route
}

// methodMatcher matches requests of one of methods, which are plain upper-case words.
func methodMatcher(methods []string) *routev3.HeaderMatcher {
	match := exactly(methods[0])
	if len(methods) > 1 {
		match = &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
			SafeRegex: &matcherv3.RegexMatcher{Regex: strings.Join(methods, "|")},
		}}
	}
	return &routev3.HeaderMatcher{Name: ":method", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: match}}
}
