package world

import (
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// assignments are those of one service and its subsets by all names that their clusters have somewhere; none where they can't be made.
type assignments []*view.Resource

// assignmentsOf are the assignments of svc.
func assignmentsOf(svc *catalog.Service, endpoints []catalog.Endpoint) (assignments, error) {
	ours, err := envoy.Target{}.Assignments(svc, endpoints)
	if err != nil || svc.Spec.ClusterName == "" {
		return ours, err
	}
	foreign, err := envoy.Target{Profile: envoy.ClustersOnly}.Assignments(svc, endpoints)
	return append(ours, foreign...), err
}

// of is the assignment of a cluster, or nil.
func (a assignments) of(cluster string) *view.Resource {
	if i := slices.IndexFunc(a, func(r *view.Resource) bool { return r.Name == cluster }); i >= 0 {
		return a[i]
	}
	return nil
}

// keep has what is unchanged since before stay the very same, and where some endpoint is broken all that was there.
func (a assignments) keep(before assignments, broken bool) {
	for i, r := range a {
		if old := before.of(r.Name); old != nil && (broken || old.Version == r.Version) {
			a[i] = old
		}
	}
}
