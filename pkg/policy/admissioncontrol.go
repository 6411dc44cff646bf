package policy

import (
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// AdmissionControl sheds calls by chance as soon as fewer than SuccessRatePercent of those within Window succeed: of n calls of which s
// succeeded (n - s/rate) / (n + 1), to the power of 1/Aggression. What is a success, FailureCriteria say.
type AdmissionControl struct {
	Disabled *bool `json:"disabled,omitempty" doc:"Clears the admission control that less specific policies set." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"false"`
	Observe  *bool `json:"observe,omitempty" doc:"Counts what this section would do, and does nothing. It takes the place of nothing that is enforced." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"false"`

	SuccessRatePercent  *uint32            `json:"successRatePercent,omitempty" doc:"With fewer successes than this, calls are shed." minimum:"1" maximum:"100" unit:"percent" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"95 (Envoy)"`
	Window              *manifest.Duration `json:"window,omitempty" doc:"The time over which successes are counted; whole seconds." unit:"duration" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"30s (Envoy)"`
	Aggression          *float64           `json:"aggression,omitempty" doc:"The more, the sooner many calls are shed; 1: in proportion." minimum:"1" maximum:"1000" unit:"exponent" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"1 (Envoy)"`
	MaxRejectionPercent *uint32            `json:"maxRejectionPercent,omitempty" doc:"No more calls are shed than this: the others find out whether the service is back." maximum:"100" unit:"percent" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"80 (Envoy)"`
	RPSThreshold        *uint32            `json:"rpsThreshold,omitempty" doc:"With fewer calls a second than this, none are shed." maximum:"1000000" unit:"calls a second" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"0 (Envoy)"`
}

const (
	defaultSuccessRate         = 95
	defaultAdmissionWindow     = manifest.Duration("30s")
	defaultAdmissionAggression = 1.0
	defaultMaxRejection        = 80
)

// complete fills in the defaults.
func (a *AdmissionControl) complete(string, *Sections) {
	fill(&a.SuccessRatePercent, defaultSuccessRate)
	fill(&a.Window, defaultAdmissionWindow)
	fill(&a.Aggression, defaultAdmissionAggression)
	fill(&a.MaxRejectionPercent, defaultMaxRejection)
	fill(&a.RPSThreshold, 0)
}

// validate checks one author's section alone.
func (a *AdmissionControl) validate(f *faults, _ *Sections) {
	if a.Window != nil && (a.Window.D() < time.Second || a.Window.D()%time.Second != 0) {
		f.add("admissionControl.window", "must be whole seconds, at least 1s")
	}
}
