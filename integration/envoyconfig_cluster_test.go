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
