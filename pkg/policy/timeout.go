package policy

import "github.com/breakwater-mesh/breakwater/pkg/manifest"

// Timeout bounds calls in time.
type Timeout struct {
	Disabled   *bool              `json:"disabled,omitempty" doc:"Clears every timeout that less specific policies set." scope:"route" effect:"in place; connect and connectionIdle rebuild the cluster" bwdefault:"false"`
	Observe    *bool              `json:"observe,omitempty" doc:"Counts what this section would do, and does nothing. It takes the place of nothing that is enforced." scope:"route" effect:"in place; connect and connectionIdle rebuild the cluster" bwdefault:"false"`
	Request    *manifest.Duration `json:"request,omitempty" doc:"The whole call, with all its tries and pauses." unit:"duration" allow:"none" scope:"route" effect:"in place" bwdefault:"none (a sidecar adds no limit)"`
	PerTry     *manifest.Duration `json:"perTry,omitempty" doc:"One try. Must be less than request." unit:"duration" allow:"none" scope:"route" effect:"in place" bwdefault:"none (Envoy)"`
	PerTryIdle *manifest.Duration `json:"perTryIdle,omitempty" doc:"One try without any byte moving." unit:"duration" allow:"none" scope:"route" effect:"in place" bwdefault:"none (Envoy)"`
	MaxStream  *manifest.Duration `json:"maxStream,omitempty" doc:"A whole stream, for long-lived ones. Not beside request, which Envoy can't hold together with it." unit:"duration" allow:"none" scope:"route" effect:"in place" bwdefault:"none (Envoy)"`

	Deadline *Deadline `json:"deadline,omitempty" doc:"One deadline for the chain: of what a caller has left, this call gets a share. Needs request, which is what a call gets that brings no deadline." scope:"route" effect:"in place" bwdefault:"none: a caller's deadline passes as it is"`

	Connect        *manifest.Duration `json:"connect,omitempty" doc:"Opening a connection to a host." unit:"duration" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"5s (Envoy)"`
	ConnectionIdle *manifest.Duration `json:"connectionIdle,omitempty" doc:"How long a connection without a call is kept." unit:"duration" allow:"none" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"1h (Envoy)"`
}

// Deadline is what a call makes of the time that its caller has left, which the headers x-breakwater-budget-ms (milliseconds),
// x-breakwater-deadline-ms (milliseconds of Unix time) and, on gRPC services, grpc-timeout say.
type Deadline struct {
	KeepPercent *uint32            `json:"keepPercent,omitempty" doc:"So much of the caller's remaining time this call may take; never more than request." minimum:"1" maximum:"100" unit:"percent" scope:"route" effect:"in place" bwdefault:"90 (Breakwater)"`
	Minimum     *manifest.Duration `json:"minimum,omitempty" doc:"A call with less time than this is answered 504 (DEADLINE_EXCEEDED by gRPC) and not sent." unit:"duration" scope:"route" effect:"in place" bwdefault:"5ms (Breakwater)"`
}

const (
	defaultKeepPercent                   = 90
	defaultMinimum     manifest.Duration = "5ms"
)

const defaultConnect manifest.Duration = "5s"

// complete fills in the defaults. Without a value the other timeouts do not exist.
func (t *Timeout) complete(string, *Sections) {
	fill(&t.Connect, defaultConnect)
	if t.Deadline != nil {
		own(&t.Deadline)
		fill(&t.Deadline.KeepPercent, defaultKeepPercent)
		fill(&t.Deadline.Minimum, defaultMinimum)
	}
}

// check is what the timeouts must obey among each other.
func (t *Timeout) check() []clash {
	var found []clash
	if finite(t.Request) {
		if finite(t.PerTry) && t.PerTry.D() >= t.Request.D() {
			found = append(found, clash{a: "timeout.perTry", rule: "must be less than", b: "timeout.request"})
		}
		if finite(t.PerTryIdle) && t.PerTryIdle.D() >= t.Request.D() {
			found = append(found, clash{a: "timeout.perTryIdle", rule: "must be less than", b: "timeout.request"})
		}
		if finite(t.MaxStream) {
			found = append(found, clash{a: "timeout.maxStream", rule: "can't hold beside", b: "timeout.request"})
		}
	}
	if t.Deadline != nil && t.Deadline.Minimum != nil && finite(t.Request) && t.Deadline.Minimum.D() >= t.Request.D() {
		found = append(found, clash{a: "timeout.deadline", rule: "has a minimum that must be less than", b: "timeout.request"})
	}
	if finite(t.PerTry) && finite(t.PerTryIdle) && t.PerTryIdle.D() >= t.PerTry.D() {
		found = append(found, clash{a: "timeout.perTryIdle", rule: "must be less than", b: "timeout.perTry"})
	}
	return found
}

// finite reports whether d is a limit at all.
func finite(d *manifest.Duration) bool { return d != nil && d.D() > 0 }
