package engine

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
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

// End is how the bringing of an answer ended.
type End uint8

// The ends.
const (
	Whole   End = iota
	AppGone     // the application went away
	broken      // the host's response broke off
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
	response bool     // the last attempt's response is the answer
	outer    bool     // the answer is not the router's: it does not tell of tries
	flags    Flags
	details  string
	attempts int         // that were made, or tried to be
	cookies  []string    // that the application is given
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

// noHost answers where no host is fit.
func (c *Call) noHost() Answer {
	c.retry.release(c)
	if !c.crowded {
		c.target.live.stats.add(noneHealthy)
	}
	return c.fail(http.StatusServiceUnavailable, "no healthy upstream", UH, "no_healthy_upstream")
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
	*a = Attempt{Host: h, Config: serving.live.config.Load(), Priority: c.route.Priority, Number: n, call: c, serving: serving}
	if limit := a.Config.Thresholds[a.Priority].MaxConnectionPools; limit < resilience.Unlimited && !a.usePool(int64(limit)) {
		serving.live.stats.add(cxPoolOverflow)
		c.crowded = true
		return nil
	}
	c.last = a
	return a
}

// usePool counts the attempt as a user of its host's pool, unless too many hosts have pools in use: unused ones give way.
func (a *Attempt) usePool(limit int64) bool {
	pools, users := &a.serving.live.pools[a.Priority], &a.Host.users[a.Priority]
	if users.Add(1) == 1 && pools.Add(1) > limit {
		pools.Add(-1)
		users.Add(-1)
		return false
	}
	a.pooled = true
	return true
}

func (a *Attempt) leavePool() {
	if a.pooled && a.Host.users[a.Priority].Add(-1) == 0 {
		a.serving.live.pools[a.Priority].Add(-1)
	}
	a.pooled = false
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

// refuse answers what no host is asked for.
func (c *Call) refuse() (Answer, bool) {
	switch {
	case c.route == nil:
		return c.fail(http.StatusNotFound, "", NR, "route_not_found"), true
	case c.route.Direct != nil:
		return c.direct(), true
	case c.target == nil:
		return c.fail(http.StatusServiceUnavailable, "", NC, "cluster_not_found"), true
	}
	config, rnd := c.target.live.config.Load(), c.engine.options.Rand
	if config.Maintenance > 0 && rnd()%100 < uint64(config.Maintenance) {
		c.target.live.stats.add(rqMaintenanceMode)
		return c.fail(http.StatusServiceUnavailable, "maintenance mode", UO, "maintenance_mode"), true
	}
	if config.DropPercent > 0 && float64(rnd()%1_000_000) < config.DropPercent*10_000 {
		c.target.live.stats.add(rqDropOverload)
		if config.DropPercent >= 100 {
			return c.fail(http.StatusServiceUnavailable, "unconditional drop overload", UDO, "unconditional_drop_overload"), true
		}
		return c.fail(http.StatusServiceUnavailable, "drop overload", DO, "drop_overload"), true
	}
	return Answer{}, false
}

// fail is an answer of our own that counts as the cluster's. Details are Envoy's words for why.
func (c *Call) fail(status int, body string, flags Flags, details string) Answer {
	if c.target != nil {
		c.target.live.stats.completed(status)
	}
	return c.say(status, body, flags, details)
}

// overDuration are the details of a request that has lasted too long.
const overDuration = "max_duration_timeout"

// say is an answer of our own that is none of the cluster's.
func (c *Call) say(status int, body string, flags Flags, details string) Answer {
	r := &reply{status: status, grpc: -1, body: body, flags: flags, details: details}
	if flags&UT != 0 || details == overDuration {
		r.grpc = 4 // DEADLINE_EXCEEDED
	}
	if field, ok := dropFields[flags]; ok && !c.http.SuppressEnvoy {
		r.extra = append(r.extra, field)
	}
	if flags&UO != 0 && !c.http.SuppressEnvoy {
		r.extra = append(r.extra, overloaded)
	}
	return c.local(r)
}

// try does one attempt, within the ctx that beginTry made for it. Cause says which time ended it, where one did.
func (c *Call) try(ctx context.Context, up Upstream, a *Attempt) (res Result, cause error) {
	res = up.Try(ctx, a)
	c.times.headers(a, res.Failure == None)
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

// charge tells the detector and the statistics of the attempt's result.
func (c *Call) charge(a *Attempt, res Result, cause error) {
	live, h := a.serving.live, a.Host
	switch res.Failure {
	case None:
		status := resilience.Outcome(res.Status)
		if code, ok := grpcCode(res.Header); ok && c.grpc {
			status = resilience.GRPCOutcome(code)
		} else if rule := c.target.config.Errors; rule != nil { // which a gRPC status goes before
			status = resilience.MatchedOutcome(status, rule.Matches(headersOf(res)))
		}
		h.counts.result(status < 500)
		live.record(h, status)
		if len(res.Header["X-Envoy-Degraded"]) > 0 {
			live.degraded(h)
		}
		if len(res.Header["X-Envoy-Immediate-Health-Check-Fail"]) > 0 {
			live.excludeAtOnce(h)
		}
	case ConnectRefused, ConnectTimeout:
		live.stats.add(rqPendingFailureEject)
		h.counts.result(false)
		live.record(h, resilience.ConnectFailed)
	case LocalReset:
		c.chargeTime(a, cause)
	case Overflow, BodyLost:
	default:
		a.countReset(res.Failure)
		h.counts.result(false)
		live.record(h, resilience.Reset)
	}
}

// chargeTime charges an attempt that this end has broken off. An application that went away is nobody's failure.
func (c *Call) chargeTime(a *Attempt, cause error) {
	live, h := a.serving.live, a.Host
	switch cause {
	case errTimeout:
		live.stats.add(rqTimeout)
	case errPerTry:
		live.stats.add(rqPerTryTimeout)
	case errPerTryIdle:
		live.stats.add(rqPerTryIdleTimeout)
	case errMaxStream:
		live.stats.add(rqMaxDurationReached)
		a.countReset(LocalReset)
		return // no failure of the host's
	default:
		if a.admitted {
			a.countReset(LocalReset)
		} else {
			live.stats.add(rqCancelled)
		}
		return
	}
	if !a.admitted {
		return // it never got to the host
	}
	a.countReset(LocalReset)
	h.counts.rqTimeout.Add(1)
	h.counts.result(false)
	if !a.charged.Load() {
		live.record(h, resilience.TimedOut)
	}
}

// aborted counts an attempt that failed and is not repeated among the cluster's answers, whoever is answered by what else.
func (c *Call) aborted(res Result, cause error) {
	status := http.StatusServiceUnavailable
	switch res.Failure {
	case BodyLost:
		return
	case LocalReset:
		if cause != errTimeout && cause != errPerTry && cause != errPerTryIdle {
			return
		}
		status = http.StatusGatewayTimeout
	case ProtocolError:
		status = http.StatusBadGateway
	}
	c.target.live.stats.completed(status)
}

// accept takes the host's response as the answer.
func (c *Call) accept(up Upstream, res Result) Answer {
	c.target.live.stats.completed(res.Status)
	c.response = true
	for _, cookie := range c.cookies {
		res.Header.Add("Set-Cookie", cookie)
	}
	c.details = "via_upstream"
	if res.Header != nil {
		if other := c.dress(res); other != nil {
			up.Drop()
			c.response = false
			c.endAttempt(c.last)
			return c.local(other)
		}
	}
	return Answer{From: up, Status: res.Status, Flags: c.flags}
}

// dress adds to the header of a host's response what its route and the filters say. A reply takes its place.
func (c *Call) dress(res Result) *reply {
	if len(c.route.Response) > 0 {
		c.editLevels(res.Header, c.route.Response, &reply{status: res.Status, details: c.details})
	}
	if c.host.AttemptCountResponse {
		res.Header[attemptCount] = []string{strconv.Itoa(c.last.Number)}
	}
	return c.respond(res.Status, res.Header)
}

// give answers for an attempt without a response that is not repeated.
func (c *Call) give(res Result, cause error) Answer {
	if res.Failure == LocalReset {
		return c.interrupted(cause)
	}
	if res.Failure == BodyLost {
		return c.say(http.StatusInsufficientStorage, "exceeded request buffer limit while retrying upstream", 0,
			"request_payload_exceeded_retry_buffer_limit")
	}
	c.crowded = res.Failure == Overflow && !c.last.met
	again := ""
	if c.attempts > 1 {
		again = "retried and the latest "
	}
	status := http.StatusServiceUnavailable
	if res.Failure == ProtocolError {
		status = http.StatusBadGateway
	}
	reason := res.Failure.String()
	return c.say(status, "upstream connect error or disconnect/reset before headers. "+again+"reset reason: "+reason,
		flagOf(res.Failure), "upstream_reset_before_response_started{"+res.Failure.word()+"}")
}

// interrupted answers for a time that is over, or for nobody.
func (c *Call) interrupted(cause error) Answer {
	switch cause {
	case errTimeout:
		return c.say(http.StatusGatewayTimeout, "upstream request timeout", UT, "response_timeout")
	case errPerTry:
		return c.say(http.StatusGatewayTimeout, "upstream request timeout", UT, "upstream_per_try_timeout")
	case errPerTryIdle:
		return c.say(http.StatusGatewayTimeout, "upstream request timeout", UT, "upstream_per_try_idle_timeout")
	case errMaxStream:
		return c.say(c.times.lateStatus(), "upstream max stream duration reached", UMSDR, "upstream_max_stream_duration_reached")
	}
	c.outer = true
	switch cause {
	case errMaxDuration:
		return c.say(c.times.lateStatus(), "downstream duration timeout", 0, overDuration)
	case errIdle:
		return c.say(c.times.lateStatus(), "stream timeout", SI, "stream_idle_timeout")
	case errRequest:
		return c.say(http.StatusRequestTimeout, "request timeout", 0, "request_overall_timeout")
	}
	return c.gone()
}

// gone is the answer where nobody waits for one.
func (c *Call) gone() Answer {
	c.noteGone()
	return Answer{Local: &LocalReply{Status: http.StatusServiceUnavailable}, Gone: true, Flags: c.flags}
}

// noteGone notes that nobody waits for an answer any more. One HTTP/2 stream that ends is taken for reset, though all may have.
func (c *Call) noteGone() {
	if c.req.HTTP2 {
		c.flags, c.details = c.flags|DR, "http2.remote_reset"
	} else {
		c.flags, c.details = c.flags|DC, "downstream_remote_disconnect"
	}
}

// over is why the call has ended, nil while it goes on.
func (c *Call) over() error {
	if c.ctx.Err() == nil {
		return nil
	}
	return context.Cause(c.ctx)
}

// Finish ends the call after its answer was brought. Without it counts would stay.
func (c *Call) Finish(end End) { c.finish(end, None) }

// FinishBroken is Finish where the host's response broke off, as f says.
func (c *Call) FinishBroken(f Failure) { c.finish(broken, f) }

func (c *Call) finish(end End, f Failure) {
	c.times.stop()
	for _, s := range c.steps {
		s.end(end == Whole && !c.replaced)
	}
	if c.response {
		c.finishResponse(end, f)
		c.endAttempt(c.last)
	}
	if c.cancel != nil {
		c.cancel(nil)
	}
}

func (c *Call) finishResponse(end End, f Failure) {
	live := c.last.serving.live
	switch end {
	case Whole:
		took, _ := c.times.since()
		c.target.live.stats.rqTime.Add(took)
	case broken:
		if cause := c.last.cause(); cause != nil {
			c.late(cause)
			return
		}
		c.flags, c.details = c.flags|flagOf(f), "upstream_reset_after_response_started{"+f.word()+"}"
		c.last.countReset(f)
		live.record(c.last.Host, resilience.Reset)
	case AppGone:
		c.noteGone()
		c.last.countReset(LocalReset)
	}
}

// late ends a response whose time is over. Only by the idle timeout of its attempt is the host to blame.
func (c *Call) late(cause error) {
	a := c.last
	stats := &a.serving.live.stats
	a.countReset(LocalReset)
	c.interrupted(cause) // for flags and details
	switch cause {
	case errTimeout:
		stats.add(rqTimeout)
		a.Host.counts.rqTimeout.Add(1)
	case errMaxStream:
		stats.add(rqMaxDurationReached)
	case errPerTryIdle:
		stats.add(rqPerTryIdleTimeout)
		a.Host.counts.rqTimeout.Add(1)
		a.serving.live.record(a.Host, resilience.TimedOut)
	}
}

// countReset counts a stream that did not end by itself. Streams of HTTP/1 are their connections, which are counted elsewhere.
func (a *Attempt) countReset(f Failure) {
	if !a.HTTP2 {
		return
	}
	stats := &a.serving.live.stats
	switch f {
	case LocalReset, ProtocolError:
		stats.add(rqTxReset)
	case RemoteReset:
		stats.add(rqRxReset)
	case Termination:
		stats.add(rqPendingFailureEject)
	}
}

// Report is what is to be told of a call that has ended.
type Report struct {
	Flags          Flags
	Details        string         // Envoy's response_code_details
	Cluster, Route string         // "" where there is none
	Host           netip.AddrPort // of the last attempt
	Attempts       int
	gRPC           bool
}

// GRPCStatus is what a gRPC answer without one comes to by its status code; "" for other answers.
func (r *Report) GRPCStatus(status int) string {
	if !r.gRPC || status == 0 {
		return ""
	}
	return strconv.Itoa(grpcStatus(status))
}

// Report is good after Finish.
func (c *Call) Report() Report {
	r := Report{Flags: c.flags, Details: c.details, Attempts: c.attempts, gRPC: c.grpc}
	if c.route != nil {
		r.Route = c.route.Name
	}
	if c.target != nil {
		r.Cluster = c.target.live.name
	}
	r.Attempts = c.attempts
	if c.last != nil && !c.crowded {
		r.Host = c.last.Host.Address
	}
	return r
}

// Queue counts the attempt as pending.
func (a *Attempt) Queue() bool {
	live := a.serving.live
	if !live.counters[a.Priority].TryPending(&live.config.Load().Thresholds[a.Priority]) {
		live.stats.add(rqPendingOverflow)
		return false
	}
	live.stats.add(rqPendingTotal)
	live.stats.add(rqPendingActive)
	return true
}

// Unqueue takes back a Queue that was granted.
func (a *Attempt) Unqueue() {
	a.serving.live.counters[a.Priority].DonePending()
	a.serving.live.stats.sub(rqPendingActive)
}

// Admit counts the attempt as an active request, now that it has a connection. The time of the try starts.
func (a *Attempt) Admit() bool {
	live := a.serving.live
	thresholds := &live.config.Load().Thresholds[a.Priority]
	a.met = true
	if !live.counters[a.Priority].TryRequest(thresholds) {
		live.stats.add(rqActiveOverflow)
		return false
	}
	if b := thresholds.Budget; b != nil && b.Interval > 0 {
		a.started = steady()
	}
	a.admitted = true
	live.stats.add(rqTotal)
	live.stats.add(rqActive)
	a.Host.counts.rqTotal.Add(1)
	a.Host.State.Begin()
	live.record(a.Host, resilience.Connected)
	a.call.times.admitted(a)
	return true
}

// endAttempt takes back an Admit.
func (c *Call) endAttempt(a *Attempt) {
	c.times.endTry(a)
	a.leavePool()
	if !a.admitted {
		return
	}
	a.admitted = false
	live := a.serving.live
	if !a.started.IsZero() {
		live.counters[a.Priority].Finished(&live.config.Load().Thresholds[a.Priority], a.started)
	}
	live.counters[a.Priority].DoneRequest()
	live.stats.sub(rqActive)
	a.Host.State.End()
}

func (h *hostCounts) result(ok bool) {
	if ok {
		h.rqSuccess.Add(1)
	} else {
		h.rqError.Add(1)
	}
}

// grpcCode is the gRPC status in the headers of a response.
func grpcCode(h http.Header) (uint32, bool) {
	values := h["Grpc-Status"]
	if len(values) == 0 {
		return 0, false
	}
	n := uint32(0)
	for _, d := range []byte(values[0]) {
		if d < '0' || d > '9' || n > 1000 {
			return 2, true
		}
		n = n*10 + uint32(d-'0')
	}
	return n, len(values[0]) > 0
}
