package proxy

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// pool holds HTTP/1 connections to a host. A request takes an idle connection, or waits for the first that comes: one that was
// opened for it, or one that another request gave back.
type pool struct {
	host     *engine.Host
	priority resilience.Priority
	lane     *lane

	mu      sync.Mutex
	idle    []*conn // the last is the freshest
	waiters []*waiter
	open    int // connections, also those being opened
	gone    bool
	sweep   *time.Timer
	timeout time.Duration // of idle connections
}

// waiter gets exactly one grant, unless it is cancelled.
type waiter struct{ c chan grant }

type grant struct {
	moved   bool             // the host has chosen the other protocol: its pool is to be asked
	conn    *conn            // of HTTP/1
	stream  *http.ClientConn // of HTTP/2, with a stream reserved
	failure engine.Failure
}

// get takes a connection for the attempt: admitted, or Failure says why not. Without either the other protocol's pool is to be asked.
func (p *pool) get(ctx context.Context, a *engine.Attempt) (*conn, engine.Failure) {
	if c := p.takeIdle(); c != nil {
		return p.admit(c, a)
	}
	if !a.Queue() {
		return nil, engine.Overflow
	}
	w := &waiter{c: make(chan grant, 1)}
	p.enqueue(w, a.Config)
	select {
	case g := <-w.c:
		a.Unqueue()
		if g.failure != engine.None || g.moved {
			return nil, g.failure
		}
		return p.admit(g.conn, a)
	case <-ctx.Done():
		a.Unqueue()
		p.cancel(w)
		return nil, engine.LocalReset
	}
}

func (p *pool) admit(c *conn, a *engine.Attempt) (*conn, engine.Failure) {
	if !a.Admit() {
		p.put(c)
		return nil, engine.Overflow
	}
	return c, engine.None
}

// takeIdle returns the freshest connection that the host has not closed, or nil.
func (p *pool) takeIdle() *conn {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if c.usable() {
			return c
		}
		_ = c.Close()
	}
}

// enqueue adds w and opens a connection for it, if the limits allow. A pool without connections may always open one.
func (p *pool) enqueue(w *waiter, config *dataplane.Cluster) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiters = append(p.waiters, w)
	p.timeout = config.IdleTimeout
	if !p.host.OpenConnection(p.priority, p.open == 0) {
		return
	}
	p.open++
	go p.connect(config)
}

func (p *pool) cancel(w *waiter) {
	p.mu.Lock()
	if i := slices.Index(p.waiters, w); i >= 0 {
		p.waiters = slices.Delete(p.waiters, i, i+1)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	if g := <-w.c; g.conn != nil { // granted meanwhile
		p.put(g.conn)
	}
}

// connect opens a connection, and hands it to whoever waits longest.
func (p *pool) connect(config *dataplane.Cluster) {
	c, chosen, failure := p.lane.open(config, offer(config, false))
	switch {
	case failure != engine.None:
		p.host.ConnectFailed(failure == engine.ConnectTimeout)
		p.closedOne()
		p.tellAll(grant{failure: failure})
	case config.AutoHTTP && chosen == "h2":
		p.lane.chosen.Store(false)
		_ = c.Close()
		p.closedOne()
		p.tellAll(grant{moved: true})
	default:
		p.put(newConn(c, p.closedOne))
	}
}

// tellAll tells everyone who waits that there is no connection: what the host refused to one it refuses to all.
func (p *pool) tellAll(g grant) {
	p.mu.Lock()
	waiters := p.waiters
	p.waiters = nil
	p.mu.Unlock()
	for _, w := range waiters {
		w.c <- g
	}
}

func (p *pool) closedOne() {
	p.mu.Lock()
	p.open--
	p.mu.Unlock()
	p.host.CloseConnection(p.priority)
}

// put gives a connection to whoever waits longest, or makes it idle.
func (p *pool) put(c *conn) {
	p.mu.Lock()
	if len(p.waiters) > 0 {
		w := p.waiters[0]
		p.waiters = slices.Delete(p.waiters, 0, 1)
		p.mu.Unlock()
		w.c <- grant{conn: c}
		return
	}
	if p.gone {
		p.mu.Unlock()
		_ = c.Close()
		return
	}
	c.idle = time.Now()
	p.idle = append(p.idle, c)
	if p.timeout > 0 && p.sweep == nil {
		p.sweep = time.AfterFunc(p.timeout, p.expire)
	}
	p.mu.Unlock()
}

// discard closes a connection that can't be used again, and opens another for those who wait.
func (p *pool) discard(c *conn, config *dataplane.Cluster) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiters) > 0 && p.host.OpenConnection(p.priority, p.open == 0) {
		p.open++
		go p.connect(config)
	}
}

// expire closes what has been idle too long, and comes again when the next will have been.
func (p *pool) expire() {
	p.mu.Lock()
	now := time.Now()
	n := 0
	for n < len(p.idle) && now.Sub(p.idle[n].idle) >= p.timeout {
		n++
	}
	old := slices.Clone(p.idle[:n])
	p.idle = slices.Delete(p.idle, 0, n)
	p.sweep = nil
	if len(p.idle) > 0 && !p.gone {
		p.sweep = time.AfterFunc(p.timeout-now.Sub(p.idle[0].idle), p.expire)
	}
	p.mu.Unlock()
	for _, c := range old {
		_ = c.Close()
	}
}

func (p *pool) empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open == 0 && len(p.waiters) == 0
}

// shut closes idle connections; those in use close when they come back.
func (p *pool) shut() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.gone = nil, true
	if p.sweep != nil {
		p.sweep.Stop()
		p.sweep = nil
	}
	p.mu.Unlock()
	for _, c := range idle {
		_ = c.Close()
	}
}
