package integration_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// failing are services that each keep Envoy from an answer in a way of their own, on one Envoy, under some sections and what it takes
// for them to fail so.
func failing(t *testing.T, common policy.Sections) *harness.Client {
	t.Helper()
	hangs := startHost(t, nil)
	hangs.Set(harness.Behaviour{Hang: true})
	ill := startHost(t, nil)
	ill.Set(harness.Behaviour{Status: http.StatusServiceUnavailable, Body: "mine"})
	resets := startHost(t, nil)
	resets.Set(harness.Behaviour{Reset: true})
	black := must(harness.StartBlackHole())(t)
	t.Cleanup(black.Close)
	free := must(harness.FreePorts(1))(t)
	var resources []*view.Resource
	add := func(name string, change func(*policy.Sections), hosts ...string) {
		s := common
		if change != nil {
			change(&s)
		}
		resources = append(resources, compiled(t, service(name, catalog.HTTP), sections(t, catalog.HTTP, s), hosts...)...)
	}
	add("well", nil, startHost(t, nil).Address)
	add("hangs", func(s *policy.Sections) { s.Timeout = &policy.Timeout{Request: millis(100)} }, hangs.Address)
	add("unreachable", func(s *policy.Sections) { s.Timeout = &policy.Timeout{Connect: millis(100)} }, black.Address)
	add("refuses", nil, harness.Loopback(free[0]))
	add("empty", nil)
	add("crowded", func(s *policy.Sections) {
		s.Limits = &policy.Limits{MaxRequests: count(0), MaxPendingRequests: count(0)}
	}, ill.Address)
	add("resets", nil, resets.Address)
	add("ill", nil, ill.Address)
	add("tries", func(s *policy.Sections) {
		s.Retry = &policy.Retry{NumRetries: new(uint32(1)), RetryOn: []string{"5xx"}}
	}, ill.Address)
	return harness.NewClient(startProxy(t, resources...).outbound, 10*time.Second)
}

// With errorMapping a caller can tell time from other reasons, and both from what the service says itself.
func TestEnvoyErrorMapping(t *testing.T) {
	t.Parallel()
	client := failing(t, policy.Sections{ErrorMapping: &policy.ErrorMapping{Gateway: new(true)}})
	for _, tt := range []struct {
		service string
		status  int
		reason  string
	}{
		{"well", 200, ""},
		{"hangs", 504, "UT"},
		{"unreachable", 504, "UF"},
		{"refuses", 502, "UF"},
		{"empty", 502, "UH"},
		{"crowded", 502, "UO"},
		{"resets", 502, "UC"},
		{"ill", 503, ""},
		{"tries", 503, ""},
	} {
		got := client.Get(tt.service+".shop", "/")
		if reason := got.Header.Get("x-breakwater-reason"); got.Status != tt.status || reason != tt.reason {
			t.Errorf("%s: %d for %q, want %d for %q (%q)", tt.service, got.Status, reason, tt.status, tt.reason, got.Body)
		}
	}
}

// A fixed response stands in for every failure of its sort, whoever answered it, and for nothing else.
func TestEnvoyFallbackResponse(t *testing.T) {
	t.Parallel()
	response := &policy.FallbackResponse{Status: new(uint32(203)), Body: new(`{"items":[]}`)}
	for _, tt := range []struct {
		when   []string
		spared []string // fail all the same
	}{
		{nil, nil},
		{[]string{policy.OnConnectFailure}, []string{"hangs"}},
	} {
		client := failing(t, policy.Sections{Fallback: &policy.Fallback{Response: response, When: tt.when}})
		want := func(service string, status int, body, by, kind string) {
			t.Helper()
			got := client.Get(service+".shop", "/")
			if got.Status != status || body != "" && got.Body != body || got.Header.Get("x-breakwater-fallback") != by || kind != "" && got.Header.Get("content-type") != kind {
				t.Errorf("when %v, %s: %d %q %v, want %d %q by %q", tt.when, service, got.Status, got.Body, got.Header, status, body, by)
			}
		}
		want("well", 200, "", "", "")
		for _, service := range []string{"unreachable", "refuses", "empty", "crowded", "resets", "ill", "tries"} {
			want(service, 203, `{"items":[]}`, "response", "application/json")
		}
		if tt.spared == nil {
			want("hangs", 203, `{"items":[]}`, "response", "application/json")
		}
		for _, service := range tt.spared {
			want(service, 504, "", "", "")
		}
	}
}
