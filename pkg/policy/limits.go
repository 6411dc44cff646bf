package policy

import "github.com/breakwater-mesh/breakwater/pkg/manifest"

// Limits are Envoy's circuit_breakers thresholds, counted per proxy. A call over a limit fails at once; a limit that is not set
// does not exist.
type Limits struct {
	Disabled           *bool           `json:"disabled,omitempty" doc:"Clears every limit that less specific policies set, bulkheads too." scope:"cluster" effect:"in place; perHost.maxConnections rebuilds the cluster" bwdefault:"false"`
	Observe            *bool           `json:"observe,omitempty" doc:"Counts what this section would do, and does nothing. It takes the place of nothing that is enforced." scope:"cluster" effect:"in place; perHost.maxConnections rebuilds the cluster" bwdefault:"false"`
	MaxConnections     *manifest.Count `json:"maxConnections,omitempty" doc:"Open connections to the service, per proxy; further calls wait (HTTP/1.1)." minimum:"1" unit:"connections" scope:"cluster" effect:"in place" bwdefault:"unlimited (Breakwater)"`
	MaxPendingRequests *manifest.Count `json:"maxPendingRequests,omitempty" doc:"Calls that wait for a connection, per proxy." unit:"requests" scope:"cluster" effect:"in place" bwdefault:"unlimited (Breakwater)"`
	MaxRequests        *manifest.Count `json:"maxRequests,omitempty" doc:"Calls under way, per proxy." unit:"requests" scope:"cluster" effect:"in place" bwdefault:"unlimited (Breakwater)"`
	MaxRetries         *manifest.Count `json:"maxRetries,omitempty" doc:"Retries under way, per proxy. Counts for nothing beside retry.budget." unit:"retries" scope:"cluster" effect:"in place" bwdefault:"a retry budget instead (Breakwater)"`
	MaxConnectionPools *manifest.Count `json:"maxConnectionPools,omitempty" doc:"Connection pools, per proxy." minimum:"1" unit:"pools" scope:"cluster" effect:"in place" bwdefault:"unlimited (Envoy)"`
	PerHost            *PerHostLimits  `json:"perHost,omitempty" doc:"Limits for each host alone." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"none"`
	High               *HighLimits     `json:"high,omitempty" doc:"Limits for requests of high priority, counted apart." scope:"cluster" effect:"in place" bwdefault:"unlimited (Breakwater)"`
}

// PerHostLimits hold for one host of the service.
type PerHostLimits struct {
	MaxConnections *manifest.Count `json:"maxConnections,omitempty" doc:"Open connections to one host, per proxy." minimum:"1" unit:"connections" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"unlimited (Envoy)"`
}

// HighLimits hold for requests of high priority.
type HighLimits struct {
	MaxConnections     *manifest.Count `json:"maxConnections,omitempty" doc:"Open connections." minimum:"1" unit:"connections" scope:"cluster" effect:"in place" bwdefault:"unlimited (Breakwater)"`
	MaxPendingRequests *manifest.Count `json:"maxPendingRequests,omitempty" doc:"Calls that wait for a connection." unit:"requests" scope:"cluster" effect:"in place" bwdefault:"unlimited (Breakwater)"`
	MaxRequests        *manifest.Count `json:"maxRequests,omitempty" doc:"Calls under way." unit:"requests" scope:"cluster" effect:"in place" bwdefault:"unlimited (Breakwater)"`
	MaxRetries         *manifest.Count `json:"maxRetries,omitempty" doc:"Retries under way." unit:"retries" scope:"cluster" effect:"in place" bwdefault:"unlimited (Breakwater)"`
	MaxConnectionPools *manifest.Count `json:"maxConnectionPools,omitempty" doc:"Connection pools." minimum:"1" unit:"pools" scope:"cluster" effect:"in place" bwdefault:"unlimited (Envoy)"`
}
