package envoy

import (
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
)

// What a message's headers may hold: as much as common servers take, so that they are the ones to refuse.
const (
	maxHeadersKiB = 1024
	maxHeaders    = 1000
)

const httpProtocolOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// message is the cluster as the target reads it.
func (in input) message() *clusterv3.Cluster {
	if in.target.audience() == grpcClients {
		return in.grpcCluster()
	}
	return in.cluster()
}

// cluster is the Cluster of the service. Any changed byte of it makes Envoy build the cluster anew, and lose its ejections, counters
// and connections. So its skeleton never changes, and it holds only what has no other carrier.
func (in input) cluster() *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name:             in.name,
		ConnectTimeout:   in.connectTimeout(),
		CircuitBreakers:  in.circuitBreakers(),
		OutlierDetection: in.outlierDetection(),
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			httpProtocolOptions: pack(in.ride(in.protocolOptions())),
		},
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{
			// Envoy's default of 1 s would delay the second ejection or health change within a second.
			UpdateMergeWindow: durationpb.New(0),
		},
	}
	if in.tcp() {
		c.TypedExtensionProtocolOptions = nil // those of HTTP
	}
	in.discover(c)
	c.TransportSocket = in.transportSocket()
	in.balance(c)
	in.checkHealth(c)
	in.hint(c)
	return c
}

// prompt reports whether c serves as soon as it has its assignment.
func prompt(c *clusterv3.Cluster) bool {
	return c.GetType() == clusterv3.Cluster_EDS && len(c.HealthChecks) == 0
}

func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}

// protocolOptions are always present: their coming and going would be a change.
func (in input) protocolOptions() *httpv3.HttpProtocolOptions {
	explicit := &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
			// Trailers of chunked messages would be dropped on their way otherwise.
			HttpProtocolOptions: &corev3.Http1ProtocolOptions{EnableTrailers: true},
		},
	}
	if in.http2() {
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
		}
	}
	return &httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout:          in.connectionIdle(),
			MaxHeadersCount:      wrapperspb.UInt32(maxHeaders),
			MaxResponseHeadersKb: wrapperspb.UInt32(maxHeadersKiB),
		},
		OutlierDetection:        in.errorMatcher(),
		HttpFilters:             in.upstreamFilters(),
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit},
	}
}
