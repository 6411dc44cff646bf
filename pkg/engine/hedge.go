package engine

import (
	"context"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// hedges reports whether an attempt whose per-try timeout has passed goes on beside the next.
func (c *Call) hedges() bool { return c.hedged && c.times.perTry > 0 }

// race is a call whose attempts run beside each other. Its fields belong to the goroutine of Do.
type race struct {
	c       *Call
	up      Upstream
	running map[*Attempt]Upstream
	made    int // attempts
	ended   chan ended
	late    chan *Attempt // those whose per-try timeout has passed
	over    chan struct{} // closed at the end
	denied  bool          // admission control refused an attempt, and with it the call
	backOff *time.Timer   // until the next attempt; nil: none is waited for
	counted counter       // what it is counted as
}

// ended is an attempt whose Try has returned.
type ended struct {
	attempt *Attempt
	res     Result
	cause   error
}

// hedge is Do for hedged calls: the first response that is not to be retried wins, and the others are reset.
func (c *Call) hedge(up Upstream) Answer {
	r := &race{c: c, up: up, running: map[*Attempt]Upstream{}, ended: make(chan ended), late: make(chan *Attempt), over: make(chan struct{})}
	defer close(r.over)
	defer r.stop()
	if !r.launch() {
		return r.none()
	}
	for {
		var due <-chan time.Time
		if r.backOff != nil {
			due = r.backOff.C
		}
		select {
		case a := <-r.late:
			r.passed(a)
		case e := <-r.ended:
			if answer, done := r.take(e); done {
				return answer
			}
		case <-due:
			r.backOff = nil
			c.countRetry(r.counted)
			if !r.launch() && (r.denied || len(r.running) == 0) {
				return r.none()
			}
		case <-c.ctx.Done():
			cause := c.over()
			r.stop()
			return c.interrupted(cause)
		}
	}
}

// none answers where launch could start no attempt.
func (r *race) none() Answer {
	if !r.denied {
		return r.c.noHost()
	}
	r.stop()
	return r.c.deny()
}

// launch starts the next attempt. False says that there is no host for it, or that it was denied.
func (r *race) launch() bool {
	a := r.c.prepare(r.made + 1)
	if a == nil {
		return false
	}
	if r.denied = r.c.denied(a); r.denied {
		return false
	}
	up := r.up
	if r.made++; r.made > 1 {
		up = r.up.Fork()
	}
	a.soft = func() {
		select {
		case r.late <- a:
		case <-r.over:
		}
	}
	r.running[a] = up
	ctx := r.c.times.beginTry(r.c.ctx, a) // here, so that stop finds what to end
	go func() {
		res, cause := r.c.try(ctx, up, a)
		r.ended <- ended{a, res, cause}
	}()
	return true
}

// passed charges an attempt whose per-try timeout has passed, and has another started beside it.
func (r *race) passed(a *Attempt) {
	if r.running[a] == nil {
		return // it has ended meanwhile
	}
	c := r.c
	a.Host.counts.rqTimeout.Add(1)
	a.serving.live.record(a.Host, resilience.TimedOut)
	a.charged.Store(true)
	if c.retry.stopped.Load() {
		return
	}
	thresholds := &c.target.live.config.Load().Thresholds[c.route.Priority]
	v := c.note(c.retry.state.Hedge(c.retry.counters(c), thresholds, steady()))
	a.retried = v == resilience.RetryAgain
	r.again(v, Result{Failure: LocalReset})
}

// again waits for the next attempt, where v says that there is one.
func (r *race) again(v resilience.Verdict, replaced Result) {
	if v != resilience.RetryAgain || r.backOff != nil {
		return
	}
	wait, counted := r.c.backOff(replaced, r.made)
	r.counted = counted
	r.backOff = time.NewTimer(wait)
}

// take looks at an attempt that has ended. A bad one is dropped while another may do better.
func (r *race) take(e ended) (Answer, bool) {
	c, up := r.c, r.running[e.attempt]
	delete(r.running, e.attempt)
	v := resilience.RetryNot
	if !e.attempt.retried {
		v = c.verdict(e.attempt, e.res, e.cause)
	} else if c.wouldRetry(e) {
		v = resilience.RetryLimit
	}
	others := len(r.running) > 0 || r.backOff != nil
	switch {
	case v == resilience.RetryAgain:
		r.again(v, e.res)
		c.discard(up, e.attempt, e.res)
		return Answer{}, false
	case e.res.Failure == None && (v == resilience.RetryNot || !others):
		c.last = e.attempt
		return c.accept(up, e.res), true
	}
	if e.res.Failure != None {
		c.aborted(e.res, e.cause)
	}
	if others {
		c.drop(up, e.attempt, e.res)
		return Answer{}, false
	}
	c.endAttempt(e.attempt)
	return c.give(e.res, e.cause), true
}

// wouldRetry reports whether a response would be repeated if it had not been already.
func (c *Call) wouldRetry(e ended) bool {
	result := c.resultOf(e.attempt, e.res, e.cause)
	return e.res.Failure == None && c.retry.state.Would(&result)
}

// stop ends the attempts that still run, and waits for them.
func (r *race) stop() {
	if r.backOff != nil {
		r.backOff.Stop()
		r.backOff = nil
		r.c.retry.release(r.c)
	}
	for a := range r.running {
		r.c.times.abandon(a)
	}
	for len(r.running) > 0 {
		select {
		case e := <-r.ended:
			if e.res.Failure == None {
				r.running[e.attempt].Drop()
			} else {
				r.c.aborted(e.res, e.cause)
			}
			r.c.endAttempt(e.attempt)
			delete(r.running, e.attempt)
		case <-r.late:
		}
	}
}

// abandon ends an attempt that another has outrun.
func (t *times) abandon(a *Attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.times != nil {
		a.times.cancel(context.Canceled)
	}
}
