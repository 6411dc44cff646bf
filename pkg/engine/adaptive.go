package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// gradient is an adaptive concurrency limit at work.
type gradient struct {
	limits  resilience.GradientLimits
	prefix  string // of its statistics
	rnd     resilience.Rand
	blocked atomic.Int64
	now     *resilience.Gradient

	mu     sync.Mutex // serialises Tick and what it writes
	timer  *time.Timer
	closed bool
}

// adoptGradient keeps the limit of the same place, where its numbers stay. The engine's mu is held.
func (e *Engine) adoptGradient(config *dataplane.AdaptiveConcurrency, prefix string) *gradient {
	if old := e.gradients[config.Place]; old != nil && old.limits == config.Limits && old.prefix == prefix {
		return old
	}
	now := time.Now()
	g := &gradient{limits: config.Limits, prefix: prefix, rnd: e.options.Rand, now: resilience.NewGradient(config.Limits, now)}
	g.mu.Lock() // a short interval may be over before the timer is in its place
	defer g.mu.Unlock()
	g.timer = time.AfterFunc(config.Limits.UpdateInterval, g.tick)
	return g
}

func (g *gradient) tick() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	now := time.Now()
	g.timer.Reset(max(time.Millisecond, g.now.Tick(now, g.rnd).Sub(now)))
}

func (g *gradient) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.timer.Stop()
}

func (g *gradient) each(yield func(string, int64)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	prefix := "http." + g.prefix + ".adaptive_concurrency.gradient_controller."
	yield(prefix+"rq_blocked", g.blocked.Load())
	yield(prefix+"concurrency_limit", int64(g.now.Limit()))
	yield(prefix+"min_rtt_msecs", g.now.MinRTT().Milliseconds())
	yield(prefix+"min_rtt_calculation_active", flag(g.now.Measuring()))
}

// adaptiveStep is an adaptive concurrency limit in one call.
type adaptiveStep struct {
	noStep
	config  *dataplane.AdaptiveConcurrency
	live    *gradient
	started time.Time // zero: not admitted
}

func (c *Call) adaptiveStep(config *dataplane.AdaptiveConcurrency) step {
	live := c.snap.filters.gradients[config]
	if live == nil || config.Off {
		return nil
	}
	return &adaptiveStep{config: config, live: live}
}

func (s *adaptiveStep) request(context.Context, *Call) *reply {
	if !s.live.now.Try() {
		s.live.blocked.Add(1)
		return &reply{status: s.config.Status, grpc: -1, body: "reached concurrency limit", details: "reached_concurrency_limit"}
	}
	s.started = time.Now()
	return nil
}

func (s *adaptiveStep) end(whole bool) {
	switch {
	case s.started.IsZero():
	case !whole:
		s.live.now.Cancel()
	case s.live.now.Done(s.started, time.Now()):
		s.live.tick()
	}
	s.started = time.Time{}
}
