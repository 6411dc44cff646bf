package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// dialers are how many connections are opened at once: more would wait for their SYNs to be sent again.
const dialers = 256

// swarm is all clients of one server.
type swarm struct {
	address string
	dialect *dialect
	callers []string // node.cluster of the clients, in turn

	head          []byte
	urls          [view.NumTypes][]byte // of an ACK that subscribes to nothing
	subscriptions [view.NumTypes][]byte
	expected      [view.NumTypes]int64 // resources that a configured client has

	first int                   // number of the first client, by which its id is told from that of another swarm's
	reset bool                  // end connections at once, with RST: their ports are free again
	churn atomic.Pointer[churn] // hears of each assignment

	record func(response, []byte) // of every response; only while there is one client

	clients    []*client
	configured atomic.Int64
	bytes      atomic.Int64                // that came, with the frames' heads
	got        [view.NumTypes]atomic.Int64 // resources that came
	goal       [view.NumTypes]atomic.Int64 // of got
	reached    chan time.Time
	ready      chan time.Time // the last client is configured
	wanted     atomic.Int64   // clients that are to be configured

	buffers sync.Pool
	wg      sync.WaitGroup
	over    atomic.Bool
	failed  chan error
}

func newSwarm(d *dialect, address string, m mesh) *swarm {
	s := &swarm{address: address, dialect: d, callers: m.callers(), head: d.head(), reached: make(chan time.Time, view.NumTypes), ready: make(chan time.Time, 1), failed: make(chan error, 1)}
	names, layers := m.names(), envoy.LayerNames()
	for t, wanted := range map[view.Type][]string{view.RTDS: layers, view.CDS: nil, view.EDS: names, view.LDS: nil, view.SRDS: nil, view.RDS: names} {
		s.urls[t], s.subscriptions[t] = d.subscription(t, nil), d.subscription(t, wanted)
		s.expected[t] = int64(len(names))
	}
	s.expected[view.RTDS], s.expected[view.LDS], s.expected[view.SRDS] = int64(len(layers)), 1, int64(2*len(names))
	return s
}

func (s *swarm) buffer() []byte {
	if b, ok := s.buffers.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 0, maxFrame)
}

func (s *swarm) free(b []byte) { s.buffers.Put(&b) }

// grow connects n clients more and returns when each of them is configured, with the time that it took.
func (s *swarm) grow(ctx context.Context, n int) (time.Duration, error) {
	s.wanted.Add(int64(n))
	begun := time.Now()
	first := len(s.clients)
	s.clients = append(s.clients, make([]*client, n)...)
	var next atomic.Int64
	for range min(n, dialers) {
		s.wg.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				c, err := s.dial(first + i - 1)
				if err != nil {
					s.fail(err)
					return
				}
				s.clients[c.number] = c
				s.wg.Go(func() { s.fail(fmt.Errorf("client %d: %w", c.number, c.work())) })
			}
		})
	}
	at, err := s.await(ctx, s.ready)
	return at.Sub(begun), err
}

// fail keeps the first error. The end of a connection that the swarm closes is none.
func (s *swarm) fail(err error) {
	if s.over.Load() {
		return
	}
	select {
	case s.failed <- err:
	default:
	}
}

func (s *swarm) await(ctx context.Context, what <-chan time.Time) (time.Time, error) {
	select {
	case at := <-what:
		return at, nil
	case err := <-s.failed:
		return time.Time{}, err
	case <-ctx.Done():
		return time.Time{}, fmt.Errorf("%w: %d of %d clients configured, resources %s", context.Cause(ctx), s.configured.Load(), s.wanted.Load(), s.progress())
	}
}

func (s *swarm) progress() (text string) {
	for t := range view.NumTypes {
		text += fmt.Sprintf("%s %d/%d ", t, s.got[t].Load(), s.goal[t].Load())
	}
	return text
}

// arrived counts the resources of a response, after which its client has been sent n of the type.
func (s *swarm) arrived(c *client, t view.Type, came, n int64) {
	goal := s.goal[t].Load()
	if total := s.got[t].Add(came); total >= goal && total-came < goal {
		s.reached <- time.Now()
	}
	if t == view.RDS && !c.done && n >= s.expected[t] {
		c.done = true
		if s.configured.Add(1) == s.wanted.Load() {
			s.ready <- time.Now()
		}
	}
}

// expect sets the goal that every client gets so many resources more of each type. Responses would not do: how many resources go in one
// may differ between clients.
func (s *swarm) expect(resources map[view.Type]int64) {
	for t, n := range resources {
		s.goal[t].Store(s.got[t].Load() + n*int64(len(s.clients)))
	}
}

// met returns when the last client has what was expected of so many types.
func (s *swarm) met(ctx context.Context, types int) (last time.Time, err error) {
	for range types {
		at, err := s.await(ctx, s.reached)
		if err != nil {
			return last, err
		}
		if at.After(last) {
			last = at
		}
	}
	return last, nil
}

// total is how many resources have come.
func (s *swarm) total() (n int64) {
	for t := range view.NumTypes {
		n += s.got[t].Load()
	}
	return n
}

// rest returns once more than so many resources have come and then none for a while.
func (s *swarm) rest(ctx context.Context, than int64) error {
	for last := than; ; {
		select {
		case <-time.After(quiet):
		case err := <-s.failed:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		now := s.total()
		if now == last && now > than {
			return nil
		}
		last = now
	}
}

// equal is an error where some client got more resources of an edited type since before, and another one fewer.
func (s *swarm) equal(t view.Type, before []int64) error {
	for i, c := range s.clients {
		if got, want := c.counts[t].Load()-before[i], s.clients[0].counts[t].Load()-before[0]; got != want {
			return fmt.Errorf("client %d got %d resources of %s, client 0 got %d: the edits did not reach all alike", i, got, t, want)
		}
	}
	return nil
}

func (s *swarm) tally(t view.Type) []int64 {
	counts := make([]int64, len(s.clients))
	for i, c := range s.clients {
		counts[i] = c.counts[t].Load()
	}
	return counts
}

// close ends all connections.
func (s *swarm) close() error {
	s.over.Store(true)
	for _, c := range s.clients {
		if c != nil {
			c.close(s.reset)
		}
	}
	s.wg.Wait()
	select {
	case err := <-s.failed:
		if !errors.Is(err, net.ErrClosed) {
			return err
		}
	default:
	}
	return nil
}
