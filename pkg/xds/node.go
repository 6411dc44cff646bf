package xds

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

const (
	dialectEnvoy = "envoy"
	dialectGRPC  = "grpc"
	dialectAgent = "agent"

	defaultOutbound = "127.0.0.1:15001"
)

// identity is who a proxy is. It is fixed for the life of a stream.
type identity struct {
	node    string // node.id
	cluster string // node.cluster, as it was sent
	version string // of the proxy, such as "1.40.0"; "" where it does not say
	key     world.ClassKey
}

// identify reads a node. Its errors are gRPC statuses that tell the operator which field is wrong.
func identify(n *corev3.Node) (identity, error) {
	if n == nil {
		return identity{}, invalid("the first request of a stream carries no node")
	}
	if n.GetId() == "" {
		return identity{}, invalid("node.id is empty")
	}
	if len(n.GetId()) > maxNameBytes || strings.ContainsFunc(n.GetId(), control) {
		return identity{}, invalid("node.id is longer than %d bytes or has control characters", maxNameBytes)
	}
	id := identity{node: n.GetId(), cluster: n.GetCluster(), version: version(n)}
	var err error
	if id.key.Service, id.key.Namespace, err = caller(n.GetCluster()); err != nil {
		return identity{}, err
	}
	if id.key.Dialect, err = dialect(n.GetUserAgentName()); err != nil {
		return identity{}, err
	}
	id.key.Tier = envoy.Tier(id.version)
	if id.key.Profile, err = profile(id.key.Dialect, n); err != nil {
		return identity{}, err
	}
	if id.key.Outbound, err = outbound(n); err != nil {
		return identity{}, err
	}
	id.key.OwnRetries = id.key.Profile == envoy.ClustersOnly && metadata(n, "retry", "") == "own"
	id.key.Runtime = metadata(n, "runtime", "") == "8"
	id.key.Edge = (id.key.Profile == envoy.Sidecar || id.key.Profile == envoy.Agent) && metadata(n, "edge", "") == "true"
	return id, nil
}

// same is an error where a later request of the stream names another node.
func (id identity) same(n *corev3.Node) error {
	switch {
	case n == nil:
		return nil // a proxy may say it once
	case n.GetId() != id.node:
		return invalid("node.id changed from %q to %q on one stream", id.node, clip(n.GetId()))
	case n.GetCluster() != id.cluster:
		return invalid("node.cluster changed from %q to %q on one stream", id.cluster, clip(n.GetCluster()))
	}
	return nil
}

// caller splits node.cluster: orders.shop is the service orders in the namespace shop, orders alone is in the default one.
func caller(cluster string) (service, namespace string, err error) {
	if cluster == "" {
		return "", "", invalid(`node.cluster is empty: it must name the calling service, as "orders.shop" or "orders"`)
	}
	service, namespace, dotted := strings.Cut(cluster, ".")
	if !dotted {
		namespace = manifest.DefaultNamespace
	}
	if !label(service) || !label(namespace) {
		return "", "", invalid(`node.cluster %q is not a service and its namespace, such as "orders.shop"`, clip(cluster))
	}
	return service, namespace, nil
}

// label reports whether s is a DNS label.
func label(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' })
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// dialect is what kind of proxy a user agent is.
func dialect(agent string) (string, error) {
	switch {
	case agent == "envoy":
		return dialectEnvoy, nil
	case strings.HasPrefix(agent, "gRPC"):
		return dialectGRPC, nil
	case agent == "breakwater-agent":
		return dialectAgent, nil
	}
	return "", invalid("node.user_agent_name %q is not known: want envoy, gRPC ... or breakwater-agent", clip(agent))
}

func version(n *corev3.Node) string {
	if v := n.GetUserAgentBuildVersion().GetVersion(); v != nil {
		return fmt.Sprintf("%d.%d.%d", v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch())
	}
	return clip(n.GetUserAgentVersion())
}

// profile is what the proxy's resources are made for: its dialect, where that leaves no choice.
func profile(dialect string, n *corev3.Node) (string, error) {
	switch dialect {
	case dialectGRPC:
		return envoy.GRPC, nil
	case dialectAgent:
		return envoy.Agent, nil
	}
	p := metadata(n, "profile", envoy.Sidecar)
	if p != envoy.Sidecar && p != envoy.ClustersOnly {
		return "", invalid("breakwater.profile %q of node.metadata is not known: want %s or %s", p, envoy.Sidecar, envoy.ClustersOnly)
	}
	return p, nil
}

// outbound is where the proxy is called. What is no address would be a class of its own that can't be built.
func outbound(n *corev3.Node) (string, error) {
	text := metadata(n, "outbound", defaultOutbound)
	if address, err := netip.ParseAddrPort(text); err != nil || address.Port() == 0 {
		return "", invalid("breakwater.outbound %q of node.metadata is not IP:PORT", text)
	}
	return text, nil
}

// metadata is the string, or the word for the truth value, at breakwater.<name> of the node's metadata, nested or with a dot in its key.
func metadata(n *corev3.Node, name, otherwise string) string {
	fields := n.GetMetadata().GetFields()
	if s := text(fields["breakwater."+name]); s != "" {
		return s
	}
	if s := text(fields["breakwater"].GetStructValue().GetFields()[name]); s != "" {
		return s
	}
	return otherwise
}

func text(v *structpb.Value) string {
	if b, ok := v.GetKind().(*structpb.Value_BoolValue); ok {
		return strconv.FormatBool(b.BoolValue)
	}
	return clip(v.GetStringValue())
}

// clip keeps what a client sends out of logs and keys in bulk.
func clip(s string) string {
	if len(s) > maxNameBytes {
		return strings.ToValidUTF8(s[:maxNameBytes], "")
	}
	return s
}
