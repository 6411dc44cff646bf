// Package reconcile turns what the store says into the world, and the world into what every class of proxies must hold: one
// goroutine, a thin loop.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// classIdle is how long a class outlives its last proxy, so that a reconnect finds it built.
const classIdle = 10 * time.Minute

// Loop follows the store. Its exported methods may be called from any goroutine while Run runs.
type Loop struct {
	kv      store.KV
	log     hclog.Logger
	observe func(Built)

	deliveries chan store.Delivery
	calls      chan func(*world.Builder, *members)

	world atomic.Pointer[world.World] // nil until the first list
	stale atomic.Pointer[Staleness]   // nil while the store is heard

	mu       sync.Mutex
	advanced chan struct{} // guarded by mu; closed and replaced whenever world moves
}

// Staleness says that the store can't be heard.
type Staleness struct {
	Since time.Time // the world is true as of then; zero: nothing was ever read
	Err   error
}

// Built is one step of the loop, for metrics.
type Built struct {
	Revision int64
	Events   int
	Elapsed  time.Duration
	Problems int // services of which something can't be built
}

// New is a loop over kv. Observe, which may be nil, is called after each step.
func New(kv store.KV, log hclog.Logger, observe func(Built)) *Loop {
	if observe == nil {
		observe = func(Built) {}
	}
	return &Loop{
		kv: kv, log: log, observe: observe,
		deliveries: make(chan store.Delivery, 256), // a burst waits here while a step is built
		calls:      make(chan func(*world.Builder, *members)),
		advanced:   make(chan struct{}),
	}
}

// Run follows the store until ctx ends.
func (l *Loop) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return store.Follow(ctx, l.kv, store.ConfigPrefix, sink{ctx, l}) })
	group.Go(func() error { return l.loop(ctx) })
	return group.Wait()
}

// sink hands the follower's deliveries to the loop.
type sink struct {
	ctx  context.Context // of Run: Deliver must not outlive the loop
	loop *Loop
}

func (s sink) Deliver(d store.Delivery) error {
	s.loop.stale.Store(nil)
	select {
	case s.loop.deliveries <- d:
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

func (s sink) Stale(since time.Time, err error) {
	if s.loop.stale.Swap(&Staleness{since, err}) == nil {
		s.loop.log.Warn("store can't be heard; serving what was last read", "since", since, "error", err)
	}
}

func (l *Loop) loop(ctx context.Context) error {
	b, m := world.NewBuilder(), &members{refs: map[*world.Class]int{}, left: map[*world.Class]time.Time{}}
	idle := time.NewTicker(classIdle / 10)
	defer idle.Stop()
	for {
		// Before the first list there is no world: joining waits.
		calls := l.calls
		if l.world.Load() == nil {
			calls = nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case d := <-l.deliveries:
			l.step(b, l.gather(d))
		case call := <-calls:
			call(b, m)
		case now := <-idle.C:
			m.drop(b, now)
		}
	}
}

// gather merges d with whatever else has arrived: a burst that came while the last step was built becomes one step.
func (l *Loop) gather(d store.Delivery) store.Delivery {
	for {
		select {
		case more := <-l.deliveries:
			d.Events = append(d.Events, more.Events...)
			d.Revision, d.Cluster = more.Revision, more.Cluster
			d.Reset = d.Reset || more.Reset
			d.Snapshot = d.Snapshot || more.Snapshot
		default:
			return d
		}
	}
}

func (l *Loop) step(b *world.Builder, d store.Delivery) {
	begun := time.Now()
	changes := l.decode(d.Events)
	next := b.World().With(d.Revision, changes)
	next.Cluster = d.Cluster
	if d.Reset {
		l.log.Warn("the store is another one, or went back: everything was read anew", "revision", d.Revision)
	}
	before := b.Problems()
	b.Update(next, changes)
	after := b.Problems()
	for key, err := range after {
		if before[key] == nil {
			l.log.Error("a part of a service can't be built and stays as its proxies hold it", "service", key, "error", err)
		}
	}
	l.advance(next)
	l.observe(Built{Revision: d.Revision, Events: len(d.Events), Elapsed: time.Since(begun), Problems: len(after)})
}

func (l *Loop) advance(w *world.World) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.world.Store(w)
	close(l.advanced)
	l.advanced = make(chan struct{})
}

// World is the present world, nil until the store was first read.
func (l *Loop) World() *world.World { return l.world.Load() }

// Stale is not nil while the store can't be heard.
func (l *Loop) Stale() *Staleness { return l.stale.Load() }

// Ready returns nil once the store was read and the world built.
func (l *Loop) Ready() error {
	if l.world.Load() != nil {
		return nil
	}
	if s := l.stale.Load(); s != nil {
		return fmt.Errorf("the store was never read: %w", s.Err)
	}
	return errors.New("the store is being read")
}

// Wait returns once the world has reached revision, or when ctx ends.
func (l *Loop) Wait(ctx context.Context, revision int64) error {
	for {
		l.mu.Lock()
		advanced := l.advanced
		l.mu.Unlock()
		if w := l.world.Load(); w != nil && w.Rev >= revision {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d: %w", revision, context.Cause(ctx))
		case <-advanced:
		}
	}
}

// do runs f on the loop's goroutine, between two steps.
func (l *Loop) do(ctx context.Context, f func(*world.Builder, *members)) error {
	done := make(chan struct{})
	call := func(b *world.Builder, m *members) { defer close(done); f(b, m) }
	select {
	case l.calls <- call:
		<-done
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
