package policy

import (
	"fmt"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// HealthCheck asks every host again and again whether it is well, and keeps those that are not out of rotation. Every proxy asks for
// itself. One of HTTP, GRPC and TCP is set.
type HealthCheck struct {
	Disabled *bool `json:"disabled,omitempty" doc:"Clears the health check that less specific policies set." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"false"`
	Observe  *bool `json:"observe,omitempty" doc:"Counts what this section would do, and does nothing. It takes the place of nothing that is enforced." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"false"`

	HTTP *HTTPCheck `json:"http,omitempty" oneof:"how" doc:"Asks by HTTP, over the protocol of the service." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"one of http, grpc and tcp is required"`
	GRPC *GRPCCheck `json:"grpc,omitempty" oneof:"how" empty:"allowed" doc:"Asks the gRPC health service; {} for the whole server. For services that speak HTTP/2." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"one of http, grpc and tcp is required"`
	TCP  *TCPCheck  `json:"tcp,omitempty" oneof:"how" empty:"allowed" doc:"Opens a connection; {} for that alone." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"one of http, grpc and tcp is required"`

	Interval           *manifest.Duration `json:"interval,omitempty" doc:"From the end of one check of a host to the next." unit:"duration" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"10s (Breakwater)"`
	Timeout            *manifest.Duration `json:"timeout,omitempty" doc:"How long the answer may take; at most a minute, as a changed cluster waits for its first checks." unit:"duration" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"2s (Breakwater)"`
	HealthyThreshold   *uint32            `json:"healthyThreshold,omitempty" doc:"Passing checks in a row that bring a host back. Of a new host the first check decides." minimum:"1" maximum:"1000" unit:"checks" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"2 (Breakwater)"`
	UnhealthyThreshold *uint32            `json:"unhealthyThreshold,omitempty" doc:"Failing checks in a row that take a host out." minimum:"1" maximum:"1000" unit:"checks" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"3 (Breakwater)"`
	Jitter             *manifest.Duration `json:"jitter,omitempty" doc:"A random time on top of each interval." unit:"duration" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"none (Envoy)"`
	NoTrafficInterval  *manifest.Duration `json:"noTrafficInterval,omitempty" doc:"The interval until a proxy has sent the service its first request." unit:"duration" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"1m (Envoy)"`
}

// HTTPCheck asks by HTTP.
type HTTPCheck struct {
	Path             *string  `json:"path,omitempty" doc:"What is asked for, such as /healthz." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"required"`
	Host             *string  `json:"host,omitempty" doc:"The host that is asked for." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"<name>.<namespace> of the service (Breakwater)"`
	Method           *string  `json:"method,omitempty" doc:"How it is asked for." enum:"GET,HEAD,OPTIONS,POST" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"GET (Envoy)"`
	ExpectedStatuses []Status `json:"expectedStatuses,omitempty" doc:"The answers that pass, such as 204 or \"2xx\"." unit:"HTTP status" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"200 (Envoy)"`
}

// GRPCCheck asks grpc.health.v1.Health.
type GRPCCheck struct {
	Service   *string `json:"service,omitempty" doc:"The gRPC service that is asked about." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"the whole server (Envoy)"`
	Authority *string `json:"authority,omitempty" doc:"The host that is asked for." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"<name>.<namespace> of the service (Breakwater)"`
}

// TCPCheck opens a connection, and may talk over it.
type TCPCheck struct {
	Send    *string  `json:"send,omitempty" doc:"What is sent." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"nothing (Envoy)"`
	Receive []string `json:"receive,omitempty" doc:"What must come, one after the other, with anything between." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"nothing (Envoy)"`
}

const (
	defaultCheckInterval      = manifest.Duration("10s")
	defaultCheckTimeout       = manifest.Duration("2s")
	defaultNoTrafficInterval  = manifest.Duration("1m")
	defaultHealthyThreshold   = 2
	defaultUnhealthyThreshold = 3

	// maxCheckTimeout keeps the first checks of a changed cluster within the time in which a proxy must answer for it.
	maxCheckTimeout = time.Minute
)

// complete fills in the defaults.
func (h *HealthCheck) complete(string, *Sections) {
	fill(&h.Interval, defaultCheckInterval)
	fill(&h.Timeout, defaultCheckTimeout)
	fill(&h.HealthyThreshold, defaultHealthyThreshold)
	fill(&h.UnhealthyThreshold, defaultUnhealthyThreshold)
	fill(&h.NoTrafficInterval, defaultNoTrafficInterval)
	if h.HTTP != nil {
		own(&h.HTTP)
		fill(&h.HTTP.Method, "GET")
		if h.HTTP.ExpectedStatuses == nil {
			h.HTTP.ExpectedStatuses = []Status{"200"}
		}
	}
}

// check is what the fields must obey among each other once everything is merged.
func (h *HealthCheck) check() []clash {
	if h.HTTP == nil && h.GRPC == nil && h.TCP == nil {
		return []clash{{
			a: "healthCheck", rule: "does not say how: set http, grpc or tcp, or write disabled: true", oneOf: []string{"healthCheck.http", "healthCheck.grpc", "healthCheck.tcp"},
		}}
	}
	return nil
}

// checkAlone finds nothing: one policy may tune the check that another one sets.
func (*HealthCheck) checkAlone() []clash { return nil }

// validate checks one author's section alone.
func (h *HealthCheck) validate(f *faults, _ *Sections) {
	if h.Timeout != nil && h.Timeout.D() > maxCheckTimeout {
		f.add("healthCheck.timeout", "must be at most 1m")
	}
	if h.HTTP != nil {
		h.HTTP.validate(f)
	}
	if h.GRPC != nil {
		f.visible("healthCheck.grpc.service", h.GRPC.Service)
		f.visible("healthCheck.grpc.authority", h.GRPC.Authority)
	}
	if h.TCP != nil {
		for i, part := range h.TCP.Receive {
			if part == "" {
				f.add(fmt.Sprintf("healthCheck.tcp.receive[%d]", i), "is empty")
			}
		}
	}
}

func (h *HTTPCheck) validate(f *faults) {
	switch {
	case h.Path == nil:
		f.add("healthCheck.http.path", "is required: the path that tells of a host's health, such as /healthz")
	case !strings.HasPrefix(*h.Path, "/"):
		f.add("healthCheck.http.path", "must begin with /")
	default:
		f.visible("healthCheck.http.path", h.Path)
	}
	f.visible("healthCheck.http.host", h.Host)
	f.statuses("healthCheck.http.expectedStatuses", h.ExpectedStatuses)
}

// visible checks text that goes into a request: it has no blanks, and nothing beyond ASCII.
func (f *faults) visible(path string, s *string) {
	if s == nil {
		return
	}
	const most = 1024
	switch {
	case *s == "":
		f.add(path, "is empty: leave it out")
	case len(*s) > most:
		f.add(path, "must have at most %d characters", most)
	case strings.ContainsFunc(*s, func(r rune) bool { return r <= ' ' || r > '~' }):
		f.add(path, "must have visible ASCII characters only, and no blanks")
	}
}
