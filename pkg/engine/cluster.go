package engine

import (
	"cmp"
	"io"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// Host is one host of one cluster, as long as tables name it.
type Host struct {
	Address netip.AddrPort
	Name    string // its hostname; "" where it has none
	State   *resilience.HostState

	// Where active checks go, and what they call the host; "" leaves that to the check. They are set before NewProber is called.
	CheckAddress  netip.AddrPort
	CheckHostname string

	cluster *cluster
	pool    io.Closer

	// Guarded by the cluster's mu.
	checkers []*checker
	checked  dataplane.Host // what the checkers depend on
	fresh    bool           // it came to a cluster with checks
	leaving  bool           // no assignment names it any more

	cx     atomic.Int64
	users  [resilience.Priorities]atomic.Int64 // of its pools, where they are limited
	counts hostCounts
}

// hostCounts are the statistics of a host.
type hostCounts struct{ cxTotal, cxConnectFail, rqTotal, rqSuccess, rqError, rqTimeout atomic.Int64 }

// Pool is what Options.NewPool made for h.
func (h *Host) Pool() io.Closer { return h.pool }

// OpenConnection counts one connection more, if the limits allow it. A pool that is empty may always open one.
func (h *Host) OpenConnection(p resilience.Priority, empty bool) bool {
	config := h.cluster.config.Load()
	most := int64(config.PerHostMaxConnections)
	if most > 0 && h.cx.Load() >= most && !empty || !h.cluster.counters[p].TryConnection(&config.Thresholds[p], empty) {
		h.cluster.stats.add(cxOverflow)
		return false
	}
	h.cx.Add(1)
	h.counts.cxTotal.Add(1)
	h.cluster.stats.add(cxTotal)
	h.cluster.stats.add(cxActive)
	return true
}

// CloseConnection takes back an OpenConnection.
func (h *Host) CloseConnection(p resilience.Priority) {
	h.cx.Add(-1)
	h.cluster.stats.sub(cxActive)
	h.cluster.counters[p].DoneConnection()
}

// Connected counts a connection that was established after d.
func (h *Host) Connected(d time.Duration) { h.cluster.stats.connectMs.Add(d) }

// ConnectFailed counts a connection that was not established. CloseConnection is still owed.
func (h *Host) ConnectFailed(timeout bool) {
	h.counts.cxConnectFail.Add(1)
	h.cluster.stats.add(cxConnectFail)
	if timeout {
		h.cluster.stats.add(cxConnectTimeout)
	}
}

// Count counts one event of the transport, under its own name below "cluster.<name>.".
func (h *Host) Count(stat string) { h.cluster.stats.named.add(stat) }

// cluster is what outlives tables: the counters, ejections and statistics of the cluster of one name.
type cluster struct {
	options  *Options
	name     string
	stats    stats
	counters [resilience.Priorities]resilience.Counters
	pools    [resilience.Priorities]atomic.Int64 // hosts with pools in use, where they are limited
	config   atomic.Pointer[dataplane.Cluster]   // the present one
	detector atomic.Pointer[resilience.Detector] // nil: off
	fleet    atomic.Pointer[fleet]
	linear   resilience.Linear // of an aggregate
	warming  atomic.Bool       // new, and not all hosts have been checked: nothing is sent to it yet
	probes   sync.WaitGroup    // the goroutines that check hosts

	observed       atomic.Int64              // attempts that an observed limit lets through
	admission      atomic.Pointer[admission] // nil: off
	admissionStats admissionStats

	mu      sync.Mutex              // serialises the detector, checks and Picker.Refresh
	checks  map[string]*checkCounts // by checker
	entries []dataplane.Host        // the present hosts, in the fleet's order
	hosts   map[netip.AddrPort]*Host
	states  []*resilience.HostState // of entries
	tick    *time.Timer             // nil: off
	closed  bool
}

// fleet is the hosts to choose from, by the index that picker gives.
type fleet struct {
	picker *resilience.Picker
	hosts  []*Host
}

// adopt makes config the configuration of c. Where its hosts are what they were, their turns go on.
func (c *cluster) adopt(config *dataplane.Cluster) {
	old := c.config.Swap(config)
	c.mu.Lock()
	defer c.mu.Unlock()
	if old == nil || old.Balancing != config.Balancing || old.KeepPassing != config.KeepPassing || !slices.Equal(old.Hosts, config.Hosts) {
		c.rehost(config, c.present(config))
	}
	if len(config.Checks) > 0 || old != nil && len(old.Checks) > 0 {
		c.check(old, config)
	}
	c.detect(config.Outlier)
	c.adoptAdmission(config.Admission)
}

// rehost makes list the hosts to choose from: those of config, and perhaps others that stay.
func (c *cluster) rehost(config *dataplane.Cluster, list []dataplane.Host) {
	hosts := c.replaceHosts(list, len(config.Checks) > 0)
	for i, h := range hosts {
		h.leaving = i >= len(config.Hosts)
	}
	c.entries = list
	c.fleet.Store(&fleet{resilience.NewPicker(config.Balancing, members(list, hosts), c.options.Rand, sinceStart), hosts})
}

var start = time.Now()

// sinceStart is the clock of all pickers.
func sinceStart() time.Duration { return time.Since(start) }

func members(list []dataplane.Host, hosts []*Host) []resilience.Member {
	members := make([]resilience.Member, len(list))
	for i, config := range list {
		members[i] = resilience.Member{
			State: hosts[i].State, Priority: config.Priority, Weight: config.Weight, Declared: resilience.Declared(config.Health),
			Key: cmp.Or(config.HashKey, dataplane.AddressText(config.Address)), Locality: config.Locality, LocalityWeight: config.LocalityWeight,
		}
	}
	return members
}

// replaceHosts keeps hosts that stay, and closes the pools of those that go. Those that come fail their checks at first, where there are any.
func (c *cluster) replaceHosts(list []dataplane.Host, fresh bool) []*Host {
	next := make(map[netip.AddrPort]*Host, len(list))
	hosts := make([]*Host, len(list))
	states := make([]*resilience.HostState, len(list))
	for i, config := range list {
		h := c.hosts[config.Address]
		if h == nil || h.Name != config.Name { // as in Envoy, another name makes another host
			h = &Host{Address: config.Address, Name: config.Name, State: resilience.NewHostState(), cluster: c, fresh: fresh && !config.Unchecked}
			h.State.SetCheck(h.fresh, false)
			h.pool = c.options.NewPool(h)
		}
		next[config.Address], hosts[i], states[i] = h, h, h.State
	}
	for address, h := range c.hosts {
		if next[address] != h {
			h.stopChecks()
			_ = h.pool.Close()
		}
	}
	c.hosts, c.states = next, states
	return hosts
}

// detect switches to another configuration of outlier detection; nil switches it off, and all hosts return.
func (c *cluster) detect(config *resilience.Outlier) {
	old := c.detector.Load()
	switch {
	case config == nil && old != nil:
		c.detector.Store(nil)
		c.note(resilience.Release(c.states, time.Now()))
		c.tick.Stop()
		c.tick = nil
	case config != nil && (old == nil || old.Config() != *config):
		d := resilience.NewDetector(*config)
		d.Adopt(c.states)
		c.detector.Store(d)
		if c.tick == nil {
			c.tick = time.AfterFunc(config.Interval, c.judge)
		} else if old.Config().Interval != config.Interval {
			c.tick.Reset(config.Interval)
		}
	}
	c.countEjected()
}

// judge is the interval tick.
func (c *cluster) judge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.detector.Load()
	if d == nil || c.closed {
		return
	}
	c.note(d.Tick(c.states, time.Now(), c.options.Rand))
	c.tick.Reset(d.Config().Interval)
}

