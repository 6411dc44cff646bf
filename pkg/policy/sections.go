package policy

import "github.com/breakwater-mesh/breakwater/pkg/manifest"

// Timeout bounds calls in time.
type Timeout struct {
	Disabled       *bool              `json:"disabled,omitempty"`
	Request        *manifest.Duration `json:"request,omitempty"`
	PerTry         *manifest.Duration `json:"perTry,omitempty"`
	PerTryIdle     *manifest.Duration `json:"perTryIdle,omitempty"`
	MaxStream      *manifest.Duration `json:"maxStream,omitempty"`
	Connect        *manifest.Duration `json:"connect,omitempty"`
	ConnectionIdle *manifest.Duration `json:"connectionIdle,omitempty"`
}

// Retry sends a failed call again.
type Retry struct {
	Disabled                *bool               `json:"disabled,omitempty"`
	NumRetries              *uint32             `json:"numRetries,omitempty"`
	RetryOn                 []string            `json:"retryOn,omitempty"`
	RetriableStatusCodes    []uint32            `json:"retriableStatusCodes,omitempty"`
	RetriableHeaders        []HeaderMatch       `json:"retriableHeaders,omitempty"`
	Methods                 *Methods            `json:"methods,omitempty"`
	BackOff                 *BackOff            `json:"backOff,omitempty"`
	RateLimitedBackOff      *RateLimitedBackOff `json:"rateLimitedBackOff,omitempty"`
	AvoidPreviousHosts      *bool               `json:"avoidPreviousHosts,omitempty"`
	HostSelectionAttempts   *uint32             `json:"hostSelectionAttempts,omitempty"`
	AvoidPreviousPriorities *bool               `json:"avoidPreviousPriorities,omitempty"`
	BufferBytes             *uint32             `json:"bufferBytes,omitempty"`
	Budget                  *Budget             `json:"budget,omitempty"`
}

// Methods says which HTTP methods may be sent twice though the server may have seen them: "safe", "idempotent" or "all" (one
// word, Class), or a list.
type Methods struct {
	Class string
	List  []string
}

// HeaderMatch matches a response header by exact value or presence.
type HeaderMatch struct {
	Name    string  `json:"name"`
	Exact   *string `json:"exact,omitempty"`
	Present *bool   `json:"present,omitempty"`
}

// BackOff is the pause before a retry: uniform in [0, min(base*2^(n-1), max)).
type BackOff struct {
	Base *manifest.Duration `json:"base,omitempty"`
	Max  *manifest.Duration `json:"max,omitempty"`
}

// RateLimitedBackOff takes the pause from a response header.
type RateLimitedBackOff struct {
	ResetHeaders []ResetHeader      `json:"resetHeaders,omitempty"`
	Max          *manifest.Duration `json:"max,omitempty"`
}

// ResetHeader is a header that says when to come back.
type ResetHeader struct {
	Name   string `json:"name"`
	Format string `json:"format,omitempty"` // seconds | unix-timestamp
}

// Budget limits retries to a share of the active requests.
type Budget struct {
	Percent       *uint32            `json:"percent,omitempty"`
	MinConcurrent *uint32            `json:"minConcurrent,omitempty"`
	Interval      *manifest.Duration `json:"interval,omitempty"`
}

// Limits are Envoy's circuit_breakers thresholds, counted per proxy.
type Limits struct {
	Disabled           *bool           `json:"disabled,omitempty"`
	MaxConnections     *manifest.Count `json:"maxConnections,omitempty"`
	MaxPendingRequests *manifest.Count `json:"maxPendingRequests,omitempty"`
	MaxRequests        *manifest.Count `json:"maxRequests,omitempty"`
	MaxRetries         *manifest.Count `json:"maxRetries,omitempty"`
	MaxConnectionPools *manifest.Count `json:"maxConnectionPools,omitempty"`
	PerHost            *PerHostLimits  `json:"perHost,omitempty"`
	High               *HighLimits     `json:"high,omitempty"`
}

// PerHostLimits hold for one host of the service.
type PerHostLimits struct {
	MaxConnections *manifest.Count `json:"maxConnections,omitempty"`
}

// HighLimits hold for requests of high priority.
type HighLimits struct {
	MaxConnections     *manifest.Count `json:"maxConnections,omitempty"`
	MaxPendingRequests *manifest.Count `json:"maxPendingRequests,omitempty"`
	MaxRequests        *manifest.Count `json:"maxRequests,omitempty"`
	MaxRetries         *manifest.Count `json:"maxRetries,omitempty"`
	MaxConnectionPools *manifest.Count `json:"maxConnectionPools,omitempty"`
}

