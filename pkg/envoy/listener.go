package envoy

import (
	"fmt"
	"math"
	"net/netip"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Outbound is the name of the listener that applications call.
const Outbound = "outbound"

// Listener takes the application's HTTP calls at outbound, an "ip:port", and routes them by :authority through the scopes. Every HTTP
// filter is in it from the first day, so that no policy edit touches it; but for own, those of services that need one of their own. An
// error means that outbound is no address.
func Listener(t Target, outbound string, own ...Filter) (*view.Resource, error) {
	address, err := netip.ParseAddrPort(outbound)
	if err != nil {
		return nil, fmt.Errorf("outbound address: %w", err)
	}
	if address.Port() == 0 {
		return nil, fmt.Errorf("outbound address %s: the port is missing", outbound)
	}
	return t.resource(view.LDS, Outbound, &listenerv3.Listener{
		Name:    Outbound,
		Address: socketAddress(address),
		// A second proxy on the same address must fail to bind, and say so, instead of taking half of the first one's calls.
		EnableReusePort: wrapperspb.Bool(false),
		FilterChains: []*listenerv3.FilterChain{{
			Filters: []*listenerv3.Filter{{
				Name:       "envoy.filters.network.http_connection_manager",
				ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(connectionManager(t.Edge, own))},
			}},
		}},
	})
}

// connectionManager is transparent: without a policy the application and the service see what they would see of each other without
// a proxy. Each setting was found on a real Envoy 1.40, by looking at both ends. What Envoy does all the same: it writes the names of
// HTTP/1 headers in lower case (to keep theirs would cost every request), says "content-length: 0" of a request without a body other
// than GET and HEAD, adds a date to a response without one, drops a referer that is no URL, and refuses methods that no standard
// names (the setting against that is not stable yet).
func connectionManager(edge bool, own []Filter) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix: Outbound,
		CodecType:  hcmv3.HttpConnectionManager_AUTO, // HTTP/1.1, h2c and gRPC by the first bytes
		RouteSpecifier: &hcmv3.HttpConnectionManager_ScopedRoutes{ScopedRoutes: &hcmv3.ScopedRoutes{
			Name:            Outbound,
			ScopeKeyBuilder: authorityWithoutPort(),
			RdsConfigSource: ads(),
			ConfigSpecifier: &hcmv3.ScopedRoutes_ScopedRds{ScopedRds: &hcmv3.ScopedRds{ScopedRdsConfigSource: ads()}},
		}},
		HttpFilters:      httpFilters(own...),
		LocalReplyConfig: localReplies(),
		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{{
			Name:        "envoy.http.early_header_mutation.header_mutation",
			TypedConfig: pack(&earlyv3.HeaderMutation{Mutations: arrivingHeaders(edge)}),
		}},

		// No header comes or goes. Not using the remote address adds neither x-forwarded-for nor x-envoy-external-address, and lets
		// x-request-id pass; with no address internal, no x-envoy-internal either, whatever x-forwarded-for the application sends.
		UseRemoteAddress:           wrapperspb.Bool(false),
		InternalAddressConfig:      &hcmv3.HttpConnectionManager_InternalAddressConfig{CidrRanges: nowhere()},
		GenerateRequestId:          wrapperspb.Bool(false),
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
		ForwardClientCertDetails:   hcmv3.HttpConnectionManager_ALWAYS_FORWARD_ONLY,
		Proxy_100Continue:          true,

		NormalizePath:                wrapperspb.Bool(false),
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_KEEP_UNCHANGED,

		// No limit in time but those of policies; and on headers, Envoy's 60 KiB and 100 would be tighter than most servers.
		StreamIdleTimeout:   durationpb.New(0),
		RequestTimeout:      durationpb.New(0),
		MaxRequestHeadersKb: wrapperspb.UInt32(maxHeadersKiB),
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout:     durationpb.New(0),
			MaxHeadersCount: wrapperspb.UInt32(maxHeaders),
		},

		HttpProtocolOptions: &corev3.Http1ProtocolOptions{
			AllowAbsoluteUrl: wrapperspb.Bool(true), // for applications that are given the sidecar as their HTTP_PROXY
			AcceptHttp_10:    true,
			EnableTrailers:   true,
		},
		// An application may hold all its streams on one connection.
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{MaxConcurrentStreams: wrapperspb.UInt32(math.MaxInt32)},
		UpgradeConfigs:       []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
	}
}

// authorityWithoutPort makes the scope key.
func authorityWithoutPort() *hcmv3.ScopedRoutes_ScopeKeyBuilder {
	return &hcmv3.ScopedRoutes_ScopeKeyBuilder{Fragments: []*hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder{{
		Type: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_{
			HeaderValueExtractor: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor{
				Name:             ":authority",
				ElementSeparator: ":",
				ExtractType:      &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_Index{Index: 0},
			},
		},
	}}}
}

// Envoy sets x-forwarded-proto on every request that has none. So the application's own is put aside on arrival, and put back, or
// the header removed, before the request leaves.
const (
	forwardedProto = "x-forwarded-proto"
	setAside       = "x-breakwater-forwarded-proto"
)

// arrivingHeaders drops the application's x-envoy- headers, with which it could steer Envoy, before anything looks at them; at the edge
// also the deadline of a chain, which begins there.
func arrivingHeaders(edge bool) []*mutationv3.HeaderMutation {
	envoyHeaders := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "x-envoy-"}}
	list := []*mutationv3.HeaderMutation{
		{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{
			RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{KeyMatcher: envoyHeaders},
		}},
		removeHeader(setAside),
		copyHeader(forwardedProto, setAside),
	}
	if edge {
		list = append(list, removeHeader(budgetHeader), removeHeader(deadlineHeader))
	}
	return list
}

func restoreForwardedProto() *filterv3.HeaderMutation {
	return &filterv3.HeaderMutation{Mutations: &filterv3.Mutations{RequestMutations: []*mutationv3.HeaderMutation{
		removeHeader(forwardedProto),
		copyHeader(setAside, forwardedProto),
		removeHeader(setAside),
	}}}
}

func removeHeader(name string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}}
}

// copyHeader does nothing where from is absent.
func copyHeader(from, to string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: overwrite(to, "%REQ("+from+")%")}}
}

// nowhere is a range that no peer's address is in. An empty list would mean the private networks.
func nowhere() []*corev3.CidrRange {
	return []*corev3.CidrRange{{AddressPrefix: "255.255.255.255", PrefixLen: wrapperspb.UInt32(32)}}
}
