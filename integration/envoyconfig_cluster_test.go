package integration_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// asWritten reads sections as an author writes them, defaults filled in.
func asWritten(t *testing.T, protocol catalog.Protocol, text string) policy.Sections {
	t.Helper()
	var doc any
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	var s policy.Sections
	if err := json.Unmarshal(must(json.Marshal(doc))(t), &s); err != nil {
		t.Fatal(err)
	}
	return sections(t, protocol, s)
}

// A sick host is out from its first check on, comes back after so many passing ones, and goes after so many failing ones, whatever they
// answer. An endpoint that is taken away is gone at once, though it passes its checks.
func TestEnvoyHealthCheck(t *testing.T) {
	t.Parallel()
	well, sick := startHost(t, nil), harness.Behaviour{Status: http.StatusServiceUnavailable}
	other := startHost(t, nil)
	other.Set(sick)
	svc := service("payments", catalog.HTTP)
	s := asWritten(t, catalog.HTTP, "healthCheck: {http: {path: /healthz}, interval: 100ms, noTrafficInterval: 100ms, healthyThreshold: 3, unhealthyThreshold: 4}")
	p := startProxy(t, compiled(t, svc, s, well.Address, other.Address)...)
	client := harness.NewClient(p.outbound, 10*time.Second)
	for range 6 {
		if c := client.Get("payments.shop", "/"); c.Status != http.StatusOK {
			t.Errorf("with one sick host a call is answered %d, %v; want 200", c.Status, c.Err)
		}
	}
	healthy := func(n int64) func() bool { return func() bool { return p.stat(t, "membership_healthy") == n } }
	other.Set(harness.Behaviour{})
	p.eventually(t, "the host is back", healthy(2))
	before := p.stat(t, "health_check.failure")
	other.Set(sick)
	p.eventually(t, "the host is out", healthy(1))
	if got := p.stat(t, "health_check.failure") - before; got < 4 {
		t.Errorf("the host was out after %d failing checks, want 4", got)
	}
	p.put(t, compiled(t, svc, s, other.Address)...)
	p.settled(t)
	p.eventually(t, "the endpoint is gone", func() bool { return p.stat(t, "membership_total") == 1 })
}

// What is hashed decides the host, and an edit of it acts in place: other hosts are chosen, and no connection is closed.
func TestEnvoyHashes(t *testing.T) {
	t.Parallel()
	var addresses []string
	var hosts []*harness.Host
	for range 5 {
		hosts = append(hosts, startHost(t, nil))
		addresses = append(addresses, hosts[len(hosts)-1].Address)
	}
	svc := service("payments", catalog.HTTP)
	on := func(keys string) policy.Sections {
		return asWritten(t, catalog.HTTP, "loadBalancing: {algorithm: maglev, hashOn: ["+keys+"]}")
	}
	p := startProxy(t, compiled(t, svc, on("{header: user-agent}"), addresses...)...)
	client := harness.NewClient(p.outbound, 10*time.Second)
	reached := func() (n int) {
		before := make([]int64, len(hosts))
		for i, h := range hosts {
			before[i] = h.Requests()
		}
		for i := range 20 {
			client.Get("payments.shop", "/?user="+string(rune('a'+i)))
		}
		for i, h := range hosts {
			if h.Requests() > before[i] {
				n++
			}
		}
		return n
	}
	if n := reached(); n != 1 {
		t.Errorf("with one user agent %d hosts are reached, want 1", n)
	}
	p.put(t, compiled(t, svc, on("{queryParameter: user}"), addresses...)...)
	p.settled(t)
	p.eventually(t, "more hosts are reached", func() bool { return reached() > 2 })
	if got := p.stat(t, "upstream_cx_destroy"); got != 0 {
		t.Errorf("the edit closed %d connections, want none", got)
	}
}

// One definition serves retries, ejection and admission control, and an edit of it acts in place where only retries go by it.
func TestEnvoyFailureCriteria(t *testing.T) {
	host := startHost(t, nil)
	host.Set(harness.Behaviour{Status: http.StatusTooManyRequests})
	svc := service("payments", catalog.HTTP)
	retry := "retry: {numRetries: 2, retryOn: [failure-criteria], backOff: {base: 1ms, max: 2ms}}\n"
	p := startProxy(t, compiled(t, svc, asWritten(t, catalog.HTTP, retry), host.Address)...)
	client := harness.NewClient(p.outbound, 10*time.Second)
	tries := func() int64 {
		before := host.Requests()
		client.Get("payments.shop", "/")
		return host.Requests() - before
	}
	if n := tries(); n != 1 {
		t.Errorf("without criteria a 429 is tried %d times, want 1", n)
	}
	edit := func(text string) {
		p.put(t, compiled(t, svc, asWritten(t, catalog.HTTP, text), host.Address)...)
		p.settled(t)
	}
	criteria := "failureCriteria: {http: {statuses: [429]}}\n"
	edit(retry + criteria)
	p.eventually(t, "a 429 is tried three times", func() bool { return tries() == 3 })
	if got := p.stat(t, "upstream_cx_destroy"); got != 0 {
		t.Errorf("the edit closed %d connections, want none", got)
	}

	edit(criteria + "outlierDetection: {consecutive5xx: 3, maxEjectionPercent: 100, useFailureCriteria: true}\nloadBalancing: {panicThreshold: 0}")
	p.eventually(t, "the host is ejected", func() bool {
		client.Get("payments.shop", "/")
		return p.stat(t, "outlier_detection.ejections_active") == 1
	})

	edit(criteria + "admissionControl: {successRatePercent: 100, maxRejectionPercent: 100, aggression: 1000}")
	p.eventually(t, "calls are shed", func() bool { return tries() == 0 })
	host.Set(harness.Behaviour{Status: http.StatusInternalServerError})
	edit(criteria + "admissionControl: {successRatePercent: 100, maxRejectionPercent: 100, aggression: 500}") // counts anew
	for range 5 {
		if n := tries(); n != 1 {
			t.Errorf("a 500 is no failure by the criteria, but the call after it got %d tries", n)
		}
	}
}
