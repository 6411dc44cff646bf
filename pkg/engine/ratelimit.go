package engine

import (
	"context"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// limitStats are statistics of the rate limits of one prefix.
type limitStats struct{ enabled, ok, limited, enforced atomic.Int64 }

func (s *limitStats) each(prefix string, yield func(string, int64)) {
	prefix += ".http_local_rate_limit."
	yield(prefix+"enabled", s.enabled.Load())
	yield(prefix+"ok", s.ok.Load())
	yield(prefix+"rate_limited", s.limited.Load())
	yield(prefix+"enforced", s.enforced.Load())
}

// rateLimit is a rate limit at work.
type rateLimit struct {
	numbers dataplane.Bucket
	bucket  *resilience.TokenBucket // nil: nothing is limited
	stats   *limitStats
}

// adoptLimit keeps the bucket of the same place, where its numbers stay. The engine's mu is held.
func (e *Engine) adoptLimit(config *dataplane.RateLimit) *rateLimit {
	stats := e.limitStats[config.StatPrefix]
	if stats == nil {
		stats = &limitStats{}
		e.limitStats[config.StatPrefix] = stats
	}
	l := &rateLimit{numbers: config.Bucket, stats: stats}
	old := e.limits[config.Place]
	switch {
	case old != nil && old.numbers == config.Bucket:
		l.bucket = old.bucket
	case config.Bucket.Interval > 0:
		l.bucket = resilience.NewTokenBucket(config.Bucket.Max, config.Bucket.PerFill, config.Bucket.Interval, time.Now())
	}
	return l
}

// rateStep is a rate limit in one call.
type rateStep struct {
	noStep
	config *dataplane.RateLimit
	live   *rateLimit
	asked  bool // the bucket
}

func (c *Call) rateStep(config *dataplane.RateLimit) step {
	live := c.snap.filters.limits[config]
	if live == nil || config.Enabled.Numerator == 0 {
		return nil
	}
	return &rateStep{config: config, live: live}
}

func (s *rateStep) request(_ context.Context, c *Call) *reply {
	rnd := c.engine.options.Rand
	if !hits(s.config.Enabled, rnd) {
		return nil
	}
	s.live.stats.enabled.Add(1)
	if s.live.bucket == nil {
		s.live.stats.ok.Add(1)
		return nil
	}
	s.asked = true
	now := time.Now()
	if s.live.bucket.Take(now) {
		s.live.stats.ok.Add(1)
		return nil
	}
	s.live.stats.limited.Add(1)
	if !hits(s.config.Enforced, rnd) {
		c.edit(c.req.Header, s.config.Request, nil)
		return nil
	}
	s.live.stats.enforced.Add(1)
	r := &reply{status: s.config.Status, body: "local_rate_limited", flags: RL, details: "local_rate_limited", grpc: -1, edits: s.config.Response}
	if s.config.Exhausted {
		r.grpc = 8
	}
	if s.config.RetryAfter {
		r.extra = append(r.extra, Field{"Retry-After", seconds(s.live.bucket.Wait(now))})
	}
	return r
}

func (s *rateStep) response(_ *Call, _ int, h http.Header) *reply {
	if s.config.Headers && s.asked {
		now := time.Now()
		h["X-Ratelimit-Limit"] = []string{strconv.FormatUint(uint64(s.config.Bucket.Max), 10)}
		h["X-Ratelimit-Remaining"] = []string{strconv.FormatUint(uint64(s.live.bucket.Tokens(now)), 10)}
		h["X-Ratelimit-Reset"] = []string{seconds(s.live.bucket.Wait(now))}
	}
	return nil
}

// seconds rounds up.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
