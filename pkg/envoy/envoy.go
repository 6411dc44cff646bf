// Package envoy compiles effective policies and the catalogue to xDS resources. Nothing else knows Envoy's API. It is pure, and
// deterministic to the byte: the same input is the same bytes on every replica, so a resource changes only when its meaning does.
// One file holds each resource and each section.
package envoy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Compiled is one service as the proxies of one target see it.
type Compiled struct {
	Cluster *view.Resource
	Subsets []*view.Resource // the clusters of its subsets, by name, and one that Spare adds
	Route   *view.Resource   // nil for a tcp service, and where the routes are not ours
	Local   *view.Resource   // of a tcp service: the listener on its local port
	Filters []Filter         // that the listener holds for the service
	Limits  []RuntimeKey     // for the layer LayerOf(service), by key, those of the other clusters included; empty where Target.Runtime is false

	Composites []*view.Resource // the clusters over it and its fallbacks, by name
	Faults     []*view.Resource // what injects the faults of its routes: clusters, and listeners with their routes
}

// Service compiles the calls to svc under eff, an effective policy with its defaults filled in. It changes neither. Every backend
// of its routes must exist: a route whose cluster does not answers 503. An error means that the result breaks a rule of Envoy's
// API, which valid input never does.
func Service(t Target, svc *catalog.Service, eff *policy.Effective) (Compiled, error) {
	return compileService(t, svc, eff, routeHints{})
}

// Backend is Service for one that routes of other services lead to as well. Any of them may retry, and have high priority: a retry
// budget holds for them in any case.
func Backend(t Target, svc *catalog.Service, eff *policy.Effective) (Compiled, error) {
	return compileService(t, svc, eff, routeHints{retried: true, high: true})
}

func compileService(t Target, svc *catalog.Service, eff *policy.Effective, others routeHints) (Compiled, error) {
	name := svc.Key().String()
	whole, clusters := newInput(t, svc, eff), clustersOf(t, svc, eff)
	routes := routesOf(whole, clusters, svc, eff)
	var out Compiled
	for i := range clusters {
		clusters[i].hints = others
		clusters[i].leadHere(routes)
		in := clusters[i]
		c := in.message()
		r, err := t.resource(view.CDS, in.name, c)
		if err != nil {
			return Compiled{}, fmt.Errorf("cluster %s: %w", in.name, err)
		}
		r.Prompt = prompt(c)
		if i == 0 {
			out.Cluster = r
		} else {
			out.Subsets = append(out.Subsets, r)
		}
		out.Limits = append(out.Limits, in.limitKeys()...)
	}
	if t.audience() == clustersOnly {
		err := out.lead(t, clusters)
		sortKeys(out.Limits)
		return out, err
	}
	if t.audience() == grpcClients && whole.tcp() { // a gRPC client makes calls alone
		sortKeys(out.Limits)
		return out, nil
	}
	if whole.tcp() {
		sortKeys(out.Limits)
		err := out.listen(whole, svc)
		return out, err
	}
	configuration := routeConfiguration(whole, routes)
	if err := out.addFaults(t, clusters, routes); err != nil {
		return Compiled{}, err
	}
	if err := out.addComposites(t, routes); err != nil {
		return Compiled{}, err
	}
	sortKeys(out.Limits)
	route, err := t.resource(view.RDS, name, configuration, needs(name, routes)...)
	if err != nil {
		return Compiled{}, fmt.Errorf("route configuration %s: %w", name, err)
	}
	out.Route = route
	if f, ok := whole.adaptive(); ok {
		out.Filters = append(out.Filters, f)
	}
	return out, nil
}

// listen adds the listener of a tcp service.
func (c *Compiled) listen(in input, svc *catalog.Service) error {
	local, err := in.target.resource(view.LDS, in.name, in.tcpListener(orElse(svc.Spec.LocalPort, 0)), view.ID{Type: view.CDS, Name: in.name})
	if err != nil {
		return fmt.Errorf("listener of %s: %w", in.name, err)
	}
	c.Local = local
	return nil
}

// input is what every section's file reads: of a cluster, or of a route.
type input struct {
	target   Target
	name     string // of the service and its route configuration; of a cluster its own name
	also     string // of a cluster that has two names, where the routes are their owner's: the other one
	protocol catalog.Protocol
	sections policy.Sections
	observed policy.Sections // those that only observe
	tls      *catalog.TLS    // with the endpoints; nil: none
	dns      *catalog.DNS    // that names the endpoints; nil: they come by themselves
	hints    routeHints      // of a cluster: what its routes ask of it
}

// routeHints is what a cluster has to know of the routes that lead to it.
type routeHints struct {
	retried bool // one of them sends calls again
	high    bool // one of them has high priority
}

func newInput(t Target, svc *catalog.Service, eff *policy.Effective) input {
	in := input{target: t, name: svc.Key().String(), also: t.foreignName(svc, ""), protocol: protocolOf(svc), sections: eff.Sections.Enabled(), tls: catalog.TLSOf(svc), dns: catalog.DNSOf(svc)}
	if eff.Observed != nil {
		in.observed = eff.Observed.Sections
	}
	return in
}

// clustersOf are the clusters of svc: its own, and one for each subset, by name.
func clustersOf(t Target, svc *catalog.Service, eff *policy.Effective) []input {
	list := []input{clusterOf(newInput(t, svc, eff), svc, "")}
	for _, subset := range slices.Sorted(maps.Keys(svc.Spec.Subsets)) {
		list = append(list, clusterOf(newInput(t, svc, eff.Subset(subset)), svc, subset))
	}
	return list
}

// clusterOf is in as the input of one cluster. What an owner's routes call it is its name, unless a composite has that.
func clusterOf(in input, svc *catalog.Service, subset string) input {
	in.name, in.also = ClusterName(svc.Key(), subset), in.target.foreignName(svc, subset)
	if in.also != "" && in.spare() == "" {
		in.name, in.also = in.also, in.name
	}
	return in
}

// foreignName is what an owner's routes call the cluster of svc, or that of one of its subsets where that is not empty; "" where that is its own name.
func (t Target) foreignName(svc *catalog.Service, subset string) string {
	if called := t.ClusterName(svc, subset); called != ClusterName(svc.Key(), subset) {
		return called
	}
	return ""
}

// ClusterName is the name of the cluster of svc, or of that of one of its subsets where that is not empty, and of its assignment: where the
// routes are their owner's, the name that is in them. Where they have a fallback there, that is the composite's, and the cluster has its own.
func (t Target) ClusterName(svc *catalog.Service, subset string) string {
	name := ClusterName(svc.Key(), subset)
	if t.audience() == clustersOnly {
		name = catalog.ClusterName(svc) + strings.TrimPrefix(name, svc.Key().String())
	}
	return name
}

// ClusterName is the name of a service's cluster, or of that of one of its subsets where that is not empty, where the routes are ours.
func ClusterName(service manifest.Key, subset string) string {
	if subset == "" {
		return service.String()
	}
	return service.String() + "|" + subset
}

func protocolOf(svc *catalog.Service) catalog.Protocol {
	if svc.Spec.Protocol == "" {
		return catalog.HTTP
	}
	return svc.Spec.Protocol
}

// http2 reports whether the endpoints are spoken to in HTTP/2.
func (in input) http2() bool { return in.protocol == catalog.HTTP2 || in.protocol == catalog.GRPC }
