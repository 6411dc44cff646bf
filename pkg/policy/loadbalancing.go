package policy

// LoadBalancing chooses the host of a call.
type LoadBalancing struct {
	Disabled       *bool   `json:"disabled,omitempty" doc:"Clears what less specific policies set here." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"false"`
	Algorithm      *string `json:"algorithm,omitempty" doc:"How the host of a call is chosen." enum:"round-robin,least-request,random" later:"ring-hash,maglev" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"round-robin (Envoy)"`
	PanicThreshold *uint32 `json:"panicThreshold,omitempty" doc:"With fewer healthy hosts than this, traffic goes to all of them, ejected ones too; 0 switches that off." unit:"percent" maximum:"100" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"50 (Envoy)"`
}

// NotYet answers for the fields that later versions of the language have.
func (LoadBalancing) NotYet() map[string]string {
	return later("hashOn", "failTrafficOnPanic", "slowStart", "localityWeighted", "observe")
}

const (
	// RoundRobin, LeastRequest and Random are the algorithms.
	RoundRobin   = "round-robin"
	LeastRequest = "least-request"
	Random       = "random"

	defaultPanicThreshold = 50
)

// complete fills in the defaults.
func (l *LoadBalancing) complete(string, *Sections) {
	fill(&l.Algorithm, RoundRobin)
	fill(&l.PanicThreshold, defaultPanicThreshold)
}
