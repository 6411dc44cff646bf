package xds

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// stream is one proxy's stream. The goroutine of its handler reads; its voice says what there is to say.
type stream struct {
	server  *Server
	form    form
	g       grpc.ServerStream
	ender   ender
	address string

	// Set by the reader at the first request, then read-only.
	id        identity
	class     *world.Class
	audience  *audience
	connected time.Time

	ejected map[string]int // hosts that the proxy says it has ejected, by cluster; nil: it has said nothing; guarded by server.mu

	pace  *rate.Limiter // of requests; the reader's
	share share         // of the bytes of first answers
	voice voice

	mu    sync.Mutex // held for a moment, never while sending
	state *state     // guarded by mu; nil: nobody knows yet who the proxy is
	lag   lag        // guarded by mu
	alarm *time.Timer
	cause error // why the stream ends, guarded by mu; nil: it goes on
}

// ender is a stream that can be ended with a status while its handler waits for a request. The streams of grpc-go's transport are: that
// is what its SendMsg does where it fails.
type ender interface {
	WriteStatus(*status.Status) error
}

// serve is the life of a stream.
func (s *Server) serve(g grpc.ServerStream, f form) error {
	st := &stream{server: s, form: f, g: g, share: share{of: s.admission}}
	if p, ok := peer.FromContext(g.Context()); ok {
		st.address = p.Addr.String()
	}
	var ok bool
	if st.ender, ok = grpc.ServerTransportStreamFromContext(g.Context()).(ender); !ok {
		return status.Error(codes.Internal, "a stream of this transport can't be ended")
	}
	err := st.run(g.Context())
	s.cfg.Logger.Debug("stream ended", "address", st.address, "error", err)
	s.named(time.Now(), st.id.node, st.address, err)
	return err
}

func (st *stream) run(ctx context.Context) (err error) {
	s := st.server
	if s.cfg.Crowded(time.Now()) {
		return errCrowded()
	}
	if !s.begin(st) {
		return errDraining()
	}
	defer s.done(st)
	// The answer would be in the proxy's own encoding otherwise, and compressing costs more than it saves.
	if err := grpc.SetSendCompressor(ctx, encoding.Identity); err != nil {
		s.cfg.Logger.Debug("compression stays on", "address", st.address, "error", err)
	}
	st.greet()
	defer func() {
		if r := recover(); r != nil {
			err = st.panicked(r)
		}
		err = st.end(err)
		st.voice.over() // who speaks must not do so on a stream whose handler has returned
		s.leave(st)     // where it was entered after its end
		if st.class != nil {
			s.part(st.audience)
			s.cfg.Classes.Leave(st.class)
		}
	}()
	return st.read(ctx)
}

// greet has the stream ended where no request comes.
func (st *stream) greet() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.alarm = time.AfterFunc(st.server.limits.greeting, st.alarmed)
}

// alarmed is called when time itself changes what there is to say, or whether the stream may live.
func (st *stream) alarmed() {
	defer st.guard()
	if err := st.overdue(time.Now()); err != nil {
		_ = st.end(err)
		return
	}
	st.Wake()
}

// overdue is an error where the proxy has been silent for too long; else it sets the alarm anew, also for a stream whose voice waits.
func (st *stream) overdue(now time.Time) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.cause != nil:
		return st.cause
	case st.state == nil:
		return refuse(saysNothing, "no request has come on this stream for %s", st.server.limits.greeting)
	}
	st.arm(now)
	return st.state.overdue(now)
}

// arm sets the alarm. The caller holds mu.
func (st *stream) arm(now time.Time) {
	if at := st.state.alarm(now); at.IsZero() {
		st.alarm.Stop()
	} else {
		st.alarm.Reset(at.Sub(now))
	}
}

// end ends the stream with err, unless it is ended already: what its handler and its voice wait for, they wait for no more. It returns
// what the stream has ended with.
func (st *stream) end(err error) error {
	st.mu.Lock()
	first := st.cause == nil
	if first {
		st.cause = err
		st.alarm.Stop()
	}
	err = st.cause
	st.mu.Unlock()
	if first {
		st.share.close()
		st.server.leave(st)
		_ = st.ender.WriteStatus(status.Convert(err)) // an error says that the proxy is gone, and so is the stream
	}
	return err
}

// ended reports whether the stream has an end.
func (st *stream) ended() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.cause != nil
}

// guard ends the stream of a goroutine that panics.
func (st *stream) guard() {
	if r := recover(); r != nil {
		_ = st.end(st.panicked(r))
	}
}

