package dataplane

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

const defaultRouteTimeout = 15 * time.Second

// scope leads a key to a route configuration.
type scope struct{ key, routes string }

func (r *reader) scope(path string, s *routev3.ScopedRouteConfiguration) *scope {
	fragments := s.GetKey().GetFragments()
	if len(fragments) != 1 {
		r.fault(path+".key.fragments", "more than one is not enforced by this agent")
	}
	if s.GetRouteConfigurationName() == "" {
		r.fault(path+".route_configuration_name", "is empty")
	}
	r.need(view.RDS, s.GetRouteConfigurationName())
	if len(fragments) == 0 {
		return &scope{}
	}
	return &scope{key: fragments[0].GetStringKey(), routes: s.GetRouteConfigurationName()}
}

func (r *reader) routeConfiguration(path string, c *routev3.RouteConfiguration) *RouteConfig {
	out := &RouteConfig{Name: c.GetName(), IgnorePort: c.GetIgnorePortInHostMatching()}
	r.limits = nil
	domains := make(map[string]bool)
	around := surroundings{outermost: c.GetMostSpecificHeaderMutationsWins()}.within(r, path, c)
	for i, h := range c.GetVirtualHosts() {
		at := fmt.Sprintf("%s.virtual_hosts[%d]", path, i)
		host := &VirtualHost{
			Name: h.GetName(), Retry: r.retry(at+".retry_policy", h.GetRetryPolicy()),
			AttemptCount: h.GetIncludeRequestAttemptCount(), AttemptCountResponse: h.GetIncludeAttemptCountInResponse(),
		}
		inner := around.within(r, at, h)
		for j, d := range h.GetDomains() {
			d = strings.ToLower(d)
			if domains[d] {
				r.fault(fmt.Sprintf("%s.domains[%d]", at, j), "%q is there twice", d)
			}
			if domains[d] = true; !validDomain(d) {
				r.fault(fmt.Sprintf("%s.domains[%d]", at, j), "%q has its * neither first nor last", d)
			}
			host.Domains = append(host.Domains, d)
		}
		for j, route := range h.GetRoutes() {
			host.Routes = append(host.Routes, r.route(fmt.Sprintf("%s.routes[%d]", at, j), route, h, inner))
		}
		out.Hosts = append(out.Hosts, host)
	}
	out.Limits = r.limits
	return out
}

// validDomain: a star stands alone, first, or last.
func validDomain(d string) bool {
	i := strings.IndexByte(d, '*')
	return i < 0 || strings.Count(d, "*") == 1 && (i == 0 || i == len(d)-1)
}

// surroundings are what a route has from its virtual host and its configuration.
type surroundings struct {
	filters           map[string]RouteFilter
	request, response [][]HeaderEdit // in the order of their doing
	outermost         bool           // first; else the innermost
}

// edited is what has header edits and filters of its own.
type edited interface {
	GetTypedPerFilterConfig() map[string]*anypb.Any
	GetRequestHeadersToAdd() []*corev3.HeaderValueOption
	GetRequestHeadersToRemove() []string
	GetResponseHeadersToAdd() []*corev3.HeaderValueOption
	GetResponseHeadersToRemove() []string
}

// within are the surroundings of what is in m, which is itself in s.
func (s surroundings) within(r *reader, path string, m edited) surroundings {
	s.filters = r.routeFilters(path, m.GetTypedPerFilterConfig(), s.filters)
	s.request = s.with(s.request, r.levelEdits(path+".request_headers", m.GetRequestHeadersToRemove(), m.GetRequestHeadersToAdd()))
	s.response = s.with(s.response, r.levelEdits(path+".response_headers", m.GetResponseHeadersToRemove(), m.GetResponseHeadersToAdd()))
	return s
}

func (s surroundings) with(levels [][]HeaderEdit, level []HeaderEdit) [][]HeaderEdit {
	switch {
	case len(level) == 0:
		return levels
	case s.outermost:
		return slices.Concat(levels, [][]HeaderEdit{level})
	}
	return slices.Concat([][]HeaderEdit{level}, levels)
}

