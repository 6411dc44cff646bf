package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/store"
)

// Mirror is a store.Sink that keeps what it is told as a map, and checks that what it is told makes sense: nothing before the
// snapshot, no revision that goes back without a reset, no delete of what is not there.
type Mirror struct {
	mu         sync.Mutex
	entries    map[string]store.Entry
	deliveries []store.Delivery
	revision   int64
	stale      error
	since      time.Time
	wrong      []error
	wake       chan struct{} // closed and replaced with every call
}

// NewMirror makes an empty one.
func NewMirror() *Mirror {
	return &Mirror{entries: make(map[string]store.Entry), wake: make(chan struct{})}
}

// Deliver implements store.Sink.
func (m *Mirror) Deliver(d store.Delivery) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d.Snapshot != (len(m.deliveries) == 0) {
		m.wrong = append(m.wrong, fmt.Errorf("delivery %d says snapshot: %v", len(m.deliveries), d.Snapshot))
	}
	if d.Revision < m.revision && !d.Reset {
		m.wrong = append(m.wrong, fmt.Errorf("revision %d after %d, without a reset", d.Revision, m.revision))
	}
	for _, ev := range d.Events {
		old, there := m.entries[ev.Key]
		switch {
		case ev.Deleted && !there:
			m.wrong = append(m.wrong, fmt.Errorf("delete of %s, which is not there", ev.Key))
		case ev.Deleted:
			delete(m.entries, ev.Key)
		case there && old.Revision >= ev.Revision && !d.Reset:
			m.wrong = append(m.wrong, fmt.Errorf("%s of revision %d after %d", ev.Key, ev.Revision, old.Revision))
		default:
			m.entries[ev.Key] = ev.Entry
		}
	}
	m.deliveries = append(m.deliveries, d)
	m.revision, m.stale = d.Revision, nil
	m.wakeAll()
	return nil
}

// Stale implements store.Sink.
func (m *Mirror) Stale(since time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stale, m.since = err, since
	m.wakeAll()
}

func (m *Mirror) wakeAll() {
	close(m.wake)
	m.wake = make(chan struct{})
}

// Deliveries are all that came so far.
func (m *Mirror) Deliveries() []store.Delivery {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.deliveries)
}

// WaitRevision waits until the mirror has reached revision.
func (m *Mirror) WaitRevision(t *testing.T, revision int64) {
	t.Helper()
	m.wait(t, fmt.Sprintf("revision %d", revision), func() bool { return m.revision >= revision && m.stale == nil })
}

// WaitStale waits until the mirror has been told that the store is silent, and returns since when and why.
func (m *Mirror) WaitStale(t *testing.T) (time.Time, error) {
	t.Helper()
	m.wait(t, "the store's silence", func() bool { return m.stale != nil })
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.since, m.stale
}

// WaitReset waits for a delivery that is a reset.
func (m *Mirror) WaitReset(t *testing.T) store.Delivery {
	t.Helper()
	reset := func(d store.Delivery) bool { return d.Reset }
	m.wait(t, "a reset", func() bool { return slices.ContainsFunc(m.deliveries, reset) })
	all := m.Deliveries()
	return all[slices.IndexFunc(all, reset)]
}

func (m *Mirror) wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	timeout := time.NewTimer(2 * patience)
	defer timeout.Stop()
	for {
		m.mu.Lock()
		ok, wake, revision, stale := done(), m.wake, m.revision, m.stale
		m.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-wake:
		case <-timeout.C:
			t.Fatalf("no %s in %v: at revision %d, stale: %v", what, 2*patience, revision, stale)
		}
	}
}

// Check fails when the mirror was told nonsense or does not equal snap.
func (m *Mirror) Check(t *testing.T, snap store.Snapshot) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, err := range m.wrong {
		t.Error(err)
	}
	if len(m.entries) != len(snap.Entries) {
		t.Errorf("the mirror has %d entries, the store %d", len(m.entries), len(snap.Entries))
	}
	for _, want := range snap.Entries {
		if got := m.entries[want.Key]; got.Revision != want.Revision || string(got.Value) != string(want.Value) || got.Lease != want.Lease {
			t.Errorf("%s: the mirror has revision %d, the store %d", want.Key, got.Revision, want.Revision)
		}
	}
}

// Follow runs store.Follow into a new Mirror until the test ends or stop is called.
func Follow(t *testing.T, kv store.KV, prefix string) (m *Mirror, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	m = NewMirror()
	done := make(chan error, 1)
	go func() { done <- store.Follow(ctx, kv, prefix, m) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("Follow returns %v, want its context's error", err)
			}
		})
	}
	t.Cleanup(stop)
	return m, stop
}

