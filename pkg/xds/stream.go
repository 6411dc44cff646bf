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

// stream is one proxy's stream: the goroutine of its handler sends, another one reads.
type stream struct {
	server  *Server
	form    form
	address string
	end     context.CancelCauseFunc // of the stream, with its error
	wake    chan struct{}           // capacity 1: the newest head is all that is of interest

	// Set by the reader before ready is closed, then read-only.
	ready     chan struct{}
	id        identity
	class     *world.Class
	connected time.Time

	ejected map[string]int // hosts that the proxy says it has ejected, by cluster; nil: it has said nothing; guarded by server.mu

	pace  *rate.Limiter // of requests; the reader's
	share share         // of the bytes of first answers

	mu    sync.Mutex // held for a moment, never while sending
	state *state     // guarded by mu
	lag   lag        // guarded by mu
}

// serve is the life of a stream.
func (s *Server) serve(g grpc.ServerStream, f form) error {
	ctx, cancel := context.WithCancelCause(g.Context())
	defer cancel(nil)
	st := &stream{server: s, form: f, end: cancel, wake: make(chan struct{}, 1), ready: make(chan struct{}), share: share{of: s.admission}}
	if p, ok := peer.FromContext(ctx); ok {
		st.address = p.Addr.String()
	}
	err := st.run(ctx, g)
	s.cfg.Logger.Debug("stream ended", "address", st.address, "error", err)
	s.named(time.Now(), st.known(), st.address, err)
	return err
}

func (st *stream) run(ctx context.Context, g grpc.ServerStream) (err error) {
	s := st.server
	if s.cfg.Crowded(time.Now()) {
		return errCrowded()
	}
	if !s.begin(st) {
		return errDraining()
	}
	// The answer would be in the proxy's own encoding otherwise, and compressing costs more than it saves.
	if err := grpc.SetSendCompressor(ctx, encoding.Identity); err != nil {
		s.cfg.Logger.Debug("compression stays on", "address", st.address, "error", err)
	}
	ended := make(chan error, 1)
	go func() {
		defer s.readers.Done()
		ended <- st.read(ctx, g)
	}()
	defer func() {
		st.end(nil) // and the handler's return ends the reader
		s.done(st)
		st.share.close()
		s.leave(st)
		if r := recover(); r != nil {
			err = st.panicked(r)
		}
	}()
	return st.write(ctx, g, ended)
}

// known is the node id, "" while the proxy has not said it.
func (st *stream) known() string {
	select {
	case <-st.ready:
		return st.id.node
	default:
		return ""
	}
}

func (st *stream) panicked(r any) error {
	if st.server.offenders.first(time.Now(), host(st.address), "panic") {
		st.server.cfg.Logger.Error("a stream panicked and is closed", "address", st.address, "panic", r, "stack", string(debug.Stack()))
	}
	return status.Error(codes.Internal, "internal error")
}

// write sends whatever there is to say until the stream ends.
func (st *stream) write(ctx context.Context, g grpc.ServerStream, ended <-chan error) error {
	timer := time.NewTimer(st.server.limits.greeting) // until the first request says who the proxy is
	defer timer.Stop()
	ready := st.ready
	for {
		select {
		case <-ready:
			ready = nil
			stop := st.class.Subscribe(st.wake)
			defer stop()
		case <-st.wake:
		case <-timer.C:
			if ready != nil {
				return refuse(saysNothing, "no request has come on this stream for %s", st.server.limits.greeting)
			}
		case err := <-ended:
			return err
		case <-ctx.Done():
			return over(ctx)
		}
		if ready != nil {
			continue
		}
		if err := st.flush(ctx, g, ended, timer); err != nil {
			return err
		}
	}
}

// flush sends until nothing is left to say, and sets the timer for when time itself will change that.
func (st *stream) flush(ctx context.Context, g grpc.ServerStream, ended <-chan error, timer *time.Timer) error {
	for {
		now := time.Now()
		r, busy, alarm, err := st.next(now)
		if err != nil {
			return err
		}
		timer.Stop()
		if !alarm.IsZero() {
			timer.Reset(alarm.Sub(now))
		}
		if r == nil {
			st.server.changed.fire() // what can't be said in so many words is done too
			return nil
		}
		f := st.form.frame(r)
		st.server.cfg.Metrics.Sent(r.typ, len(r.set), f.buffers.Len())
		var turn int64
		if r.loading > 0 && !st.share.take(r.loading) {
			turn = r.loading
		}
		if err := st.send(ctx, g, f, busy == 0, turn, ended, timer); err != nil {
			return err
		}
	}
}

