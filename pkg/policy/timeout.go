package policy

import "github.com/breakwater-mesh/breakwater/pkg/manifest"

// Timeout bounds calls in time.
type Timeout struct {
	Disabled   *bool              `json:"disabled,omitempty" doc:"Clears every timeout that less specific policies set." scope:"route" effect:"in place" bwdefault:"false"`
	Request    *manifest.Duration `json:"request,omitempty" doc:"The whole call, with all its tries and pauses." unit:"duration" allow:"none" scope:"route" effect:"in place" bwdefault:"none (a sidecar adds no limit)"`
	PerTry     *manifest.Duration `json:"perTry,omitempty" doc:"One try. Must be less than request." unit:"duration" allow:"none" scope:"route" effect:"in place" bwdefault:"none (Envoy)"`
	PerTryIdle *manifest.Duration `json:"perTryIdle,omitempty" doc:"One try without any byte moving." unit:"duration" allow:"none" scope:"route" effect:"in place" bwdefault:"none (Envoy)"`
	MaxStream  *manifest.Duration `json:"maxStream,omitempty" doc:"A whole stream, for long-lived ones. Not beside request, which Envoy can't hold together with it." unit:"duration" allow:"none" scope:"route" effect:"in place" bwdefault:"none (Envoy)"`

	Connect        *manifest.Duration `json:"connect,omitempty" doc:"Opening a connection to a host." unit:"duration" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"5s (Envoy)"`
	ConnectionIdle *manifest.Duration `json:"connectionIdle,omitempty" doc:"How long a connection without a call is kept." unit:"duration" allow:"none" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"1h (Envoy)"`
}

// NotYet answers for the fields that later versions of the language have.
func (Timeout) NotYet() map[string]string { return later("deadline", "observe") }

const defaultConnect manifest.Duration = "5s"

// complete fills in the defaults. Without a value the other timeouts do not exist.
func (t *Timeout) complete(string, *Sections) {
	fill(&t.Connect, defaultConnect)
}

// check is what the timeouts must obey among each other.
func (t *Timeout) check() []clash {
	var found []clash
	if finite(t.Request) {
		if finite(t.PerTry) && t.PerTry.D() >= t.Request.D() {
			found = append(found, clash{"timeout.perTry", "must be less than", "timeout.request"})
		}
		if finite(t.PerTryIdle) && t.PerTryIdle.D() >= t.Request.D() {
			found = append(found, clash{"timeout.perTryIdle", "must be less than", "timeout.request"})
		}
		if finite(t.MaxStream) {
			found = append(found, clash{"timeout.maxStream", "can't hold beside", "timeout.request"})
		}
	}
	if finite(t.PerTry) && finite(t.PerTryIdle) && t.PerTryIdle.D() >= t.PerTry.D() {
		found = append(found, clash{"timeout.perTryIdle", "must be less than", "timeout.perTry"})
	}
	return found
}

// finite reports whether d is a limit at all.
func finite(d *manifest.Duration) bool { return d != nil && d.D() > 0 }
