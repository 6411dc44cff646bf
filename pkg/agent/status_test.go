package agent

import (
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// TestLimitsAreThoseThatAreSet has one that nothing uses, one that is full, and one that is used and has no limit.
func TestLimitsAreThoseThatAreSet(t *testing.T) {
	none := resilience.Thresholds{MaxConnections: resilience.Unlimited, MaxPendingRequests: resilience.Unlimited, MaxRequests: resilience.Unlimited, MaxRetries: resilience.Unlimited}
	c := engine.ClusterReport{Name: "shop/payments", Thresholds: [resilience.Priorities]resilience.Thresholds{none, none}}
	c.Thresholds[0].MaxRequests, c.Thresholds[1].MaxRetries = 3, 1
	c.Usage[0].Connections, c.Usage[1].Retries = 3, 1
	got := limitsOf(c)
	want := []limitUse{
		{Cluster: "shop/payments", Priority: "default", Limit: "requests", Max: 3},
		{Cluster: "shop/payments", Priority: "high", Limit: "retries", Active: 1, Max: 1, Open: true},
	}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
