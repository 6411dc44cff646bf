package agent

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// stamp is when a resource came into force.
type stamp struct {
	resource *dataplane.Resource
	at       time.Time
}

// stampAll notes what of next was not in force before. mu is held.
func (a *agent) stampAll(next dataplane.Resources, now time.Time) {
	fresh := make(map[view.ID]stamp, next.Len())
	for t := range view.NumTypes {
		for name, r := range next.All(t) {
			id := view.ID{Type: t, Name: name}
			if fresh[id] = a.stamps[id]; fresh[id].resource != r {
				fresh[id] = stamp{r, now}
			}
		}
	}
	a.stamps = fresh
}

// dumped is one resource in Envoy's /config_dump: its version, itself under a name that depends on its type, and since when.
type dumped map[string]any

// serveConfig is Envoy's /config_dump of what came by xDS. It knows include_eds and name_regex.
func (a *agent) serveConfig(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	for _, name := range [...]string{"resource", "mask"} {
		if query.Has(name) {
			http.Error(w, name+" is not supported: take the whole, or name_regex=REGEX", http.StatusBadRequest)
			return
		}
	}
	names, err := regexp.Compile("^(?:" + query.Get("name_regex") + ")$")
	if err != nil {
		http.Error(w, "name_regex is no regular expression: "+err.Error(), http.StatusBadRequest)
		return
	}
	if query.Get("name_regex") == "" {
		names = regexp.MustCompile("")
	}
	a.mu.Lock()
	resources, stamps := a.resources, a.stamps
	a.mu.Unlock()
	list := func(t view.Type, what string) []dumped {
		out := []dumped{}
		for _, name := range resources.Names(t) {
			if !names.MatchString(name) {
				continue
			}
			res := resources.Get(view.ID{Type: t, Name: name})
			body, err := res.JSON()
			if err != nil {
				body, _ = json.Marshal(map[string]string{"error": err.Error()})
			}
			out = append(out, dumped{"version_info": res.Version, what: body, "last_updated": stamps[res.ID].at.UTC().Format(time.RFC3339Nano)})
		}
		return out
	}
	configs := []dumped{section("ClustersConfigDump", "dynamic_active_clusters", list(view.CDS, "cluster"))}
	if query.Has("include_eds") {
		configs = append(configs, section("EndpointsConfigDump", "dynamic_endpoint_configs", list(view.EDS, "endpoint_config")))
	}
	configs = append(configs,
		section("ListenersConfigDump", "dynamic_listeners", listenerEntries(list(view.LDS, "listener"), resources.Names(view.LDS), names)),
		section("ScopedRoutesConfigDump", "dynamic_scoped_route_configs", scopeEntries(list(view.SRDS, "scoped_route_config"))),
		section("RoutesConfigDump", "dynamic_route_configs", list(view.RDS, "route_config")))
	writeJSON(w, map[string]any{"configs": configs})
}

func section(kind, field string, entries []dumped) dumped {
	d := dumped{"@type": "type.googleapis.com/envoy.admin.v3." + kind}
	if len(entries) > 0 {
		d[field] = entries
	}
	return d
}

// listenerEntries put each listener into its active state, as Envoy does.
func listenerEntries(list []dumped, all []string, names *regexp.Regexp) []dumped {
	all = slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !names.MatchString(name) })
	for i, d := range list {
		list[i] = dumped{"name": all[i], "active_state": d}
	}
	return list
}

// scopeEntries put all scopes into one entry, as Envoy does for those of one listener.
func scopeEntries(list []dumped) []dumped {
	if len(list) == 0 {
		return nil
	}
	scopes, last := []any{}, ""
	for _, d := range list {
		scopes = append(scopes, d["scoped_route_config"])
		last = max(last, d["last_updated"].(string))
	}
	return []dumped{{"scoped_route_configs": scopes, "last_updated": last}}
}

// serveRuntime is Envoy's /runtime: of each key the value that holds, and that of each layer.
func (a *agent) serveRuntime(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	resources := a.resources
	a.mu.Unlock()
	type entry struct {
		Final  string   `json:"final_value"`
		Layers []string `json:"layer_values"`
	}
	entries := map[string]*entry{}
	layers := append([]string{}, resources.Layers...)
	for i, name := range layers {
		for key, value := range runtimeKeys(resources.Get(view.ID{Type: view.RTDS, Name: name})) {
			e := entries[key]
			if e == nil {
				e = &entry{Layers: make([]string, len(layers))}
				entries[key] = e
			}
			e.Layers[i], e.Final = value, value
		}
	}
	writeJSON(w, map[string]any{"layers": layers, "entries": entries})
}

// runtimeKeys are the keys of a layer, those of nested structs joined by dots.
func runtimeKeys(r *dataplane.Resource) map[string]string {
	keys := map[string]string{}
	if r == nil {
		return keys
	}
	body, err := r.JSON()
	var doc struct{ Layer map[string]any }
	if err != nil || json.Unmarshal(body, &doc) != nil {
		return keys
	}
	flatten(keys, nil, doc.Layer)
	return keys
}

func flatten(keys map[string]string, path []string, tree map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		at := append(slices.Clone(path), name)
		if inner, ok := tree[name].(map[string]any); ok {
			flatten(keys, at, inner)
			continue
		}
		keys[strings.Join(at, ".")] = fmt.Sprint(tree[name])
	}
}
