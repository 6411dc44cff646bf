// Package admin is what the programs' admin ports have in common.
package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/telemetry"
)

// Basics serves on mux what every program has: that it lives, its version, and profiles.
func Basics(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, telemetry.Version) })
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

// ByAddress refuses requests for a name that is not among names. A health check may name no host at all.
func ByAddress(h http.Handler, names []string, hint string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "" && !HostAllowed(r, names) {
			http.Error(w, hint, http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// HostAllowed reports whether r asks for localhost, an address or one of names, or came over a unix socket. Any other name could be one
// that a web page has pointed at this address (DNS rebinding).
func HostAllowed(r *http.Request, names []string) bool {
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && local.Network() == "unix" {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	return host == "localhost" || net.ParseIP(host) != nil || slices.Contains(names, host)
}
