package engine

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// retry is what one call may still repeat.
type retry struct {
	policy  *resilience.Retry // nil: none
	state   resilience.RetryState
	stopped atomic.Bool // no attempt can follow, whatever the policy says
	started bool        // an attempt has got its connection
	limited bool        // the rate-limited back-off was used
}

// choose takes the policy of the cluster, else of the route, else of its virtual host; they are never merged.
func (r *retry) choose(cluster *dataplane.Cluster, route *dataplane.Route, vh *dataplane.VirtualHost) {
	switch {
	case cluster.Retry != nil:
		r.policy = cluster.Retry
	case route.Retry != nil:
		r.policy = route.Retry
	default:
		r.policy = vh.Retry
	}
}

// begin takes the application's headers, where they are heeded, together with the policy.
func (r *retry) begin(req *Request) {
	if r.policy == nil && !req.Internal {
		return
	}
	r.state.Start(r.policy, req.Get, req.Internal)
	if req.Internal {
		for _, name := range consumed {
			req.Header.Del(name)
		}
	}
}

// consumed are the application's retry headers.
var consumed = [...]string{"X-Envoy-Retry-On", "X-Envoy-Retry-Grpc-On", "X-Envoy-Max-Retries", "X-Envoy-Retriable-Status-Codes",
	"X-Envoy-Retriable-Header-Names"}

// possible reports whether a further attempt may come, so that the body must be kept.
func (r *retry) possible() bool { return r.state.Possible() && !r.stopped.Load() }

// stop rules out further attempts. It reports whether they were ruled out before.
func (r *retry) stop() bool { return r.stopped.Swap(true) }

func (r *retry) counters(c *Call) *resilience.Counters {
	return &c.target.live.counters[c.route.Priority]
}

// release gives back a retry that led to no attempt.
func (r *retry) release(c *Call) { r.state.Release(r.counters(c)) }

// verdict decides on the result of attempt a.
func (c *Call) verdict(a *Attempt, res Result, cause error) resilience.Verdict {
	result := c.resultOf(a, res, cause)
	r, s := &c.retry, &c.target.live.stats
	var now time.Time
	thresholds := &c.target.live.config.Load().Thresholds[c.route.Priority]
	if thresholds.Budget != nil && thresholds.Budget.Interval > 0 {
		now = steady()
	}
	v, succeeded := r.state.Decide(&result, r.counters(c), thresholds, now)
	if succeeded && res.Failure == None {
		s.add(rqRetrySuccess)
	}
	return c.note(v)
}

// resultOf is what the retry state is told of attempt a.
func (c *Call) resultOf(a *Attempt, res Result, cause error) resilience.Result {
	r := &c.retry
	r.started = r.started || a.admitted
	result := resilience.Result{
		Failure: failureFor(res.Failure, cause), Started: r.started, Committed: r.stopped.Load(), Status: res.Status, GRPCStatus: -1,
	}
	if res.Failure == None && r.state.Listens() {
		result.RateLimited = len(res.Header["X-Envoy-Ratelimited"]) > 0
		result.Headers = headersOf(res)
		if code, ok := grpcCode(res.Header); ok && c.grpc {
			result.GRPCStatus = int(code)
		}
	}
	return result
}

// note counts a verdict, and flags what was not repeated.
func (c *Call) note(v resilience.Verdict) resilience.Verdict {
	s := &c.target.live.stats
	c.flags |= flagsOf(v)
	switch v {
	case resilience.RetryLimit:
		s.add(rqRetryLimitExceeded)
	case resilience.RetryOverflow:
		s.add(rqRetryOverflow)
	}
	return v
}

// failureFor is what an attempt's failure means for a retry. Cause is the time that ended the attempt.
func failureFor(f Failure, cause error) resilience.Failure {
	switch f {
	case None:
		return resilience.NoFailure
	case ConnectRefused, ConnectTimeout:
		return resilience.FailedConnect
	case RefusedStream:
		return resilience.FailedRefused
	case Overflow:
		return resilience.FailedOverflow
	case BodyLost:
		return resilience.FailedForGood
	case LocalReset:
		switch cause {
		case errPerTry, errPerTryIdle:
			return resilience.FailedTimeout
		case errMaxStream:
			return resilience.FailedReset
		}
		return resilience.FailedForGood
	}
	return resilience.FailedReset
}

// headersOf makes the headers of a response readable by lower-case names.
func headersOf(res Result) resilience.Headers {
	return func(name string) []string {
		if name == ":status" {
			return []string{strconv.Itoa(res.Status)}
		}
		return res.Header[http.CanonicalHeaderKey(name)]
	}
}

// flagsOf are the flags of what was not repeated.
func flagsOf(v resilience.Verdict) Flags {
	switch v {
	case resilience.RetryLimit:
		return URX
	case resilience.RetryOverflow:
		return UO
	}
	return 0
}

// pause waits before the next attempt. It returns why the call is over, where it ended meanwhile.
func (c *Call) pause(res Result, n int) error {
	wait, counted := c.backOff(res, n)
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.ctx.Done():
		}
	}
	if cause := c.over(); cause != nil {
		return cause
	}
	c.countRetry(counted)
	return nil
}

// countRetry counts a retry as its back-off ends. One that does not come to that is none, as in Envoy.
func (c *Call) countRetry(backOff counter) {
	c.target.live.stats.add(rqRetry)
	c.target.live.stats.add(backOff)
}

// backOff is the wait before retry n.
func (c *Call) backOff(res Result, n int) (time.Duration, counter) {
	rnd := c.engine.options.Rand
	policy := c.retry.policy
	if policy == nil {
		return resilience.DefaultBackOff().Wait(uint32(n), rnd), rqRetryBackoffExponential
	}
	if policy.RateLimited != nil && !c.retry.limited && res.Failure == None {
		if wait, ok := policy.RateLimited.Wait(headersOf(res), time.Now(), rnd); ok {
			c.retry.limited = true
			return wait, rqRetryBackoffRatelimited
		}
	}
	return policy.BackOff.Wait(uint32(n), rnd), rqRetryBackoffExponential
}
