package policy

import "github.com/breakwater-mesh/breakwater/pkg/manifest"

// Bulkhead bounds concurrent calls; it expands to Limits.
type Bulkhead struct {
	Disabled      *bool           `json:"disabled,omitempty" doc:"Clears the bulkhead that less specific policies set; plain limits stay." scope:"cluster" effect:"in place" bwdefault:"false"`
	Observe       *bool           `json:"observe,omitempty" doc:"Counts what this section would do, and does nothing. It takes the place of nothing that is enforced." scope:"cluster" effect:"in place" bwdefault:"false"`
	MaxConcurrent *manifest.Count `json:"maxConcurrent,omitempty" doc:"Calls under way, per proxy; becomes limits.maxRequests." minimum:"1" unit:"requests" scope:"cluster" effect:"in place" bwdefault:"required"`
	MaxWaiting    *manifest.Count `json:"maxWaiting,omitempty" doc:"Calls that wait for a connection, per proxy; becomes limits.maxPendingRequests, never below maxConcurrent. HTTP/1.1 only." unit:"requests" scope:"cluster" effect:"in place" bwdefault:"maxConcurrent (Breakwater)"`
}

// expand writes the bulkhead as limits. A bulkhead never waits less than it runs: a call needs a place in the queue to get its
// connection, even where it doesn't wait.
func (b *Bulkhead) expand(e *expansion) {
	if isTrue(b.Disabled) {
		e.off("bulkhead")
		return
	}
	if b.MaxConcurrent == nil {
		return
	}
	e.set("limits.maxRequests", b.MaxConcurrent, "bulkhead.maxConcurrent")
	if b.MaxWaiting != nil && *b.MaxWaiting > *b.MaxConcurrent {
		e.set("limits.maxPendingRequests", b.MaxWaiting, "bulkhead.maxWaiting")
		return
	}
	e.set("limits.maxPendingRequests", b.MaxConcurrent, "bulkhead.maxConcurrent")
}

// validate checks one author's section, beside the limits of the same policy.
func (b *Bulkhead) validate(f *faults, s *Sections) {
	if isTrue(b.Disabled) {
		return
	}
	if b.MaxConcurrent == nil {
		f.add("bulkhead.maxConcurrent", "is required")
	}
	limits := s.Limits
	if limits == nil {
		return
	}
	if limits.MaxRequests != nil {
		f.add("limits.maxRequests", "can't stand beside bulkhead, which sets it: write one of the two")
	}
	if limits.MaxPendingRequests != nil {
		f.add("limits.maxPendingRequests", "can't stand beside bulkhead, which sets it: use bulkhead.maxWaiting")
	}
}
