package envoy

import (
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// The profiles: what the proxies of a target are, and so which resources they get.
const (
	Sidecar      = "sidecar"       // an Envoy whose listeners, routes, clusters, endpoints and limits are ours
	ClustersOnly = "clusters-only" // an Envoy with routes of its own: clusters and endpoints are ours
	GRPC         = "grpc"          // a proxyless gRPC client
	Agent        = "agent"         // breakwater-agent: a sidecar's resources, and hints for what Envoy can't do
)

// Profiles are all there are, in the order in which they are shown.
func Profiles() []string { return []string{Sidecar, ClustersOnly, GRPC, Agent} }

// Vintage is the newest form of its output that this compiler knows. A release that makes other bytes of the same policies makes them for
// its own vintage alone, and goes on making those of the vintages before: which one is made is agreed on in the store, and raised once every
// replica knows it. So replicas of two releases never answer one proxy with different bytes.
const Vintage = 1

// Target is what the proxies of one tier can take.
type Target struct {
	Vintage int    // of the output
	Profile string // one of the profiles; anything else is a sidecar
	Version string // tier of the proxy's version, such as "1.40"
	Runtime bool   // the proxy has our runtime layers, so limits change in place; else they live in the Cluster

	Edge bool // who calls through it is outside: what it says of its deadline is not believed

	OwnRetries bool // with clusters alone: the owner's routes keep their retries, and none ride on the cluster
}

// Frame is what every proxy of t holds, whatever the services: the listener at outbound, an "ip:port", where the listeners are ours.
// An error means that outbound is no address.
func (t Target) Frame(outbound string, own ...Filter) ([]*view.Resource, error) {
	if t.audience()&(sidecars|agents) == 0 {
		return nil, nil
	}
	listener, err := Listener(t, outbound, own...)
	if err != nil {
		return nil, err
	}
	return []*view.Resource{listener}, nil
}

// Alias leads an alias, a valid host, to the routes of a service; nil where the routes are not ours.
func (t Target) Alias(alias string, service manifest.Key) *view.Resource {
	switch t.audience() {
	case grpcClients:
		return APIListener(alias, service)
	case clustersOnly:
		return nil
	}
	return Scope(alias, service)
}

// Aliases is the type of what Alias makes.
func (t Target) Aliases() view.Type {
	if t.audience() == grpcClients {
		return view.LDS
	}
	return view.SRDS
}

// Layered reports whether t has runtime layers, which then must be sent, were they empty. A gRPC client knows of none.
func (t Target) Layered() bool { return t.audience() != grpcClients }

// audience is a set of profiles.
type audience uint8

const (
	sidecars audience = 1 << iota
	clustersOnly
	grpcClients
	agents

	envoys  = sidecars | clustersOnly
	proxies = envoys | agents // all that behave as Envoy does
)

func (t Target) audience() audience {
	switch t.Profile {
	case ClustersOnly:
		return clustersOnly
	case GRPC:
		return grpcClients
	case Agent:
		return agents
	}
	return sidecars
}

// Tier is the part of a version that decides what a proxy understands: 1.40 of 1.40.2.
func Tier(version string) string {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return version
	}
	return parts[0] + "." + parts[1]
}
