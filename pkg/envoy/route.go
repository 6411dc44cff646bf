package envoy

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// routed is one route of a service, with what holds for its calls.
type routed struct {
	input
	spec     catalog.Route
	backends []backend // never empty
	hashOn   []policy.HashKey

	// What its calls go through, by name; filled as its routes are made.
	composites map[string]composite
	faults     map[string]string // the clusters that they lead to in the end

	apart bool // its faults are not those of the whole service
}

// backend is a cluster and its share of a route's calls.
type backend struct {
	cluster string
	weight  uint32
}

// routesOf are the routes of svc in their order, and the one that takes the rest unless another takes everything. Whole is what holds for
// the service, clusters are its own and its subsets'.
func routesOf(whole input, clusters []input, svc *catalog.Service, eff *policy.Effective) []routed {
	specs := slices.Clone(svc.Spec.Routes)
	if !slices.ContainsFunc(specs, func(r catalog.Route) bool { return r.Everything() }) {
		specs = append(specs, catalog.Route{Name: catalog.DefaultRoute})
	}
	var list []routed
	for _, spec := range specs {
		r := routed{input: newInput(whole.target, svc, eff.Route(spec.Name)), spec: spec, composites: map[string]composite{}, faults: map[string]string{}}
		r.apart = r.high() || !reflect.DeepEqual(r.sections.Fault, whole.sections.Fault)
		for _, b := range spec.Backends {
			r.backends = append(r.backends, backend{ClusterName(b.Key(svc), b.Subset), b.Share()})
		}
		if r.backends == nil {
			r.backends = []backend{{r.name, 1}}
		}
		r.hashOn = hashOn(clusters, r.backends)
		list = append(list, r)
	}
	return list
}

// leadHere notes what the routes that lead to a cluster ask of it.
func (in *input) leadHere(routes []routed) {
	for _, r := range routes {
		if slices.ContainsFunc(r.backends, func(b backend) bool { return b.cluster == in.name }) {
			in.hints.retried = in.hints.retried || r.retries()
			in.hints.high = in.hints.high || r.high()
		}
	}
}

func (r routed) high() bool { return catalog.PriorityOf(&r.spec) == catalog.PriorityHigh }

// needs are the clusters that routes lead to, by name; the routes must have been made.
func needs(name string, routes []routed) []view.ID {
	clusters := []string{name}
	for _, r := range routes {
		for _, b := range r.backends {
			clusters = append(clusters, b.cluster)
		}
		clusters = slices.AppendSeq(clusters, maps.Keys(r.composites))
	}
	slices.Sort(clusters)
	var ids []view.ID
	for _, cluster := range slices.Compact(clusters) {
		ids = append(ids, view.ID{Type: view.CDS, Name: cluster})
	}
	return append(ids, needFaults(routes)...)
}

// routeConfiguration holds the routes of the service; scopes lead to it by host, so it takes every domain. An edit of it acts in
// place.
func routeConfiguration(whole input, routes []routed) *routev3.RouteConfiguration {
	var list []*routev3.Route
	for _, r := range routes {
		if whole.target.audience() == grpcClients {
			list = append(list, r.grpcRoutes()...)
			continue
		}
		for _, one := range r.routes() {
			one.TypedPerFilterConfig = r.routeFilters(whole)
			list = append(list, one)
		}
	}
	if whole.target.audience() == grpcClients {
		return &routev3.RouteConfiguration{Name: whole.name, VirtualHosts: []*routev3.VirtualHost{{Name: whole.name, Domains: []string{"*"}, Routes: list}}}
	}
	return &routev3.RouteConfiguration{
		Name: whole.name,
		VirtualHosts: []*routev3.VirtualHost{{
			Name: whole.name, Domains: []string{"*"}, Routes: list, TypedPerFilterConfig: whole.hostFilters(),
		}},
	}
}

