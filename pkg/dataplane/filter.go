package dataplane

import (
	"fmt"
	"maps"
	"slices"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	adaptivev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/adaptive_concurrency/v3"
	customv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/custom_response/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	ratev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// Filter is what an HTTP filter does: one of *RateLimit, *FaultInjection, *AdaptiveConcurrency, *HeaderMutation, *CustomResponse.
type Filter any

// HTTPFilter is a filter of a listener.
type HTTPFilter struct {
	Name     string
	Disabled bool // off, unless a route says of it what is not Disabled
	Filter   Filter
}

// RouteFilter is what a route says of one of the listener's filters.
type RouteFilter struct {
	Disabled bool
	Filter   Filter // in place of the listener's; nil: as the listener has it
}

// RateLimit refuses requests beyond a rate.
type RateLimit struct {
	Place      string // where it is configured: a bucket goes on where its place and its Bucket stay
	StatPrefix string
	Bucket     Bucket   // without an Interval there is none, and nothing is limited
	Enabled    Fraction // of the requests that are counted
	Enforced   Fraction // of the requests above the rate that are refused
	Status     int
	Exhausted  bool // gRPC callers are told RESOURCE_EXHAUSTED
	Headers    bool // x-ratelimit-* on responses
	RetryAfter bool
	Response   []HeaderEdit // on refusals
	Request    []HeaderEdit // on requests above the rate that go on
}

// Bucket is a token bucket: PerFill tokens come in each Interval, up to Max.
type Bucket struct {
	Max, PerFill uint32
	Interval     time.Duration
}

// Fraction is a share of requests.
type Fraction struct{ Numerator, Denominator uint32 }

// FaultInjection delays and aborts requests that match.
type FaultInjection struct {
	Cluster   string // only on the way to it; "": any
	Headers   []resilience.HeaderMatch
	Delay     time.Duration // 0: none
	DelayOf   Fraction
	Status    int // of the abort; 0: none, or by GRPC
	GRPC      int // gRPC status of the abort where Status is 0; -1: none
	AbortOf   Fraction
	MaxActive int64 // -1: no limit
}

// AdaptiveConcurrency limits how many requests are in flight by how far latency rises.
type AdaptiveConcurrency struct {
	Place  string // where it is configured: a limit goes on where its place and its Limits stay
	Limits resilience.GradientLimits
	Status int // of refusals
	Off    bool
}

// HeaderMutation edits headers.
type HeaderMutation struct{ Request, Response []HeaderEdit }

const hundredth = 100

// filter reads the configuration of a filter; nil is a router, or what the walk has refused.
func (r *reader) filter(path string, m proto.Message) Filter {
	switch m := m.(type) {
	case *ratev3.LocalRateLimit:
		return r.rateLimit(path, m)
	case *faultv3.HTTPFault:
		return r.faultInjection(path, m)
	case *adaptivev3.AdaptiveConcurrency:
		return r.adaptive(path, m)
	case *mutationv3.HeaderMutation:
		return r.mutation(path+".mutations", m.GetMutations())
	case *mutationv3.HeaderMutationPerRoute:
		return r.mutation(path+".mutations", m.GetMutations())
	case *customv3.CustomResponse:
		return r.customResponse(path, m)
	}
	return nil
}

// routeFilters are what a route, a virtual host or a route configuration says of filters, over what the one around it says.
func (r *reader) routeFilters(path string, m map[string]*anypb.Any, around map[string]RouteFilter) map[string]RouteFilter {
	if len(m) == 0 {
		return around
	}
	out := make(map[string]RouteFilter, len(m)+len(around))
	maps.Copy(out, around)
	for _, name := range slices.Sorted(maps.Keys(m)) {
		a := m[name]
		at := fmt.Sprintf("%s.typed_per_filter_config[%q]", path, name)
		f := RouteFilter{}
		message := unpackAny(a)
		if wrapped, ok := message.(*routev3.FilterConfig); ok {
			f.Disabled = wrapped.GetDisabled()
			at += ".config"
			message = unpackAny(wrapped.GetConfig())
		}
		f.Filter = r.filter(at, message)
		if l, ok := message.(*ratev3.LocalRateLimit); ok && l.GetTokenBucket() == nil {
			r.fault(at+".token_bucket", "is missing")
		}
		out[name] = f.over(around[name])
	}
	return out
}

// over is f where outer is said around it: the inner one's word counts, but of header mutations both are done, the inner ones first.
func (f RouteFilter) over(outer RouteFilter) RouteFilter {
	if f.Filter == nil {
		f.Filter = outer.Filter
		return f
	}
	inner, ok := f.Filter.(*HeaderMutation)
	if around, both := outer.Filter.(*HeaderMutation); ok && both {
		f.Filter = &HeaderMutation{slices.Concat(inner.Request, around.Request), slices.Concat(inner.Response, around.Response)}
	}
	return f
}
