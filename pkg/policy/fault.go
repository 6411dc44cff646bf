package policy

import "github.com/breakwater-mesh/breakwater/pkg/manifest"

// Fault makes calls fail on purpose, between the proxy and the service: retries, time limits of a try and ejection see it as they would see
// a service that fails so.
type Fault struct {
	Disabled *bool  `json:"disabled,omitempty" doc:"Clears the fault that less specific policies set." scope:"route" effect:"in place" bwdefault:"false"`
	Abort    *Abort `json:"abort,omitempty" doc:"Answers some of the tries in place of the service." scope:"route" effect:"in place" bwdefault:"none"`
	Delay    *Delay `json:"delay,omitempty" doc:"Holds some of the tries back, also those that are answered by abort then." scope:"route" effect:"in place" bwdefault:"none"`
}

// Abort is an answer in place of the service's: a status of HTTP or one of gRPC.
type Abort struct {
	Status     *uint32 `json:"status,omitempty" doc:"The status of HTTP." minimum:"400" maximum:"599" unit:"HTTP status" scope:"route" effect:"in place" bwdefault:"none"`
	GRPCStatus *string `json:"grpcStatus,omitempty" doc:"The status of gRPC, in gRPC's words, such as unavailable." scope:"route" effect:"in place" bwdefault:"none"`
	Percent    *uint32 `json:"percent,omitempty" doc:"So many of a hundred tries, by chance." minimum:"1" maximum:"100" zero:"to let all calls through write disabled: true" unit:"percent" scope:"route" effect:"in place" bwdefault:"100 (Breakwater)"`
}

// Delay is a pause before the service is called.
type Delay struct {
	Duration *manifest.Duration `json:"duration,omitempty" doc:"How long." unit:"duration" scope:"route" effect:"in place" bwdefault:"required"`
	Percent  *uint32            `json:"percent,omitempty" doc:"So many of a hundred tries, by chance." minimum:"1" maximum:"100" zero:"to let all calls through write disabled: true" unit:"percent" scope:"route" effect:"in place" bwdefault:"100 (Breakwater)"`
}

const wholeFault = 100 // percent

func (x *Fault) complete(string, *Sections) {
	if x.Abort != nil {
		own(&x.Abort)
		fill(&x.Abort.Percent, wholeFault)
	}
	if x.Delay != nil {
		own(&x.Delay)
		fill(&x.Delay.Percent, wholeFault)
	}
}

func (x *Fault) check() []clash {
	if x.Abort == nil && x.Delay == nil {
		return []clash{{a: "fault", rule: "needs fault.abort or fault.delay", oneOf: []string{"fault.abort", "fault.delay"}}}
	}
	return nil
}

// checkAlone lets a section that is switched off be.
func (x *Fault) checkAlone() []clash { return nil }

func (x *Fault) validate(f *faults, _ *Sections) {
	if a := x.Abort; a != nil {
		switch {
		case a.Status == nil && a.GRPCStatus == nil:
			f.add("fault.abort", "needs status or grpcStatus: what is answered in place of the service")
		case a.Status != nil && a.GRPCStatus != nil:
			f.add("fault.abort", "takes status or grpcStatus, not both")
		case a.GRPCStatus != nil:
			f.word("fault.abort.grpcStatus", *a.GRPCStatus, grpcCodes, nil)
		}
	}
	if x.Delay != nil && x.Delay.Duration == nil {
		f.add("fault.delay.duration", "is required: how long a try is held back")
	}
}

// faultEnds checks that a fault has an end: one that is forgotten is an outage.
func faultEnds(p *Policy, f *faults) {
	if x := p.Spec.Fault; x != nil && !isTrue(x.Disabled) && p.Spec.ExpiresAt == nil {
		f.add("expiresAt", "is required beside fault: when it ends by itself, such as expiresAt: 2026-11-24T18:00:00Z")
	}
}
