package envoy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	compositev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/composite/v3"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// composite is a cluster without hosts that sends the first tries of a call to one cluster and the one after them to another. An
// aggregate would spill calls as soon as one host of the first is out.
type composite struct {
	main, spare string
	tries       uint32 // that main gets
	by          string // the service whose route leads to main, where main is another's: that one may have one of its own
	alias       string // what an owner's routes call it
}

func (c composite) name() string {
	if c.alias != "" {
		return c.alias
	}
	name := fmt.Sprintf("%s~%s~%d", c.main, c.spare, c.tries)
	if c.by != "" {
		name += "~" + c.by
	}
	return name
}

// spare is the cluster of the service that takes what failed, "" where there is none.
func (in input) spare() string {
	b := in.sections.Fallback
	if b == nil || b.Service == nil || in.target.audience() == clustersOnly && !in.leads() || !in.target.knows("envoy.extensions.clusters.composite.v3.ClusterConfig.clusters") {
		return ""
	}
	return *b.Service
}

// mainTries are the tries before the fallback's.
func (in input) mainTries(guarded bool) uint32 {
	if guarded || !in.retries() {
		return 1
	}
	return orElse(in.sections.Retry.NumRetries, 1) + 1
}

// through is the cluster that a route's calls go to: a backend's own, or where there is a fallback the composite over it.
func (r routed) through(b backend, guarded bool) string {
	spare, main := r.spare(), r.faulty(b)
	if spare == "" {
		return main
	}
	c := composite{main: main, spare: spare, tries: r.mainTries(guarded)}
	if service, _, _ := strings.Cut(b.cluster, "|"); service != r.name {
		c.by = r.name
	}
	r.composites[c.name()] = c
	return c.name()
}

// compositesOf are the composites that routes lead to, by name, with the input of the route that was first to ask.
func compositesOf(routes []routed) ([]composite, map[string]input) {
	found, of := map[string]composite{}, map[string]input{}
	for _, r := range routes {
		for name, c := range r.composites {
			if _, known := found[name]; !known {
				found[name], of[name] = c, r.input
			}
		}
	}
	var list []composite
	for _, name := range slices.Sorted(maps.Keys(found)) {
		list = append(list, found[name])
	}
	return list, of
}

// compositeCluster has what Envoy reads from the cluster that a route names: the limits of retries, what counts as a failure, filters.
// The rest, the service's other limits included, it reads from the member. A composite holds no hosts, so nothing is lost with one.
func (in input) compositeCluster(c composite) *clusterv3.Cluster {
	members := &compositev3.ClusterConfig{}
	for range c.tries {
		members.Clusters = append(members.Clusters, &compositev3.ClusterConfig_ClusterEntry{Name: c.main})
	}
	members.Clusters = append(members.Clusters, &compositev3.ClusterConfig_ClusterEntry{Name: c.spare})
	options := in.protocolOptions()
	if in.target.audience() == clustersOnly {
		options.RetryPolicy = in.ridingRetries()
	}
	return &clusterv3.Cluster{
		Name: c.name(),
		ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name: "envoy.clusters.composite", TypedConfig: pack(members),
		}},
		LbPolicy:                      clusterv3.Cluster_CLUSTER_PROVIDED,
		ConnectTimeout:                durationpb.New(defaultConnect), // the members' own counts
		CircuitBreakers:               in.compositeLimits(),
		TypedExtensionProtocolOptions: map[string]*anypb.Any{httpProtocolOptions: pack(options)},
	}
}

func (in input) compositeLimits() *clusterv3.CircuitBreakers {
	normal, high := baseline(corev3.RoutingPriority_DEFAULT), baseline(corev3.RoutingPriority_HIGH)
	if n, ok := in.compositeRetries(); ok && !in.target.Runtime {
		normal.MaxRetries, high.MaxRetries = wrapperspb.UInt32(n), wrapperspb.UInt32(n)
	}
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{normal, high}}
}

// compositeRetries is how many retries, the fallback's tries among them, may run at once; false: any number. A budget can't be had: Envoy
// counts no active requests on a composite, so that the budget's minimum would be all there is, and calls would miss their
// fallback. In its place as many as the service takes at once may run.
func (in input) compositeRetries() (uint32, bool) {
	l := in.sections.Limits
	if l == nil {
		return 0, false
	}
	for _, n := range []*manifest.Count{l.MaxRetries, l.MaxRequests} {
		if n != nil && *n != manifest.Unlimited && (n != l.MaxRetries || in.budget() == nil) {
			return uint32(*n), true
		}
	}
	return 0, false
}

func (in input) compositeKeys(c composite) []RuntimeKey {
	n, ok := in.compositeRetries()
	if !ok || !in.target.Runtime {
		return nil
	}
	prefix := "circuit_breakers." + c.name()
	return []RuntimeKey{{prefix + ".default.max_retries", n}, {prefix + ".high.max_retries", n}}
}

func (out *Compiled) addComposites(t Target, routes []routed) error {
	list, of := compositesOf(routes)
	for _, c := range list {
		if err := out.addComposite(t, of[c.name()], c); err != nil {
			return err
		}
	}
	return nil
}

func (out *Compiled) addComposite(t Target, in input, c composite) error {
	r, err := t.resource(view.CDS, c.name(), in.compositeCluster(c), view.ID{Type: view.CDS, Name: c.main}, view.ID{Type: view.CDS, Name: c.spare})
	if err != nil {
		return fmt.Errorf("cluster %s: %w", c.name(), err)
	}
	out.Composites = append(out.Composites, r)
	out.Limits = append(out.Limits, in.compositeKeys(c)...)
	return nil
}

// withFallback makes the fallback one try more of p, for every failure that it stands in for. Methods that must not be sent twice have
// one try before it, so that no condition sends them to the service again.
func (in input) withFallback(p *routev3.RetryPolicy, guarded bool) *routev3.RetryPolicy {
	if in.spare() == "" {
		return p
	}
	tries := in.mainTries(guarded)
	if tries == 1 {
		// The fallback waits for nothing: what failed is not asked again.
		p = &routev3.RetryPolicy{RetryBackOff: &routev3.RetryPolicy_RetryBackOff{
			BaseInterval: durationpb.New(time.Millisecond), MaxInterval: durationpb.New(time.Millisecond),
		}}
		p.PerTryTimeout, p.PerTryIdleTimeout = in.perTry()
	}
	on := slices.DeleteFunc(strings.Split(p.RetryOn, ","), func(word string) bool { return word == "" })
	for _, word := range in.sections.Fallback.When {
		if !slices.Contains(on, word) {
			on = append(on, word)
		}
	}
	p.RetryOn, p.NumRetries = strings.Join(on, ","), wrapperspb.UInt32(tries)
	return p
}
