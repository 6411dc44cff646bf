package envoy

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ratev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// rateLimit is nil where there is none. It belongs on the virtual host: a route made two by a guard of methods would have two buckets.
func (in input) rateLimit() proto.Message {
	l, observed := in.limitOfRate()
	if l == nil {
		return nil
	}
	enforced, stats := always(), Outbound
	if observed {
		enforced, stats = never(), in.name+".observed" // what would be limited is told apart, by service
	}
	return &ratev3.LocalRateLimit{
		StatPrefix: stats,
		TokenBucket: &typev3.TokenBucket{
			MaxTokens: orElse(l.Burst, 1), TokensPerFill: wrapperspb.UInt32(orElse(l.Requests, 1)), FillInterval: duration(l.Interval),
		},
		FilterEnabled:  always(),
		FilterEnforced: enforced,
		// A gRPC client that is told UNAVAILABLE would come back at once.
		RateLimitedAsResourceExhausted: true,
		EnableRetryAfterHeader:         true,
	}
}

func always() *corev3.RuntimeFractionalPercent {
	return &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{Numerator: 100}}
}

var rateLimitLines = []line{
	{field: "rateLimit", on: clustersOnly, level: Unsupported, reason: "the proxy's listeners are its owner's", instead: "limits.maxRequests"},
}
