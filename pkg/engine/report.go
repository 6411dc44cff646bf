package engine

import (
	"cmp"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// Stats yields the statistics of all clusters and filters by Envoy's names, in no order.
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
		live.stats.named.each(func(name string, n int64) { yield(prefix+name, n) })
		live.gauges(prefix, yield)
		if live.admission.Load() != nil {
			live.admissionStats.each(prefix, yield)
		}
	}
	for prefix, s := range e.limitStats {
		s.each(prefix, yield)
	}
	for _, g := range e.gradients {
		g.each(yield)
	}
	e.faults.Range(func(prefix, s any) bool {
		s.(*faultStats).each(prefix.(string), yield)
		return true
	})
}

// Ejected is how many hosts are ejected, by cluster, where any are.
func (e *Engine) Ejected() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	ejected := make(map[string]int)
	for name, live := range e.clusters {
		if n := live.stats.get(ejectionsActive); n > 0 {
			ejected[name] = int(n)
		}
	}
	return ejected
}

// Timings yields the histograms of all clusters by Envoy's names, by cluster in no order.
func (e *Engine) Timings(yield func(name string, t *resilience.Timings)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, live := range e.clusters {
		yield("cluster."+name+".upstream_rq_time", &live.stats.rqTime)
		yield("cluster."+name+".upstream_cx_connect_ms", &live.stats.connectMs)
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
	healthy, degraded, excluded := int64(0), int64(0), int64(0)
	hosts := c.list()
	for _, h := range hosts {
		healthy += flag(h.Class == dataplane.Healthy)
		degraded += flag(h.Class == dataplane.Degraded)
		excluded += flag(h.excluded)
	}
	yield(prefix+"membership_total", int64(len(hosts)))
	yield(prefix+"membership_healthy", healthy)
	yield(prefix+"membership_degraded", degraded)
	yield(prefix+"membership_excluded", excluded)
	c.checkStats(prefix, yield)
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
	Ejected, Degraded, FailedCheck         bool
	Ejection                               resilience.Ejection // zero where Ejected is false
	Ejections                              uint32              // ever
	HalfOpen                               bool                // its breaker is
	Probes, MaxProbes                      uint32              // calls that try it, where HalfOpen; and how many may
	Health                                 dataplane.Health    // as the control plane says
	Weight, Priority                       uint32
	Locality                               string // region/zone/subZone
	Hostname                               string
	Class                                  dataplane.Health // Healthy, Degraded or Unhealthy, of all that is known
	Flags                                  []string         // Envoy's health flags; none: healthy
	RqActive, CxActive                     int64
	CxTotal, CxConnectFail                 int64
	RqTotal, RqSuccess, RqError, RqTimeout int64

	excluded bool
}

// Usage is how much of the limits of one priority is taken.
type Usage struct{ Connections, Pending, Requests, Retries int64 }

// ClusterReport is the state of one cluster.
type ClusterReport struct {
	Name       string
	Members    []string // of a composite; nil: it has hosts
	Thresholds [resilience.Priorities]resilience.Thresholds
	Usage      [resilience.Priorities]Usage
	Hosts      []HostReport
}

// Clusters are all clusters by name, with their hosts by address.
func (e *Engine) Clusters() []ClusterReport {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]ClusterReport, 0, len(e.clusters))
	for name, live := range e.clusters {
		config := live.config.Load()
		report := ClusterReport{Name: name, Members: config.Members, Thresholds: config.Thresholds, Hosts: live.list()}
		for p := range report.Usage {
			n := &live.counters[p]
			report.Usage[p] = Usage{n.Connections(), n.Pending(), n.Requests(), n.Retries()}
		}
		list = append(list, report)
	}
	slices.SortFunc(list, func(a, b ClusterReport) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func (c *cluster) list() []HostReport {
	c.mu.Lock()
	defer c.mu.Unlock()
	detector := c.detector.Load()
	list := make([]HostReport, 0, len(c.hosts))
	for _, config := range c.entries {
		h := c.hosts[config.Address]
		n := &h.counts
		report := HostReport{
			Address: dataplane.AddressText(h.Address), Ejected: h.State.Ejected(), Degraded: h.State.Degraded(), FailedCheck: h.State.FailedCheck(),
			Class: classOf(config.Health, h.State), Flags: h.healthFlags(config.Health),
			Ejections: h.State.Ejections(), Health: config.Health, Weight: config.Weight, Priority: config.Priority, Locality: config.Locality, Hostname: config.Name,
			RqActive: int64(h.State.Active()), CxActive: h.cx.Load(), CxTotal: n.cxTotal.Load(), CxConnectFail: n.cxConnectFail.Load(),
			RqTotal: n.rqTotal.Load(), RqSuccess: n.rqSuccess.Load(), RqError: n.rqError.Load(), RqTimeout: n.rqTimeout.Load(),
			excluded: config.Health == dataplane.Draining || h.State.PendingCheck() || h.State.Excluded(),
		}
		if detector != nil {
			report.Ejection, _ = detector.Ejection(h.State)
			if report.HalfOpen = h.State.Probing(); report.HalfOpen {
				report.Probes, report.MaxProbes = h.State.Probes(), detector.Config().HalfOpen.MaxProbes
			}
		}
		list = append(list, report)
	}
	slices.SortFunc(list, func(a, b HostReport) int { return cmp.Compare(a.Address, b.Address) })
	return list
}

// classOf is what a host is to balancing.
func classOf(declared dataplane.Health, state *resilience.HostState) dataplane.Health {
	switch {
	case declared >= dataplane.Unhealthy || state.Ejected() || state.FailedCheck():
		return dataplane.Unhealthy
	case declared == dataplane.Degraded || state.Degraded():
		return dataplane.Degraded
	}
	return dataplane.Healthy
}

// healthFlags are what Envoy's /clusters calls them. The cluster's mu is held.
func (h *Host) healthFlags(declared dataplane.Health) []string {
	timedOut := slices.ContainsFunc(h.checkers, func(k *checker) bool { return k.session.TimedOut() })
	var flags []string
	for _, f := range []struct {
		on   bool
		name string
	}{
		{h.State.FailedCheck(), "failed_active_hc"},
		{h.State.Ejected(), "failed_outlier_check"},
		{declared == dataplane.Unhealthy, "failed_eds_health"},
		{h.State.DegradedCheck(), "degraded_active_hc"},
		{declared == dataplane.Degraded, "degraded_eds_health"},
		{h.leaving, "pending_dynamic_removal"},
		{h.State.PendingCheck(), "pending_active_hc"},
		{h.State.Excluded(), "excluded_via_immediate_hc_fail"},
		{timedOut, "active_hc_timeout"},
		{declared == dataplane.Draining, "eds_status_draining"},
		{h.State.DegradedOutlier(), "degraded_outlier_detection"},
	} {
		if f.on {
			flags = append(flags, f.name)
		}
	}
	return flags
}
