package envoy

import (
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/wrapperspb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

const unlimited = math.MaxUint32

// Envoy's retry budget where one half of it is not set.
const (
	budgetPercent       = 20
	budgetMinConcurrent = 3
)

// limit is one threshold of one priority.
type limit struct {
	field string // of circuit_breakers
	value *manifest.Count
}

// thresholds are the limits of both priorities, in Envoy's order of fields. Nil: not set.
func thresholds(l *policy.Limits) (normal, high []limit) {
	if l == nil {
		return nil, nil
	}
	normal = []limit{
		{"max_connections", l.MaxConnections}, {"max_pending_requests", l.MaxPendingRequests}, {"max_requests", l.MaxRequests},
		{"max_retries", l.MaxRetries}, {"max_connection_pools", l.MaxConnectionPools},
	}
	if h := l.High; h != nil {
		high = []limit{
			{"max_connections", h.MaxConnections}, {"max_pending_requests", h.MaxPendingRequests}, {"max_requests", h.MaxRequests},
			{"max_retries", h.MaxRetries}, {"max_connection_pools", h.MaxConnectionPools},
		}
	}
	return normal, high
}

// circuitBreakers are the limits inside the Cluster: a constant baseline without limits where runtime layers carry the live ones,
// since a changed cluster loses its ejections; the limits themselves for a proxy without our layers.
func (in input) circuitBreakers() *clusterv3.CircuitBreakers {
	normal, high := baseline(corev3.RoutingPriority_DEFAULT), baseline(corev3.RoutingPriority_HIGH)
	if !in.target.Runtime {
		limits, highLimits := thresholds(in.sections.Limits)
		lower(normal, limits)
		lower(high, highLimits)
	}
	normal.RetryBudget = in.clusterBudget()
	if !in.highRetries() {
		high.RetryBudget = in.clusterBudget()
	}
	cb := &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{normal, high}}
	if l := in.sections.Limits; l != nil && l.PerHost != nil && l.PerHost.MaxConnections != nil {
		// No runtime key reaches these. Envoy takes max_connections alone here.
		cb.PerHostThresholds = []*clusterv3.CircuitBreakers_Thresholds{{MaxConnections: wrapperspb.UInt32(uint32(*l.PerHost.MaxConnections))}}
	}
	return cb
}

func baseline(p corev3.RoutingPriority) *clusterv3.CircuitBreakers_Thresholds {
	none := func() *wrapperspb.UInt32Value { return wrapperspb.UInt32(unlimited) }
	return &clusterv3.CircuitBreakers_Thresholds{
		Priority: p, MaxConnections: none(), MaxPendingRequests: none(), MaxRequests: none(), MaxRetries: none(),
		MaxConnectionPools: none(), TrackRemaining: true,
	}
}

// lower writes limits over the baseline.
func lower(t *clusterv3.CircuitBreakers_Thresholds, limits []limit) {
	for i, field := range []*wrapperspb.UInt32Value{t.MaxConnections, t.MaxPendingRequests, t.MaxRequests, t.MaxRetries, t.MaxConnectionPools} {
		if i < len(limits) && limits[i].value != nil {
			field.Value = uint32(*limits[i].value)
		}
	}
}

// budget is the retry budget in force, or nil. Where only a route retries, what holds for its cluster knows no retries: then the
// default counts, unless a limit does.
func (in input) budget() *policy.Budget {
	if r := in.sections.Retry; r != nil && r.Budget != nil {
		return r.Budget
	}
	if l := in.sections.Limits; !in.hints.retried || l != nil && l.MaxRetries != nil {
		return nil
	}
	return &policy.Budget{Percent: new(uint32(budgetPercent)), MinConcurrent: new(uint32(budgetMinConcurrent))}
}

// highRetries reports whether a limit of its own counts the retries of high priority: the budget then does not.
func (in input) highRetries() bool {
	l := in.sections.Limits
	return l != nil && l.High != nil && l.High.MaxRetries != nil
}

