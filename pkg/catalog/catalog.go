// Package catalog holds what exists: services and their endpoints.
package catalog

import (
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Kind is the kind of a Service manifest.
const Kind = "Service"

// Protocol is what a service speaks.
type Protocol string

// The protocols.
const (
	HTTP  Protocol = "http"
	HTTP2 Protocol = "http2"
	GRPC  Protocol = "grpc"
	TCP   Protocol = "tcp"
)

// Service is something that is called, by name, in a namespace.
type Service = manifest.Object[ServiceSpec]

// ServiceSpec is what an author says about a service.
type ServiceSpec struct {
	Protocol    Protocol                     `json:"protocol,omitempty" doc:"What the service speaks." enum:"http,http2,grpc,tcp" effect:"rebuilds the cluster" bwdefault:"http (Breakwater)"`
	Port        *uint32                      `json:"port,omitempty" doc:"The port of endpoints that name none." unit:"port" minimum:"1" maximum:"65535" effect:"in place" bwdefault:"none: every endpoint names its own"`
	Hosts       []string                     `json:"hosts,omitempty" doc:"Further domains by which callers reach it, beside its name and <name>.<namespace>; each belongs to one service." effect:"in place" bwdefault:"none"`
	Endpoints   []EndpointSpec               `json:"endpoints,omitempty" doc:"Its static addresses, beside those that register." effect:"in place" bwdefault:"none"`
	Discovery   *Discovery                   `json:"discovery,omitempty" doc:"Where its endpoints come from, in place of those that are written and register." effect:"rebuilds the cluster" bwdefault:"endpoints, and those that register"`
	Subsets     map[string]map[string]string `json:"subsets,omitempty" doc:"Parts of its endpoints, by name: the labels that an endpoint of each has. Policies and backends name them." effect:"in place" bwdefault:"none"`
	Routes      []Route                      `json:"routes,omitempty" doc:"What takes its calls, the first that matches; behind them a route named default takes the rest." effect:"in place" bwdefault:"default alone"`
	TLS         *TLS                         `json:"tls,omitempty" doc:"TLS towards its endpoints." effect:"rebuilds the cluster" bwdefault:"none: plain text"`
	ClusterName string                       `json:"clusterName,omitempty" doc:"What its cluster is called in proxies that have routes of their own (profile clusters-only): the name that is in those routes." effect:"rebuilds the cluster" bwdefault:"<namespace>/<name> (Breakwater)"`
	LocalPort   *uint32                      `json:"localPort,omitempty" doc:"Where callers reach a tcp service on 127.0.0.1, beside their proxy; required with protocol tcp, and for it alone." unit:"port" minimum:"1" maximum:"65535" effect:"new connections only" bwdefault:"required with protocol tcp"`
	DependsOn   *[]string                    `json:"dependsOn,omitempty" doc:"The services it calls, as name or namespace/name: what its proxies receive. An empty list: none." effect:"in place" bwdefault:"every service of its own namespace"`
}

// Endpoint is one address of a service, registered by the API.
type Endpoint struct {
	Service manifest.Key `json:"-"`
	ID      string       `json:"id"`
	Spec    EndpointSpec `json:"spec"`

	Lease    time.Duration `json:"-"` // how long its agent may be silent; 0: registered by hand, it needs no agent
	Revision int64         `json:"-"` // of the store, at its last change; 0 where it is not stored yet
}

// Health is what is known of an endpoint beforehand.
type Health string

// The healths.
const (
	Healthy   Health = "healthy"
	Unhealthy Health = "unhealthy"
	Draining  Health = "draining"
	Degraded  Health = "degraded"
)

// EndpointSpec is one address:port of a service.
type EndpointSpec struct {
	Address  string            `json:"address" doc:"An IP address." effect:"in place" bwdefault:"required"`
	Port     *uint32           `json:"port,omitempty" doc:"Its port." unit:"port" minimum:"1" maximum:"65535" effect:"in place" bwdefault:"the service's port"`
	Weight   *uint32           `json:"weight,omitempty" doc:"Its share of the traffic, relative to the others." minimum:"1" maximum:"1000000" effect:"in place" bwdefault:"1 (Envoy)"`
	Locality *Locality         `json:"locality,omitempty" doc:"Where it runs. Moving it loses its ejection and its connections." effect:"rebuilds the endpoint" bwdefault:"none"`
	Labels   map[string]string `json:"labels,omitempty" doc:"What subsets choose by." effect:"in place" bwdefault:"none"`
	Health   Health            `json:"health,omitempty" doc:"What is known of it beforehand." enum:"healthy,unhealthy,draining,degraded" effect:"in place" bwdefault:"healthy (Breakwater)"`
}

// Locality is where an endpoint runs.
type Locality struct {
	Region  string `json:"region,omitempty" doc:"The region." effect:"rebuilds the endpoint" bwdefault:"none"`
	Zone    string `json:"zone,omitempty" doc:"The zone in the region." effect:"rebuilds the endpoint" bwdefault:"none"`
	SubZone string `json:"subZone,omitempty" doc:"The part of the zone, such as a rack." effect:"rebuilds the endpoint" bwdefault:"none"`
}

// ProtocolOf is what svc speaks, the default filled in.
func ProtocolOf(svc *Service) Protocol {
	if svc.Spec.Protocol == "" {
		return HTTP
	}
	return svc.Spec.Protocol
}

// Hosts are the names that svc claims for itself in the whole store: <name>.<namespace>, then its further hosts as written.
func Hosts(svc *Service) []string {
	return append([]string{svc.Metadata.Name + "." + svc.Metadata.Namespace}, svc.Spec.Hosts...)
}

// ParseRef reads a reference to a service, "name" or "namespace/name", made by an object of the given namespace. It does not
// check the names: see manifest.CheckName.
func ParseRef(ref, namespace string) manifest.Key {
	if ns, name, ok := strings.Cut(ref, "/"); ok {
		return manifest.Key{Namespace: ns, Name: name}
	}
	return manifest.Key{Namespace: namespace, Name: ref}
}

// Dependencies are the services that svc calls; ok is false where it doesn't say: all of its own namespace then.
func Dependencies(svc *Service) (keys []manifest.Key, ok bool) {
	if svc.Spec.DependsOn == nil {
		return nil, false
	}
	for _, ref := range *svc.Spec.DependsOn {
		keys = append(keys, ParseRef(ref, svc.Metadata.Namespace))
	}
	return keys, true
}

// Port is where the endpoint listens: its own port, or else its service's; 0 where neither names one.
func Port(e *EndpointSpec, svc *ServiceSpec) uint32 {
	switch {
	case e.Port != nil:
		return *e.Port
	case svc.Port != nil:
		return *svc.Port
	}
	return 0
}