func (r *reader) route(path string, route *routev3.Route, host *routev3.VirtualHost, around surroundings) *Route {
	around = around.within(r, path, route)
	out := &Route{
		Name: route.GetName(), Filters: around.filters, Request: around.request, Response: around.response, Metadata: stringsOf(route.GetMetadata()),
	}
	out.hint()
	r.match(path+".match", route.GetMatch(), out)
	out.BufferLimit = r.bufferLimit(path, host, route)
	switch a := route.GetAction().(type) {
	case *routev3.Route_Route:
		r.action(path+".route", a.Route, host, out)
		out.Rewrite = r.pathRewrite(path+".route", a.Route, route.GetMatch())
		out.HostRewrite = r.hostRewrite(path+".route", a.Route)
	case *routev3.Route_DirectResponse:
		out.Direct = direct(a.DirectResponse)
	case *routev3.Route_Redirect:
		out.Direct = r.redirect(path+".redirect", a.Redirect, route.GetMatch())
	default:
		r.fault(path, "has no action that this agent enforces")
	}
	return out
}

// stringsOf are the strings of m that conditions can look at, nil where there are none.
func stringsOf(m *corev3.Metadata) map[MetadataKey]string {
	var out map[MetadataKey]string
	for filter, values := range m.GetFilterMetadata() {
		for key, v := range values.GetFields() {
			if s, ok := v.GetKind().(*structpb.Value_StringValue); ok {
				if out == nil {
					out = make(map[MetadataKey]string)
				}
				out[MetadataKey{filter, key}] = s.StringValue
			}
		}
	}
	return out
}

func (r *reader) match(path string, m *routev3.RouteMatch, out *Route) {
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		if out.Path.Prefix = p.Prefix; p.Prefix == "" {
			out.Path.Prefix = "/" // every path begins so
		}
	case *routev3.RouteMatch_Path:
		if out.Path.Exact = p.Path; p.Path == "" {
			r.fault(path+".path", "is empty")
		}
	case *routev3.RouteMatch_SafeRegex:
		out.Path.Regex = r.regex(path+".safe_regex", p.SafeRegex)
	case *routev3.RouteMatch_PathSeparatedPrefix:
		out.Path.Segments = p.PathSeparatedPrefix
	default:
		r.fault(path, "has no path that this agent matches")
	}
	out.Path.IgnoreCase = m.GetCaseSensitive() != nil && !m.GetCaseSensitive().GetValue()
	out.Query = r.queryMatches(path+".query_parameters", m.GetQueryParameters())
	out.Headers = r.headerMatches(path+".headers", m.GetHeaders())
	out.GRPC = m.GetGrpc() != nil
}

// bufferLimit is the route's or else the virtual host's; 0: the listener's.
func (r *reader) bufferLimit(path string, host *routev3.VirtualHost, route *routev3.Route) uint32 {
	// Other servers still use the older field
	small := []*wrapperspb.UInt32Value{route.GetPerRequestBufferLimitBytes(), host.GetPerRequestBufferLimitBytes()}
	for i, limit := range []*wrapperspb.UInt64Value{route.GetRequestBodyBufferLimit(), host.GetRequestBodyBufferLimit()} {
		if limit == nil && small[i] != nil {
			limit = wrapperspb.UInt64(uint64(small[i].GetValue()))
		}
		if limit == nil {
			continue
		}
		if limit.GetValue() == 0 {
			r.fault(path+".request_body_buffer_limit", "0 is not enforced by this agent")
		}
		return clamp32(limit.GetValue())
	}
	return 0
}

