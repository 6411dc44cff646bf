package engine

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// times are the timeouts of one call. The request timeout starts when the request is complete; those of an attempt when it also has a
// connection. 0 is none.
type times struct {
	global, perTry, perTryIdle, duration, idle, request time.Duration // fixed before the call starts
	untimed                                             bool          // none of them; likewise

	mu        sync.Mutex
	complete  bool
	completed time.Time // when the request was complete; zero before
	over      bool
	cancel    context.CancelCauseFunc // of the call; nil before start
	tries     []*Attempt              // under way, with times of their own

	globalTimer, durationTimer, idleTimer, requestTimer *time.Timer
}

// tryTimes are the timeouts of one attempt. They are guarded by the call's times.
type tryTimes struct {
	attached  bool // it has a connection
	streaming bool // its response has begun
	ctx       context.Context
	cancel    context.CancelCauseFunc

	tryTimer, tryIdleTimer, maxStreamTimer *time.Timer
}

// arrive takes the times that run before the router is asked. Route is nil where there is none.
func (t *times) arrive(route *dataplane.Route, l *dataplane.HTTP, r *Request, grpc bool) {
	t.duration, t.idle, t.request = l.MaxStreamDuration, l.StreamIdleTimeout, l.RequestTimeout
	if route == nil {
		return
	}
	if route.IdleTimeout != nil {
		t.idle = *route.IdleTimeout
	}
	if route.MaxStreamDuration != nil {
		t.duration = *route.MaxStreamDuration
	}
	if grpc && (route.MaxStreamDuration != nil || route.GRPCTimeoutHeaderMax != nil) {
		t.grpcTimeout(r, route.GRPCTimeoutHeaderMax)
	}
}

// configure takes the router's times.
func (t *times) configure(route *dataplane.Route, l *dataplane.HTTP, policy *resilience.Retry, r *Request) {
	t.global = route.Timeout
	if route.MaxStreamDuration != nil {
		t.global = 0
	}
	if r.Internal {
		t.global = milliseconds(r, "x-envoy-upstream-rq-timeout-ms", t.global)
	}
	if t.untimed = !t.any(); policy == nil && !r.Internal {
		return
	}
	if policy != nil {
		t.perTry, t.perTryIdle = policy.PerTryTimeout, policy.PerTryIdleTimeout
	}
	if r.Internal {
		t.perTry = milliseconds(r, "x-envoy-upstream-rq-per-try-timeout-ms", t.perTry)
	}
	if t.global > 0 && t.perTry >= t.global {
		t.perTry = 0
	}
	t.untimed = !t.any() && t.perTry <= 0 && t.perTryIdle <= 0
}

// grpcTimeout makes the caller's deadline the duration where it is heeded, up to most, and the duration the host's deadline.
func (t *times) grpcTimeout(r *Request, most *time.Duration) {
	if d, ok := parseGRPCTimeout(r.Header.Get(grpcTimeout)); ok && most != nil {
		t.duration = d
		if *most > 0 {
			t.duration = min(d, *most)
		}
	}
	if t.duration > 0 {
		r.Header[grpcTimeout] = []string{strconv.FormatInt(t.duration.Milliseconds(), 10) + "m"}
	}
}

// parseGRPCTimeout reads at most 8 digits and a unit.
func parseGRPCTimeout(s string) (time.Duration, bool) {
	if len(s) < 2 || len(s) > 9 {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	units := map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': 1}
	unit, ok := units[s[len(s)-1]]
	return time.Duration(n) * unit, ok && err == nil
}

// milliseconds takes a header of the application's, and consumes it.
func milliseconds(r *Request, name string, otherwise time.Duration) time.Duration {
	v := r.Header.Get(name)
	if v == "" {
		return otherwise
	}
	r.Header.Del(name)
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil {
		return otherwise
	}
	return time.Duration(n) * time.Millisecond
}

// any reports whether the call may have to be ended. Cluster limits of an attempt have a context of their own.
func (t *times) any() bool { return t.global > 0 || t.duration > 0 || t.idle > 0 || t.request > 0 }

// start begins the call, which cancel ends.
func (t *times) start(cancel context.CancelCauseFunc) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel = cancel
	arm(&t.durationTimer, t.duration, cancel, errMaxDuration)
	arm(&t.idleTimer, t.idle, cancel, errIdle)
	if t.complete {
		arm(&t.globalTimer, t.global, cancel, errTimeout)
	} else {
		arm(&t.requestTimer, t.request, cancel, errRequest)
	}
}

