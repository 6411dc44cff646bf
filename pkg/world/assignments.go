package world

import (
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// assignments are those of one service and its subsets, by how proxies call its clusters; none where they can't be made.
type assignments struct {
	ours    []*view.Resource // where the routes are ours
	foreign []*view.Resource // where they are their owner's; the same, unless the service has a name of its own for that
}

// named are the assignments of svc by all its names.
func named(svc *catalog.Service, endpoints []catalog.Endpoint) (a assignments, err error) {
	a.ours, err = envoy.Target{}.Assignments(svc, endpoints)
	if a.foreign = a.ours; err == nil && svc.Spec.ClusterName != "" {
		a.foreign, err = envoy.Target{Profile: envoy.ClustersOnly}.Assignments(svc, endpoints)
	}
	return a, err
}

// of are those that the proxies of a target have.
func (a assignments) of(target envoy.Target) []*view.Resource {
	if target.Profile == envoy.ClustersOnly {
		return a.foreign
	}
	return a.ours
}

// keep has what is unchanged since before stay the very same, and where some endpoint is broken all that was there.
func (a assignments) keep(before assignments, broken bool) {
	for _, lists := range [][2][]*view.Resource{{a.ours, before.ours}, {a.foreign, before.foreign}} {
		for i, r := range lists[0] {
			for _, old := range lists[1] {
				if old.Name == r.Name && (broken || old.Version == r.Version) {
					lists[0][i] = old
				}
			}
		}
	}
}
