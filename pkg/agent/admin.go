package agent

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/admin"
	"github.com/breakwater-mesh/breakwater/pkg/telemetry"
)

// page is one page of the admin port.
type page struct {
	path, what string
	serve      http.HandlerFunc
	formats    []string // that ?format= may ask for; nil: the page has one, and takes none
}

// pages are what the admin port answers beside what every program's does. Those of Envoy's names have Envoy's shape.
func (a *agent) pages() []page {
	return []page{
		{"/readyz", "whether requests are served as configured, else 503 with the reason; where the configuration is from", a.serveReady, nil},
		{"/ready", "the same in Envoy's words: LIVE", a.serveLive, nil},
		{"/status", "our own account: configuration (source, age), control plane, last rejection, listeners", a.serveStatus, nil},
		{"/outliers", "ejected hosts: since when, until when, why; hosts on trial (half-open); the limits that are set, and how full they are (format=json)", a.serveOutliers, []string{"json", "text"}},
		{"/registration", "the leased endpoint of --advertise", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, a.registered()) }, nil},
		{"/stats", "statistics by Envoy's names (filter=REGEX, usedonly, format=text|json|prometheus)", a.serveStats, []string{"json", "prometheus", "text"}},
		{"/stats/prometheus", "the same as format=prometheus", a.serveStats, nil},
		{"/clusters", "hosts of each cluster (format=json, filter=REGEX)", a.serveClusters, []string{"json", "text"}},
		{"/config_dump", "what is in force (include_eds, name_regex=REGEX)", a.serveConfig, nil},
		{"/listeners", "where requests are accepted (format=json)", a.serveListeners, []string{"json", "text"}},
		{"/runtime", "the runtime layers", a.serveRuntime, nil},
		{"/server_info", "version, state, uptime, node", a.serveInfo, nil},
		{"/memory", "what the process holds, in bytes", a.serveMemory, nil},
	}
}

// answer serves the page to who only reads, with a query that it understands.
func (p page) answer(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "this page is only read: use GET", http.StatusMethodNotAllowed)
		return
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		http.Error(w, "the query can't be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	if format := query.Get("format"); format != "" && p.formats != nil && !slices.Contains(p.formats, format) {
		http.Error(w, fmt.Sprintf("usage: %s?format=(%s)\n", p.path, strings.Join(p.formats, "|")), http.StatusBadRequest)
		return
	}
	p.serve(w, r)
}

// basics are the pages that every program has.
var basics = []page{
	{"/healthz", "200 as long as the process answers", nil, nil},
	{"/version", "the version", nil, nil},
	{"/debug/pprof/", "profiles", nil, nil},
	{"/help", "this list", nil, nil},
}

// admin answers as Envoy's admin port does, as far as tools look.
func (a *agent) admin() http.Handler {
	mux := http.NewServeMux()
	admin.Basics(mux)
	for _, p := range a.pages() {
		mux.HandleFunc(p.path, p.answer)
	}
	mux.HandleFunc("/help", page{path: "/help", serve: a.serveHelp}.answer)
	mux.HandleFunc("GET /{$}", a.serveHelp)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "invalid path. ")
		a.serveHelp(w, r)
	})
	return admin.ByAddress(mux, nil, "ask by address or as localhost")
}

// Pages are the paths of the admin port, sorted, each with what is there.
func Pages() [][2]string {
	var list [][2]string
	for _, p := range append((*agent)(nil).pages(), basics...) {
		list = append(list, [2]string{p.path, p.what})
	}
	slices.SortFunc(list, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return list
}

func (a *agent) serveHelp(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "admin commands are:")
	for _, p := range Pages() {
		fmt.Fprintf(w, "  %s: %s\n", p[0], p[1])
	}
}

func (a *agent) serveInfo(w http.ResponseWriter, _ *http.Request) {
	state := "LIVE"
	if a.draining.Load() {
		state = "DRAINING"
	} else if a.ready() != nil {
		state = "INITIALIZING"
	}
	uptime := fmt.Sprintf("%ds", int64(time.Since(a.started).Seconds()))
	writeJSON(w, map[string]any{
		"version": telemetry.Version, "state": state, "uptime_current_epoch": uptime, "uptime_all_epochs": uptime,
		"node": map[string]any{"id": a.config.NodeID, "cluster": a.config.nodeCluster(), "user_agent_name": "breakwater-agent"},
	})
}

func (a *agent) serveMemory(w http.ResponseWriter, _ *http.Request) {
	m := readMemory()
	text := func(n int64) string { return fmt.Sprint(n) }
	writeJSON(w, map[string]string{"allocated": text(m.allocated), "heap_size": text(m.heap), "total_physical_bytes": text(m.total)})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", " ")
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v) // the client is gone if this fails
}
