package engine

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// Prober checks one host. Its methods are called one at a time.
type Prober interface {
	// Probe makes one check. It returns soon after ctx ends, which is a time-out.
	Probe(ctx context.Context) Probed
	// Close ends the connection that may be kept from check to check.
	Close() error
}

// Probed is what a check has found.
type Probed struct {
	Result   resilience.CheckResult
	Exclude  bool // the host asks to be left out at once
	Verified bool // the name of the host's service was looked at
}

// checkCounts are the statistics of one checker of a cluster.
type checkCounts struct{ attempt, success, failure, passive, network, verified atomic.Int64 }

// checker checks one host. It ends with cancel.
type checker struct {
	host    *Host
	config  *dataplane.HealthCheck
	session *resilience.CheckSession // guarded by the cluster's mu
	counts  *checkCounts
	cancel  context.CancelFunc
}

// check has each host of the table checked as config says. Checks that are what they were go on. A host that comes to a cluster that
// serves already is out of rotation until its first check; one that is there when checks begin, or change, stays what it is. mu is held.
func (c *cluster) check(old, config *dataplane.Cluster) {
	if c.options.NewProber == nil {
		return
	}
	same := old != nil && reflect.DeepEqual(old.Checks, config.Checks) && reflect.DeepEqual(old.TLS, config.TLS)
	for i, h := range c.fleet.Load().hosts {
		entry := c.entries[i]
		switch {
		case same && len(h.checkers) > 0 && h.checked == checkedAs(entry), len(h.checkers) == 0 && len(config.Checks) == 0:
			continue
		case len(config.Checks) == 0 || entry.Unchecked:
			h.stopChecks()
			h.clearChecks()
		default:
			c.startChecks(h, entry, config)
		}
	}
	c.warming.Store((old == nil || old.Unresolved || c.warming.Load()) && c.awaitsChecks())
	c.refresh()
}

// checkedAs is the part of a host's configuration that its checks depend on.
func checkedAs(entry dataplane.Host) dataplane.Host {
	return dataplane.Host{CheckAddress: entry.CheckAddress, CheckHostname: entry.CheckHostname, Unchecked: entry.Unchecked}
}

func (c *cluster) startChecks(h *Host, entry dataplane.Host, config *dataplane.Cluster) {
	h.stopChecks()
	failed := h.fresh || h.State.FailedCheck()
	pending := h.fresh && config.PendingFirst
	h.checked, h.CheckAddress, h.CheckHostname = checkedAs(entry), h.Address, entry.CheckHostname
	if entry.CheckAddress.IsValid() {
		h.CheckAddress = entry.CheckAddress
	}
	h.State.SetCheck(failed, h.State.Degraded())
	h.State.SetPendingCheck(pending)
	for _, check := range config.Checks {
		ctx, cancel := context.WithCancel(context.Background())
		k := &checker{h, check, resilience.NewCheckSession(&check.Check, failed, pending), c.countsOf(check.Name), cancel}
		h.checkers = append(h.checkers, k)
		prober := c.options.NewProber(h, config, check)
		c.probes.Go(func() { c.run(ctx, k, prober) })
	}
}

// countsOf is the statistics of the checker of that name, which live as long as the cluster. mu is held.
func (c *cluster) countsOf(name string) *checkCounts {
	if c.checks == nil {
		c.checks = map[string]*checkCounts{}
	}
	if c.checks[name] == nil {
		c.checks[name] = new(checkCounts)
	}
	return c.checks[name]
}

func (h *Host) stopChecks() {
	for _, k := range h.checkers {
		k.cancel()
	}
	h.checkers = nil
}

// clearChecks forgets what checks have found.
func (h *Host) clearChecks() {
	h.State.SetCheck(false, false)
	h.State.SetPendingCheck(false)
	h.State.SetExcluded(false)
}

// run checks until ctx ends.
func (c *cluster) run(ctx context.Context, k *checker, prober Prober) {
	defer prober.Close()
	c.mu.Lock()
	wait := k.session.First(c.options.Rand)
	c.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		k.counts.attempt.Add(1)
		probe, cancel := context.WithTimeout(ctx, k.config.Timeout)
		found := prober.Probe(probe)
		if probe.Err() != nil && found.Result > resilience.CheckPassedDegraded {
			found.Result = resilience.CheckTimeout
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		timer.Reset(c.found(ctx, k, found))
	}
}