// record charges outcome to h, and ejects it where a detector says so.
func (c *cluster) record(h *Host, outcome resilience.Outcome) {
	d := c.detector.Load()
	if d == nil {
		return
	}
	if ask := d.Record(h.State, outcome); ask != 0 {
		c.eject(d, h, ask)
	}
}

// eject does what d asks for.
func (c *cluster) eject(d *resilience.Detector, h *Host, ask resilience.Ask) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note(d.Eject(c.states, h.State, ask, time.Now(), c.options.Rand))
}

// degraded puts a host that calls itself degraded behind the others, where the detector is asked to.
func (c *cluster) degraded(h *Host) {
	d := c.detector.Load()
	if d == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, changed := d.RecordDegraded(h.State, time.Now(), c.options.Rand); changed {
		c.fleet.Load().picker.Refresh()
	}
}

// outlierCounters are the detected and the enforced counter of a detector.
func outlierCounters(by resilience.Ask) (detected, enforced counter, ok bool) {
	switch by {
	case resilience.Ask5xx:
		return detected5xx, enforced5xx, true
	case resilience.AskGatewayFailure:
		return detectedGateway, enforcedGateway, true
	case resilience.AskLocalOriginFailure:
		return detectedLocal, enforcedLocal, true
	case resilience.AskSuccessRate:
		return detectedSuccessRate, enforcedSuccessRate, true
	case resilience.AskFailurePercentage:
		return detectedFailurePercentage, enforcedFailurePercentage, true
	case resilience.AskLocalOriginSuccessRate:
		return detectedLocalSuccessRate, enforcedLocalSuccessRate, true
	case resilience.AskLocalOriginFailurePercentage:
		return detectedLocalFailurePercentage, enforcedLocalFailurePercentage, true
	}
	return 0, 0, false
}

// note counts what the detector did. mu is held.
func (c *cluster) note(events []resilience.Event) {
	for _, e := range events {
		detected, enforced, ok := outlierCounters(e.By)
		if !ok || e.Action == resilience.HostUnejected {
			continue
		}
		c.stats.add(detected)
		switch e.Action {
		case resilience.HostEjected:
			c.stats.add(enforced)
			c.stats.add(ejectionsEnforcedTotal)
		case resilience.HostOverflow:
			c.stats.add(ejectionsOverflow)
		}
	}
	if len(events) > 0 {
		c.fleet.Load().picker.Refresh()
		c.countEjected()
	}
}

func (c *cluster) countEjected() {
	n := int64(0)
	for _, h := range c.states {
		if h.Ejected() {
			n++
		}
	}
	c.stats.set(ejectionsActive, n)
}

// close ends everything of a cluster that no table names any more. Requests under way finish.
func (c *cluster) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.tick != nil {
		c.tick.Stop()
	}
	for _, h := range c.hosts {
		h.stopChecks()
		_ = h.pool.Close()
	}
}
