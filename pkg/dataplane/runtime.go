package dataplane

import (
	"math"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// layer is what a runtime layer says of clusters, by their names.
type layer map[string]overlay

// overlay is what runtime keys say of one cluster. It is comparable.
type overlay struct {
	limits      [resilience.Priorities][numLimits]setting
	maintenance setting
}

// setting is a number that may be set.
type setting struct {
	set   bool
	value float64
}

// The limits that runtime keys reach.
const (
	maxConnections = iota
	maxPendingRequests
	maxRequests
	maxRetries
	maxConnectionPools
	retryBudgetPercent
	retryBudgetMinimum
	numLimits
)

// limitNames are the ends of their keys.
func limitNames() [numLimits]string {
	return [numLimits]string{
		".max_connections", ".max_pending_requests", ".max_requests", ".max_retries", ".max_connection_pools",
		".retry_budget.budget_percent", ".retry_budget.min_retry_concurrency",
	}
}

func (r *reader) runtime(path string, m *runtimev3.Runtime) layer {
	out := make(layer)
	r.runtimeKeys(path+".layer", "", m.GetLayer(), out)
	return out
}

// runtimeKeys reads s, in which a key may also be spread over nested structs.
func (r *reader) runtimeKeys(path, prefix string, s *structpb.Struct, out layer) {
	for key, v := range s.GetFields() {
		full := prefix + key
		if inner := v.GetStructValue(); inner != nil {
			r.runtimeKeys(path, full+".", inner, out)
			continue
		}
		r.runtimeKey(path+"."+full, full, v, out)
	}
}

func (r *reader) runtimeKey(path, key string, v *structpb.Value, out layer) {
	if cluster, ok := strings.CutPrefix(key, "upstream.maintenance_mode."); ok {
		if n, ok := r.number(path, v, 100, true); ok {
			o := out[cluster]
			o.maintenance = setting{true, n}
			out[cluster] = o
		}
		return
	}
	cluster, p, limit, ok := limitKey(key)
	if !ok {
		r.notEnforced(path)
		return
	}
	most, whole := float64(math.MaxUint32), true
	if limit == retryBudgetPercent {
		most, whole = 100, false
	}
	if n, ok := r.number(path, v, most, whole); ok {
		o := out[cluster]
		o.limits[p][limit] = setting{true, n}
		out[cluster] = o
	}
}

// limitKey takes a key apart from its end: the cluster's name may hold dots.
func limitKey(key string) (cluster string, p resilience.Priority, limit int, ok bool) {
	rest, ok := strings.CutPrefix(key, "circuit_breakers.")
	if !ok {
		return "", 0, 0, false
	}
	for i, end := range limitNames() {
		head, ok := strings.CutSuffix(rest, end)
		if !ok {
			continue
		}
		if cluster, ok := strings.CutSuffix(head, ".default"); ok {
			return cluster, resilience.Default, i, cluster != ""
		}
		if cluster, ok := strings.CutSuffix(head, ".high"); ok {
			return cluster, resilience.High, i, cluster != ""
		}
	}
	return "", 0, 0, false
}

func (r *reader) number(path string, v *structpb.Value, most float64, whole bool) (float64, bool) {
	_, ok := v.GetKind().(*structpb.Value_NumberValue)
	switch n := v.GetNumberValue(); {
	case !ok:
		r.fault(path, "is no number")
	case math.IsNaN(n) || n < 0 || n > most:
		r.fault(path, "%v is not between 0 and %.0f", n, most)
	case whole && n != math.Trunc(n):
		r.fault(path, "%v is no whole number", n)
	default:
		return n, true
	}
	return 0, false
}

// over puts o over what earlier layers said.
func (o overlay) over(before overlay) overlay {
	for p := range o.limits {
		for i, s := range o.limits[p] {
			if s.set {
				before.limits[p][i] = s
			}
		}
	}
	if o.maintenance.set {
		before.maintenance = o.maintenance
	}
	return before
}

// apply puts the runtime's word over the cluster's own. Either key of a budget turns one on.
func (o overlay) apply(c *Cluster) {
	for p := range o.limits {
		t, limits := &c.Thresholds[p], &o.limits[p]
		for i, field := range []*uint32{&t.MaxConnections, &t.MaxPendingRequests, &t.MaxRequests, &t.MaxRetries, &t.MaxConnectionPools} {
			if limits[i].set {
				*field = uint32(limits[i].value)
			}
		}
		if !limits[retryBudgetPercent].set && !limits[retryBudgetMinimum].set {
			continue
		}
		budget := resilience.Budget{Percent: budgetPercent, MinConcurrent: budgetMinConcurrency}
		if t.Budget != nil {
			budget = *t.Budget
		}
		if s := limits[retryBudgetPercent]; s.set {
			budget.Percent = s.value
		}
		if s := limits[retryBudgetMinimum]; s.set {
			budget.MinConcurrent = uint32(s.value)
		}
		t.Budget = &budget
	}
	if o.maintenance.set {
		c.Maintenance = uint32(o.maintenance.value)
	}
}
