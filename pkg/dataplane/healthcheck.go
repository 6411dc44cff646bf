package dataplane

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

const defaultNoTraffic = time.Minute

// checks are the active health checks of a cluster, and what its hosts are beside them.
func (r *reader) checks(path string, c *clusterv3.Cluster, out *Cluster) {
	names := make(map[string]bool)
	for i, check := range c.GetHealthChecks() {
		at := fmt.Sprintf("%s.health_checks[%d]", path, i)
		out.Checks = append(out.Checks, r.check(at, check, out))
		if len(c.GetHealthChecks()) == 1 {
			break
		}
		if check.GetName() == "" || names[check.GetName()] {
			r.fault(at+".name", "is empty or there twice; each of several checks has its own")
		}
		names[check.GetName()], out.Checks[i].Name = true, check.GetName()
	}
	if len(out.Checks) == 0 {
		return
	}
	if out.Members != nil {
		r.fault(path+".health_checks", "are not for a cluster of other clusters")
	}
	out.PendingFirst = c.GetCommonLbConfig().GetIgnoreNewHostsUntilFirstHc()
	out.KeepPassing = c.GetType() == clusterv3.Cluster_EDS && !c.GetIgnoreHealthOnHostRemoval()
}

func (r *reader) check(path string, c *corev3.HealthCheck, cluster *Cluster) *HealthCheck {
	out := &HealthCheck{Reuse: c.GetReuseConnection() == nil || c.GetReuseConnection().GetValue(), Check: timesOf(c)}
	switch h := c.GetHealthChecker().(type) {
	case *corev3.HealthCheck_HttpHealthCheck_:
		out.HTTP = r.httpCheck(path+".http_health_check", h.HttpHealthCheck)
	case *corev3.HealthCheck_GrpcHealthCheck_:
		at, g := path+".grpc_health_check", h.GrpcHealthCheck
		if !cluster.HTTP2 {
			r.fault(at, "is for clusters that speak HTTP/2")
		}
		out.GRPC = &GRPCCheck{Service: g.GetServiceName(), Authority: g.GetAuthority(), Header: r.headerFields(at+".initial_metadata", g.GetInitialMetadata())}
	case *corev3.HealthCheck_TcpHealthCheck_:
		out.TCP = r.tcpCheck(path+".tcp_health_check", h.TcpHealthCheck)
	default:
		r.notEnforced(path)
	}
	return out
}

func timesOf(c *corev3.HealthCheck) resilience.Check {
	ms := func(d *durationpb.Duration, def time.Duration) time.Duration {
		return orDuration(d, def).Truncate(time.Millisecond)
	}
	out := resilience.Check{
		Timeout: ms(c.GetTimeout(), 0), Interval: ms(c.GetInterval(), 0), NoTraffic: ms(c.GetNoTrafficInterval(), defaultNoTraffic),
		InitialJitter: ms(c.GetInitialJitter(), 0), IntervalJitter: ms(c.GetIntervalJitter(), 0), JitterPercent: c.GetIntervalJitterPercent(),
		HealthyThreshold: c.GetHealthyThreshold().GetValue(), UnhealthyThreshold: c.GetUnhealthyThreshold().GetValue(),
	}
	out.HealthyEdge = ms(c.GetHealthyEdgeInterval(), out.Interval)
	out.Unhealthy = ms(c.GetUnhealthyInterval(), out.Interval)
	out.UnhealthyEdge = ms(c.GetUnhealthyEdgeInterval(), out.Unhealthy)
	out.NoTrafficHealthy = ms(c.GetNoTrafficHealthyInterval(), out.NoTraffic)
	return out
}

func (r *reader) httpCheck(path string, c *corev3.HealthCheck_HttpHealthCheck) *HTTPCheck {
	out := &HTTPCheck{
		Method: c.GetMethod().String(), Path: c.GetPath(), Host: c.GetHost(), HTTP2: c.GetCodecClientType() == typev3.CodecClientType_HTTP2,
		Header:    r.headerFields(path+".request_headers_to_add", c.GetRequestHeadersToAdd()),
		Expected:  r.statuses(path+".expected_statuses", c.GetExpectedStatuses()),
		Retriable: r.statuses(path+".retriable_statuses", c.GetRetriableStatuses()),
	}
	if c.GetMethod() == corev3.RequestMethod_METHOD_UNSPECIFIED {
		out.Method = "GET"
	}
	if c.GetCodecClientType() == typev3.CodecClientType_HTTP3 {
		r.notEnforced(path + ".codec_client_type")
	}
	if len(out.Expected) == 0 {
		out.Expected = []StatusRange{{200, 201}}
	}
	if m := c.GetServiceNameMatcher(); m != nil {
		out.Service = &resilience.HeaderMatch{Name: "x-envoy-upstream-healthchecked-cluster", TreatMissingAsEmpty: true}
		r.stringMatch(path+".service_name_matcher", m, out.Service)
	}
	return out
}

func (r *reader) statuses(path string, list []*typev3.Int64Range) []StatusRange {
	var out []StatusRange
	for i, s := range list {
		if s.GetStart() < 100 || s.GetEnd() > 600 || s.GetStart() >= s.GetEnd() {
			r.fault(fmt.Sprintf("%s[%d]", path, i), "is no range of statuses from 100 to 600")
			continue
		}
		out = append(out, StatusRange{int32(s.GetStart()), int32(s.GetEnd())})
	}
	return out
}

// headerFields takes what says the same in every check.
func (r *reader) headerFields(path string, list []*corev3.HeaderValueOption) []HeaderField {
	var out []HeaderField
	for i, o := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		if strings.Contains(o.GetHeader().GetValue(), "%") {
			r.fault(at+".header.value", "with a %% is not enforced by this agent")
		}
		if strings.HasPrefix(o.GetHeader().GetKey(), ":") || strings.EqualFold(o.GetHeader().GetKey(), "host") {
			r.fault(at+".header.key", "%q can't be added", o.GetHeader().GetKey())
		}
		if o.GetHeader().GetValue() != "" {
			out = append(out, HeaderField{strings.ToLower(o.GetHeader().GetKey()), o.GetHeader().GetValue()})
		}
	}
	return out
}

func (r *reader) tcpCheck(path string, c *corev3.HealthCheck_TcpHealthCheck) *TCPCheck {
	out := &TCPCheck{Send: r.hexBytes(path+".send.text", c.GetSend().GetText())}
	for i, p := range c.GetReceive() {
		part := p.GetBinary()
		if p.GetText() != "" {
			part = r.hexBytes(fmt.Sprintf("%s.receive[%d].text", path, i), p.GetText())
		}
		out.Receive = append(out.Receive, part)
	}
	return out
}

func (r *reader) hexBytes(path, text string) []byte {
	b, err := hex.DecodeString(text)
	if err != nil {
		r.fault(path, "is not hexadecimal")
	}
	return b
}

// checkOf is how one endpoint is checked.
func (r *reader) checkOf(path string, e *endpointv3.Endpoint, h *Host) {
	c := e.GetHealthCheckConfig()
	h.CheckHostname, h.Unchecked = c.GetHostname(), c.GetDisableActiveHealthCheck()
	if c.GetAddress() != nil {
		h.CheckAddress = r.address(path+".address", c.GetAddress())
	}
	switch port := c.GetPortValue(); {
	case port > 65535:
		r.fault(path+".port_value", "is more than 65535")
	case port > 0:
		at := h.Address
		if h.CheckAddress.IsValid() {
			at = h.CheckAddress
		}
		h.CheckAddress = netip.AddrPortFrom(at.Addr(), uint16(port))
	}
}
