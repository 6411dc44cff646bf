package policy

import "github.com/breakwater-mesh/breakwater/pkg/manifest"

// AdaptiveConcurrency finds out how many calls at once a service answers well, by its latency, and sheds the rest: at every update the
// limit is multiplied by MinLatency / present latency, between 0.5 and 2, and then grows by its square root.
type AdaptiveConcurrency struct {
	Disabled *bool `json:"disabled,omitempty" doc:"Clears the adaptive concurrency that less specific policies set." scope:"service" effect:"drains the application's connections" bwdefault:"false"`
	Observe  *bool `json:"observe,omitempty" doc:"Counts what this section would do, and does nothing. It takes the place of nothing that is enforced." scope:"service" effect:"drains the application's connections" bwdefault:"false"`

	MaxConcurrency *uint32            `json:"maxConcurrency,omitempty" doc:"The limit never grows above it." minimum:"1" maximum:"1000000" unit:"requests" scope:"service" effect:"drains the application's connections" bwdefault:"1000 (Envoy)"`
	UpdateInterval *manifest.Duration `json:"updateInterval,omitempty" doc:"How often the limit is set anew, by the latencies since." unit:"duration" scope:"service" effect:"drains the application's connections" bwdefault:"100ms (Breakwater)"`
	Percentile     *uint32            `json:"percentile,omitempty" doc:"The latency that counts: of so many in a hundred calls it is not longer." minimum:"1" maximum:"100" unit:"percent" scope:"service" effect:"drains the application's connections" bwdefault:"50 (Envoy)"`
	MinLatency     *MinLatency        `json:"minLatency,omitempty" doc:"How the latency of an idle service is measured, to which the present one is compared." scope:"service" effect:"drains the application's connections" bwdefault:"every 60s, over 50 requests of which 3 run at once (Envoy)"`
}

// MinLatency measures the latency of an idle service: it lets few calls run at once for a while.
type MinLatency struct {
	Interval      *manifest.Duration `json:"interval,omitempty" doc:"From one measurement to the next." unit:"duration" scope:"service" effect:"drains the application's connections" bwdefault:"60s (Breakwater)"`
	Requests      *uint32            `json:"requests,omitempty" doc:"So many are measured." minimum:"1" maximum:"100000" unit:"requests" scope:"service" effect:"drains the application's connections" bwdefault:"50 (Envoy)"`
	Concurrency   *uint32            `json:"concurrency,omitempty" doc:"So many run at once meanwhile, and the limit never falls below it." minimum:"1" maximum:"100000" unit:"requests" scope:"service" effect:"drains the application's connections" bwdefault:"3 (Envoy)"`
	JitterPercent *uint32            `json:"jitterPercent,omitempty" doc:"A random share of the interval on top of it, so that the callers do not measure together." maximum:"100" unit:"percent" scope:"service" effect:"drains the application's connections" bwdefault:"15 (Envoy)"`
	BufferPercent *uint32            `json:"bufferPercent,omitempty" doc:"By so much the latency may vary and count as the same." maximum:"100" unit:"percent" scope:"service" effect:"drains the application's connections" bwdefault:"25 (Envoy)"`
}

const (
	defaultMaxConcurrency = 1000
	defaultMinConcurrency = 3
)

// complete fills in the defaults. What is not set gives way to what is.
func (a *AdaptiveConcurrency) complete(string, *Sections) {
	own(&a.MinLatency)
	most := uint32(defaultMaxConcurrency)
	if least := a.MinLatency.Concurrency; least != nil {
		most = max(most, *least)
	}
	fill(&a.MaxConcurrency, most)
	fill(&a.UpdateInterval, "100ms")
	fill(&a.Percentile, 50)
	fill(&a.MinLatency.Interval, "60s")
	fill(&a.MinLatency.Requests, 50)
	fill(&a.MinLatency.Concurrency, min(defaultMinConcurrency, *a.MaxConcurrency))
	fill(&a.MinLatency.JitterPercent, 15)
	fill(&a.MinLatency.BufferPercent, 25)
}

// check is what the fields must obey among each other.
func (a *AdaptiveConcurrency) check() []clash {
	if m := a.MinLatency; a.MaxConcurrency != nil && m != nil && m.Concurrency != nil && *m.Concurrency > *a.MaxConcurrency {
		return []clash{{a: "adaptiveConcurrency.minLatency", rule: "has a concurrency that must be at most", b: "adaptiveConcurrency.maxConcurrency"}}
	}
	return nil
}
