package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/api"
)

// reporting has an Envoy say what it has ejected, more often than it does by itself.
func reporting(l *launch) {
	l.Ejections = true
	l.arguments = append(l.arguments, "--config-yaml", "stats_flush_interval: 0.2s")
}

// lost is what a dry run of a policy says of the clusters that it would rebuild, as "live/unknown of proxies, kept/agents" by cluster.
func (m *mesh) lost(policy string) (map[string]string, error) {
	_, answer, err := m.cp.Do(http.MethodPost, api.ApplyPath+"?dryRun=true", policy)
	if err != nil {
		return nil, err
	}
	var result api.ApplyResult
	if err := json.Unmarshal([]byte(answer), &result); err != nil {
		return nil, err
	}
	all := make(map[string]string)
	for _, r := range result.Impact.Rebuilt {
		live := "?"
		if r.LiveEjections != nil {
			live = fmt.Sprint(*r.LiveEjections)
		}
		all[r.Cluster] = fmt.Sprintf("%s/%d of %d, %d/%d", live, r.UnknownProxies, r.Proxies, r.KeptEjections, r.Agents)
	}
	return all, nil
}

func (m *mesh) loses(policy string, want map[string]string) {
	m.t.Helper()
	eventually(m.t, func() error {
		got, err := m.lost(policy)
		if err == nil && fmt.Sprint(got) != fmt.Sprint(want) {
			err = fmt.Errorf("the dry run says %v, want %v", got, want)
		}
		return err
	})
}

// Before an edit rebuilds a cluster, a dry run says how many live ejections go with it: those of Envoys that report, with listeners of ours or
// of their owners', whatever the cluster is called there. An Envoy that does not report is counted as such, and an agent keeps its own.
func TestDryRunTellsLiveEjections(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	const name = "pay.legacy:8080"
	bad := m.service("payments", 2, "clusterName: "+name)[0]
	for _, caller := range []string{"orders", "web", "desk", "quiet"} {
		m.service(caller, 0)
	}
	m.apply(policyFor("ejects", "payments", outlier))
	orders, web, quiet, desk := m.envoy("orders", reporting), m.brownfieldTo("web", []string{name}, reporting), m.envoy("quiet"), m.agent("desk")

	const edit = "outlierDetection: {consecutiveGatewayFailure: 4, interval: 1s, baseEjectionTime: 60s, maxEjectionTime: 60s, maxEjectionPercent: 100}"
	edited := policyFor("ejects", "payments", edit)
	m.loses(edited, map[string]string{"shop/payments": "0/1 of 2, 0/1", name: "0/0 of 1, 0/0"})
	bad.Set(harness.Behaviour{Status: http.StatusServiceUnavailable})
	eventually(t, func() error { // until both hosts have had their turns everywhere
		for _, caller := range []*harness.Client{orders.Client, web.Client, quiet.Client, desk.Client} {
			caller.Get("payments", "/")
		}
		got, err := m.lost(edited)
		want := map[string]string{"shop/payments": "1/1 of 2, 1/1", name: "1/0 of 1, 0/0"}
		if err == nil && fmt.Sprint(got) != fmt.Sprint(want) {
			err = fmt.Errorf("the dry run says %v, want %v", got, want)
		}
		return err
	})
	m.sees(map[string]string{"orders-1": `{"shop/payments":1}`, "web-1": `{"pay.legacy_8080":1}`, "quiet-1": "null", "desk-1": `{"shop/payments":1}`})

	// They are lost indeed, but for the agent's. What a proxy said is forgotten with it.
	bad.Set(harness.Behaviour{})
	m.apply(edited)
	m.programmed("ejects")
	again := policyFor("ejects", "payments", outlier)
	m.loses(again, map[string]string{"shop/payments": "0/1 of 2, 1/1", name: "0/0 of 1, 0/0"})
	orders.Kill()
	desk.Kill()
	m.loses(again, map[string]string{"shop/payments": "?/1 of 1, 0/0", name: "0/0 of 1, 0/0"})
	if log := m.cp.Log(); strings.Contains(log, "can't be read") {
		t.Errorf("the control plane can't read a report:\n%s", lastLines(log, 20))
	}
}

// What an Envoy behind a relay says goes the way of its xDS stream.
func TestRelayPassesLiveEjectionsOn(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	bad := m.service("payments", 2)[0]
	m.service("orders", 0)
	m.apply(policyFor("ejects", "payments", outlier))
	orders := m.relayed("orders", reporting)
	orders.reaches("payments", http.StatusOK)
	m.eject(orders.sidecar, bad)
	m.loses(policyFor("ejects", "payments", "outlierDetection: {consecutive5xx: 4, maxEjectionPercent: 100}"), map[string]string{"shop/payments": "1/0 of 1, 0/0"})
}

// sees checks what the list of proxies says that each has ejected.
func (m *mesh) sees(want map[string]string) {
	m.t.Helper()
	_, answer, err := m.cp.Do(http.MethodGet, api.ProxiesPath, "")
	if err != nil {
		m.t.Fatal(err)
	}
	var list api.ProxyList
	if err := json.Unmarshal([]byte(answer), &list); err != nil {
		m.t.Fatal(err)
	}
	for _, p := range list.Items {
		if got, _ := json.Marshal(p.Ejected); string(got) != want[p.ID] {
			m.t.Errorf("%s has ejected %s, want %s", p.ID, got, want[p.ID])
		}
	}
}
