package agent

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// What follows is JSON in the shape of Envoy's admin API, in which numbers of 64 bits are strings and what is zero is left out.
type (
	jsonAddress struct {
		SocketAddress struct {
			Address string `json:"address"`
			Port    uint16 `json:"port_value"`
		} `json:"socket_address"`
	}
	jsonHostStat struct {
		Type  string `json:"type,omitempty"`
		Value string `json:"value,omitempty"`
		Name  string `json:"name"`
	}
	jsonHealth struct {
		FailedActive   bool   `json:"failed_active_health_check,omitempty"`
		FailedOutlier  bool   `json:"failed_outlier_check,omitempty"`
		FailedDegraded bool   `json:"failed_active_degraded_check,omitempty"`
		Leaving        bool   `json:"pending_dynamic_removal,omitempty"`
		Pending        bool   `json:"pending_active_hc,omitempty"`
		Excluded       bool   `json:"excluded_via_immediate_hc_fail,omitempty"`
		TimedOut       bool   `json:"active_hc_timeout,omitempty"`
		EDS            string `json:"eds_health_status"`
	}
	jsonLocality struct {
		Region  string `json:"region,omitempty"`
		Zone    string `json:"zone,omitempty"`
		SubZone string `json:"sub_zone,omitempty"`
	}
	jsonHost struct {
		Address  jsonAddress    `json:"address"`
		Stats    []jsonHostStat `json:"stats"`
		Health   jsonHealth     `json:"health_status"`
		Weight   uint32         `json:"weight"`
		Priority uint32         `json:"priority,omitempty"`
		Locality jsonLocality   `json:"locality"`
	}
	jsonThresholds struct {
		Priority           string `json:"priority,omitempty"`
		MaxConnections     uint32 `json:"max_connections"`
		MaxPendingRequests uint32 `json:"max_pending_requests"`
		MaxRequests        uint32 `json:"max_requests"`
		MaxRetries         uint32 `json:"max_retries"`
	}
	jsonBreakers struct {
		Thresholds []jsonThresholds `json:"thresholds"`
	}
	jsonCluster struct {
		Name              string       `json:"name"`
		AddedViaAPI       bool         `json:"added_via_api"`
		Hosts             []jsonHost   `json:"host_statuses,omitempty"`
		Breakers          jsonBreakers `json:"circuit_breakers"`
		ObservabilityName string       `json:"observability_name"`
	}
)

// serveClusters knows Envoy's ?format=json and ?filter=REGEX.
func (a *agent) serveClusters(w http.ResponseWriter, r *http.Request) {
	filter, err := regexp.Compile(r.URL.Query().Get("filter"))
	if err != nil {
		http.Error(w, "filter is no regular expression: "+err.Error(), http.StatusBadRequest)
		return
	}
	list := slices.DeleteFunc(a.engine.Clusters(), func(c engine.ClusterReport) bool { return !filter.MatchString(c.Name) })
	if r.URL.Query().Get("format") == "json" {
		statuses := []jsonCluster{}
		for _, c := range list {
			statuses = append(statuses, clusterJSON(c))
		}
		writeJSON(w, map[string]any{"cluster_statuses": statuses})
		return
	}
	var b strings.Builder
	for _, c := range list {
		clusterText(&b, c)
	}
	fmt.Fprint(w, b.String())
}

func clusterText(b *strings.Builder, c engine.ClusterReport) {
	fmt.Fprintf(b, "%[1]s::observability_name::%[1]s\n", c.Name)
	for p, name := range [...]string{"default_priority", "high_priority"} {
		t := &c.Thresholds[p]
		fmt.Fprintf(b, "%[1]s::%[2]s::max_connections::%[3]d\n%[1]s::%[2]s::max_pending_requests::%[4]d\n%[1]s::%[2]s::max_requests::%[5]d\n%[1]s::%[2]s::max_retries::%[6]d\n",
			c.Name, name, t.MaxConnections, t.MaxPendingRequests, t.MaxRequests, t.MaxRetries)
	}
	fmt.Fprintf(b, "%s::added_via_api::true\n", c.Name)
	for _, h := range c.Hosts {
		line := func(name string, value any) { fmt.Fprintf(b, "%s::%s::%s::%v\n", c.Name, h.Address, name, value) }
		stats := append(hostCounters(h), hostGauges(h)...)
		slices.SortFunc(stats, func(a, b hostStat) int { return strings.Compare(a.name, b.name) })
		for _, s := range stats {
			line(s.name, s.value)
		}
		where := locality(h)
		line("hostname", h.Hostname)
		line("health_flags", healthFlags(h))
		line("weight", h.Weight)
		line("region", where.Region)
		line("zone", where.Zone)
		line("sub_zone", where.SubZone)
		line("canary", false)
		line("priority", h.Priority)
	}
}