// found takes the result of a check, and returns how long to wait for the next.
func (c *cluster) found(ctx context.Context, k *checker, p Probed) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		return 0
	}
	if p.Verified {
		k.counts.verified.Add(1)
	}
	passed := p.Result <= resilience.CheckPassedDegraded
	switch {
	case passed:
		k.counts.success.Add(1)
	case p.Result == resilience.CheckNetwork, p.Result == resilience.CheckTimeout:
		k.counts.network.Add(1)
		fallthrough
	default:
		k.counts.failure.Add(1)
	}
	h := k.host
	if p.Exclude {
		h.State.SetExcluded(true)
	}
	wait, recovering := k.session.Result(p.Result, c.stats.get(cxTotal) > 0, c.options.Rand)
	if recovering {
		h.State.Restart(sinceStart())
	}
	c.settle(h)
	if d := c.detector.Load(); passed && d != nil {
		if event, ok := d.CheckPassed(h.State, time.Now()); ok {
			c.note([]resilience.Event{event})
		}
	}
	if c.warming.Load() && !c.awaitsChecks() {
		c.warming.Store(false)
	}
	return wait
}

// settle makes h what its sessions say together: all must pass. mu is held.
func (c *cluster) settle(h *Host) {
	was := h.State.Flags()
	h.fresh = false
	failed := slices.ContainsFunc(h.checkers, func(k *checker) bool { return k.session.Failed() })
	if h.State.FailedCheck() && !failed {
		h.State.SetExcluded(false)
	}
	h.State.SetCheck(failed, slices.ContainsFunc(h.checkers, func(k *checker) bool { return k.session.Degraded() }))
	h.State.SetPendingCheck(slices.ContainsFunc(h.checkers, func(k *checker) bool { return k.session.Pending() }))
	if h.leaving && failed {
		c.rehost(c.config.Load(), c.present(c.config.Load()))
		return
	}
	if h.State.Flags() != was {
		c.refresh()
	}
}

// excludeAtOnce takes a response's word that its host is to be left out at once. It counts where the host is checked.
func (c *cluster) excludeAtOnce(h *Host) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(h.checkers) == 0 {
		return
	}
	h.State.SetExcluded(true)
	for _, k := range h.checkers {
		k.session.Passive()
		k.counts.failure.Add(1)
		k.counts.passive.Add(1)
	}
	c.settle(h)
	c.refresh()
}

// awaitsChecks reports whether a host waits for the first result of a checker. mu is held.
func (c *cluster) awaitsChecks() bool {
	for _, h := range c.hosts {
		if slices.ContainsFunc(h.checkers, func(k *checker) bool { return !k.session.Checked() }) {
			return true
		}
	}
	return false
}

func (c *cluster) refresh() { c.fleet.Load().picker.Refresh() }

// present is the hosts of config, and those that it no longer has but that stay as long as they pass their checks. mu is held.
func (c *cluster) present(config *dataplane.Cluster) []dataplane.Host {
	if !config.KeepPassing || len(config.Checks) == 0 {
		return config.Hosts
	}
	named := make(map[netip.AddrPort]bool, len(config.Hosts))
	for _, entry := range config.Hosts {
		named[entry.Address] = true
	}
	list := config.Hosts
	for _, entry := range c.entries {
		h := c.hosts[entry.Address]
		if named[entry.Address] || len(h.checkers) == 0 || h.State.FailedCheck() || entry.Health >= dataplane.Unhealthy {
			continue
		}
		list = append(slices.Clip(list), entry)
	}
	return list
}

// checkStats yields the statistics of active health checks, where there are any: of the hosts, and of each checker where there are several.
func (c *cluster) checkStats(prefix string, yield func(string, int64)) {
	checks := c.config.Load().Checks
	if len(checks) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	prefix += "health_check."
	healthy, degraded := int64(0), int64(0)
	for _, h := range c.hosts {
		healthy += flag(len(h.checkers) > 0 && !h.State.FailedCheck())
		degraded += flag(h.State.DegradedCheck())
	}
	yield(prefix+"healthy", healthy)
	yield(prefix+"degraded", degraded)
	for i, check := range checks {
		c.checkerStats(prefix, i, check, yield)
	}
}

func (c *cluster) checkerStats(prefix string, index int, check *dataplane.HealthCheck, yield func(string, int64)) {
	n := c.countsOf(check.Name)
	if check.Name != "" {
		prefix += "name." + check.Name + "."
		healthy, degraded := int64(0), int64(0)
		for _, h := range c.hosts {
			if index < len(h.checkers) {
				healthy += flag(!h.checkers[index].session.Failed())
				degraded += flag(h.checkers[index].session.Degraded())
			}
		}
		yield(prefix+"healthy", healthy)
		yield(prefix+"degraded", degraded)
	}
	yield(prefix+"attempt", n.attempt.Load())
	yield(prefix+"success", n.success.Load())
	yield(prefix+"failure", n.failure.Load())
	yield(prefix+"passive_failure", n.passive.Load())
	yield(prefix+"network_failure", n.network.Load())
	yield(prefix+"verify_cluster", n.verified.Load())
}
