package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// defaultBuffer is Envoy's limit of a body kept for retries.
const defaultBuffer = 1 << 20

// Why a call or an attempt is ended by this end.
var (
	errTimeout     = errors.New("request timeout")
	errPerTry      = errors.New("per try timeout")
	errPerTryIdle  = errors.New("per try idle timeout")
	errMaxStream   = errors.New("longest duration of an attempt")
	errMaxDuration = errors.New("longest duration of the request")
	errIdle        = errors.New("idle timeout")
	errRequest     = errors.New("the request takes too long to come")
)

// Call is one request on its way. Begin makes it, Do brings the answer, and Finish, which is owed after Do, ends it. Complete, Exceed
// and Commit may come from other goroutines while Do runs; all else is called by the goroutine of Do.
type Call struct {
	engine  *Engine
	snap    *snapshot
	http    *dataplane.HTTP
	req     *Request
	host    *dataplane.VirtualHost // of route
	route   *dataplane.Route       // nil where no route matches
	cluster string                 // of the route, whether there is one or not
	target  *target                // nil where no host is asked
	grpc    bool
	hedged  bool // an attempt whose per-try timeout has passed goes on

	steps    []step  // filters that have a part in it
	early    *Answer // of one of them; nil: the router is asked
	replaced bool    // a filter's answer took the place of another

	retry    retry
	times    times
	tried    resilience.Tried
	attempt  Attempt  // the first; others are made as they are needed
	last     *Attempt // nil before the first
	crowded  bool     // a limit kept the last one from any connection
	probes   bool     // the host that was picked last is one on trial
	response bool     // the last attempt's response is the answer
	outer    bool     // the answer is not the router's: it does not tell of tries
	flags    Flags
	details  string
	attempts int         // that were made, or tried to be
	cookies  []string    // that the application is given
	since    time.Time   // when it came; zero until somebody asks
	informed atomic.Bool // the host has sent an informational response

	ctx    context.Context
	cancel context.CancelCauseFunc // nil where ctx needs none
}

// Begin finds the way of r, which came in at l, and takes it through the filters of l, which may hold it back. L need not be of the
// present table.
func (e *Engine) Begin(ctx context.Context, l *dataplane.HTTP, r *Request) *Call {
	snap := e.now.Load()
	c := &Call{engine: e, snap: snap, http: l, req: r, grpc: r.grpc()}
	c.host, c.route = find(snap.table, l, r)
	if c.route != nil && c.route.Direct == nil {
		c.cluster = choose(c.route, e.options.Rand)
		c.target = snap.cluster(c.cluster)
	}
	c.times.arrive(c.route, l, r, c.grpc)
	if len(l.Filters) > 0 && c.filter(ctx) || c.target == nil {
		return c
	}
	c.retry.choose(c.target.config, c.route, c.host)
	c.times.configure(c.route, l, c.retry.policy, r)
	c.hedged = c.route.HedgeOnPerTryTimeout
	if r.Internal {
		c.consume()
	}
	c.depart()
	c.retry.begin(r)
	if r.Internal && c.ExpectedTimeout() > 0 {
		delete(r.Header, "X-Envoy-Expected-Rq-Timeout-Ms") // it gets its own
	}
	return c
}

// consume takes the application's headers for the router. Those of timeouts are taken already, and those of retries are taken later.
func (c *Call) consume() {
	h := c.req.Header
	switch h.Get("X-Envoy-Hedge-On-Per-Try-Timeout") {
	case "true":
		c.hedged = true
	case "false":
		c.hedged = false
	}
	for _, name := range [...]string{"X-Envoy-Hedge-On-Per-Try-Timeout", "X-Envoy-Upstream-Rq-Timeout-Alt-Response", "X-Envoy-Upstream-Alt-Stat-Name"} {
		delete(h, name)
	}
}

// BufferLimit is how much of the body to keep for retries, in bytes; without retries nothing.
func (c *Call) BufferLimit() int {
	switch {
	case !c.retry.possible():
		return 0
	case c.route.BufferLimit > 0:
		return int(c.route.BufferLimit)
	case c.http.BufferLimit > 0:
		return int(c.http.BufferLimit)
	}
	return defaultBuffer
}

// CountsAttempts reports whether hosts are told which attempt they get.
func (c *Call) CountsAttempts() bool { return c.route != nil && c.host.AttemptCount }

// Exceed says that the body is longer than BufferLimit: it can't be sent again.
func (c *Call) Exceed() {
	if c.retry.possible() && !c.retry.stop() {
		c.target.live.stats.add(bufferAbandoned)
	}
}