func testFollow(t *testing.T, b *bench) {
	b.put(t, b.key("old"), "x")
	b.put(t, b.key("gone"), "x")
	m, stop := Follow(t, b.KV, b.prefix)
	defer stop()
	m.WaitRevision(t, b.list(t).Revision)
	if first := m.Deliveries()[0]; !first.Snapshot || len(first.Events) != 2 || first.Reset {
		t.Errorf("first delivery: got %+v, want a snapshot of 2", first)
	}
	b.commit(t, del(b.key("gone")), put(b.key("new"), "x"))
	m.WaitRevision(t, b.put(t, b.key("old"), "y"))
	m.Check(t, b.list(t))
}

// cuttable is a KV whose watches can be cut, and kept from starting, as a broken network does.
type cuttable struct {
	store.KV
	begun sync.WaitGroup // until the first watch begins
	mu    sync.Mutex
	gate  chan struct{}           // closed when watches may start
	cut   context.CancelCauseFunc // of the running watch
}

var errCut = fmt.Errorf("%w: cut by the test", store.ErrUnavailable)

func newCuttable(kv store.KV) *cuttable {
	open := make(chan struct{})
	close(open)
	c := &cuttable{KV: kv, gate: open}
	c.begun.Add(1)
	return c
}

// Watch implements store.KV.
func (c *cuttable) Watch(ctx context.Context, prefix string, after int64, fn func(store.Batch) error) error {
	c.mu.Lock()
	gate := c.gate
	ctx, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	if c.cut == nil {
		c.begun.Done()
	}
	c.cut = cut
	c.mu.Unlock()
	select {
	case <-gate:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	err := c.KV.Watch(ctx, prefix, after, fn)
	if context.Cause(ctx) == errCut {
		return errCut
	}
	return err
}

// block cuts the running watch and keeps others from starting until open is called. It waits for the first watch:
// one that is only kept from starting never breaks.
func (c *cuttable) block() (open func()) {
	c.begun.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	gate := make(chan struct{})
	c.gate = gate
	c.cut(errCut)
	return func() { close(gate) }
}

func testFollowCompaction(t *testing.T, b *bench) {
	b.commit(t, put(b.key("kept"), "1"), put(b.key("changed"), "1"), put(b.key("deleted"), "1"), put(b.key("recreated"), "1"))
	kv := newCuttable(b.KV)
	m, stop := Follow(t, kv, b.prefix)
	defer stop()
	m.WaitRevision(t, b.put(t, b.key("seen"), "1"))

	open := kv.block()
	m.WaitStale(t)
	before := len(m.Deliveries())
	b.commit(t, put(b.key("changed"), "2"), del(b.key("deleted")), del(b.key("recreated")))
	b.commit(t, put(b.key("recreated"), "2"), put(b.key("created"), "2"), put(b.key("shortlived"), "2"))
	head := b.commit(t, del(b.key("shortlived")))
	if err := b.Compact(b.ctx, head); err != nil {
		t.Fatalf("compact: %v", err)
	}
	open()
	m.WaitRevision(t, head)
	relist := m.Deliveries()[before]
	var got []string
	for _, ev := range relist.Events {
		got = append(got, fmt.Sprintf("%s deleted=%v", ev.Key[len(b.prefix):], ev.Deleted))
	}
	want := []string{"deleted deleted=true", "changed deleted=false", "created deleted=false", "recreated deleted=false"}
	if !slices.Equal(got, want) || relist.Reset || relist.Snapshot {
		t.Errorf("after the compaction: got %v (reset %v, snapshot %v), want %v in one step", got, relist.Reset, relist.Snapshot, want)
	}
	m.Check(t, b.list(t))
}

// testFollowBreaks walks at random: writes, cuts and compactions; in the end the mirror equals the store.
func testFollowBreaks(t *testing.T, b *bench) {
	kv := newCuttable(b.KV)
	m, stop := Follow(t, kv, b.prefix)
	defer stop()
	rng := rand.New(rand.NewPCG(1, 2))
	var head int64
	for range 300 {
		key := b.key("%02d", rng.IntN(20))
		switch rng.IntN(20) {
		case 0:
			open := kv.block()
			head = b.commit(t, put(key, "while cut"))
			if rng.IntN(2) == 0 {
				if err := b.Compact(b.ctx, head); err != nil {
					t.Fatalf("compact: %v", err)
				}
			}
			open()
		case 1, 2, 3, 4:
			head = b.commit(t, del(key))
		default:
			head = b.commit(t, put(key, fmt.Sprint(rng.Uint32())), put(key+"/twin", "x"))
		}
	}
	m.WaitRevision(t, head)
	m.Check(t, b.list(t))
}
