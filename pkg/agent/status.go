package agent

import (
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/relay"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
	"github.com/breakwater-mesh/breakwater/pkg/telemetry"
	"github.com/breakwater-mesh/breakwater/pkg/xdsclient"
)

// configAge is for how long nobody has confirmed the configuration in force: 0 while the control plane is there; false where there is
// no configuration.
func configAge(s xdsclient.Status, now time.Time) (time.Duration, bool) {
	switch {
	case s.Applied.IsZero():
		return 0, false
	case !s.Saved.IsZero():
		return max(0, now.Sub(s.Saved)), true
	case s.Connected:
		return 0, true
	}
	return now.Sub(s.Since), true
}

// source is where the configuration in force is from.
func source(s xdsclient.Status) string {
	switch {
	case s.Applied.IsZero():
		return "none"
	case !s.Saved.IsZero():
		return "disk"
	}
	return "stream"
}

// serveReady says where the configuration is from, and how old it is where nobody confirms it.
func (a *agent) serveReady(w http.ResponseWriter, r *http.Request) {
	if !a.answerUnready(w) {
		return
	}
	if a.client == nil {
		fmt.Fprintln(w, "ready: relaying")
		return
	}
	status := a.status()
	fmt.Fprintf(w, "ready: configuration from %s", source(status))
	if age, ok := configAge(status, time.Now()); ok && age > 0 {
		fmt.Fprintf(w, ", %v old, as no control plane is connected", age.Round(time.Second))
	}
	if err := a.notOpen(); err != nil {
		fmt.Fprintf(w, "; not open: %v", err)
	}
	fmt.Fprintln(w)
}

func (a *agent) serveLive(w http.ResponseWriter, _ *http.Request) {
	if a.answerUnready(w) {
		fmt.Fprintln(w, "LIVE")
	}
}

// answerUnready answers where requests are not served as configured; true where they are.
func (a *agent) answerUnready(w http.ResponseWriter) bool {
	if err := a.ready(); err != nil {
		http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		return false
	}
	return true
}

// The parts of /status. Times that never were are absent.
type (
	statusPage struct {
		Version      string             `json:"version"`
		Uptime       int64              `json:"uptime_seconds"`
		Ready        bool               `json:"ready"`
		Reason       string             `json:"reason,omitempty"` // why it is not ready
		Node         statusNode         `json:"node"`
		Config       statusConfig       `json:"config"`
		ControlPlane statusControlPlane `json:"control_plane"`
		Listeners    map[string]string  `json:"listeners"`          // name -> where it accepts
		NotOpen      string             `json:"not_open,omitempty"` // listeners that can't be opened, and why
		Relayed      []relay.Stream     `json:"relayed,omitempty"`
	}
	statusNode struct {
		ID        string `json:"id"`
		Service   string `json:"service"`
		Namespace string `json:"namespace"`
	}
	statusConfig struct {
		Source    string     `json:"source"` // none, disk or stream
		Age       *int64     `json:"age_seconds,omitempty"`
		Applied   *time.Time `json:"applied,omitempty"`
		Saved     *time.Time `json:"saved,omitempty"` // of a configuration from disk
		Resources int        `json:"resources"`
		Waiting   int        `json:"waiting"` // for other resources
		SaveError string     `json:"save_error,omitempty"`
	}
	statusControlPlane struct {
		Servers   []string   `json:"servers"`
		Server    string     `json:"server,omitempty"` // of the present attempt
		Connected bool       `json:"connected"`
		Since     *time.Time `json:"since,omitempty"`
		LastError string     `json:"last_error,omitempty"`
		LastNACK  *nack      `json:"last_nack,omitempty"`
	}
	nack struct {
		At   time.Time `json:"at"`
		Text string    `json:"text"`
	}
)

