package lint

import (
	"fmt"

	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// fails reports whether an answer of this status is a failure by the failure criteria in force.
func (s *side) fails(status uint32) bool {
	http := s.Criteria(s.protocol).HTTP
	return http != nil && policy.Covers(http.Statuses, status) && !policy.Covers(http.ExceptStatuses, status)
}

// byCriteria reports whether ejection goes by the failure criteria.
func (s *side) byCriteria() bool {
	o := s.OutlierDetection
	return o != nil && o.UseFailureCriteria != nil && *o.UseFailureCriteria
}

// overload finds ejection of hosts that only ask for less load.
func (l *spots) overload(c *call) {
	if !c.cluster.ejects() || !c.cluster.byCriteria() || !c.cluster.fails(429) {
		return
	}
	object, path, ok := c.cluster.at("failureCriteria.http.statuses", "failureCriteria.http.exceptStatuses", "outlierDetection.useFailureCriteria")
	if !ok {
		return
	}
	l.add(c.to, Finding{
		Code: EjectsFor429, Severity: Warning, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why:     fmt.Sprintf("a host of %s that answers 429 asks for less load; ejected for it, it leaves its load to the others, which then answer 429 too", key(c.to)),
		Instead: "failureCriteria.http.exceptStatuses: [429], or an ejection that does not use the failure criteria",
	})
}
