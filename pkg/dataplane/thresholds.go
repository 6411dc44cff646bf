package dataplane

import (
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// Envoy's default thresholds, and its retry budget where one half of it is not set.
const (
	defaultLimit         = 1024
	defaultRetries       = 3
	budgetPercent        = 20
	budgetMinConcurrency = 3
)

// thresholds are those of the first entry of each priority, as in Envoy; a priority without an entry has the defaults.
func (r *reader) thresholds(path string, cb *clusterv3.CircuitBreakers) [resilience.Priorities]resilience.Thresholds {
	var out [resilience.Priorities]resilience.Thresholds
	var set [resilience.Priorities]bool
	for p := range out {
		out[p] = threshold(&clusterv3.CircuitBreakers_Thresholds{})
	}
	for i, t := range cb.GetThresholds() {
		p, ok := priority(t.GetPriority())
		if !ok {
			r.fault(fmt.Sprintf("%s.thresholds[%d].priority", path, i), "is not known")
			continue
		}
		if !set[p] {
			set[p], out[p] = true, threshold(t)
		}
	}
	return out
}

func threshold(t *clusterv3.CircuitBreakers_Thresholds) resilience.Thresholds {
	out := resilience.Thresholds{
		MaxConnections:     orValue(t.GetMaxConnections(), defaultLimit),
		MaxPendingRequests: orValue(t.GetMaxPendingRequests(), defaultLimit),
		MaxRequests:        orValue(t.GetMaxRequests(), defaultLimit),
		MaxRetries:         orValue(t.GetMaxRetries(), defaultRetries),
		MaxConnectionPools: orValue(t.GetMaxConnectionPools(), resilience.Unlimited),
	}
	if b := t.GetRetryBudget(); b != nil {
		out.Budget = &resilience.Budget{
			Percent:       budgetPercent,
			MinConcurrent: orValue(b.GetMinRetryConcurrency(), budgetMinConcurrency),
			Interval:      b.GetBudgetInterval().AsDuration(),
		}
		if b.GetBudgetPercent() != nil {
			out.Budget.Percent = b.GetBudgetPercent().GetValue()
		}
	}
	return out
}

func priority(p corev3.RoutingPriority) (resilience.Priority, bool) {
	switch p {
	case corev3.RoutingPriority_DEFAULT:
		return resilience.Default, true
	case corev3.RoutingPriority_HIGH:
		return resilience.High, true
	}
	return resilience.Default, false
}
