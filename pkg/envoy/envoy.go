// Package envoy compiles effective policies and the catalogue to xDS resources. Nothing else knows Envoy's API. It is pure, and
// deterministic to the byte: the same input is the same bytes on every replica, so a resource changes only when its meaning does.
// One file holds each resource and each section.
package envoy

import (
	"fmt"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Compiled is one service as the proxies of one target see it.
type Compiled struct {
	Cluster *view.Resource
	Route   *view.Resource
	Limits  []RuntimeKey // for the layer LayerOf(cluster), by key; empty where Target.Runtime is false
}

// Service compiles the calls to svc under eff, an effective policy with its defaults filled in. It changes neither. An error means
// that the result breaks a rule of Envoy's API, which valid input never does.
func Service(t Target, svc *catalog.Service, eff *policy.Effective) (Compiled, error) {
	in := newInput(t, svc, eff)
	cluster, err := t.resource(view.CDS, in.name, in.cluster())
	if err != nil {
		return Compiled{}, fmt.Errorf("cluster %s: %w", in.name, err)
	}
	route, err := t.resource(view.RDS, in.name, in.routeConfiguration(), view.ID{Type: view.CDS, Name: in.name})
	if err != nil {
		return Compiled{}, fmt.Errorf("route configuration %s: %w", in.name, err)
	}
	return Compiled{Cluster: cluster, Route: route, Limits: in.limitKeys()}, nil
}

// input is what every section's file reads.
type input struct {
	target   Target
	name     string // of the service, its cluster and its route configuration
	protocol catalog.Protocol
	sections policy.Sections
}

func newInput(t Target, svc *catalog.Service, eff *policy.Effective) input {
	return input{target: t, name: svc.Key().String(), protocol: protocolOf(svc), sections: enabled(eff.Sections)}
}

func protocolOf(svc *catalog.Service) catalog.Protocol {
	if svc.Spec.Protocol == "" {
		return catalog.HTTP
	}
	return svc.Spec.Protocol
}

// http2 reports whether the endpoints are spoken to in HTTP/2.
func (in input) http2() bool { return in.protocol == catalog.HTTP2 || in.protocol == catalog.GRPC }

// enabled is s without the sections that are switched off.
func enabled(s policy.Sections) policy.Sections {
	drop := func(disabled *bool) bool { return disabled != nil && *disabled }
	if s.Timeout != nil && drop(s.Timeout.Disabled) {
		s.Timeout = nil
	}
	if s.Retry != nil && drop(s.Retry.Disabled) {
		s.Retry = nil
	}
	if s.Limits != nil && drop(s.Limits.Disabled) {
		s.Limits = nil
	}
	if s.OutlierDetection != nil && drop(s.OutlierDetection.Disabled) {
		s.OutlierDetection = nil
	}
	if s.LoadBalancing != nil && drop(s.LoadBalancing.Disabled) {
		s.LoadBalancing = nil
	}
	return s
}