func (a *agent) serveStatus(w http.ResponseWriter, _ *http.Request) {
	s, now := a.status(), time.Now()
	page := statusPage{
		Version: telemetry.Version, Uptime: int64(now.Sub(a.started).Seconds()), Ready: true,
		Node:   statusNode{a.config.NodeID, a.config.Service, a.config.Namespace},
		Config: statusConfig{Source: source(s), Applied: known(s.Applied), Saved: known(s.Saved), Resources: s.Resources, Waiting: s.Waiting, SaveError: s.SaveError},
		ControlPlane: statusControlPlane{
			Servers: a.config.XDS, Server: s.Server, Connected: s.Connected, Since: known(s.Since), LastError: s.LastError,
		},
		Listeners: a.server.Addresses(),
	}
	if a.relay != nil {
		page.Relayed = a.relay.Streams()
	}
	if err := a.ready(); err != nil {
		page.Ready, page.Reason = false, err.Error()
	}
	if err := a.notOpen(); err != nil {
		page.NotOpen = err.Error()
	}
	if age, ok := configAge(s, now); ok {
		seconds := int64(age.Seconds())
		page.Config.Age = &seconds
	}
	if s.LastNACK != "" {
		page.ControlPlane.LastNACK = &nack{s.NACKed, s.LastNACK}
	}
	writeJSON(w, page)
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// The parts of /outliers.
type (
	outlierHost struct {
		Cluster   string    `json:"cluster"`
		Address   string    `json:"address"`
		Why       string    `json:"why"` // the detector, by Envoy's name
		Since     time.Time `json:"since"`
		Until     time.Time `json:"until"`     // at the earliest
		Ejections uint32    `json:"ejections"` // ever
	}
	halfOpenHost struct {
		Cluster string `json:"cluster"`
		Address string `json:"address"`
		State   string `json:"state"`       // half-open
		Probes  uint32 `json:"probes"`      // calls that try it just now
		Left    uint32 `json:"probes_left"` // that may try it too
	}
	limitUse struct {
		Cluster  string `json:"cluster"`
		Priority string `json:"priority"`
		Limit    string `json:"limit"`
		Active   int64  `json:"active"`
		Max      uint32 `json:"max"`
		Open     bool   `json:"open"` // it is full: more is refused
	}
)

// serveOutliers is a table of what keeps requests away from hosts just now, or ?format=json.
func (a *agent) serveOutliers(w http.ResponseWriter, r *http.Request) {
	ejected, trials, limits := []outlierHost{}, []halfOpenHost{}, []limitUse{}
	for _, c := range a.engine.Clusters() {
		for _, h := range c.Hosts {
			if h.HalfOpen {
				trials = append(trials, halfOpenHost{c.Name, h.Address, "half-open", h.Probes, h.MaxProbes - min(h.Probes, h.MaxProbes)})
			}
			if h.Ejected {
				ejected = append(ejected, outlierHost{c.Name, h.Address, h.Ejection.By.String(), h.Ejection.Since, h.Ejection.Until, h.Ejections})
			}
		}
		limits = append(limits, limitsOf(c)...)
	}
	if r.URL.Query().Get("format") == "json" {
		writeJSON(w, map[string]any{"ejected": ejected, "half_open": trials, "limits": limits})
		return
	}
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "CLUSTER\tEJECTED HOST\tWHY\tSINCE\tAT LEAST UNTIL\tEJECTIONS")
	for _, h := range ejected {
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%d\n", h.Cluster, h.Address, h.Why, clock(h.Since), clock(h.Until), h.Ejections)
	}
	fmt.Fprintln(out, "\nCLUSTER\tHOST\tSTATE\tPROBES\tPROBES LEFT")
	for _, h := range trials {
		fmt.Fprintf(out, "%s\t%s\t%s\t%d\t%d\n", h.Cluster, h.Address, h.State, h.Probes, h.Left)
	}
	fmt.Fprintln(out, "\nCLUSTER\tPRIORITY\tLIMIT\tACTIVE\tMAX\t")
	for _, l := range limits {
		full := ""
		if l.Open {
			full = "full"
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%d\t%d\t%s\n", l.Cluster, l.Priority, l.Limit, l.Active, l.Max, full)
	}
	_ = out.Flush()
}

func clock(t time.Time) string { return strings.TrimSuffix(t.UTC().Format(time.RFC3339), "Z") + "Z" }

// limitsOf are the limits that are set for c, whether something uses them or not. A retry budget is no fixed number and has no line.
func limitsOf(c engine.ClusterReport) []limitUse {
	var list []limitUse
	for p, name := range [...]string{"default", "high"} {
		t, n := &c.Thresholds[p], &c.Usage[p]
		for _, l := range []limitUse{
			{Limit: "connections", Active: n.Connections, Max: t.MaxConnections}, {Limit: "pending", Active: n.Pending, Max: t.MaxPendingRequests},
			{Limit: "requests", Active: n.Requests, Max: t.MaxRequests}, {Limit: "retries", Active: n.Retries, Max: t.MaxRetries},
		} {
			if l.Max == resilience.Unlimited || l.Limit == "retries" && t.Budget != nil {
				continue
			}
			l.Cluster, l.Priority, l.Open = c.Name, name, l.Active >= int64(l.Max)
			list = append(list, l)
		}
	}
	return list
}