// next is the next response, if there is any, how many are unanswered without it, and when time itself will change that.
func (st *stream) next(now time.Time) (r *response, busy int, alarm time.Time, err error) {
	st.mu.Lock()
	defer st.mu.Unlock() // a panic here closes this stream, and must not hold up those who read the book
	busy = st.state.unanswered()
	if err = st.state.overdue(now); err == nil {
		head := st.class.Head()
		st.lag.look(head)
		r = st.state.next(head, now)
	}
	switch {
	case r != nil:
		st.lag.sent = now
	case busy == 0:
		st.caughtUp(now)
	}
	return r, busy, st.state.alarm(now), err
}

// caughtUp tells how long the proxy was behind. The caller holds mu.
func (st *stream) caughtUp(now time.Time) {
	if sent, answered, ok := st.lag.end(now); ok {
		st.server.cfg.Metrics.CaughtUp(sent, answered)
	}
}

// send sends f. Where everything before it was answered, and so was read, the transport has room and takes it at once. Otherwise a proxy
// that does not read could hold up this goroutine for ever, and the handler's return is the only thing that ends such a send: it is done
// aside. So is what must wait for its turn, of so many bytes.
func (st *stream) send(ctx context.Context, g grpc.ServerStream, f *frame, alone bool, turn int64, ended <-chan error, timer *time.Timer) error {
	if alone && turn == 0 {
		return g.SendMsg(f)
	}
	sent := make(chan error, 1)
	go func() {
		err := st.share.turn(ctx, turn)
		if err == nil {
			err = g.SendMsg(f)
		}
		sent <- err
	}()
	for {
		select {
		case err := <-sent:
			return err
		case err := <-ended:
			return err
		case <-ctx.Done():
			return over(ctx)
		case now := <-timer.C:
			if err := st.late(now, timer); err != nil {
				return err
			}
		}
	}
}

// late is an error once a response is overdue; else it sets the timer anew.
func (st *stream) late(now time.Time, timer *time.Timer) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.state.overdue(now); err != nil {
		return err
	}
	if alarm := st.state.alarm(now); !alarm.IsZero() {
		timer.Reset(alarm.Sub(now))
	}
	return nil
}

// read takes requests until the stream ends, and leaves the class then. Its error is the stream's.
func (st *stream) read(ctx context.Context, g grpc.ServerStream) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = st.panicked(r)
		}
		st.server.leave(st) // where the handler was gone before the first request was taken
		if st.class != nil {
			st.server.cfg.Classes.Leave(st.class)
		}
	}()
	for {
		in, err := st.form.receive(g, st.server.rosters)
		if err == nil {
			err = st.take(ctx, in.node, in.request)
		}
		if err != nil {
			err = blame(err, in, st.id.node)
			st.server.named(time.Now(), "", st.address, err) // here, since the writer may see the end of ctx first
			return err
		}
		if st.settled() {
			continue // most answers are the last there is to say of an edit
		}
		select {
		case st.wake <- struct{}{}:
		default:
		}
	}
}

// settled reports whether there is no need to wake the writer. Where a new head comes at this moment, that wakes it.
func (st *stream) settled() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.state.atRest(st.class.Head()) {
		return false
	}
	if !st.lag.since.IsZero() {
		st.caughtUp(time.Now())
	}
	return true
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
		close(st.ready)
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
	if asksMuch(q) && st.server.cfg.Crowded(time.Now()) && strange(q, st.class.Head().Views[q.typ]) > fewStrange {
		return errCrowded()
	}
	return nil
}

// request books q, and says when the response was sent that it answers, if it answers any.
func (st *stream) request(q request, now time.Time) (sent time.Time, answers bool, err error) {
	st.mu.Lock()
	defer st.mu.Unlock() // as above
	sent, answers = st.state.sentAt(q)
	err = st.state.request(q, st.class.Head(), now)
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
	st.state = newState(st.server.limits, id.key.Dialect != dialectGRPC, st.connected)
	st.state.world, st.state.courses = st.form.world, st.server.courses
	st.lag.seen = st.connected // what changed before comes with its first load
	st.state.seal = st.seal
	st.pace = newPace()
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