type hostStat struct {
	name  string
	value int64
}

func hostCounters(h engine.HostReport) []hostStat {
	return []hostStat{
		{"cx_connect_fail", h.CxConnectFail}, {"cx_total", h.CxTotal}, {"rq_error", h.RqError}, {"rq_success", h.RqSuccess},
		{"rq_timeout", h.RqTimeout}, {"rq_total", h.RqTotal},
	}
}

func hostGauges(h engine.HostReport) []hostStat {
	return []hostStat{{"cx_active", h.CxActive}, {"rq_active", h.RqActive}}
}

func healthFlags(h engine.HostReport) string {
	if len(h.Flags) == 0 {
		return "healthy"
	}
	return "/" + strings.Join(h.Flags, "/")
}

func locality(h engine.HostReport) jsonLocality {
	parts := append(strings.SplitN(h.Locality, "/", 3), "", "", "")
	return jsonLocality{parts[0], parts[1], parts[2]}
}

// edsHealth are Envoy's words for what the control plane says of a host.
var edsHealth = map[dataplane.Health]string{
	dataplane.Healthy: "HEALTHY", dataplane.Degraded: "DEGRADED", dataplane.Unhealthy: "UNHEALTHY", dataplane.Draining: "DRAINING",
}

func clusterJSON(c engine.ClusterReport) jsonCluster {
	out := jsonCluster{Name: c.Name, AddedViaAPI: true, ObservabilityName: c.Name}
	for p, name := range [resilience.Priorities]string{"", "HIGH"} {
		t := &c.Thresholds[p]
		out.Breakers.Thresholds = append(out.Breakers.Thresholds,
			jsonThresholds{name, t.MaxConnections, t.MaxPendingRequests, t.MaxRequests, t.MaxRetries})
	}
	for _, h := range c.Hosts {
		host := jsonHost{Address: addressJSON(h.Address), Weight: h.Weight, Priority: h.Priority, Locality: locality(h)}
		has := func(flag string) bool { return slices.Contains(h.Flags, flag) }
		host.Health = jsonHealth{
			FailedActive: h.FailedCheck, FailedOutlier: h.Ejected, FailedDegraded: has("degraded_active_hc"), Leaving: has("pending_dynamic_removal"),
			Pending: has("pending_active_hc"), Excluded: has("excluded_via_immediate_hc_fail"), TimedOut: has("active_hc_timeout"), EDS: edsHealth[h.Health],
		}
		for _, s := range hostCounters(h) {
			host.Stats = append(host.Stats, hostStatJSON("", s))
		}
		for _, s := range hostGauges(h) {
			host.Stats = append(host.Stats, hostStatJSON("GAUGE", s))
		}
		out.Hosts = append(out.Hosts, host)
	}
	return out
}

func hostStatJSON(kind string, s hostStat) jsonHostStat {
	out := jsonHostStat{Type: kind, Name: s.name}
	if s.value != 0 {
		out.Value = strconv.FormatInt(s.value, 10)
	}
	return out
}

func addressJSON(address string) (out jsonAddress) {
	if p, err := netip.ParseAddrPort(address); err == nil {
		out.SocketAddress.Address, out.SocketAddress.Port = p.Addr().String(), p.Port()
	}
	return out
}

// serveListeners knows Envoy's ?format=json.
func (a *agent) serveListeners(w http.ResponseWriter, r *http.Request) {
	addresses := a.server.Addresses()
	type listener struct {
		Name    string      `json:"name"`
		Address jsonAddress `json:"local_address"`
	}
	list := []listener{}
	for _, name := range slices.Sorted(maps.Keys(addresses)) {
		list = append(list, listener{name, addressJSON(addresses[name])})
	}
	if r.URL.Query().Get("format") == "json" {
		writeJSON(w, map[string]any{"listener_statuses": list})
		return
	}
	for _, l := range list {
		fmt.Fprintf(w, "%s::%s\n", l.Name, addresses[l.Name])
	}
}