// routes is the route, in two where only some of its methods may be sent twice: the second takes the other methods.
func (r routed) routes() []*routev3.Route {
	methods := r.retriedMethods()
	if methods == nil || !r.guards() {
		return []*routev3.Route{r.route(r.methods(), false)}
	}
	taken := r.methods()
	free := methods
	if taken != nil {
		free = slices.DeleteFunc(slices.Clone(taken), func(m string) bool { return !slices.Contains(methods, m) })
	}
	var list []*routev3.Route
	if len(free) > 0 {
		list = append(list, r.route(free, false))
	}
	if len(free) == 0 || len(free) != len(taken) {
		list = append(list, r.route(taken, true))
	}
	return list
}

// guards reports whether it matters which methods may be sent twice: not where nothing is that a host may have begun on.
func (r routed) guards() bool {
	return r.spare() != "" || r.hedgePolicy(false) != nil || !proto.Equal(r.guardedRetryPolicy(), r.retryPolicy())
}

// methods are those that the route takes, sorted; nil for all.
func (r routed) methods() []string {
	if r.spec.Match == nil || len(r.spec.Match.Methods) == 0 {
		return nil
	}
	return slices.Sorted(slices.Values(r.spec.Match.Methods))
}

// route is the route for some of its methods, nil for all that there are; guarded where they must not be sent twice.
func (r routed) route(methods []string, guarded bool) *routev3.Route {
	retry := r.retryPolicy()
	if guarded {
		retry = r.guardedRetryPolicy()
	}
	action := &routev3.RouteAction{RetryPolicy: r.withFallback(retry, guarded), HedgePolicy: r.hedgePolicy(guarded)}
	r.lead(action, func(b backend) string { return r.through(b, guarded) })
	if r.high() {
		action.Priority = corev3.RoutingPriority_HIGH
	}
	action.HashPolicy = hashPolicy(r.hashOn)
	r.addTimeouts(action)
	route := &routev3.Route{
		Name:   r.spec.Name,
		Match:  r.match(methods),
		Action: &routev3.Route_Route{Route: action},

		Metadata: r.metadata(),
	}
	if retry := r.sections.Retry; retry != nil && retry.BufferBytes != nil {
		route.RequestBodyBufferLimit = wrapperspb.UInt64(uint64(*retry.BufferBytes))
	}
	return route
}

// lead sets where the calls go.
func (r routed) lead(action *routev3.RouteAction, through func(backend) string) {
	if len(r.backends) == 1 {
		action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: through(r.backends[0])}
		return
	}
	shares := &routev3.WeightedCluster{}
	for _, b := range r.backends {
		shares.Clusters = append(shares.Clusters, &routev3.WeightedCluster_ClusterWeight{Name: through(b), Weight: wrapperspb.UInt32(b.weight)})
	}
	action.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: shares}
}

func (r routed) match(methods []string) *routev3.RouteMatch {
	m := &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
	if methods != nil {
		m.Headers = append(m.Headers, methodMatcher(methods))
	}
	if r.spec.Match == nil {
		return m
	}
	if p := r.spec.Match.Path; p != nil {
		switch {
		case p.Exact != nil:
			m.PathSpecifier = &routev3.RouteMatch_Path{Path: *p.Exact}
		case p.Prefix != nil:
			m.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: *p.Prefix}
		case p.Regex != nil:
			m.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: *p.Regex}}
		}
	}
	for _, h := range r.spec.Match.Headers {
		m.Headers = append(m.Headers, requestMatcher(h))
	}
	return m
}

func requestMatcher(h catalog.RequestMatcher) *routev3.HeaderMatcher {
	m := &routev3.HeaderMatcher{Name: h.Name}
	text := func(s *matcherv3.StringMatcher) {
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: s}
	}
	switch {
	case h.Exact != nil:
		text(exactly(*h.Exact))
	case h.Prefix != nil:
		text(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: *h.Prefix}})
	case h.Regex != nil:
		text(matching(*h.Regex))
	default:
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: orElse(h.Present, true)}
	}
	return m
}

// methodMatcher matches requests of one of methods, which are plain upper-case words.
func methodMatcher(methods []string) *routev3.HeaderMatcher {
	match := exactly(methods[0])
	if len(methods) > 1 {
		match = matching(strings.Join(methods, "|"))
	}
	return &routev3.HeaderMatcher{Name: ":method", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: match}}
}

// matching matches what an RE2 expression takes as a whole.
func matching(regex string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: regex}}}
}
