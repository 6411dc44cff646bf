package lint

import (
	"fmt"

	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// fails reports whether an answer of this status is a failure by the failure criteria in force.
func (r *result) fails(status uint32) bool {
	http := r.Criteria(r.protocol).HTTP
	return http != nil && policy.Covers(http.Statuses, status) && !policy.Covers(http.ExceptStatuses, status)
}

// byCriteria reports whether ejection goes by the failure criteria.
func (r *result) byCriteria() bool {
	o := r.OutlierDetection
	return o != nil && o.UseFailureCriteria != nil && *o.UseFailureCriteria
}

// overload finds ejection of hosts that only ask for less load.
func (l *linter) overload(c *call) {
	if !c.ejects() || !c.byCriteria() || !c.fails(429) {
		return
	}
	object, path, ok := c.at("failureCriteria.http.statuses", "failureCriteria.http.exceptStatuses", "outlierDetection.useFailureCriteria")
	if !ok {
		return
	}
	l.add(Finding{
		Code: EjectsFor429, Severity: Warning, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why:     fmt.Sprintf("a host of %s that answers 429 asks for less load; ejected for it, it leaves its load to the others, which then answer 429 too", key(c.to)),
		Instead: "failureCriteria.http.exceptStatuses: [429], or an ejection that does not use the failure criteria",
	})
}
