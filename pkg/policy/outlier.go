package policy

import (
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// OutlierDetection ejects failing hosts for a while.
type OutlierDetection struct {
	Disabled *bool `json:"disabled,omitempty" doc:"Clears all outlier detection that less specific policies set, circuit breakers too." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"false"`
	Observe  *bool `json:"observe,omitempty" doc:"Counts what this section would do, and does nothing. It takes the place of nothing that is enforced." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"false"`

	Consecutive5xx              *uint32            `json:"consecutive5xx,omitempty" doc:"Ejects a host after so many 5xx, connect failures, resets or timeouts in a row." minimum:"1" zero:"to switch the detector off set outlierDetection.enforcingPercent.consecutive5xx: 0" unit:"failures" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"not used"`
	ConsecutiveGatewayFailure   *uint32            `json:"consecutiveGatewayFailure,omitempty" doc:"Ejects a host after so many 502, 503, 504, connect failures, resets or timeouts in a row." minimum:"1" zero:"to switch the detector off set outlierDetection.enforcingPercent.consecutiveGatewayFailure: 0" unit:"failures" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"not used"`
	ConsecutiveLocalOriginError *uint32            `json:"consecutiveLocalOriginFailure,omitempty" doc:"Ejects a host after so many connect failures or resets in a row. Needs splitLocalOriginErrors." minimum:"1" zero:"to switch the detector off set outlierDetection.enforcingPercent.consecutiveLocalOriginFailure: 0" unit:"failures" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"not used"`
	SplitLocalOriginErrors      *bool              `json:"splitLocalOriginErrors,omitempty" doc:"Counts what the proxy saw itself (connect failures, resets, timeouts) apart from what the host answered." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"false (Envoy)"`
	SuccessRate                 *SuccessRate       `json:"successRate,omitempty" doc:"Ejects hosts whose success rate lies far below the mean." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"not used"`
	FailurePercentage           *FailurePercentage `json:"failurePercentage,omitempty" doc:"Ejects hosts that fail in so many percent of calls." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"not used"`

	Interval              *manifest.Duration `json:"interval,omitempty" doc:"How often rates are judged, and ejected hosts let back in." unit:"duration" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"10s (Envoy)"`
	BaseEjectionTime      *manifest.Duration `json:"baseEjectionTime,omitempty" doc:"How long a host is out the first time; n times as long the nth time. At most maxEjectionTime." unit:"duration" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"30s (Envoy)"`
	MaxEjectionTime       *manifest.Duration `json:"maxEjectionTime,omitempty" doc:"No ejection is longer." unit:"duration" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"5m, at least baseEjectionTime (Envoy)"`
	MaxEjectionTimeJitter *manifest.Duration `json:"maxEjectionTimeJitter,omitempty" doc:"A random time on top of each ejection." unit:"duration" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"none (Envoy)"`
	MaxEjectionPercent    *uint32            `json:"maxEjectionPercent,omitempty" doc:"Of the hosts so many may be out at once." unit:"percent" maximum:"100" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"10 (Envoy)"`
	AlwaysEjectOneHost    *bool              `json:"alwaysEjectOneHost,omitempty" doc:"One host may be out whatever maxEjectionPercent says." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"true where maxEjectionPercent is not set (Breakwater), else false (Envoy)"`

	EnforcingPercent     *EnforcingPercent `json:"enforcingPercent,omitempty" doc:"The chance that a detection becomes an ejection; 0 only counts." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"100 for every detector in use (Breakwater)"`
	UnejectOnHealthCheck *bool             `json:"unejectOnHealthCheck,omitempty" doc:"A passing health check lets an ejected host back in." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"true (Envoy)"`
	UseFailureCriteria   *bool             `json:"useFailureCriteria,omitempty" doc:"Answers are failures as failureCriteria says, instead of 5xx." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"false (Breakwater)"`
	DetectDegradedHosts  *bool             `json:"detectDegradedHosts,omitempty" doc:"A host that says it is degraded gets traffic only when the others do not suffice." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"false (Envoy)"`
}

// SuccessRate ejects hosts whose success rate lies stdevFactor standard deviations below the mean.
type SuccessRate struct {
	MinimumHosts  *uint32 `json:"minimumHosts,omitempty" doc:"Hosts with enough traffic for any to be judged." minimum:"1" unit:"hosts" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"5 (Envoy)"`
	RequestVolume *uint32 `json:"requestVolume,omitempty" doc:"Requests in an interval for a host to be judged." minimum:"1" unit:"requests" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"100 (Envoy)"`
	StdevFactor   *uint32 `json:"stdevFactor,omitempty" doc:"Thousandths of a standard deviation below the mean." unit:"thousandths" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"1900 (Envoy)"`
}

// FailurePercentage ejects hosts that fail in Threshold percent of calls or more.
type FailurePercentage struct {
	Threshold     *uint32 `json:"threshold,omitempty" doc:"Failures that eject." minimum:"1" maximum:"100" unit:"percent" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"85 (Envoy)"`
	MinimumHosts  *uint32 `json:"minimumHosts,omitempty" doc:"Hosts with enough traffic for any to be judged." minimum:"1" unit:"hosts" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"5 (Envoy)"`
	RequestVolume *uint32 `json:"requestVolume,omitempty" doc:"Requests in an interval for a host to be judged." minimum:"1" unit:"requests" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"50 (Envoy)"`
}

// EnforcingPercent is the chance that a detection of each kind becomes an ejection.
type EnforcingPercent struct {
	Consecutive5xx              *uint32 `json:"consecutive5xx,omitempty" doc:"Of consecutive5xx." maximum:"100" unit:"percent" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"100 (Envoy)"`
	ConsecutiveGatewayFailure   *uint32 `json:"consecutiveGatewayFailure,omitempty" doc:"Of consecutiveGatewayFailure." maximum:"100" unit:"percent" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"100 (Breakwater)"`
	ConsecutiveLocalOriginError *uint32 `json:"consecutiveLocalOriginFailure,omitempty" doc:"Of consecutiveLocalOriginFailure." maximum:"100" unit:"percent" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"100 (Envoy)"`
	SuccessRate                 *uint32 `json:"successRate,omitempty" doc:"Of successRate." maximum:"100" unit:"percent" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"100 (Envoy)"`
	FailurePercentage           *uint32 `json:"failurePercentage,omitempty" doc:"Of failurePercentage." maximum:"100" unit:"percent" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"100 (Breakwater)"`
}

const (
	defaultInterval         = manifest.Duration("10s")
	defaultBaseEjection     = manifest.Duration("30s")
	defaultMaxEjection      = 5 * time.Minute
	defaultMaxEjectionShare = 10
	defaultEnforcing        = 100
)

// complete fills in the defaults.
func (o *OutlierDetection) complete(string, *Sections) {
	fill(&o.Interval, defaultInterval)
	if o.BaseEjectionTime == nil && o.MaxEjectionTime != nil && o.MaxEjectionTime.D() < defaultBaseEjection.D() {
		fill(&o.BaseEjectionTime, *o.MaxEjectionTime) // an author who caps ejections lower gets that
	}
	fill(&o.BaseEjectionTime, defaultBaseEjection)
	fill(&o.MaxEjectionTime, manifest.DurationOf(max(defaultMaxEjection, o.BaseEjectionTime.D())))
	// 10 % of fewer than ten hosts is no host at all; an author who has chosen a share gets that share.
	fill(&o.AlwaysEjectOneHost, o.MaxEjectionPercent == nil)
	fill(&o.MaxEjectionPercent, defaultMaxEjectionShare)
	fill(&o.SplitLocalOriginErrors, false)
	fill(&o.UnejectOnHealthCheck, true)
	fill(&o.DetectDegradedHosts, false)
	o.completeDetectors()
}

func (o *OutlierDetection) completeDetectors() {
	if o.SuccessRate != nil {
		own(&o.SuccessRate)
		fill(&o.SuccessRate.MinimumHosts, 5)
		fill(&o.SuccessRate.RequestVolume, 100)
		fill(&o.SuccessRate.StdevFactor, 1900)
	}
	if o.FailurePercentage != nil {
		own(&o.FailurePercentage)
		fill(&o.FailurePercentage.Threshold, 85)
		fill(&o.FailurePercentage.MinimumHosts, 5)
		fill(&o.FailurePercentage.RequestVolume, 50)
	}
	own(&o.EnforcingPercent)
	for _, d := range o.detectors() {
		if d.used {
			fill(d.enforcing, defaultEnforcing)
		}
	}
}

type detector struct {
	name      string
	used      bool
	enforcing **uint32
}

// detectors lists the detectors; EnforcingPercent must not be nil.
func (o *OutlierDetection) detectors() []detector {
	e := o.EnforcingPercent
	return []detector{
		{"consecutive5xx", o.Consecutive5xx != nil, &e.Consecutive5xx},
		{"consecutiveGatewayFailure", o.ConsecutiveGatewayFailure != nil, &e.ConsecutiveGatewayFailure},
		{"consecutiveLocalOriginFailure", o.ConsecutiveLocalOriginError != nil, &e.ConsecutiveLocalOriginError},
		{"successRate", o.SuccessRate != nil, &e.SuccessRate},
		{"failurePercentage", o.FailurePercentage != nil, &e.FailurePercentage},
	}
}

func (o *OutlierDetection) detects() bool {
	return o.Consecutive5xx != nil || o.ConsecutiveGatewayFailure != nil || o.ConsecutiveLocalOriginError != nil ||
		o.SuccessRate != nil || o.FailurePercentage != nil
}

// check is what the fields must obey among each other once everything is merged.
func (o *OutlierDetection) check() []clash {
	var found []clash
	if !o.detects() {
		found = append(found, clash{
			a: "outlierDetection", rule: "has no detector: set consecutive5xx, consecutiveGatewayFailure, successRate or failurePercentage, or write disabled: true",
			oneOf: []string{"outlierDetection.consecutive5xx", "outlierDetection.consecutiveGatewayFailure", "outlierDetection.consecutiveLocalOriginFailure",
				"outlierDetection.successRate", "outlierDetection.failurePercentage"},
		})
	}
	return append(found, o.checkAlone()...)
}

// checkAlone is the part of check that holds for one policy too, which may tune a detector that another one sets.
func (o *OutlierDetection) checkAlone() []clash {
	var found []clash
	if o.BaseEjectionTime != nil && o.MaxEjectionTime != nil && o.BaseEjectionTime.D() > o.MaxEjectionTime.D() {
		found = append(found, clash{a: "outlierDetection.baseEjectionTime", rule: "must be at most", b: "outlierDetection.maxEjectionTime"})
	}
	if o.ConsecutiveLocalOriginError != nil && !isTrue(o.SplitLocalOriginErrors) {
		found = append(found, clash{a: "outlierDetection.consecutiveLocalOriginFailure", rule: "needs true for", b: "outlierDetection.splitLocalOriginErrors"})
	}
	return found
}