// Bulkhead bounds concurrent calls; it expands to Limits.
type Bulkhead struct {
	Disabled      *bool           `json:"disabled,omitempty"`
	MaxConcurrent *manifest.Count `json:"maxConcurrent,omitempty"`
	MaxWaiting    *manifest.Count `json:"maxWaiting,omitempty"`
}

// OutlierDetection ejects failing hosts for a while.
type OutlierDetection struct {
	Disabled                    *bool              `json:"disabled,omitempty"`
	Consecutive5xx              *uint32            `json:"consecutive5xx,omitempty"`
	ConsecutiveGatewayFailure   *uint32            `json:"consecutiveGatewayFailure,omitempty"`
	ConsecutiveLocalOriginError *uint32            `json:"consecutiveLocalOriginFailure,omitempty"`
	SplitLocalOriginErrors      *bool              `json:"splitLocalOriginErrors,omitempty"`
	SuccessRate                 *SuccessRate       `json:"successRate,omitempty"`
	FailurePercentage           *FailurePercentage `json:"failurePercentage,omitempty"`
	Interval                    *manifest.Duration `json:"interval,omitempty"`
	BaseEjectionTime            *manifest.Duration `json:"baseEjectionTime,omitempty"`
	MaxEjectionTime             *manifest.Duration `json:"maxEjectionTime,omitempty"`
	MaxEjectionTimeJitter       *manifest.Duration `json:"maxEjectionTimeJitter,omitempty"`
	MaxEjectionPercent          *uint32            `json:"maxEjectionPercent,omitempty"`
	AlwaysEjectOneHost          *bool              `json:"alwaysEjectOneHost,omitempty"`
	EnforcingPercent            *EnforcingPercent  `json:"enforcingPercent,omitempty"`
	UnejectOnHealthCheck        *bool              `json:"unejectOnHealthCheck,omitempty"`
	DetectDegradedHosts         *bool              `json:"detectDegradedHosts,omitempty"`
}

// SuccessRate ejects hosts whose success rate lies stdevFactor standard deviations below the mean.
type SuccessRate struct {
	MinimumHosts  *uint32 `json:"minimumHosts,omitempty"`
	RequestVolume *uint32 `json:"requestVolume,omitempty"`
	StdevFactor   *uint32 `json:"stdevFactor,omitempty"` // thousandths
}

// FailurePercentage ejects hosts that fail in Threshold percent of calls or more.
type FailurePercentage struct {
	Threshold     *uint32 `json:"threshold,omitempty"`
	MinimumHosts  *uint32 `json:"minimumHosts,omitempty"`
	RequestVolume *uint32 `json:"requestVolume,omitempty"`
}

// EnforcingPercent is the chance that a detection of each kind becomes an ejection.
type EnforcingPercent struct {
	Consecutive5xx              *uint32 `json:"consecutive5xx,omitempty"`
	ConsecutiveGatewayFailure   *uint32 `json:"consecutiveGatewayFailure,omitempty"`
	ConsecutiveLocalOriginError *uint32 `json:"consecutiveLocalOriginFailure,omitempty"`
	SuccessRate                 *uint32 `json:"successRate,omitempty"`
	FailurePercentage           *uint32 `json:"failurePercentage,omitempty"`
}

// CircuitBreaker is the classic breaker; it expands to OutlierDetection.
type CircuitBreaker struct {
	Disabled          *bool              `json:"disabled,omitempty"`
	FailureThreshold  *uint32            `json:"failureThreshold,omitempty"`
	RecoveryTimeout   *manifest.Duration `json:"recoveryTimeout,omitempty"`
	Scope             *string            `json:"scope,omitempty"` // host | service
	GatewayErrorsOnly *bool              `json:"gatewayErrorsOnly,omitempty"`
	HalfOpen          *HalfOpen          `json:"halfOpen,omitempty"`
}

// HalfOpen is how an open breaker is tried; only the agent enforces it.
type HalfOpen struct {
	Probe     *bool   `json:"probe,omitempty"`
	MaxProbes *uint32 `json:"maxProbes,omitempty"`
	Successes *uint32 `json:"successes,omitempty"`
}

// LoadBalancing chooses the host of a call.
type LoadBalancing struct {
	Disabled       *bool   `json:"disabled,omitempty"`
	Algorithm      *string `json:"algorithm,omitempty"`      // round-robin | least-request | random
	PanicThreshold *uint32 `json:"panicThreshold,omitempty"` // percent; 0 switches panic off
}