// arm starts a timer that cancels because of cause.
func arm(timer **time.Timer, d time.Duration, cancel context.CancelCauseFunc, cause error) {
	if d > 0 && cancel != nil {
		*timer = time.AfterFunc(d, func() { cancel(cause) })
	}
}

func (t *times) requestComplete() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.completed.IsZero() {
		t.completed = time.Now()
	}
	if t.complete || t.over {
		return
	}
	t.complete = true
	stop(&t.requestTimer)
	arm(&t.globalTimer, t.global, t.cancel, errTimeout)
	for _, a := range t.tries {
		t.armTry(a)
	}
}

// beginTry is the context of an attempt: the call's own, where no time of the attempt can end it alone.
func (t *times) beginTry(ctx context.Context, a *Attempt) context.Context {
	if t.perTry <= 0 && t.perTryIdle <= 0 && a.Config.MaxStream <= 0 && a.soft == nil {
		return ctx
	}
	ctx, cancel := context.WithCancelCause(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	a.times = &tryTimes{ctx: ctx, cancel: cancel}
	t.tries = append(t.tries, a)
	return ctx
}

func (t *times) admitted(a *Attempt) {
	if a.times == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a.times.attached = true
	arm(&a.times.maxStreamTimer, a.Config.MaxStream, a.times.cancel, errMaxStream)
	t.armTry(a)
}

// armTry starts the times of an attempt once the request is complete and has a connection.
func (t *times) armTry(a *Attempt) {
	own := a.times
	if !t.complete || !own.attached || own.streaming {
		return
	}
	if a.soft != nil && t.perTry > 0 {
		own.tryTimer = time.AfterFunc(t.perTry, a.soft)
	} else {
		arm(&own.tryTimer, t.perTry, own.cancel, errPerTry)
	}
	arm(&own.tryIdleTimer, t.perTryIdle, own.cancel, errPerTryIdle)
}

// headers says that the attempt's Try has returned: the time of the try is over.
func (t *times) headers(a *Attempt, response bool) {
	if a.times == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	stop(&a.times.tryTimer)
	a.times.streaming = response
	if !response {
		stop(&a.times.tryIdleTimer)
	}
}

// cause is the time that has ended the attempt, nil where none has.
func (a *Attempt) cause() error {
	ctx := a.call.ctx
	if a.times != nil {
		ctx = a.times.ctx
	}
	switch cause := context.Cause(ctx); cause {
	case errTimeout, errPerTryIdle, errMaxStream, errMaxDuration, errIdle:
		return cause
	}
	return nil
}

// endTry ends the attempt.
func (t *times) endTry(a *Attempt) {
	if a.times == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	stop(&a.times.tryTimer)
	stop(&a.times.tryIdleTimer)
	stop(&a.times.maxStreamTimer)
	a.times.cancel(nil)
	a.times = nil
	t.tries = slices.DeleteFunc(t.tries, func(other *Attempt) bool { return other == a })
}

// progress restarts the idle timeouts.
func (t *times) progress() {
	if t.idle <= 0 && t.perTryIdle <= 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.idleTimer != nil {
		t.idleTimer.Reset(t.idle)
	}
	for _, a := range t.tries {
		if timer := a.times.tryIdleTimer; timer != nil {
			timer.Reset(t.perTryIdle)
		}
	}
}

// left is what the host is told it has for its answer: 0 is any time. The time of a try is part of it, unless tries are hedged.
func (t *times) left(hedged bool) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := t.global
	if left > 0 && !t.completed.IsZero() {
		left = max(time.Millisecond, left-time.Since(t.completed))
	}
	if t.perTry > 0 && !hedged && (left == 0 || t.perTry < left) {
		left = t.perTry
	}
	return left
}

// since is how long ago the request was complete; false: it is not.
func (t *times) since() (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.completed.IsZero() {
		return 0, false
	}
	return time.Since(t.completed), true
}

// stop ends all times of the call.
func (t *times) stop() {
	if t.untimed {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	stop(&t.globalTimer)
	stop(&t.durationTimer)
	stop(&t.idleTimer)
	stop(&t.requestTimer)
}

func stop(timer **time.Timer) {
	if *timer != nil {
		(*timer).Stop()
		*timer = nil
	}
}

// lateStatus is what a request gets whose own time is over: it was slow itself, or its answer was.
func (t *times) lateStatus() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.complete {
		return http.StatusGatewayTimeout
	}
	return http.StatusRequestTimeout
}