// clusterBudget is what of a retry budget must be in the Cluster. With runtime layers that is the interval alone: the numbers beside
// it stay constant, and the live ones override them.
func (in input) clusterBudget() *clusterv3.CircuitBreakers_Thresholds_RetryBudget {
	b := in.budget()
	if b == nil || in.target.Runtime && !finite(b.Interval) {
		return nil
	}
	percent, minimum := uint32(budgetPercent), uint32(budgetMinConcurrent)
	if !in.target.Runtime {
		percent, minimum = orElse(b.Percent, percent), orElse(b.MinConcurrent, minimum)
	}
	rb := &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
		BudgetPercent:       &typev3.Percent{Value: float64(percent)},
		MinRetryConcurrency: wrapperspb.UInt32(minimum),
	}
	if finite(b.Interval) {
		rb.BudgetInterval = duration(b.Interval)
	}
	return rb
}

// limitKeys are the runtime keys of the limits, by key. A limit that is not set, or unlimited, has none: the baseline holds.
func (in input) limitKeys() []RuntimeKey {
	if !in.target.Runtime {
		return nil
	}
	var keys []RuntimeKey
	add := func(priority string, limits []limit) {
		for _, l := range limits {
			if l.value != nil && *l.value != manifest.Unlimited {
				keys = append(keys, RuntimeKey{"circuit_breakers." + in.name + "." + priority + "." + l.field, uint32(*l.value)})
			}
		}
	}
	normal, high := thresholds(in.sections.Limits)
	add("default", normal)
	add("high", high)
	in.addBudget(&keys, "default")
	if in.hints.high && !in.highRetries() {
		in.addBudget(&keys, "high")
	}
	sortKeys(keys)
	return keys
}

func (in input) addBudget(keys *[]RuntimeKey, priority string) {
	if b := in.budget(); b != nil {
		prefix := "circuit_breakers." + in.name + "." + priority + ".retry_budget."
		*keys = append(*keys,
			RuntimeKey{prefix + "budget_percent", orElse(b.Percent, budgetPercent)},
			RuntimeKey{prefix + "min_retry_concurrency", orElse(b.MinConcurrent, budgetMinConcurrent)})
	}
}

func sortKeys(keys []RuntimeKey) {
	slices.SortFunc(keys, func(a, b RuntimeKey) int { return strings.Compare(a.Key, b.Key) })
}

// orElse is *p, or def where p is nil.
func orElse[T any](p *T, def T) T {
	if p == nil {
		return def
	}
	return *p
}

var limitsLines = []line{
	{field: "limits.maxConnections", on: proxies, level: Approximate,
		reason: "each worker of the proxy may always hold one connection to each host; at the limit calls wait rather than fail", instead: "limits.maxRequests"},
	{field: "limits.maxPendingRequests", on: proxies, when: both(bulkheadWaits, overHTTP2), beside: true, level: Unsupported,
		reason: "HTTP/2 calls share connections and never wait for one, beyond the time it takes to open it", instead: "bulkhead.maxConcurrent"},
	{field: "limits.maxPendingRequests", on: proxies, when: bulkheadWaits, level: Approximate,
		reason: "calls wait for a connection, not for a place in the bulkhead"},
	{field: "limits.maxPendingRequests", on: proxies, when: overHTTP2, level: Approximate,
		reason: "HTTP/2 calls count as pending only while a connection is being opened", instead: "limits.maxRequests"},
	{field: "limits.maxRetries", on: proxies, when: hasBudget, beside: true, level: Unsupported,
		reason: "beside a retry budget Envoy ignores it", instead: "retry.budget.minConcurrent"},
}

func bulkheadWaits(_ input, f policy.Field) bool { return f.Origin.Path == "bulkhead.maxWaiting" }

func overHTTP2(in input, _ policy.Field) bool { return in.http2() }

func hasBudget(in input, _ policy.Field) bool { return in.budget() != nil }
