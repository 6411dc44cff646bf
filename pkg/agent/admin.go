package agent

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/relay"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
	"github.com/breakwater-mesh/breakwater/pkg/telemetry"
	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/xdsclient"
)

// admin answers as Envoy's admin port does, as far as tools look.
func (a *agent) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", a.serveReady("ready"))
	mux.HandleFunc("GET /ready", a.serveReady("LIVE"))
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, telemetry.Version) })
	mux.HandleFunc("GET /stats", a.serveStats)
	mux.HandleFunc("GET /clusters", a.serveClusters)
	mux.HandleFunc("GET /config_dump", a.serveConfig)
	mux.HandleFunc("GET /registration", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, a.registered()) })
	return mux
}

func (a *agent) serveReady(word string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := a.ready(); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, word)
	}
}

// stat is one statistic.
type stat struct {
	Name  string `json:"name"`
	Value int64  `json:"value"`
}

func (a *agent) stats() []stat {
	var list []stat
	add := func(name string, value int64) { list = append(list, stat{name, value}) }
	a.engine.Stats(add)
	a.server.Stats(add)
	status := a.status()
	connected := int64(0)
	if status.Connected {
		connected = 1
	}
	add("control_plane.connected_state", connected)
	if a.relay != nil {
		a.relay.Stats(add)
	}
	slices.SortFunc(list, func(a, b stat) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// serveStats knows ?format=json and ?filter=REGEX.
func (a *agent) serveStats(w http.ResponseWriter, r *http.Request) {
	filter, err := regexp.Compile(r.URL.Query().Get("filter"))
	if err != nil {
		http.Error(w, "filter: "+err.Error(), http.StatusBadRequest)
		return
	}
	list := slices.DeleteFunc(a.stats(), func(s stat) bool { return !filter.MatchString(s.Name) })
	switch format := r.URL.Query().Get("format"); format {
	case "json":
		writeJSON(w, map[string]any{"stats": list})
	case "", "text":
		for _, s := range list {
			fmt.Fprintf(w, "%s: %d\n", s.Name, s.Value)
		}
	default:
		http.Error(w, "format "+format+": want text or json", http.StatusBadRequest)
	}
}

// serveClusters is Envoy's text, or our own ?format=json.
func (a *agent) serveClusters(w http.ResponseWriter, r *http.Request) {
	list := a.engine.Clusters()
	if r.URL.Query().Get("format") == "json" {
		writeJSON(w, map[string]any{"clusters": list})
		return
	}
	for _, c := range list {
		for p, name := range [...]string{"default_priority", "high_priority"} {
			t := &c.Thresholds[p]
			fmt.Fprintf(w, "%[1]s::%[2]s::max_connections::%[3]d\n%[1]s::%[2]s::max_pending_requests::%[4]d\n%[1]s::%[2]s::max_requests::%[5]d\n%[1]s::%[2]s::max_retries::%[6]d\n",
				c.Name, name, t.MaxConnections, t.MaxPendingRequests, t.MaxRequests, t.MaxRetries)
		}
		for _, h := range c.Hosts {
			for _, s := range hostStats(h) {
				fmt.Fprintf(w, "%s::%s::%s::%d\n", c.Name, h.Address, s.Name, s.Value)
			}
			fmt.Fprintf(w, "%s::%s::health_flags::%s\n", c.Name, h.Address, healthFlags(h))
		}
	}
}

func hostStats(h engine.HostReport) []stat {
	return []stat{
		{"cx_active", h.CxActive}, {"cx_connect_fail", h.CxConnectFail}, {"cx_total", h.CxTotal}, {"rq_active", h.RqActive},
		{"rq_error", h.RqError}, {"rq_success", h.RqSuccess}, {"rq_timeout", h.RqTimeout}, {"rq_total", h.RqTotal},
	}
}

func healthFlags(h engine.HostReport) string {
	switch {
	case h.Ejected:
		return "/failed_outlier_check"
	case h.Degraded:
		return "/degraded_outlier_detection"
	}
	return "healthy"
}

// dump is what is in force.
type dump struct {
	Status    xdsclient.Status             `json:"status"`
	Listeners map[string]string            `json:"listeners"` // name -> where it accepts
	Versions  map[string]map[string]string `json:"versions"`  // type URL -> name -> version
	Limits    map[string]limits            `json:"limits"`    // of each cluster, runtime applied
	Relayed   []relay.Stream               `json:"relayed,omitempty"`
}

type limits [resilience.Priorities]resilience.Thresholds

func (a *agent) serveConfig(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	resources, table := a.resources, a.table
	a.mu.Unlock()
	d := dump{Status: a.status(), Listeners: a.server.Addresses(), Versions: versions(resources), Limits: map[string]limits{}}
	if a.relay != nil {
		d.Relayed = a.relay.Streams()
	}
	if table != nil {
		for name, c := range table.Clusters {
			d.Limits[name] = c.Thresholds
		}
	}
	writeJSON(w, d)
}

func versions(r dataplane.Resources) map[string]map[string]string {
	all := map[string]map[string]string{}
	for t := range view.NumTypes {
		names := map[string]string{}
		for name, resource := range r.All(t) {
			names[name] = resource.Version
		}
		if len(names) > 0 {
			all[t.URL()] = names
		}
	}
	return all
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", " ")
	_ = encoder.Encode(v)
}
