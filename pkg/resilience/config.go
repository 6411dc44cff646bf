package resilience

import "time"

// Unlimited is the threshold that is never reached.
const Unlimited = 1<<32 - 1

// Priority chooses a set of thresholds.
type Priority uint8

// The priorities.
const (
	Default Priority = iota
	High
	Priorities
)

// Outlier is the configuration of outlier detection, Envoy's defaults filled in. Percentages are 0-100.
type Outlier struct {
	Consecutive5xx, ConsecutiveGatewayFailure, ConsecutiveLocalOriginFailure Consecutive
	SplitLocalOriginErrors                                                   bool

	SuccessRate            SuccessRate
	FailurePercentage      FailurePercentage
	EnforcingLocalOriginSR uint32 // with split
	EnforcingLocalOriginFP uint32

	Interval, BaseEjectionTime, MaxEjectionTime, MaxEjectionTimeJitter time.Duration
	MaxEjectionPercent                                                 uint32
	AlwaysEjectOneHost                                                 bool
	UnejectOnHealthCheck                                               bool
	DetectDegradedHosts                                                bool

	HalfOpen HalfOpen // how an ejection by failures in a row ends
}

// HalfOpen lets single calls through to a host whose ejection is over, before it takes its share again. Envoy does not know it. The zero
// value is off.
type HalfOpen struct {
	MaxProbes uint32 // under way at once
	Successes uint32 // in a row, after which the host is as good as any
}

// Consecutive is a detector that fires when Threshold failures in a row are reached; 0 never fires.
type Consecutive struct{ Threshold, Enforcing uint32 }

// SuccessRate is the detector that compares hosts with their mean. StdevFactor is in thousandths.
type SuccessRate struct{ MinimumHosts, RequestVolume, StdevFactor, Enforcing uint32 }

// FailurePercentage is the detector with a fixed bound.
type FailurePercentage struct{ Threshold, MinimumHosts, RequestVolume, Enforcing uint32 }

// Thresholds are the limits of one priority of a cluster.
type Thresholds struct {
	MaxConnections, MaxPendingRequests, MaxRequests, MaxRetries, MaxConnectionPools uint32
	Budget                                                                          *Budget // replaces MaxRetries
}

// Budget allows retries as a share of what is active or pending.
type Budget struct {
	Percent       float64
	MinConcurrent uint32
	Interval      time.Duration
}

// RetryOn is a set of retry conditions.
type RetryOn uint32

// The conditions, named as Envoy's retry_on.
const (
	On5xx RetryOn = 1 << iota
	OnGatewayError
	OnReset
	OnResetBeforeRequest
	OnConnectFailure
	OnRefusedStream
	OnRetriable4xx
	OnRetriableStatusCodes
	OnRetriableHeaders
	OnEnvoyRateLimited
	OnGRPCCancelled
	OnGRPCDeadlineExceeded
	OnGRPCInternal
	OnGRPCResourceExhausted
	OnGRPCUnavailable
)

// HeaderMatch matches one header. A name that is absent matches only where Invert says so, or TreatMissingAsEmpty.
type HeaderMatch struct {
	Name                string // lower case; ":method" and the like are pseudo headers
	Kind                MatchKind
	Value               string
	Match               func(string) bool // for Regex: anchored at both ends
	IgnoreCase          bool
	Invert              bool
	TreatMissingAsEmpty bool
}

// MatchKind is how a HeaderMatch compares.
type MatchKind uint8

// The kinds of matches.
const (
	Exact MatchKind = iota
	Prefix
	Suffix
	Contains
	Regex
	Present
	Absent
)

// Retry is a retry policy, Envoy's defaults filled in.
type Retry struct {
	On                      RetryOn
	NumRetries              uint32
	RetriableStatusCodes    []uint32
	RetriableHeaders        []HeaderMatch // of the response
	RetriableRequestHeaders []HeaderMatch // empty: every request may be retried
	PerTryTimeout           time.Duration // 0: none
	PerTryIdleTimeout       time.Duration
	BackOff                 BackOff
	RateLimited             *RateLimitedBackOff
	AvoidPreviousHosts      bool
	AvoidPreviousPriorities bool
	UpdateFrequency         uint32 // of AvoidPreviousPriorities
	HostSelectionAttempts   uint32 // further picks after one that was refused
}

// BackOff waits uniformly in [0, min(Base*2^(n-1), Max)) before retry n.
type BackOff struct{ Base, Max time.Duration }

// RateLimitedBackOff takes the wait from a response header.
type RateLimitedBackOff struct {
	Headers []ResetHeader
	Max     time.Duration
}

// ResetHeader names a header that says when to come back: in seconds from now, or as a Unix time.
type ResetHeader struct {
	Name string
	Unix bool
}

// Balancing chooses hosts.
type Balancing struct {
	Algorithm          Algorithm
	PanicThreshold     uint32 // percent; 0: never panic
	FailTrafficOnPanic bool   // not of RingHash and Maglev, which Envoy never lets fail so
	LocalityWeighted   bool   // a locality has its weight's share, whatever hosts it has
	Overprovisioning   uint32 // percent by which a priority may lose hosts before load moves on; 0: Envoy's 140
	WeightedHealth     bool   // a priority's health counts the weights of its hosts, not the hosts

	ChoiceCount       uint32  // of LeastRequest
	FullScan          bool    // of LeastRequest: all hosts are looked at
	ActiveRequestBias float64 // of LeastRequest with unequal weights; 0: Envoy's 1, negative: none
	SlowStart         SlowStart

	RingMinimum, RingMaximum uint64 // of RingHash; 0: Envoy's 1,024 and 8M
	Murmur                   bool   // of RingHash: points by MurmurHash2
	TableSize                uint32 // of Maglev, a prime; 0: Envoy's 65,537
	HashBalance              uint32 // of RingHash and Maglev: percent of the mean that a host may work on; 0: any
}

// SlowStart gives a host that is new, or healthy again, less than its weight at first. The zero one is off. It is for RoundRobin and LeastRequest.
type SlowStart struct {
	Window     time.Duration
	Aggression float64 // above 1 the weight grows fast at first; 0: Envoy's 1
	MinPercent float64 // of the weight
}

// Algorithm is how one of several hosts is chosen.
type Algorithm uint8

// The algorithms.
const (
	RoundRobin Algorithm = iota
	LeastRequest
	Random
	RingHash // calls with the same hash go to the same host
	Maglev
)
