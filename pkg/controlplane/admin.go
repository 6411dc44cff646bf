package controlplane

import (
	"fmt"
	"net/http"

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

// byAddress refuses requests for names that the API would refuse too.
func byAddress(h http.Handler, names []string) http.Handler {
	return admin.ByAddress(h, names, "ask by address, as localhost, or by a name of --allowed-hosts")
}
