package integration_test

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// shape adds the paths of a JSON document to paths: names of fields, "*" for the elements of a list. Below opaque it does not look.
func shape(paths map[string]bool, at string, doc any, opaque func(path string) bool) {
	paths[at] = true
	if opaque(at) {
		return
	}
	switch v := doc.(type) {
	case map[string]any:
		for name, value := range v {
			shape(paths, at+"."+name, value, opaque)
		}
	case []any:
		for _, value := range v {
			shape(paths, at+".*", value, opaque)
		}
	}
}

// pages ask both admin ports for one page.
func pages(t *testing.T, e *sidecar, a *local, path string) (envoy, agent string) {
	t.Helper()
	envoy, err := e.Page(path)
	if err != nil {
		t.Fatal(err)
	}
	if agent, err = a.Page(path); err != nil {
		t.Fatal(err)
	}
	return envoy, agent
}

// family is what a Prometheus line belongs to: its metric's kind, its name and its labels' names.
var family = regexp.MustCompile(`(?m)^(?:# TYPE (\S+) (\S+)|([a-z0-9A-Z_]+)\{(.*)\} \S+)$`)

var labelName = regexp.MustCompile(`([a-z_]+)="`)

func families(text string) map[string]bool {
	all := map[string]bool{}
	for _, m := range family.FindAllStringSubmatch(text, -1) {
		if m[1] != "" {
			all[m[1]+" is a "+m[2]] = true
			continue
		}
		var names []string
		for _, label := range labelName.FindAllStringSubmatch(m[4], -1) {
			names = append(names, label[1])
		}
		all[m[3]+"{"+strings.Join(names, ",")+"}"] = true
	}
	return all
}

// ours are the statistics that Envoy has not, or not on its admin port: drops it tells to a load reporting service alone.
var ours = regexp.MustCompile(`^envoy_(config_|cluster_upstream_rq_drop_overload\b)`)

// alsoOurs are fields of Envoy's API that it leaves out of a page.
var alsoOurs = regexp.MustCompile(`\.dynamic_endpoint_configs\.\*\.(version_info|last_updated)$`)

// TestAgentsAdminPortHasEnvoysShape asks both, of the same configuration and traffic.
func TestAgentsAdminPortHasEnvoysShape(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	hosts := m.service("payments", 2)
	m.apply(m.manifest("orders"))
	m.apply(policyFor("breaker", "payments", "circuitBreaker: {failureThreshold: 3, recoveryTimeout: 30s}", "retry: {numRetries: 1, retryOn: [gateway-error]}"))
	e, a := m.envoy("orders"), m.agent("orders")
	e.reaches("payments", 200)
	a.reaches("payments", 200)
	m.programmed("breaker")
	hosts[0].Set(harness.Behaviour{Status: 503})
	for range 20 {
		e.Get("payments", "/")
		a.Get("payments", "/")
		e.Get("nobody", "/")
		a.Get("nobody", "/")
	}

	inside := map[string]func(string) bool{
		"/clusters?format=json":  func(string) bool { return false },
		"/listeners?format=json": func(string) bool { return false },
		"/memory":                func(string) bool { return false },
		"/server_info":           func(string) bool { return false },
		"/config_dump?include_eds": func(path string) bool { // the resources themselves are the control plane's
			return regexp.MustCompile(`\.(cluster|endpoint_config|listener|scoped_route_configs|route_config|bootstrap)$`).MatchString(path)
		},
		"/stats?format=json": func(path string) bool { return strings.HasSuffix(path, "interval") },
		"/runtime":           func(path string) bool { return path == ".entries" },
	}
	for page, opaque := range inside {
		envoy, agent := pages(t, e, a, page)
		var want, got any
		if json.Unmarshal([]byte(envoy), &want) != nil || json.Unmarshal([]byte(agent), &got) != nil {
			t.Errorf("%s is no JSON: %s", page, agent)
			continue
		}
		known, has := map[string]bool{}, map[string]bool{}
		shape(known, "", want, opaque)
		shape(has, "", got, opaque)
		for _, path := range slices.Sorted(maps.Keys(has)) {
			if !known[path] && !alsoOurs.MatchString(path) {
				t.Errorf("%s has %s, which Envoy's has not", page, path)
			}
		}
		if len(has) < 3 {
			t.Errorf("%s says next to nothing: %s", page, agent)
		}
	}

	envoy, agent := pages(t, e, a, "/stats?format=prometheus")
	known := families(envoy)
	n := 0
	for _, f := range slices.Sorted(maps.Keys(families(agent))) {
		if n++; !known[f] && !ours.MatchString(f) {
			t.Errorf("/stats?format=prometheus has %s, which Envoy's has not", f)
		}
	}
	if n < 100 {
		t.Errorf("only %d families", n)
	}

	// The text pages have the same lines but for the numbers.
	for _, page := range []string{"/clusters", "/listeners"} {
		envoy, agent := pages(t, e, a, page)
		known := map[string]bool{}
		key := func(line string) string { // cluster::host::name, without the value
			parts := strings.Split(line, "::")
			return strings.Join(parts[:len(parts)-1], "::")
		}
		for line := range strings.Lines(envoy) {
			known[key(line)] = true
		}
		for line := range strings.Lines(agent) {
			if !known[key(line)] {
				t.Errorf("%s has the line %q, which Envoy's has not", page, line)
			}
		}
	}
	_, agent = pages(t, e, a, "/clusters")
	if !strings.Contains(agent, "::health_flags::/failed_outlier_check\n") {
		t.Errorf("no host is ejected:\n%s", agent)
	}
	outliers, err := a.Page("/outliers")
	if err != nil || !strings.Contains(outliers, "consecutive_5xx") {
		t.Errorf("/outliers does not say why: %v\n%s", err, outliers)
	}
}
