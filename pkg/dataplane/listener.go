package dataplane

import (
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/protobuf/proto"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3" // listeners pack it
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Envoy's defaults of a listener.
const (
	defaultStreamIdle = 5 * time.Minute
	defaultStreams    = 1024
	defaultServer     = "envoy"
)

// listenerPiece is a listener without the routes that come by name.
type listenerPiece struct {
	listener Listener
	rds      string // name of its route configuration; "" where it has none, or its own
}

// with is the listener with its routes, nil where they have not come yet.
func (p *listenerPiece) with(routes *RouteConfig) *Listener {
	l, http := p.listener, *p.listener.HTTP
	http.Routes = routes
	l.HTTP = &http
	return &l
}

func (r *reader) listener(path string, l *listenerv3.Listener) *listenerPiece {
	p := &listenerPiece{listener: Listener{Name: l.GetName(), Inside: l.GetInternalListener() != nil}}
	if !p.listener.Inside {
		p.listener.Address = r.address(path+".address", l.GetAddress())
	} else if l.GetAddress() != nil {
		r.fault(path+".address", "is not for an internal listener")
	}
	if b := l.GetBindToPort(); b != nil && !b.GetValue() {
		r.fault(path+".bind_to_port", "false is not enforced by this agent")
	}
	chain, at := l.GetDefaultFilterChain(), path+".default_filter_chain"
	if chains := l.GetFilterChains(); len(chains) > 0 {
		if len(chains) > 1 || chain != nil {
			r.fault(path+".filter_chains", "more than one is not enforced by this agent")
		}
		chain, at = chains[0], path+".filter_chains[0]"
	}
	p.listener.TLS = r.downstreamTLS(at+".transport_socket", chain.GetTransportSocket())
	filters := chain.GetFilters()
	if len(filters) != 1 {
		r.fault(at+".filters", "are %d; this agent enforces exactly one", len(filters))
		return p
	}
	at += ".filters[0].typed_config"
	switch m := unpackAny(filters[0].GetTypedConfig()).(type) {
	case *hcmv3.HttpConnectionManager:
		p.listener.HTTP = r.connectionManager(at, m, p)
		p.listener.HTTP.BufferLimit = orValue(l.GetPerConnectionBufferLimitBytes(), 0)
	case *tcpv3.TcpProxy:
		p.listener.TCP = r.tcp(at, m)
	default:
		r.fault(at, "is missing")
	}
	return p
}

func (r *reader) tcp(path string, t *tcpv3.TcpProxy) *TCP {
	if t.GetCluster() == "" {
		r.fault(path+".cluster", "is missing")
	}
	if n := t.GetMaxConnectAttempts(); n != nil && n.GetValue() != 1 {
		r.fault(path+".max_connect_attempts", "other than 1 is not enforced by this agent")
	}
	r.need(view.CDS, t.GetCluster())
	return &TCP{StatPrefix: t.GetStatPrefix(), Cluster: t.GetCluster(), IdleTimeout: orDuration(t.GetIdleTimeout(), time.Hour)}
}

func (r *reader) connectionManager(path string, m *hcmv3.HttpConnectionManager, p *listenerPiece) *HTTP {
	common := m.GetCommonHttpProtocolOptions()
	h := &HTTP{
		StatPrefix:           m.GetStatPrefix(),
		StreamIdleTimeout:    orDuration(m.GetStreamIdleTimeout(), defaultStreamIdle),
		RequestTimeout:       m.GetRequestTimeout().AsDuration(),
		MaxStreamDuration:    common.GetMaxStreamDuration().AsDuration(),
		IdleTimeout:          orDuration(common.GetIdleTimeout(), time.Hour),
		AddForwardedProto:    true,
		AddRequestID:         m.GetGenerateRequestId() == nil || m.GetGenerateRequestId().GetValue(),
		MaxHeaders:           orValue(common.GetMaxHeadersCount(), defaultMaxHeaders),
		MaxHeadersKiB:        orValue(m.GetMaxRequestHeadersKb(), defaultMaxHeadersKiB),
		AcceptHTTP10:         m.GetHttpProtocolOptions().GetAcceptHttp_10(),
		Trailers:             m.GetHttpProtocolOptions().GetEnableTrailers(),
		Proxy100:             m.GetProxy_100Continue(),
		MaxConcurrentStreams: orValue(m.GetHttp2ProtocolOptions().GetMaxConcurrentStreams(), defaultStreams),
		Scheme:               m.GetSchemeHeaderTransformation().GetSchemeToOverwrite(),
		Trust:                r.trust(path, m),
	}
	r.routing(path, m, h, p)
	r.refuse(path, m)
	r.serverHeader(path, m, h)
	r.clientCert(path, m, h, p.listener.TLS)
	set := r.earlyMutations(path+".early_header_mutation_extensions", m, h)
	r.httpFilters(path+".http_filters", m.GetHttpFilters(), set, h)
	r.localReply(path+".local_reply_config", m.GetLocalReplyConfig(), h)
	for i, u := range m.GetUpgradeConfigs() {
		if u.GetUpgradeType() != "websocket" {
			r.fault(fmt.Sprintf("%s.upgrade_configs[%d].upgrade_type", path, i), "%q is not enforced by this agent", u.GetUpgradeType())
		}
		h.Websocket = u.GetEnabled() == nil || u.GetEnabled().GetValue()
	}
	return h
}

// clientCert is what becomes of x-forwarded-client-cert.
func (r *reader) clientCert(path string, m *hcmv3.HttpConnectionManager, h *HTTP, t *DownstreamTLS) {
	mode := m.GetForwardClientCertDetails()
	if mode != hcmv3.HttpConnectionManager_ALWAYS_FORWARD_ONLY {
		h.DropHeaders = append(h.DropHeaders, "x-forwarded-client-cert")
	}
	if t == nil || !t.RequireClientCertificate && !t.Verifies() {
		return // no client shows a certificate here
	}
	switch mode {
	case hcmv3.HttpConnectionManager_FORWARD_ONLY:
		h.KeepCertOfMutual = true
	case hcmv3.HttpConnectionManager_APPEND_FORWARD, hcmv3.HttpConnectionManager_SANITIZE_SET:
		r.fault(path+".forward_client_cert_details", "%v is not enforced by this agent where clients show certificates", mode)
	}
}

// routing is where the routes come from.
func (r *reader) routing(path string, m *hcmv3.HttpConnectionManager, h *HTTP, p *listenerPiece) {
	switch s := m.GetRouteSpecifier().(type) {
	case *hcmv3.HttpConnectionManager_RouteConfig:
		h.Routes = r.routeConfiguration(path+".route_config", s.RouteConfig)
	case *hcmv3.HttpConnectionManager_Rds:
		if p.rds = s.Rds.GetRouteConfigName(); p.rds == "" {
			r.fault(path+".rds.route_config_name", "is empty")
		}
		r.need(view.RDS, p.rds)
	case *hcmv3.HttpConnectionManager_ScopedRoutes:
		h.Scoped = true
		r.scopeKey(path+".scoped_routes.scope_key_builder", s.ScopedRoutes.GetScopeKeyBuilder())
	default:
		r.fault(path, "has no routes")
	}
}

// scopeKey takes the one key that the table has: the host without its port.
func (r *reader) scopeKey(path string, b *hcmv3.ScopedRoutes_ScopeKeyBuilder) {
	fragments := b.GetFragments()
	if len(fragments) != 1 {
		r.fault(path+".fragments", "more than one is not enforced by this agent")
		return
	}
	e := fragments[0].GetHeaderValueExtractor()
	_, indexed := e.GetExtractType().(*hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_Index)
	if e.GetName() != ":authority" || e.GetElementSeparator() != ":" || !indexed || e.GetIndex() != 0 {
		r.fault(path+".fragments[0].header_value_extractor", "other than :authority without its port is not enforced by this agent")
	}
}

// refuse looks at the fields of which one value changes nothing and another is not enforced.
func (r *reader) refuse(path string, m *hcmv3.HttpConnectionManager) {
	for _, f := range []struct {
		field   string
		refused bool
	}{
		{"normalize_path", m.GetNormalizePath().GetValue()},
		{"merge_slashes", m.GetMergeSlashes()},
		{"codec_type", m.GetCodecType() > hcmv3.HttpConnectionManager_HTTP2 || m.GetCodecType() < 0},
		{"path_with_escaped_slashes_action", m.GetPathWithEscapedSlashesAction() > hcmv3.HttpConnectionManager_KEEP_UNCHANGED ||
			m.GetPathWithEscapedSlashesAction() < 0},
	} {
		if f.refused {
			r.notEnforced(path + "." + f.field)
		}
	}
}

func (r *reader) trust(path string, m *hcmv3.HttpConnectionManager) Trust {
	internal := m.GetInternalAddressConfig()
	t := Trust{
		RemoteAddress: m.GetUseRemoteAddress().GetValue(), Hops: m.GetXffNumTrustedHops(), KeepForwarded: m.GetSkipXffAppend(),
		KeepRequestID: m.GetPreserveExternalRequestId(), Private: internal != nil && len(internal.GetCidrRanges()) == 0,
	}
	for i, c := range internal.GetCidrRanges() {
		address, err := netip.ParseAddr(c.GetAddressPrefix())
		prefix := netip.PrefixFrom(address, int(c.GetPrefixLen().GetValue()))
		if err != nil || !prefix.IsValid() {
			r.fault(fmt.Sprintf("%s.internal_address_config.cidr_ranges[%d]", path, i), "%s/%d is no range", c.GetAddressPrefix(), c.GetPrefixLen().GetValue())
		}
		t.InternalRanges = append(t.InternalRanges, prefix.Masked())
	}
	return t
}

func (r *reader) serverHeader(path string, m *hcmv3.HttpConnectionManager, h *HTTP) {
	switch m.GetServerHeaderTransformation() {
	case hcmv3.HttpConnectionManager_OVERWRITE, hcmv3.HttpConnectionManager_APPEND_IF_ABSENT:
		if h.ServerHeader = m.GetServerName(); h.ServerHeader == "" {
			h.ServerHeader = defaultServer
		}
		h.KeepServer = m.GetServerHeaderTransformation() == hcmv3.HttpConnectionManager_APPEND_IF_ABSENT
	case hcmv3.HttpConnectionManager_PASS_THROUGH:
	default:
		r.fault(path+".server_header_transformation", "%v is not enforced by this agent", m.GetServerHeaderTransformation())
	}
}

// httpFilters takes the filters before the router, which is last.
func (r *reader) httpFilters(path string, list []*hcmv3.HttpFilter, set asides, h *HTTP) {
	if len(list) == 0 {
		r.fault(path, "has no router")
	}
	for i, f := range list {
		at := indexed(path, i) + ".typed_config"
		message := unpackAny(f.GetTypedConfig())
		if m, ok := message.(*routerv3.Router); ok {
			h.SuppressEnvoy = m.GetSuppressEnvoyHeaders()
			if i != len(list)-1 {
				r.fault(at, "the router is not the last filter")
			}
			if f.GetDisabled() {
				r.fault(indexed(path, i)+".disabled", "the router can't be")
			}
			continue
		}
		if i == len(list)-1 {
			r.fault(path, "has no router at its end")
		}
		restores := set
		if f.GetDisabled() {
			restores = nil
		}
		filter := r.listenerFilter(at, message, restores, h)
		if a, ok := filter.(*AdaptiveConcurrency); ok { // its limit goes on though filters before it come and go
			a.Place = r.id.String() + " " + h.place(path, f.GetName())
		}
		if filter != noMutation {
			h.Filters = append(h.Filters, HTTPFilter{f.GetName(), f.GetDisabled(), filter})
		}
	}
	if len(set) > 0 {
		r.fault(path, "a request header that was put aside early is not put back")
	}
}

// place is where a filter that comes next is, by its name, which others may have as well.
func (h *HTTP) place(path, name string) string {
	nth := 0
	for _, f := range h.Filters {
		if f.Name == name {
			nth++
		}
	}
	return fmt.Sprintf("%s[%q][%d]", path, name, nth)
}

// noMutation stands for a filter that undoes what the agent does not do.
var noMutation Filter = new(HeaderMutation)

func (r *reader) listenerFilter(path string, message proto.Message, set asides, h *HTTP) Filter {
	m, ok := message.(*filterv3.HeaderMutation)
	if !ok {
		if message == nil {
			r.fault(path, "is missing")
		}
		return r.filter(path, message)
	}
	path += ".mutations"
	before := len(set)
	out := &HeaderMutation{
		Request:  r.requestMutations(path+".request_mutations", m.GetMutations().GetRequestMutations(), set, h),
		Response: r.mutation(path, &filterv3.Mutations{ResponseMutations: m.GetMutations().GetResponseMutations()}).Response,
	}
	if len(set) < before && len(out.Request)+len(out.Response) == 0 {
		return noMutation
	}
	return out
}
