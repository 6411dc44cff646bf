package dataplane

import (
	"math"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	compositev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/composite/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3" // clusters pack it
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Envoy's defaults of a cluster.
const (
	defaultConnectTimeout = 5 * time.Second
	defaultIdleTimeout    = time.Hour
	defaultMaxHeaders     = 100
	defaultMaxHeadersKiB  = 60
)

// clusterPiece is a cluster without what other resources say of it.
type clusterPiece struct {
	cluster Cluster
	balance balance
	eds     string      // name of its assignment; "" where it has none
	named   *assignment // hosts that are found by name; nil: they are not
}

func (r *reader) cluster(path string, c *clusterv3.Cluster) *clusterPiece {
	p := &clusterPiece{cluster: Cluster{
		Name:           c.GetName(),
		ConnectTimeout: orDuration(c.GetConnectTimeout(), defaultConnectTimeout),
		IdleTimeout:    defaultIdleTimeout,
		HTTP2:          c.GetHttp2ProtocolOptions() != nil, // other servers still say it so
		MaxHeaders:     defaultMaxHeaders,
		MaxHeadersKiB:  defaultMaxHeadersKiB,
		Thresholds:     r.thresholds(path+".circuit_breakers", c.GetCircuitBreakers()),
		Outlier:        r.outlier(path+".outlier_detection", c.GetOutlierDetection(), c.GetMetadata()),
	}}
	p.cluster.ObservedRequests = observedRequests(c.GetMetadata())
	p.balance = r.balancing(path, c)
	p.cluster.Balancing = p.balance.Balancing
	for _, t := range c.GetCircuitBreakers().GetPerHostThresholds() {
		if t.GetMaxConnections() != nil {
			p.cluster.PerHostMaxConnections = t.GetMaxConnections().GetValue()
		}
	}
	r.discovery(path, c, p)
	p.cluster.TLS = r.upstreamTLS(path+".transport_socket", c.GetTransportSocket())
	if a := c.GetTypedExtensionProtocolOptions()[httpProtocolOptions]; a != nil {
		r.protocolOptions(path+".typed_extension_protocol_options["+`"`+httpProtocolOptions+`"]`, unpack[*httpv3.HttpProtocolOptions](a), &p.cluster, observesAdmission(c.GetMetadata()))
	}
	r.checks(path, c, &p.cluster)
	return p
}

// discovery is where the hosts of a cluster come from.
func (r *reader) discovery(path string, c *clusterv3.Cluster, p *clusterPiece) {
	if custom := c.GetClusterType(); custom != nil {
		if d, ok := unpackAny(custom.GetTypedConfig()).(*dnsv3.DnsCluster); ok {
			r.dnsCluster(path+".cluster_type.typed_config", c, d, p)
			return
		}
		switch m := unpackAny(custom.GetTypedConfig()).(type) {
		case *compositev3.ClusterConfig:
			for _, member := range m.GetClusters() {
				p.cluster.Members = append(p.cluster.Members, member.GetName())
			}
		case *aggregatev3.ClusterConfig:
			p.cluster.Aggregate, p.cluster.Members = true, m.GetClusters()
		}
		if len(p.cluster.Members) == 0 {
			r.fault(path+".cluster_type", "names no clusters")
		}
		for _, m := range p.cluster.Members {
			r.need(view.CDS, m)
		}
		return
	}
	if c.GetType() != clusterv3.Cluster_EDS && c.GetEdsClusterConfig() != nil {
		r.fault(path+".eds_cluster_config", "is not for a cluster of type %v", c.GetType())
	}
	switch c.GetType() {
	case clusterv3.Cluster_EDS:
		if c.GetEdsClusterConfig().GetEdsConfig() == nil {
			r.fault(path+".eds_cluster_config.eds_config", "is missing")
		}
		if c.GetLoadAssignment() != nil {
			r.fault(path+".load_assignment", "is not for a cluster of type EDS")
		}
		p.eds = c.GetEdsClusterConfig().GetServiceName()
		if p.eds == "" {
			p.eds = c.GetName()
		}
		r.need(view.EDS, p.eds)
	case clusterv3.Cluster_STATIC:
		a := r.hosts(path+".load_assignment", c.GetLoadAssignment())
		a.give(p, &p.cluster)
	case clusterv3.Cluster_STRICT_DNS, clusterv3.Cluster_LOGICAL_DNS:
		r.oldDNS(path, c, p)
	default:
		r.fault(path+".type", "%v is not enforced by this agent", c.GetType())
	}
}

func (r *reader) protocolOptions(path string, o *httpv3.HttpProtocolOptions, c *Cluster, observes bool) {
	common := o.GetCommonHttpProtocolOptions()
	c.IdleTimeout = orDuration(common.GetIdleTimeout(), defaultIdleTimeout)
	c.MaxStream = common.GetMaxStreamDuration().AsDuration()
	c.MaxHeaders = orValue(common.GetMaxHeadersCount(), c.MaxHeaders)
	c.MaxHeadersKiB = orValue(common.GetMaxResponseHeadersKb(), c.MaxHeadersKiB)
	r.protocol(path, o, c)
	c.AutoSNI, c.AutoSAN = o.GetUpstreamHttpProtocolOptions().GetAutoSni(), o.GetUpstreamHttpProtocolOptions().GetAutoSanValidation()
	c.Admission = r.upstreamFilters(path+".http_filters", o.GetHttpFilters(), observes)
	if m := o.GetOutlierDetection().GetErrorMatcher(); m != nil {
		c.Errors = r.predicate(path+".outlier_detection.error_matcher", m)
	}
	if o.GetRetryPolicy() != nil {
		c.Retry = r.retry(path+".retry_policy", o.GetRetryPolicy())
		// Envoy takes neither from here: the route's hold.
		c.Retry.PerTryTimeout, c.Retry.PerTryIdleTimeout = 0, 0
	}
}

// protocol is what hosts are spoken to in.
func (r *reader) protocol(path string, o *httpv3.HttpProtocolOptions, c *Cluster) {
	switch p := o.GetUpstreamProtocolOptions().(type) {
	case *httpv3.HttpProtocolOptions_ExplicitHttpConfig_:
		c.HTTP2 = p.ExplicitHttpConfig.GetHttp2ProtocolOptions() != nil
		c.Trailers = p.ExplicitHttpConfig.GetHttpProtocolOptions().GetEnableTrailers()
	case *httpv3.HttpProtocolOptions_AutoConfig:
		c.Trailers = p.AutoConfig.GetHttpProtocolOptions().GetEnableTrailers()
		if c.AutoHTTP = true; c.TLS == nil {
			r.fault(path+".auto_config", "needs a transport_socket that negotiates the protocol")
		}
	case *httpv3.HttpProtocolOptions_UseDownstreamProtocolConfig:
		c.HTTPAsCaller = true
		c.Trailers = p.UseDownstreamProtocolConfig.GetHttpProtocolOptions().GetEnableTrailers()
	default:
		r.fault(path+".explicit_http_config", "is missing, and so is what could stand for it")
	}
}

// unpackAny is the message in a, nil where there is none. That it can be read, walk has found out.
func unpackAny(a *anypb.Any) proto.Message {
	m, err := a.UnmarshalNew()
	if err != nil {
		return nil
	}
	return m
}

// unpack is the M in a, or the nil of M.
func unpack[M proto.Message](a *anypb.Any) M {
	m, _ := unpackAny(a).(M)
	return m
}

func orDuration(d *durationpb.Duration, def time.Duration) time.Duration {
	if d == nil {
		return def
	}
	return d.AsDuration()
}

func orValue(v *wrapperspb.UInt32Value, def uint32) uint32 {
	if v == nil {
		return def
	}
	return v.GetValue()
}

func clamp32(v uint64) uint32 { return uint32(min(v, math.MaxUint32)) }
