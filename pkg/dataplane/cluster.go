package dataplane

import (
	"math"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	compositev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/composite/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3" // clusters pack it
	leastv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	roundv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Envoy's defaults of a cluster.
const (
	defaultConnectTimeout = 5 * time.Second
	defaultIdleTimeout    = time.Hour
	defaultPanicThreshold = 50
	defaultChoiceCount    = 2
	defaultMaxHeaders     = 100
	defaultMaxHeadersKiB  = 60
)

// clusterPiece is a cluster without what other resources say of it.
type clusterPiece struct {
	cluster Cluster
	eds     string // name of its assignment; "" where it has none
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
		Outlier:        r.outlier(path+".outlier_detection", c.GetOutlierDetection()),
		Balancing:      r.balancing(path, c),
	}}
	for _, t := range c.GetCircuitBreakers().GetPerHostThresholds() {
		if t.GetMaxConnections() != nil {
			p.cluster.PerHostMaxConnections = t.GetMaxConnections().GetValue()
		}
	}
	r.discovery(path, c, p)
	p.cluster.TLS = r.upstreamTLS(path+".transport_socket", c.GetTransportSocket())
	if a := c.GetTypedExtensionProtocolOptions()[httpProtocolOptions]; a != nil {
		r.protocolOptions(path+".typed_extension_protocol_options["+`"`+httpProtocolOptions+`"]`, unpack[*httpv3.HttpProtocolOptions](a), &p.cluster)
	}
	return p
}

// discovery is where the hosts of a cluster come from.
func (r *reader) discovery(path string, c *clusterv3.Cluster, p *clusterPiece) {
	if custom := c.GetClusterType(); custom != nil {
		members := unpack[*compositev3.ClusterConfig](custom.GetTypedConfig()).GetClusters()
		if len(members) == 0 {
			r.fault(path+".cluster_type", "names no clusters")
		}
		for _, m := range members {
			p.cluster.Members = append(p.cluster.Members, m.GetName())
			r.need(view.CDS, m.GetName())
		}
		return
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
		p.cluster.Hosts, p.cluster.DropPercent = a.hosts, a.drop
	default:
		r.fault(path+".type", "%v is not enforced by this agent", c.GetType())
	}
}

func (r *reader) protocolOptions(path string, o *httpv3.HttpProtocolOptions, c *Cluster) {
	common := o.GetCommonHttpProtocolOptions()
	c.IdleTimeout = orDuration(common.GetIdleTimeout(), defaultIdleTimeout)
	c.MaxStream = common.GetMaxStreamDuration().AsDuration()
	c.MaxHeaders = orValue(common.GetMaxHeadersCount(), c.MaxHeaders)
	c.MaxHeadersKiB = orValue(common.GetMaxResponseHeadersKb(), c.MaxHeadersKiB)
	r.protocol(path, o, c)
	c.AutoSNI, c.AutoSAN = o.GetUpstreamHttpProtocolOptions().GetAutoSni(), o.GetUpstreamHttpProtocolOptions().GetAutoSanValidation()
	c.Admission = r.upstreamFilters(path+".http_filters", o.GetHttpFilters())
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
	case *httpv3.HttpProtocolOptions_AutoConfig:
		if c.AutoHTTP = true; c.TLS == nil {
			r.fault(path+".auto_config", "needs a transport_socket that negotiates the protocol")
		}
	case *httpv3.HttpProtocolOptions_UseDownstreamProtocolConfig:
		c.HTTPAsCaller = true
	default:
		r.fault(path+".explicit_http_config", "is missing, and so is what could stand for it")
	}
}

func (r *reader) balancing(path string, c *clusterv3.Cluster) resilience.Balancing {
	b := resilience.Balancing{PanicThreshold: defaultPanicThreshold}
	if lb := c.GetCommonLbConfig(); lb != nil {
		if lb.GetHealthyPanicThreshold() != nil {
			b.PanicThreshold = uint32(lb.GetHealthyPanicThreshold().GetValue())
		}
		b.FailTrafficOnPanic = lb.GetZoneAwareLbConfig().GetFailTrafficOnPanic()
	}
	if c.GetLoadBalancingPolicy() != nil {
		r.balancingPolicy(path+".load_balancing_policy", c.GetLoadBalancingPolicy(), &b)
		return b
	}
	switch c.GetLbPolicy() {
	case clusterv3.Cluster_ROUND_ROBIN:
	case clusterv3.Cluster_LEAST_REQUEST:
		b.Algorithm = resilience.LeastRequest
		b.ChoiceCount = orValue(c.GetLeastRequestLbConfig().GetChoiceCount(), defaultChoiceCount)
	case clusterv3.Cluster_RANDOM:
		b.Algorithm = resilience.Random
	case clusterv3.Cluster_CLUSTER_PROVIDED:
		if c.GetClusterType() == nil {
			r.fault(path+".lb_policy", "CLUSTER_PROVIDED is for clusters of other clusters")
		}
	default:
		r.fault(path+".lb_policy", "%v is not enforced by this agent", c.GetLbPolicy())
	}
	return b
}

// balancingPolicy takes the first policy, as Envoy does where it knows it.
func (r *reader) balancingPolicy(path string, p *clusterv3.LoadBalancingPolicy, b *resilience.Balancing) {
	if len(p.GetPolicies()) == 0 {
		r.fault(path+".policies", "is empty")
		return
	}
	switch m := unpackAny(p.GetPolicies()[0].GetTypedExtensionConfig().GetTypedConfig()).(type) {
	case *roundv3.RoundRobin:
	case *leastv3.LeastRequest:
		b.Algorithm, b.ChoiceCount = resilience.LeastRequest, orValue(m.GetChoiceCount(), defaultChoiceCount)
	case *randomv3.Random:
		b.Algorithm = resilience.Random
	default:
		r.notEnforced(path + ".policies[0]")
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
