package engine

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
)

// faultStats are statistics of the injected faults of one connection manager.
type faultStats struct{ active, aborts, delays, overflow atomic.Int64 }

func (s *faultStats) each(prefix string, yield func(string, int64)) {
	prefix = "http." + prefix + ".fault."
	yield(prefix+"active_faults", s.active.Load())
	yield(prefix+"aborts_injected", s.aborts.Load())
	yield(prefix+"delays_injected", s.delays.Load())
	yield(prefix+"faults_overflow", s.overflow.Load())
}

// faultStats are those of the connection managers of one prefix.
func (e *Engine) faultStats(prefix string) *faultStats {
	if known, ok := e.faults.Load(prefix); ok {
		return known.(*faultStats)
	}
	s, _ := e.faults.LoadOrStore(prefix, &faultStats{})
	return s.(*faultStats)
}

// faultStep is fault injection in one call.
type faultStep struct {
	noStep
	config *dataplane.FaultInjection
	stats  *faultStats
	active bool // counted as a fault
}

func (c *Call) faultStep(config *dataplane.FaultInjection) step {
	if config.DelayOf.Numerator == 0 && config.AbortOf.Numerator == 0 {
		return nil
	}
	return &faultStep{config: config, stats: c.engine.faultStats(c.http.StatPrefix)}
}

func (s *faultStep) request(ctx context.Context, c *Call) *reply {
	f := s.config
	if f.Cluster != "" && f.Cluster != c.cluster {
		return nil
	}
	for i := range f.Headers {
		if !f.Headers[i].Matches(c.req.Get) {
			return nil
		}
	}
	if f.Delay > 0 && hits(f.DelayOf, c.engine.options.Rand) && s.begin() {
		s.stats.delays.Add(1)
		c.flags |= DI
		if r := c.wait(ctx, f.Delay); r != nil || c.early != nil {
			return r
		}
	}
	if f.Status == 0 && f.GRPC < 0 || !hits(f.AbortOf, c.engine.options.Rand) || !s.begin() {
		return nil
	}
	s.stats.aborts.Add(1)
	r := &reply{status: f.Status, grpc: -1, body: "fault filter abort", flags: FI, details: "fault_filter_abort"}
	if f.Status == 0 {
		r.status, r.grpc = http.StatusOK, f.GRPC
	}
	return r
}

// begin counts the call among those with a fault, once. False says that there are as many as may be.
func (s *faultStep) begin() bool {
	if s.active {
		return true
	}
	if s.config.MaxActive >= 0 && s.stats.active.Load() >= s.config.MaxActive {
		s.stats.overflow.Add(1)
		return false
	}
	s.stats.active.Add(1)
	s.active = true
	return true
}

func (s *faultStep) end(bool) {
	if s.active {
		s.active = false
		s.stats.active.Add(-1)
	}
}

// wait holds the request back. The times of the request go on; where one of them is over first, that is the reply.
func (c *Call) wait(ctx context.Context, d time.Duration) *reply {
	least, cause := d, error(nil)
	if t := c.times.duration; t > 0 && t < least {
		least, cause = t, errMaxDuration
	}
	if t := c.times.idle; t > 0 && t < least {
		least, cause = t, errIdle
	}
	timer := time.NewTimer(least)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		c.early = new(c.gone())
		return nil
	}
	switch cause {
	case errMaxDuration:
		return &reply{status: http.StatusGatewayTimeout, grpc: 4, body: "downstream duration timeout", details: overDuration}
	case errIdle:
		return &reply{status: http.StatusGatewayTimeout, grpc: -1, body: "stream timeout", flags: SI, details: "stream_idle_timeout"}
	}
	if c.times.duration > 0 {
		c.times.duration -= d
	}
	return nil
}
