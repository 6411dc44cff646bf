package proxy

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
)

const (
	envoyPrefix     = "X-Envoy-"
	forwardedFor    = "X-Forwarded-For"
	forwardedProto  = "X-Forwarded-Proto"
	internalHeader  = "X-Envoy-Internal"
	externalAddress = "X-Envoy-External-Address"
)

// origin is who a request is from.
type origin struct {
	remote   string // "ip:port"
	address  netip.Addr
	internal bool
	edge     bool // it comes from outside, and this is where it comes in
}

// originOf must see x-forwarded-for as it came.
func originOf(r *http.Request, t *dataplane.Trust) origin {
	o := origin{remote: r.RemoteAddr}
	list := r.Header[forwardedFor]
	if !t.RemoteAddress && len(list) == 0 {
		return o
	}
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	single := len(list) == 0
	said := strings.Join(list, ",")
	switch {
	case !t.RemoteAddress:
		o.address = lastOf(said, t.Hops)
		single = t.Hops == 0 && !strings.Contains(said, ",")
	case t.Hops > 0:
		o.address = lastOf(said, t.Hops-1)
	}
	known := o.address.IsValid() || t.RemoteAddress
	if o.address.IsValid() {
		o.remote = netip.AddrPortFrom(o.address, 0).String()
	} else {
		o.address = peer.Addr()
	}
	o.address = o.address.Unmap()
	o.internal = single && known && internal(o.address, t)
	o.edge = !o.internal && t.RemoteAddress
	return o
}

// lastOf is the last address of x-forwarded-for before so many others; not valid where there is none.
func lastOf(list string, skip uint32) netip.Addr {
	for range skip {
		i := strings.LastIndexByte(list, ',')
		if i < 0 {
			return netip.Addr{}
		}
		list = list[:i]
	}
	if i := strings.LastIndexByte(list, ','); i >= 0 && i+1 < len(list) {
		list = list[i+1:]
	}
	address, err := netip.ParseAddr(strings.TrimSpace(list))
	if err != nil {
		return netip.Addr{}
	}
	return address
}

func internal(a netip.Addr, t *dataplane.Trust) bool {
	if t.Private {
		return a.IsPrivate() && (a.Is4() || a.As16()[0] == 0xfd) || a == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || a == netip.IPv6Loopback()
	}
	for _, p := range t.InternalRanges {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// forward adds who connects to x-forwarded-for, and how the request came.
func (o origin) forward(r *http.Request, config *dataplane.HTTP) {
	t := &config.Trust
	if t.RemoteAddress && !t.KeepForwarded {
		peer, _ := netip.ParseAddrPort(r.RemoteAddr)
		who := peer.Addr().Unmap()
		if who.IsLoopback() {
			who = ownAddress()
		}
		r.Header[forwardedFor] = []string{strings.Join(append(r.Header[forwardedFor], who.String()), ",")}
	}
	switch {
	case config.Scheme != "":
		r.Header[forwardedProto] = []string{config.Scheme}
	case config.AddForwardedProto && (r.Header[forwardedProto] == nil || t.RemoteAddress && t.Hops == 0):
		r.Header[forwardedProto] = []string{schemeOf(r)}
	}
}

// ownAddress is the first IPv4 address of this machine, which stands for callers on it.
var ownAddress = sync.OnceValue(func() netip.Addr {
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			address, _ := netip.AddrFromSlice(n.IP.To4())
			return address
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
})

// tell drops from h what only internal requests may say, and says what the request is. True: x-envoy-* headers are left.
func (o origin) tell(h http.Header) (left bool) {
	for name := range h {
		switch {
		case !strings.HasPrefix(name, envoyPrefix):
		case !o.internal && (internalOnly[name] || o.edge && notFromOutside[name]):
			delete(h, name)
		default:
			left = true
		}
	}
	if o.internal {
		h[internalHeader] = []string{"true"}
	}
	if o.edge {
		h[externalAddress] = []string{o.address.String()}
	}
	return left
}

// internalOnly are dropped from requests that are not internal.
var internalOnly = map[string]bool{
	internalHeader: true, "X-Envoy-Retriable-Status-Codes": true, "X-Envoy-Retriable-Header-Names": true, "X-Envoy-Retry-On": true,
	"X-Envoy-Retry-Grpc-On": true, "X-Envoy-Max-Retries": true, "X-Envoy-Upstream-Alt-Stat-Name": true, "X-Envoy-Upstream-Rq-Timeout-Ms": true,
	"X-Envoy-Upstream-Rq-Per-Try-Timeout-Ms": true, "X-Envoy-Upstream-Rq-Timeout-Alt-Response": true, "X-Envoy-Expected-Rq-Timeout-Ms": true,
	"X-Envoy-Force-Trace": true, "X-Envoy-Ip-Tags": true, "X-Envoy-Original-Url": true, "X-Envoy-Hedge-On-Per-Try-Timeout": true,
}

// notFromOutside are dropped where requests come in from outside.
var notFromOutside = map[string]bool{
	"X-Envoy-Decorator-Operation": true, "X-Envoy-Downstream-Service-Cluster": true, "X-Envoy-Downstream-Service-Node": true,
	"X-Envoy-Original-Path": true, "X-Envoy-Original-Host": true,
}
