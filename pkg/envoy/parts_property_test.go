package envoy

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Whatever routes and subsets a valid service has, and whatever policies say of them, Envoy's API takes what comes out. Where limits have
// runtime layers, no edit of routes, and no policy for one, changes a byte of a cluster.
func TestPartsCompileAndRoutesTouchNoCluster(t *testing.T) {
	valid := 0
	rapid.Check(t, func(r *rapid.T) {
		svc := payments(rapid.SampledFrom([]catalog.Protocol{catalog.HTTP, catalog.GRPC}).Draw(r, "protocol"))
		svc.Spec.Subsets = map[string]map[string]string{"v1": {"version": "v1"}, "v2": {"version": "v2"}}
		bare := *svc
		svc.Spec.Routes = drawRoutes(r)
		if faults := catalog.Validate(svc); len(faults) > 0 {
			return
		}
		var all, clusters []*policy.Compiled
		for i := range rapid.IntRange(0, 4).Draw(r, "policies") {
			p := drawPolicy(r, i)
			drawPart(r, p)
			if len(policy.Validate(p)) > 0 {
				continue
			}
			valid++
			all = append(all, policy.Compile(p))
			if p.Spec.To.Route == "" {
				clusters = append(clusters, policy.Compile(p))
			}
		}
		target := Target{Profile: Sidecar, Version: "1.40", Runtime: true}
		with, without := compiledOf(r, target, svc, all), compiledOf(r, target, &bare, clusters)
		if !slices.EqualFunc(clustersIn(with), clustersIn(without), func(a, b *view.Resource) bool { return bytes.Equal(a.Wire, b.Wire) }) {
			r.Fatal("routes changed a cluster")
		}
		for _, need := range with.Route.Needs {
			if !slices.ContainsFunc(clustersIn(with), func(c *view.Resource) bool { return c.Name == need.Name }) && need.Name != "shop/queue|v1" {
				r.Fatalf("the routes need %v, which nobody makes", need)
			}
		}
		target.Runtime = false
		compiledOf(r, target, svc, all)
	})
	if valid < 20 {
		t.Errorf("only %d of the drawn policies were valid: the test shows little", valid)
	}
}

func clustersIn(c Compiled) []*view.Resource {
	return append([]*view.Resource{c.Cluster}, c.Subsets...)
}

func compiledOf(r *rapid.T, target Target, svc *catalog.Service, applied []*policy.Compiled) Compiled {
	slices.SortFunc(applied, (*policy.Compiled).Compare)
	eff, _ := policy.Merge(policy.Service{Key: svc.Key(), Protocol: string(svc.Spec.Protocol)}, applied)
	c, err := Service(target, svc, eff)
	if err != nil {
		r.Fatal(err)
	}
	if _, err := Layer(LayerOf(svc.Key().String()), c.Limits); err != nil {
		r.Fatal(err)
	}
	return c
}

// drawPart makes p one for a part of the service, now and then, with the sections that can differ there.
func drawPart(r *rapid.T, p *policy.Policy) {
	s := &p.Spec.Sections
	switch rapid.IntRange(0, 2).Draw(r, "part") {
	case 1:
		p.Spec.To.Route = rapid.SampledFrom([]string{"a", "b", catalog.DefaultRoute}).Draw(r, "route")
		*s = policy.Sections{Timeout: s.Timeout, Retry: s.Retry}
		if s.Timeout != nil {
			s.Timeout.Connect, s.Timeout.ConnectionIdle = nil, nil
		}
		if s.Retry != nil {
			s.Retry.Budget = nil
		}
	case 2:
		p.Spec.To.Subset = rapid.SampledFrom([]string{"v1", "v2"}).Draw(r, "subset")
		s.Timeout, s.Retry = nil, nil
	}
}

func drawRoutes(r *rapid.T) []catalog.Route {
	var list []catalog.Route
	for _, name := range []string{"a", "b", "c"}[:rapid.IntRange(0, 3).Draw(r, "routes")] {
		list = append(list, catalog.Route{
			Name:     name,
			Match:    maybe(r, "match", func() catalog.RouteMatch { return drawMatch(r) }),
			Priority: rapid.SampledFrom([]catalog.Priority{"", catalog.PriorityHigh}).Draw(r, "priority"),
			Backends: rapid.SliceOfNDistinct(rapid.SampledFrom([]catalog.Backend{{}, {Subset: "v1"}, {Subset: "v2", Weight: new(uint32(0))}, {Service: "queue", Subset: "v1", Weight: new(uint32(1000000))}}),
				0, 4, rapid.ID[catalog.Backend]).Draw(r, "backends"),
		})
	}
	return list
}

func drawMatch(r *rapid.T) catalog.RouteMatch {
	paths := []*catalog.PathMatch{nil, {Exact: new("/a")}, {Prefix: new("/")}, {Prefix: new("/a/")}, {Regex: new("/a/[0-9]+")}}
	headers := []catalog.RequestMatcher{{Name: "x-a", Exact: new("")}, {Name: "x-b", Prefix: new("b")}, {Name: "x-c", Regex: new("c+")}, {Name: "x-d", Present: new(false)}}
	return catalog.RouteMatch{
		Path:    rapid.SampledFrom(paths).Draw(r, "path"),
		Methods: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"GET", "POST", "PUT"}), 0, 3, rapid.ID[string]).Draw(r, "taken"),
		Headers: rapid.SliceOfN(rapid.SampledFrom(headers), 0, 2).Draw(r, "headers"),
	}
}