// Informational says that the host has sent an informational response: no other attempt can follow. The first counts as an answer, and
// only that is to be passed on.
func (c *Call) Informational(status int) (first bool) {
	c.retry.stop()
	if first = !c.informed.Swap(true); first {
		c.target.live.stats.completed(status)
	}
	return first
}

// Refuse answers without a host, for a reason that the engine does not know. It stands in place of Do.
func (c *Call) Refuse(status int, details string) Answer { return c.say(status, "", 0, details) }

// Complete says that the request has come completely: timeouts start.
func (c *Call) Complete() { c.times.requestComplete() }

// ExpectedTimeout is what the host is told that its answer may take; 0: it is told nothing.
func (c *Call) ExpectedTimeout() time.Duration {
	if c.http.SuppressEnvoy {
		return 0
	}
	return c.times.left(c.hedges())
}

// ServiceTime is how long the host took, all attempts together; false: the application is not told, as it still sends or as it is so
// configured.
func (c *Call) ServiceTime() (time.Duration, bool) {
	took, ok := c.times.since()
	return took, ok && !c.http.SuppressEnvoy
}

// Progress says that something has moved: idle timeouts start again.
func (c *Call) Progress() { c.times.progress() }

// Do takes the call to its answer. It is called once.
func (c *Call) Do(ctx context.Context, up Upstream) Answer {
	if c.early != nil {
		return *c.early
	}
	if a, ok := c.refuse(); ok {
		return a
	}
	c.ctx = ctx
	if c.times.any() {
		c.ctx, c.cancel = context.WithCancelCause(ctx)
		c.times.start(c.cancel)
	}
	if c.hedges() {
		return c.hedge(up)
	}
	for n := 1; ; n++ {
		a := c.prepare(n)
		if a == nil {
			return c.noHost()
		}
		if c.denied(a) {
			return c.deny()
		}
		res, cause := c.try(c.times.beginTry(c.ctx, a), up, a)
		verdict := c.verdict(a, res, cause)
		if verdict == resilience.RetryAgain {
			c.discard(up, a, res)
			if cause := c.pause(res, n); cause != nil {
				c.retry.release(c)
				return c.interrupted(cause)
			}
			continue
		}
		if res.Failure == None {
			return c.accept(up, res)
		}
		c.endAttempt(a)
		c.aborted(res, cause)
		return c.give(res, cause)
	}
}

// prepare makes attempt n, nil where no host is fit.
func (c *Call) prepare(n int) *Attempt {
	c.attempts = n // also where no host is found
	serving, h := c.pick(n)
	if h == nil {
		return nil
	}
	a := &c.attempt
	if n > 1 {
		a = new(Attempt)
	}
	*a = Attempt{Host: h, Config: serving.live.config.Load(), Priority: c.route.Priority, Number: n, call: c, serving: serving, probe: c.probes}
	if limit := a.Config.Thresholds[a.Priority].MaxConnectionPools; limit < resilience.Unlimited && !a.usePool(int64(limit)) {
		serving.live.stats.add(cxPoolOverflow)
		a.endProbe()
		c.crowded = true
		return nil
	}
	c.last = a
	return a
}

// discard ends an attempt that another replaces.
func (c *Call) discard(up Upstream, a *Attempt, res Result) {
	if res.Failure == None {
		c.target.live.stats.retried.add(res.Status)
	}
	c.drop(up, a, res)
}

// drop ends an attempt whose response, if there is one, nobody wants.
func (c *Call) drop(up Upstream, a *Attempt, res Result) {
	if res.Failure == None {
		up.Drop()
	}
	c.endAttempt(a)
}

// try does one attempt, within the ctx that beginTry made for it. Cause says which time ended it, where one did.
func (c *Call) try(ctx context.Context, up Upstream, a *Attempt) (res Result, cause error) {
	res = up.Try(ctx, a)
	c.times.headers(a, res.Failure == None)
	c.observeTry(a)
	if res.Failure == None || res.Failure == LocalReset {
		if cause = context.Cause(ctx); cause != nil && res.Failure == None {
			up.Drop()
			res = Result{Failure: LocalReset}
		}
	}
	c.charge(a, res, cause)
	c.judge(a, res)
	return res, cause
}

// over is why the call has ended, nil while it goes on.
func (c *Call) over() error {
	if c.ctx.Err() == nil {
		return nil
	}
	return context.Cause(c.ctx)
}
