package lint

import (
	"fmt"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// An experiment is watched by those who run it: none goes on for longer than a working day.
const longestFault = 12 * time.Hour

// faults looks at a policy that makes calls fail on purpose: how long it does, and whose. One that was not stored yet is not asked for how
// long: nobody knows when it will be.
func (l *spots) faults(p *policy.Policy) {
	if p.Spec.Fault == nil || p.Spec.ExpiresAt == nil {
		return
	}
	f := Finding{Severity: Warning, Kind: policy.Kind, Object: p.Key()}
	if p.Metadata.UpdatedAt != nil {
		if lasts := p.Spec.ExpiresAt.T().Sub(*p.Metadata.UpdatedAt); lasts > longestFault {
			f.Code, f.Path = FaultLeftOn, "spec.expiresAt"
			f.Why = fmt.Sprintf("calls fail on purpose for %s from when that was written: whoever sees them fail by then has not been told", manifest.DurationOf(lasts.Truncate(time.Minute)))
			f.Instead = fmt.Sprintf("a moment within %s, and a later one when it comes near and the experiment goes on", manifest.DurationOf(longestFault))
			l.add(nil, f)
		}
	}
	if p.Spec.From == nil {
		f.Code, f.Path = FaultHitsAll, "spec.fault"
		f.Why = "every caller gets the fault, also those that come while it lasts"
		f.Instead = "from: the callers that take part in the experiment"
		l.add(nil, f)
	}
}
