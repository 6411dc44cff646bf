// Package reconcile turns what the store says into the world, and the world into what every class of proxies must hold: one
// goroutine, a thin loop.
package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// classIdle is how long a class outlives its last proxy, so that a reconnect finds it built.
const classIdle = 10 * time.Minute

// mostIdle is how many classes without a proxy are kept.
const mostIdle = 1000

// Loop follows the store. Its exported methods may be called from any goroutine while Run runs.
type Loop struct {
	kv      store.KV
	log     hclog.Logger
	observe func(Built)

	knows   int                                 // the last vintage that can be built
	reshape func(envoy.Target, *envoy.Compiled) // nil but in tests: see world.Builder

	deliveries chan delivery
	confirm    *confirmer
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

// brief is the longest break in which the store is not heard, such as a connection that breaks, that does not count: in half of the shortest lease no agent misses
// more than one renewal.
const brief = 2500 * time.Millisecond

// feed is one prefix of the store as it is followed.
type feed struct {
	prefix string
	stale  atomic.Pointer[Staleness] // nil while it is heard
	heard  atomic.Pointer[time.Time] // since when it has been, but for brief breaks; nil before that
	built  atomic.Pointer[position]  // how far it is in the world; nil: not yet

	resets int // only the loop touches it
}

// position is how far a feed has come.
type position struct {
	store.Head
	resets int // times that what came before has lost its meaning
}

// delivery is one step of one feed.
type delivery struct {
	store.Delivery
	from *feed
	seen time.Time
}

// Built is one step of the loop, or the first build of a class, for metrics.
type Built struct {
	Revision int64
	Events   int
	Elapsed  time.Duration
	Class    bool // a class was built, for its first proxy; Revision and Problems say nothing then
	Problems int  // services of which something can't be built, though no policy is in the way
}

// New is a loop over kv. Observe, which may be nil, is called after each step.
func New(kv store.KV, log hclog.Logger, observe func(Built)) *Loop {
	if observe == nil {
		observe = func(Built) {}
	}
	return &Loop{
		kv: kv, log: log, observe: observe, knows: envoy.Vintage,
		deliveries: make(chan delivery, 256), // a burst waits here while a step is built
		calls:      make(chan func(*world.Builder, *members)),
		advanced:   make(chan struct{}),
		confirm:    newConfirmer(kv, log),
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
	group.Go(func() error { return l.confirm.run(ctx, l.positions) })
	return group.Wait()
}

// sink hands a follower's deliveries to the loop.
type sink struct {
	ctx  context.Context // of Run: Deliver must not outlive the loop
	loop *Loop
	feed *feed
}

func (s sink) Deliver(d store.Delivery) error {
	now, stale := time.Now(), s.feed.stale.Swap(nil)
	if stale != nil && now.Sub(stale.Since) > brief || d.Snapshot || d.Reset {
		s.feed.heard.Store(&now)
	}
	select {
	case s.loop.deliveries <- delivery{d, s.feed, time.Now()}:
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

func (s sink) Stale(since time.Time, err error) {
	if s.feed.stale.Swap(&Staleness{since, err}) == nil {
		s.loop.log.Warn("store can't be heard; serving what was last read", "prefix", s.feed.prefix, "since", since.UTC().Format(time.RFC3339), "error", err)
	}
}

func (l *Loop) loop(ctx context.Context) error {
	b, m := world.NewBuilder(), &members{refs: map[*world.Class]int{}, left: map[*world.Class]time.Time{}}
	b.Knows, b.Reshape = l.knows, l.reshape
	b.Past = func(kind string, key manifest.Key, generation int64) ([]*policy.Compiled, error) {
		return l.past(ctx, kind, key, generation)
	}
	idle, again := time.NewTicker(classIdle/10), time.NewTicker(pastAgain)
	defer idle.Stop()
	defer again.Stop()
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
		case <-again.C:
			b.Again()
		}
		l.contained(b)
	}
}

// gathered is what has arrived of both feeds.
type gathered struct {
	events       []store.Event
	reset        error     // why what came before has lost its meaning; nil: it has not
	config, live *position // nil: there is no news of it
	seen         time.Time // when the first of it was
}

func (l *Loop) add(g *gathered, d delivery) {
	g.events = append(g.events, d.Events...)
	if d.Reset {
		g.reset = d.Why
		d.from.resets++
	}
	at := &position{store.Head{Revision: d.Revision, Cluster: d.Cluster}, d.from.resets}
	if d.from == l.live {
		g.live = at
	} else {
		g.config = at
	}
}

// gather merges d with whatever else has arrived: a burst that came while the last step was built becomes one step.
func (l *Loop) gather(d delivery) gathered {
	g := gathered{seen: d.seen}
	for {
		l.add(&g, d)
		select {
		case d = <-l.deliveries:
		default:
			return g
		}
	}
}

func (l *Loop) step(b *world.Builder, d gathered) {
	begun := time.Now()
	changes := l.decode(d.events)
	revision, cluster := b.World().Rev, b.World().Cluster // signs of life have no revision in the world
	if d.config != nil {
		revision, cluster = d.config.Revision, d.config.Cluster
	}
	next := b.World().With(revision, changes)
	next.Cluster = cluster
	if d.reset != nil {
		next = next.Restarted(b.World().Rev)
		l.log.Warn("the store has another history, as after a restore: everything was read anew", "revision", revision, "before", b.World().Rev, "why", d.reset)
	}
	before := b.Problems()
	b.Seen = d.seen
	b.Update(next, changes)
	b.Seen = time.Time{}
	l.contained(b) // before anybody is told that the world has come so far
	after := b.Problems()
	for key, err := range after {
		if before[key] == nil {
			l.log.Error("a part of a service can't be built and stays as its proxies hold it", "service", key, "error", err)
		}
	}
	l.advance(next, b.Log(), d)
	l.observe(Built{Revision: revision, Events: len(d.events), Elapsed: time.Since(begun), Problems: len(after)})
}

func (l *Loop) advance(w *world.World, batches world.Log, d gathered) {
	l.mu.Lock()
	defer l.mu.Unlock()
	config, live := cmp.Or(d.config, l.config.built.Load()), cmp.Or(d.live, l.live.built.Load())
	// Without the signs of life an endpoint that left long ago would be served for a moment.
	if config != nil && live != nil {
		l.batches.Store(&batches) // first: who sees the world finds its batch
		l.world.Store(w)
	}
	l.config.built.Store(config) // then: who sees how far it is finds the world
	l.live.built.Store(live)
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

// Stale is not nil while the store can't be heard, or does not answer.
func (l *Loop) Stale() *Staleness {
	if s := l.silent(); s != nil {
		return s
	}
	return l.confirm.stale(time.Now())
}

// silent is not nil while a feed can't be heard.
func (l *Loop) silent() *Staleness {
	if s := l.config.stale.Load(); s != nil {
		return s
	}
	return l.live.stale.Load()
}

// Ready returns nil once the store was read and the world built, as long as this release can build what the others do.
func (l *Loop) Ready() error {
	if w := l.world.Load(); w != nil {
		return l.outdated(w)
	}
	if s := l.Stale(); s != nil {
		return fmt.Errorf("the store was never read: %w", s.Err)
	}
	return errors.New("the store is being read")
}

// outdated is an error where other replicas build w in a form that this release does not know.
func (l *Loop) outdated(w *world.World) error {
	if w.Vintage() > l.knows {
		return fmt.Errorf("the other replicas build vintage %d and this version knows up to %d: run a newer one here", w.Vintage(), l.knows)
	}
	return nil
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
