package envoy

import (
	"encoding/hex"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// checkHealth sets the active health check, where a policy asks for one that the endpoints can be asked.
func (in input) checkHealth(c *clusterv3.Cluster) {
	h := in.sections.HealthCheck
	if h == nil || h.GRPC != nil && !in.http2() {
		return
	}
	check := &corev3.HealthCheck{
		Interval: duration(h.Interval), Timeout: duration(h.Timeout), NoTrafficInterval: duration(h.NoTrafficInterval),
		HealthyThreshold: wrap(h.HealthyThreshold), UnhealthyThreshold: wrap(h.UnhealthyThreshold),
	}
	if finite(h.Jitter) {
		check.IntervalJitter = duration(h.Jitter)
	}
	switch {
	case h.HTTP != nil:
		check.HealthChecker = &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: in.httpCheck(h.HTTP)}
	case h.GRPC != nil:
		check.HealthChecker = &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{
			ServiceName: orElse(h.GRPC.Service, ""), Authority: orElse(h.GRPC.Authority, in.host()),
		}}
	case h.TCP != nil:
		check.HealthChecker = &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: tcpCheck(h.TCP)}
	default:
		return
	}
	c.HealthChecks = []*corev3.HealthCheck{check}
	// An endpoint that is taken away goes at once. Envoy would keep it as long as it passes its checks.
	c.IgnoreHealthOnHostRemoval = true
}

// host is the name by which a service is reached from anywhere. Envoy would say the name of the cluster, which no host may have.
func (in input) host() string {
	service, _, _ := strings.Cut(in.name, "|") // without the subset
	namespace, name, _ := strings.Cut(service, "/")
	return name + "." + namespace
}

func (in input) httpCheck(h *policy.HTTPCheck) *corev3.HealthCheck_HttpHealthCheck {
	out := &corev3.HealthCheck_HttpHealthCheck{
		Path: orElse(h.Path, "/"), Host: orElse(h.Host, in.host()),
		Method: corev3.RequestMethod(corev3.RequestMethod_value[orElse(h.Method, "GET")]),
		// Without it the first answer that is not expected would take a host out, whatever the threshold.
		RetriableStatuses: []*typev3.Int64Range{{Start: firstStatus, End: endOfStatuses}},
	}
	if in.http2() {
		out.CodecClientType = typev3.CodecClientType_HTTP2
	}
	for _, s := range ranges(func(status uint32) bool { return policy.Covers(h.ExpectedStatuses, status) }) {
		out.ExpectedStatuses = append(out.ExpectedStatuses, &typev3.Int64Range{Start: int64(s.first), End: int64(s.end)})
	}
	return out
}

func tcpCheck(t *policy.TCPCheck) *corev3.HealthCheck_TcpHealthCheck {
	text := func(s string) *corev3.HealthCheck_Payload {
		return &corev3.HealthCheck_Payload{Payload: &corev3.HealthCheck_Payload_Text{Text: hex.EncodeToString([]byte(s))}}
	}
	out := &corev3.HealthCheck_TcpHealthCheck{}
	if t.Send != nil {
		out.Send = text(*t.Send)
	}
	for _, part := range t.Receive {
		out.Receive = append(out.Receive, text(part))
	}
	return out
}

var healthLines = []line{
	{field: "healthCheck.grpc", when: func(in input, _ policy.Field) bool { return !in.http2() }, level: Unsupported,
		reason: "the service does not speak HTTP/2: its hosts are not checked", instead: "healthCheck.http or healthCheck.tcp"},
	{field: "healthCheck.unhealthyThreshold", on: proxies, when: checkedByGRPC, always: true, inherent: true, level: Approximate,
		reason: "a host that answers that it does not serve is out at once; the threshold counts checks without an answer"},
}

func checkedByGRPC(in input, _ policy.Field) bool {
	return in.sections.HealthCheck != nil && in.sections.HealthCheck.GRPC != nil
}
