package engine

import (
	"net/netip"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// Lease is a TCP connection to a host. Release is owed.
type Lease struct{ host *Host }

// Release takes the connection back.
func (l *Lease) Release() {
	l.host.State.End()
	l.host.CloseConnection(resilience.Default)
}

// Host is the host that the connection is to.
func (l *Lease) Host() netip.AddrPort { return l.host.Address }

// Connect picks a host of a cluster for a TCP stream and has dial connect to it as the cluster says. A host that can't be reached is
// charged for it. Without a lease the flags say why.
func (e *Engine) Connect(cluster string, dial func(h *Host, config *dataplane.Cluster) Failure) (*Lease, Flags) {
	snap := e.now.Load()
	c := &Call{engine: e, snap: snap, route: &dataplane.Route{}, target: snap.cluster(cluster)}
	if c.target == nil {
		return nil, NC
	}
	serving, h := c.pick(1)
	if h == nil {
		c.target.live.stats.add(noneHealthy)
		return nil, UH
	}
	if !h.OpenConnection(resilience.Default, false) {
		return nil, UO
	}
	h.State.Begin()
	lease := &Lease{h}
	if failure := dial(h, serving.config); failure != None {
		h.ConnectFailed(failure == ConnectTimeout)
		serving.live.record(h, resilience.ConnectFailed)
		lease.Release()
		return nil, flagOf(failure) | URX // there is one attempt
	}
	serving.live.record(h, resilience.Connected)
	serving.live.record(h, resilience.Outcome(200)) // without the split, a connection is a success
	return lease, 0
}
