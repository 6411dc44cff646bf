package controlplane

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/breakwater-mesh/breakwater/pkg/admin"
)

// adminPort serves health, metrics and profiles. Ready returns nil once this replica serves, and a word on how well.
func adminPort(metrics http.Handler, ready func() (string, error)) http.Handler {
	mux := http.NewServeMux()
	admin.Basics(mux)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		how, err := ready()
		if err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready"+how)
	})
	mux.Handle("GET /metrics", metrics)
	return mux
}

// withGRPC serves gRPC by g, and everything else by h. It needs HTTP/2.
func withGRPC(h http.Handler, g *grpc.Server) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			h.ServeHTTP(w, r)
			return
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // a stream may stay open
		g.ServeHTTP(w, r)
	})
}

// adminServer is the server of the admin port, with HTTP/2 for gRPC beside HTTP/1.
func adminServer(h http.Handler) *http.Server {
	s := httpServer(h)
	s.Protocols = new(http.Protocols)
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	return s
}

// byAddress refuses requests for names that the API would refuse too.
func byAddress(h http.Handler, names []string) http.Handler {
	return admin.ByAddress(h, names, "ask by address, as localhost, or by a name of --allowed-hosts")
}
