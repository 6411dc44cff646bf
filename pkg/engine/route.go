package engine

import (
	"net/http"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// Request is what of a request decides its way.
type Request struct {
	Method, Authority string
	Scheme            string // "http" or "https"
	Path              string // with its query
	Header            http.Header
	Internal          bool   // it may have x-envoy-* headers, which are to be heeded
	Remote            string // who it is from, as "ip:port"; "" not known
	HTTP2             bool   // it can be reset without its connection

	pseudo [1]string
}

// Get returns the values of a header, by its name in lower case, or of a pseudo header. The slice is good until the next call.
func (r *Request) Get(name string) []string {
	switch name {
	case ":method":
		r.pseudo[0] = r.Method
	case ":authority":
		r.pseudo[0] = r.Authority
	case ":path":
		r.pseudo[0] = r.Path
	case ":scheme":
		r.pseudo[0] = r.Scheme
	default:
		return r.Header[http.CanonicalHeaderKey(name)]
	}
	return r.pseudo[:]
}

// parameter returns the first value of a parameter of the query. The slice is good until the next call.
func (r *Request) parameter(name string) []string {
	var ok bool
	if r.pseudo[0], ok = queryValue(r.Path, name); !ok {
		return nil
	}
	return r.pseudo[:]
}

// grpc reports whether r is a gRPC request.
func (r *Request) grpc() bool {
	values := r.Header["Content-Type"]
	if len(values) == 0 {
		return false
	}
	return isGRPCType(values[0])
}

func isGRPCType(contentType string) bool {
	rest, ok := strings.CutPrefix(contentType, "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// WithoutPort is an authority's host.
func WithoutPort(authority string) string {
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && strings.IndexByte(authority[i:], ']') < 0 {
		return authority[:i]
	}
	return authority
}

// find is the route of r: the first that matches, of the virtual host with the most specific domain.
func find(t *dataplane.Table, l *dataplane.HTTP, r *Request) (*dataplane.VirtualHost, *dataplane.Route) {
	config := l.Routes
	if l.Scoped {
		key, _, _ := strings.Cut(r.Authority, ":") // as Envoy cuts it, to the letter
		config = t.Scopes[key]
	}
	if config == nil {
		return nil, nil
	}
	host := r.Authority
	if config.IgnorePort {
		host = WithoutPort(host)
	}
	vh := virtualHost(config.Hosts, host)
	if vh == nil {
		return nil, nil
	}
	for _, route := range vh.Routes {
		if matches(route, r) {
			return vh, route
		}
	}
	return nil, nil
}

// virtualHost finds host: exactly, by the longest suffix, by the longest prefix, or by "*".
func virtualHost(hosts []*dataplane.VirtualHost, host string) *dataplane.VirtualHost {
	if len(hosts) == 1 && len(hosts[0].Domains) == 1 && hosts[0].Domains[0] == "*" {
		return hosts[0]
	}
	host = strings.ToLower(host)
	var best *dataplane.VirtualHost
	rank := 0
	for _, vh := range hosts {
		for _, domain := range vh.Domains {
			if r := domainRank(domain, host); r > rank {
				best, rank = vh, r
			}
		}
	}
	return best
}

// domainRank is how well domain matches host: 0 not at all.
func domainRank(domain, host string) int {
	const suffix, prefix = 2 << 16, 1 << 16
	switch {
	case domain == host:
		return 3 << 16
	case domain == "*":
		return 1
	case strings.HasPrefix(domain, "*") && len(host) > len(domain)-1 && strings.HasSuffix(host, domain[1:]):
		return suffix + len(domain)
	case strings.HasSuffix(domain, "*") && len(host) > len(domain)-1 && strings.HasPrefix(host, domain[:len(domain)-1]):
		return prefix + len(domain)
	}
	return 0
}

func matches(route *dataplane.Route, r *Request) bool {
	if !matchesPath(&route.Path, pathOf(r.Path)) || route.GRPC && !r.grpc() {
		return false
	}
	for i := range route.Headers {
		if !route.Headers[i].Matches(r.Get) {
			return false
		}
	}
	for i := range route.Query {
		if !route.Query[i].Matches(r.parameter) {
			return false
		}
	}
	return true
}

// pathOf is a path without its query.
func pathOf(path string) string {
	path, _, _ = strings.Cut(path, "?")
	return path
}

func matchesPath(m *dataplane.PathMatch, path string) bool {
	switch {
	case m.Regex != nil:
		return m.Regex(path)
	case m.Exact != "":
		return m.Exact == path || m.IgnoreCase && strings.EqualFold(m.Exact, path)
	case m.Segments != "":
		n := len(m.Segments)
		return begins(path, m.Segments, m.IgnoreCase) && (len(path) == n || path[n] == '/')
	}
	return begins(path, m.Prefix, m.IgnoreCase)
}

func begins(s, prefix string, ignoreCase bool) bool {
	if !ignoreCase {
		return strings.HasPrefix(s, prefix)
	}
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// choose is the cluster of a request by the weights of its route.
func choose(route *dataplane.Route, rnd resilience.Rand) string {
	if len(route.Weighted) == 0 {
		return route.Cluster
	}
	sum := uint64(0)
	for _, w := range route.Weighted {
		sum += uint64(w.Weight)
	}
	if sum == 0 {
		return ""
	}
	at := rnd() % sum
	for _, w := range route.Weighted {
		if at < uint64(w.Weight) {
			return w.Cluster
		}
		at -= uint64(w.Weight)
	}
	return ""
}
