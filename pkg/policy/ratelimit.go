package policy

import "github.com/breakwater-mesh/breakwater/pkg/manifest"

// RateLimit bounds how many calls a proxy sends in a time, by a token bucket of its own.
type RateLimit struct {
	Disabled *bool              `json:"disabled,omitempty" doc:"Clears the rate limit that less specific policies set." scope:"route" effect:"in place" bwdefault:"false"`
	Observe  *bool              `json:"observe,omitempty" doc:"Counts what this section would do, and does nothing. It takes the place of nothing that is enforced." scope:"route" effect:"in place" bwdefault:"false"`
	Requests *uint32            `json:"requests,omitempty" doc:"Calls in each interval, per proxy; one more is answered 429." minimum:"1" maximum:"1000000000" zero:"to let no call through write fault, to lift the limit disabled: true" unit:"requests" scope:"route" effect:"in place" bwdefault:"required"`
	Interval *manifest.Duration `json:"interval,omitempty" doc:"The time that requests counts in; at least 50ms." unit:"duration" scope:"route" effect:"in place" bwdefault:"1s (Breakwater)"`
	Burst    *uint32            `json:"burst,omitempty" doc:"Calls at once after a time of rest: the size of the bucket." minimum:"1" maximum:"1000000000" unit:"requests" scope:"route" effect:"in place" bwdefault:"requests (Breakwater)"`
}

const (
	defaultRateInterval = manifest.Duration("1s")
	shortestInterval    = manifest.Duration("50ms") // Envoy fills no faster
)

func (l *RateLimit) complete(string, *Sections) {
	fill(&l.Interval, defaultRateInterval)
	if l.Requests != nil {
		fill(&l.Burst, *l.Requests)
	}
}

func (l *RateLimit) check() []clash {
	if l.Requests == nil {
		return []clash{{a: "rateLimit", rule: "needs rateLimit.requests", oneOf: []string{"rateLimit.requests"}}}
	}
	return nil
}

// checkAlone lets one policy change the interval or the burst of another's limit.
func (l *RateLimit) checkAlone() []clash { return nil }

func (l *RateLimit) validate(f *faults, _ *Sections) {
	if l.Interval != nil && l.Interval.D() < shortestInterval.D() {
		f.add("rateLimit.interval", "must be at least %s", shortestInterval)
	}
}