func (r *reader) action(path string, a *routev3.RouteAction, host *routev3.VirtualHost, out *Route) {
	r.destination(path, a, out)
	out.Timeout = orDuration(a.GetTimeout(), defaultRouteTimeout)
	if m := a.GetMaxStreamDuration(); m != nil {
		out.Timeout = 0 // Envoy ignores it beside a max_stream_duration, were that empty
		if m.GetMaxStreamDuration() != nil {
			out.MaxStreamDuration = new(m.GetMaxStreamDuration().AsDuration())
		}
		if m.GetGrpcTimeoutHeaderMax() != nil {
			out.GRPCTimeoutHeaderMax = new(m.GetGrpcTimeoutHeaderMax().AsDuration())
		}
	}
	if a.GetIdleTimeout() != nil {
		out.IdleTimeout = new(a.GetIdleTimeout().AsDuration())
	}
	out.Retry = r.retry(path+".retry_policy", a.GetRetryPolicy())
	hedge := a.GetHedgePolicy()
	if hedge == nil {
		hedge = host.GetHedgePolicy()
	}
	out.HedgeOnPerTryTimeout = hedge.GetHedgeOnPerTryTimeout()
	out.Hash = r.hashPolicies(path+".hash_policy", a.GetHashPolicy())
	var ok bool
	if out.Priority, ok = priority(a.GetPriority()); !ok {
		r.fault(path+".priority", "is not known")
	}
}

func (r *reader) destination(path string, a *routev3.RouteAction, out *Route) {
	switch c := a.GetClusterSpecifier().(type) {
	case *routev3.RouteAction_Cluster:
		out.Cluster = c.Cluster
		r.need(view.CDS, c.Cluster)
	case *routev3.RouteAction_WeightedClusters:
		r.weighted(path+".weighted_clusters", c.WeightedClusters, out)
	default:
		r.fault(path, "has no cluster that this agent finds")
	}
}

func (r *reader) weighted(path string, w *routev3.WeightedCluster, out *Route) {
	var sum uint64
	for i, c := range w.GetClusters() {
		if c.GetName() == "" {
			r.fault(fmt.Sprintf("%s.clusters[%d].name", path, i), "is empty")
		}
		weight := c.GetWeight().GetValue()
		sum += uint64(weight)
		out.Weighted = append(out.Weighted, WeightedCluster{Cluster: c.GetName(), Weight: weight})
		r.need(view.CDS, c.GetName())
	}
	// Other servers still say it
	if total := w.GetTotalWeight(); total != nil && uint64(total.GetValue()) != sum {
		r.fault(path+".total_weight", "is %d, and the weights make %d", total.GetValue(), sum)
	}
	if sum == 0 || sum != uint64(clamp32(sum)) {
		r.fault(path+".clusters", "their weights make %d", sum)
	}
}

func direct(d *routev3.DirectResponseAction) *DirectResponse {
	out := &DirectResponse{Status: int(d.GetStatus())}
	switch b := d.GetBody().GetSpecifier().(type) {
	case *corev3.DataSource_InlineString:
		out.Body = b.InlineString
	case *corev3.DataSource_InlineBytes:
		out.Body = string(b.InlineBytes)
	}
	return out
}

func (r *reader) hashPolicies(path string, list []*routev3.RouteAction_HashPolicy) []HashPolicy {
	var out []HashPolicy
	for i, p := range list {
		h := HashPolicy{Terminal: p.GetTerminal()}
		switch s := p.GetPolicySpecifier().(type) {
		case *routev3.RouteAction_HashPolicy_Header_:
			h.Header = strings.ToLower(s.Header.GetHeaderName())
		case *routev3.RouteAction_HashPolicy_Cookie_:
			h.cookie(s.Cookie)
		case *routev3.RouteAction_HashPolicy_ConnectionProperties_:
			if h.SourceIP = s.ConnectionProperties.GetSourceIp(); !h.SourceIP {
				continue
			}
		case *routev3.RouteAction_HashPolicy_QueryParameter_:
			h.Query = s.QueryParameter.GetName()
		default:
			r.notEnforced(fmt.Sprintf("%s[%d]", path, i))
		}
		out = append(out, h)
	}
	return out
}

func (h *HashPolicy) cookie(c *routev3.RouteAction_HashPolicy_Cookie) {
	h.Cookie, h.Path = c.GetName(), c.GetPath()
	if c.GetTtl() != nil {
		h.TTL = new(c.GetTtl().AsDuration())
	}
	for _, a := range c.GetAttributes() {
		h.Attributes = append(h.Attributes, CookieAttribute{a.GetName(), a.GetValue()})
	}
}