func (st *stream) panicked(r any) error {
	if st.server.offenders.first(time.Now(), host(st.address), "panic") {
		st.server.cfg.Logger.Error("a stream panicked and is closed", "address", st.address, "panic", r, "stack", string(debug.Stack()))
	}
	return status.Error(codes.Internal, "internal error")
}

// read takes requests until the stream ends.
func (st *stream) read(ctx context.Context) error {
	stop := func() {}
	defer func() { stop() }()
	for first := true; ; first = false {
		in, err := st.form.receive(st.g, st.server.rosters)
		if err == nil {
			err = st.take(ctx, in.node, in.request)
		}
		if err != nil {
			return blame(err, in, st.id.node)
		}
		if first {
			st.audience.add(st)
			stop = func() { st.audience.remove(st) }
		}
		if !st.settled() { // most answers are the last there is to say of an edit
			st.Wake()
		}
	}
}

// settled reports whether there is no need to wake the voice. Where a new head comes at this moment, that wakes it.
func (st *stream) settled() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.state.atRest(st.audience.head()) {
		return false
	}
	if !st.lag.since.IsZero() {
		st.caughtUp(time.Now())
	}
	return true
}

// caughtUp tells how long the proxy was behind. The caller holds mu.
func (st *stream) caughtUp(now time.Time) {
	if sent, answered, ok := st.lag.end(now); ok {
		st.server.cfg.Metrics.CaughtUp(sent, answered)
	}
}

// take hands one request to the state. The first one decides who the proxy is.
func (st *stream) take(ctx context.Context, node *corev3.Node, q request) error {
	first := st.class == nil
	if first {
		if err := st.join(ctx, node); err != nil {
			return err
		}
	} else if err := st.later(node, q); err != nil {
		return err
	}
	now := time.Now()
	sent, answers, err := st.request(q, now)
	if err != nil {
		return err
	}
	if first {
		if err := st.server.enter(st); err != nil {
			return err
		}
	}
	if !answers {
		return st.slowDown(ctx, q)
	}
	st.note(q, now.Sub(sent))
	return nil
}

// later checks a request that is not the first.
func (st *stream) later(node *corev3.Node, q request) error {
	if err := st.id.same(node); err != nil {
		return err
	}
	if asksMuch(q) && st.server.cfg.Crowded(time.Now()) && strange(q, st.audience.head().Views[q.typ]) > fewStrange {
		return errCrowded()
	}
	return nil
}

// request books q, and says when the response was sent that it answers, if it answers any.
func (st *stream) request(q request, now time.Time) (sent time.Time, answers bool, err error) {
	st.mu.Lock()
	defer st.mu.Unlock() // as above
	sent, answers = st.state.sentAt(q)
	err = st.state.request(q, st.audience.head(), now)
	st.share.settle(st.state.loading())
	return sent, answers, err
}

// join finds the class of the proxy that node is.
func (st *stream) join(ctx context.Context, node *corev3.Node) error {
	id, err := identify(node)
	if err != nil {
		return err
	}
	if !st.server.turnstile.pass(id.node, time.Now()) {
		return refuse(tooOften, "node id %q opens streams more often than %d a second: come back after a random wait", id.node, opensASecond)
	}
	if confirm := st.server.cfg.Confirm; confirm != nil {
		if err := confirm(ctx); err != nil {
			return notReady(err)
		}
	}
	class, err := st.server.cfg.Classes.Join(ctx, id.key)
	if err != nil {
		return notReady(err)
	}
	st.id, st.class, st.connected = id, class, time.Now()
	st.audience = st.server.join(class)
	st.pace = newPace()
	state := newState(st.server.limits, id.key.Dialect != dialectGRPC, st.connected)
	state.world, state.courses, state.seal = st.form.world, st.server.courses, st.seal
	st.mu.Lock()
	defer st.mu.Unlock()
	st.state = state
	st.lag.seen = st.connected // what changed before comes with its first load
	return nil
}

// notReady sends a proxy elsewhere, or has it come back.
func notReady(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Errorf(codes.Unavailable, "not ready: %v", err)
}

// note tells the world of an answer.
func (st *stream) note(q request, after time.Duration) {
	if q.rejected {
		st.server.cfg.Metrics.Rejected(q.typ, after)
		st.server.offenders.name(time.Now(), st.id.node, "rejects "+q.typ.String(),
			"a proxy rejects a response: what it rejects next is in its status", "node", st.id.node, "caller", st.id.cluster, "type", q.typ, "text", clip(q.text))
	} else {
		st.server.cfg.Metrics.Acked(q.typ, after)
	}
	st.server.changed.fire()
}
