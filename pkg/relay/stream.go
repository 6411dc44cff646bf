package relay

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/breakwater-mesh/breakwater/pkg/xdsclient"
)

const (
	reachTimeout = 1500 * time.Millisecond // to find a server
	firstAnswer  = 2 * time.Second         // within which a server answers a client that memory could answer
	settleTime   = 10 * time.Second        // within which a server says all that there is
)

// dialect is what the two kinds of stream do differently. Requests are Q, responses R.
type dialect[Q, R any] interface {
	name() string
	node(q *Q) *corev3.Node
	open(ctx context.Context, conn *grpc.ClientConn) (grpc.BidiStreamingClient[Q, R], error)

	ask(q *Q)
	hear(r *R)
	due() []*R
	hungry() bool
	settle()
}

// stream is one client's conversation. The goroutine that serves it touches all of it.
type stream[Q, R any] struct {
	relay  *Relay
	talk   dialect[Q, R]
	memory *memory
	down   grpc.BidiStreamingServer[Q, R]
	up     *upstream[Q, R] // nil: the client is served from memory
	entry  *Stream
	log    hclog.Logger

	requests chan *Q
	ended    chan error    // of the client's side
	back     chan struct{} // closed once a server can be reached again
	silence  *time.Timer   // nil unless a server must answer soon
	settled  *time.Timer   // nil until a server has answered
}

// serve serves one client, whose first request came, until its stream ends.
func serve[Q, R any](r *Relay, down grpc.BidiStreamingServer[Q, R], first *Q, d dialect[Q, R], m *memory) error {
	ctx, cancel := context.WithCancel(down.Context())
	defer cancel()
	s := &stream[Q, R]{
		relay: r, talk: d, memory: m, down: down, requests: make(chan *Q), ended: make(chan error, 1),
		entry: &Stream{Node: m.node, Dialect: d.name(), Since: time.Now()}, log: r.log.With("node", m.node),
	}
	r.enter(s.entry)
	defer r.leave(s.entry)
	r.work.Go(func() { s.ended <- xdsclient.Pump(ctx, down, s.requests) })
	err := s.begin(ctx, first)
	for err == nil {
		err = s.step(ctx)
	}
	if s.up != nil {
		s.up.close()
	}
	stop(s.silence)
	stop(s.settled)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func stop(t *time.Timer) {
	if t != nil {
		t.Stop()
	}
}

// begin finds a server for the client, or serves from memory.
func (s *stream[Q, R]) begin(ctx context.Context, first *Q) error {
	conn, server, err := reach(ctx, s.relay.servers)
	if err == nil {
		s.up, err = open(ctx, s.relay, s.talk, conn, server)
	}
	if err != nil {
		if err := s.ask(first); err != nil {
			return err
		}
		return s.lose(ctx, err)
	}
	s.relay.note(s.entry, func(e *Stream) { e.Server, e.way = server, conn })
	s.log.Info("a client is connected to the control plane", "server", server, "dialect", s.talk.name())
	return s.ask(first)
}

// step takes one event.
func (s *stream[Q, R]) step(ctx context.Context) error {
	var responses <-chan *R
	var over <-chan error
	var send chan<- *Q
	var next *Q
	if up := s.up; up != nil {
		responses, over = up.responses, up.ended
		if len(up.queue) > 0 {
			send, next = up.requests, up.queue[0]
		}
	}
	select {
	case q := <-s.requests:
		return s.take(q)
	case err := <-s.ended:
		return err
	case send <- next:
		s.up.queue = s.up.queue[1:]
		return nil
	case m := <-responses:
		return s.pass(m)
	case err := <-over:
		if refused(err) {
			s.log.Warn("the control plane refuses a client", "error", err)
			return err
		}
		return s.lose(ctx, err)
	case <-channel(s.silence):
		s.silence = nil
		return s.lose(ctx, errors.New("no answer"))
	case <-channel(s.settled):
		s.settled = nil
		s.locked(s.talk.settle)
		s.relay.wake()
		return nil
	case <-s.back:
		return status.Error(codes.Unavailable, "the control plane can be reached again: connect once more")
	case <-s.relay.stopping:
		return status.Error(codes.Unavailable, "the relay stops: connect again")
	}
}

func channel(t *time.Timer) <-chan time.Time {
	if t == nil {
		return nil
	}
	return t.C
}

func (s *stream[Q, R]) locked(f func()) {
	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	f()
}

// ask books a request, and has it sent where there is a server.
func (s *stream[Q, R]) ask(q *Q) error {
	hungry := false
	s.locked(func() {
		s.talk.ask(q)
		hungry = s.up != nil && !s.up.answered && s.talk.hungry()
	})
	s.relay.wake()
	if s.up == nil {
		return nil
	}
	if hungry && s.silence == nil {
		s.silence = time.NewTimer(firstAnswer)
	}
	if s.up.queue = append(s.up.queue, q); len(s.up.queue) > maxQueue {
		return status.Error(codes.ResourceExhausted, "the control plane does not read")
	}
	return nil
}

// take takes a request of the client.
func (s *stream[Q, R]) take(q *Q) error {
	if err := s.ask(q); err != nil || s.up != nil {
		return err
	}
	return s.remember()
}

// pass hands a server's response on.
func (s *stream[Q, R]) pass(m *R) error {
	if !s.up.answered {
		s.up.answered = true
		stop(s.silence)
		s.silence, s.settled = nil, time.NewTimer(settleTime)
	}
	s.locked(func() { s.talk.hear(m) })
	return s.down.Send(m)
}

// remember answers from memory what nobody has answered.
func (s *stream[Q, R]) remember() error {
	var list []*R
	s.locked(func() { list = s.talk.due() })
	for _, m := range list {
		if err := s.down.Send(m); err != nil {
			return err
		}
		s.relay.fromMemory.Add(1)
	}
	return nil
}

// lose goes on from memory, and watches out for a server.
func (s *stream[Q, R]) lose(ctx context.Context, err error) error {
	answered, lived := false, time.Duration(0)
	if s.up != nil {
		answered, lived = s.up.answered, time.Since(s.up.opened)
		s.up.close()
		s.up = nil
	}
	stop(s.silence)
	stop(s.settled)
	s.silence, s.settled = nil, nil
	err = s.relay.servers.Learn(err)
	s.report(err)
	var wait time.Duration
	s.locked(func() { wait = s.memory.attempts.Next(answered, lived, rand.Int64N) })
	back := make(chan struct{})
	s.back = back
	s.relay.work.Go(func() { s.watch(ctx, wait, back) })
	return s.remember()
}

// report says in the log and in the status what the client is served.
func (s *stream[Q, R]) report(err error) {
	var empty bool
	var saved time.Time
	s.locked(func() { empty, saved = s.memory.empty(), s.memory.saved })
	s.relay.note(s.entry, func(e *Stream) { e.Server, e.way, e.Memory, e.Saved, e.LastError = "", nil, !empty, saved, err.Error() })
	if empty {
		s.log.Error("no control plane, and nothing is remembered of the client: it waits", "error", err)
		return
	}
	s.log.Warn("no control plane: the client is served what it accepted before", "error", err, "saved", saved.UTC().Format(time.RFC3339))
}

// watch closes back once a server can be reached.
func (s *stream[Q, R]) watch(ctx context.Context, wait time.Duration, back chan<- struct{}) {
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if conn, _, err := reach(ctx, s.relay.servers); err == nil {
			_ = conn.Close()
			close(back)
			return
		}
		s.locked(func() { wait = s.memory.attempts.Next(false, 0, rand.Int64N) })
	}
}
