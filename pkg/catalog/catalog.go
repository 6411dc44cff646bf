// Package catalog holds what exists: services and their endpoints.
package catalog

import "github.com/breakwater-mesh/breakwater/pkg/manifest"

// Kind is the kind of a Service manifest.
const Kind = "Service"

// Protocol is what a service speaks.
type Protocol string

// The protocols.
const (
	HTTP  Protocol = "http"
	HTTP2 Protocol = "http2"
	GRPC  Protocol = "grpc"
)

// Service is something that is called, by name, in a namespace.
type Service = manifest.Object[ServiceSpec]

// ServiceSpec is what an author says about a service.
type ServiceSpec struct {
	Protocol  Protocol       `json:"protocol,omitempty"`
	Port      *uint32        `json:"port,omitempty"` // default port of endpoints that name none
	Hosts     []string       `json:"hosts,omitempty"`
	Endpoints []EndpointSpec `json:"endpoints,omitempty"`
	// DependsOn names the services it calls, as "name" or "namespace/name": what its proxies receive. Nil: all of its own
	// namespace; empty: none.
	DependsOn *[]string `json:"dependsOn,omitempty"`
}

// Endpoint is one address of a service, registered by the API.
type Endpoint struct {
	Service manifest.Key `json:"-"`
	ID      string       `json:"id"`
	Spec    EndpointSpec `json:"spec"`
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
	Address  string            `json:"address"`
	Port     *uint32           `json:"port,omitempty"`
	Weight   *uint32           `json:"weight,omitempty"`
	Locality *Locality         `json:"locality,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Health   Health            `json:"health,omitempty"`
}

// Locality is where an endpoint runs.
type Locality struct {
	Region  string `json:"region,omitempty"`
	Zone    string `json:"zone,omitempty"`
	SubZone string `json:"subZone,omitempty"`
}
