package engine

import (
	"cmp"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// Stats yields the statistics of all clusters by Envoy's names, by cluster in no order.
func (e *Engine) Stats(yield func(name string, value int64)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, live := range e.clusters {
		prefix := "cluster." + name + "."
		for c := range counters {
			yield(prefix+counterNames[c], live.stats.get(c))
		}
		live.stats.codes.each(func(code string, n int64) { yield(prefix+"upstream_rq_"+code, n) })
		live.stats.retried.each(func(code string, n int64) { yield(prefix+"retry.upstream_rq_"+code, n) })
		live.gauges(prefix, yield)
	}
}

// gauges yields how full the limits are, and how many hosts there are.
func (c *cluster) gauges(prefix string, yield func(string, int64)) {
	config := c.config.Load()
	for p, name := range [...]string{"default", "high"} {
		limits, counts := &config.Thresholds[p], &c.counters[p]
		under := prefix + "circuit_breakers." + name + "."
		gauge := func(open, remaining string, n int64, limit uint32) {
			yield(under+open, flag(n >= int64(limit)))
			yield(under+remaining, max(0, int64(limit)-n))
		}
		gauge("cx_open", "remaining_cx", counts.Connections(), limits.MaxConnections)
		gauge("rq_pending_open", "remaining_pending", counts.Pending(), limits.MaxPendingRequests)
		gauge("rq_open", "remaining_rq", counts.Requests(), limits.MaxRequests)
		if limits.Budget == nil {
			gauge("rq_retry_open", "remaining_retries", counts.Retries(), limits.MaxRetries)
		}
	}
	healthy := int64(0)
	hosts := c.list()
	for _, h := range hosts {
		healthy += flag(!h.Ejected)
	}
	yield(prefix+"membership_total", int64(len(hosts)))
	yield(prefix+"membership_healthy", healthy)
}

func flag(on bool) int64 {
	if on {
		return 1
	}
	return 0
}

// HostReport is the state of one host.
type HostReport struct {
	Address                                string
	Ejected, Degraded                      bool
	Ejections                              uint32
	RqActive, CxActive                     int64
	CxTotal, CxConnectFail                 int64
	RqTotal, RqSuccess, RqError, RqTimeout int64
}

// ClusterReport is the state of one cluster.
type ClusterReport struct {
	Name       string
	Thresholds [resilience.Priorities]resilience.Thresholds
	Hosts      []HostReport
}

// Clusters are all clusters by name, with their hosts by address.
func (e *Engine) Clusters() []ClusterReport {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]ClusterReport, 0, len(e.clusters))
	for name, live := range e.clusters {
		list = append(list, ClusterReport{name, live.config.Load().Thresholds, live.list()})
	}
	slices.SortFunc(list, func(a, b ClusterReport) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func (c *cluster) list() []HostReport {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]HostReport, 0, len(c.hosts))
	for _, h := range c.hosts {
		n := &h.counts
		list = append(list, HostReport{
			Address: h.Address.String(), Ejected: h.State.Ejected(), Degraded: h.State.Degraded(), Ejections: h.State.Ejections(),
			RqActive: int64(h.State.Active()), CxActive: h.cx.Load(), CxTotal: n.cxTotal.Load(), CxConnectFail: n.cxConnectFail.Load(),
			RqTotal: n.rqTotal.Load(), RqSuccess: n.rqSuccess.Load(), RqError: n.rqError.Load(), RqTimeout: n.rqTimeout.Load(),
		})
	}
	slices.SortFunc(list, func(a, b HostReport) int { return cmp.Compare(a.Address, b.Address) })
	return list
}
