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

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
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

	deliveries chan delivery
	calls      chan func(*world.Builder, *members)

	config, live *feed
	world        atomic.Pointer[world.World] // nil until the first list of both feeds
	quarantined  atomic.Pointer[[]world.Quarantined]
	batches      atomic.Pointer[world.Log] // of batches, up to the world or beyond

	mu       sync.Mutex
	advanced chan struct{} // guarded by mu; closed and replaced whenever world moves
}

// Staleness says that the store can't be heard.
type Staleness struct {
	Since time.Time // the world is true as of then; zero: nothing was ever read
	Err   error
}

// feed is one prefix of the store as it is followed.
type feed struct {
	prefix string
	stale  atomic.Pointer[Staleness] // nil while it is heard
	heard  atomic.Pointer[time.Time] // since when it has been, without a break; nil before that
}

// delivery is one step of one feed.
type delivery struct {
	store.Delivery
	from *feed
}

// Built is one step of the loop, for metrics.
type Built struct {
	Revision int64
	Events   int
	Elapsed  time.Duration
	Problems int // services of which something can't be built, though no policy is in the way
}

// New is a loop over kv. Observe, which may be nil, is called after each step.
func New(kv store.KV, log hclog.Logger, observe func(Built)) *Loop {
	if observe == nil {
		observe = func(Built) {}
	}
	return &Loop{
		kv: kv, log: log, observe: observe,
		deliveries: make(chan delivery, 256), // a burst waits here while a step is built
		calls:      make(chan func(*world.Builder, *members)),
		advanced:   make(chan struct{}),
		config:     &feed{prefix: store.ConfigPrefix}, live: &feed{prefix: store.LivePrefix},
	}
}

// Run follows the store until ctx ends.
func (l *Loop) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, f := range []*feed{l.config, l.live} {
		group.Go(func() error { return store.Follow(ctx, l.kv, f.prefix, sink{ctx, l, f}) })
	}
	group.Go(func() error { return l.loop(ctx) })
	group.Go(func() error { return l.sweep(ctx) })
	return group.Wait()
}

// sink hands a follower's deliveries to the loop.
type sink struct {
	ctx  context.Context // of Run: Deliver must not outlive the loop
	loop *Loop
	feed *feed
}

func (s sink) Deliver(d store.Delivery) error {
	if s.feed.stale.Swap(nil) != nil || d.Snapshot || d.Reset {
		now := time.Now()
		s.feed.heard.Store(&now)
	}
	select {
	case s.loop.deliveries <- delivery{d, s.feed}:
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

func (s sink) Stale(since time.Time, err error) {
	if s.feed.stale.Swap(&Staleness{since, err}) == nil {
		s.loop.log.Warn("store can't be heard; serving what was last read", "prefix", s.feed.prefix, "since", since, "error", err)
	}
}

func (l *Loop) loop(ctx context.Context) error {
	b, m := world.NewBuilder(), &members{refs: map[*world.Class]int{}, left: map[*world.Class]time.Time{}}
	b.Past = func(kind string, key manifest.Key, generation int64) ([]*policy.Compiled, error) {
		return l.past(ctx, kind, key, generation)
	}
	idle, again := time.NewTicker(classIdle/10), time.NewTicker(pastAgain)
	defer idle.Stop()
	defer again.Stop()
	var read reading
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
			l.step(b, l.gather(d), &read)
		case call := <-calls:
			call(b, m)
		case now := <-idle.C:
			m.drop(b, now)
		case <-again.C:
			b.Again()
		}
		l.contained(b)
	}
}

// gathered is what has arrived of both feeds.
type gathered struct {
	events   []store.Event
	reset    bool
	config   bool // there is news of the configuration, up to revision
	live     bool
	revision int64
	cluster  uint64
}

func (l *Loop) add(g *gathered, d delivery) {
	g.events = append(g.events, d.Events...)
	g.reset = g.reset || d.Reset
	if d.from == l.live {
		g.live = true
		return
	}
	g.config, g.revision, g.cluster = true, d.Revision, d.Cluster
}

// gather merges d with whatever else has arrived: a burst that came while the last step was built becomes one step.
func (l *Loop) gather(d delivery) gathered {
	var g gathered
	for {
		l.add(&g, d)
		select {
		case d = <-l.deliveries:
		default:
			return g
		}
	}
}

// reading says which feeds were read at all.
type reading struct{ config, live bool }

func (l *Loop) step(b *world.Builder, d gathered, read *reading) {
	begun := time.Now()
	changes := l.decode(d.events)
	if !d.config { // signs of life have no revision in the world
		d.revision, d.cluster = b.World().Rev, b.World().Cluster
	}
	next := b.World().With(d.revision, changes)
	next.Cluster = d.cluster
	if d.reset {
		l.log.Warn("the store is another one, or went back: everything was read anew", "revision", d.revision)
	}
	before := b.Problems()
	b.Update(next, changes)
	l.contained(b) // before anybody is told that the world has come so far
	after := b.Problems()
	for key, err := range after {
		if before[key] == nil {
			l.log.Error("a part of a service can't be built and stays as its proxies hold it", "service", key, "error", err)
		}
	}
	// Without the signs of life an endpoint that left long ago would be served for a moment.
	if read.config, read.live = read.config || d.config, read.live || d.live; read.config && read.live {
		l.advance(next, b.Log())
	}
	l.observe(Built{Revision: d.revision, Events: len(d.events), Elapsed: time.Since(begun), Problems: len(after)})
}

func (l *Loop) advance(w *world.World, batches world.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batches.Store(&batches) // first: who sees the world finds its batch
	l.world.Store(w)
	close(l.advanced)
	l.advanced = make(chan struct{})
}

// World is the present world, nil until the store was first read.
func (l *Loop) World() *world.World { return l.world.Load() }

// Batches are the last steps that led to the present world.
func (l *Loop) Batches() world.Log {
	if b := l.batches.Load(); b != nil {
		return *b
	}
	return world.Log{}
}

// Advanced is closed when the world moves on. Take it before reading the world, then wait for it.
func (l *Loop) Advanced() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.advanced
}

// Stale is not nil while the store can't be heard.
func (l *Loop) Stale() *Staleness {
	if s := l.config.stale.Load(); s != nil {
		return s
	}
	return l.live.stale.Load()
}

// Ready returns nil once the store was read and the world built.
func (l *Loop) Ready() error {
	if l.world.Load() != nil {
		return nil
	}
	if s := l.Stale(); s != nil {
		return fmt.Errorf("the store was never read: %w", s.Err)
	}
	return errors.New("the store is being read")
}

// Wait returns once the world has reached revision, or when ctx ends.
func (l *Loop) Wait(ctx context.Context, revision int64) error {
	for {
		advanced := l.Advanced()
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
