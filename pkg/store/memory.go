package store

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// memoryProgress is how often a watch of a Memory reports progress.
const memoryProgress = time.Second

// Memory is a KV in the memory of the process, for tests and trials: nothing survives it. It keeps every change until Compact.
// It uses package time only, so that a Memory made inside a testing/synctest bubble lives by the bubble's clock.
type Memory struct {
	limits Limits // read-only

	mu        sync.Mutex // guards all below
	cluster   uint64
	revision  int64
	compacted int64 // changes before this revision are gone
	entries   map[string]Entry
	base      map[string]Entry // what there was before the first of changes
	changes   []Batch          // one for each revision that changed anything, ascending
	leases    map[LeaseID]*memoryLease
	lastLease LeaseID
	heads     int           // times that Head was asked
	wake      chan struct{} // closed and replaced when anything above changes
	failure   error
}

type memoryLease struct {
	ttl     time.Duration
	expires time.Time
	timer   *time.Timer
}

// NewMemory makes an empty store, at revision 1, that takes transactions within limits.
func NewMemory(limits Limits) *Memory {
	return &Memory{
		limits:   limits,
		cluster:  1,
		revision: 1,
		entries:  make(map[string]Entry),
		base:     make(map[string]Entry),
		leases:   make(map[LeaseID]*memoryLease),
		wake:     make(chan struct{}),
	}
}

var _ KV = (*Memory)(nil)

// ready says why a call can't be served. Call with mu held.
func (m *Memory) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return m.failure
}

// changed wakes every watch. Call with mu held.
func (m *Memory) changed() {
	close(m.wake)
	m.wake = make(chan struct{})
}

// Get implements KV.
func (m *Memory) Get(ctx context.Context, key string) (Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ready(ctx); err != nil {
		return Entry{}, fmt.Errorf("get %s: %w", key, err)
	}
	if e, ok := m.entries[key]; ok {
		return e, nil
	}
	return Entry{Key: key}, nil
}

// List implements KV.
func (m *Memory) List(ctx context.Context, prefix string) (Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ready(ctx); err != nil {
		return Snapshot{}, fmt.Errorf("list %s: %w", prefix, err)
	}
	return m.snapshot(prefix, m.revision, m.entries), nil
}

// snapshot is what of entries is below prefix. Call with mu held.
func (m *Memory) snapshot(prefix string, revision int64, entries map[string]Entry) Snapshot {
	snap := Snapshot{Revision: revision, Cluster: m.cluster}
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		if strings.HasPrefix(key, prefix) {
			snap.Entries = append(snap.Entries, entries[key])
		}
	}
	return snap
}

// ListAt implements KV.
func (m *Memory) ListAt(ctx context.Context, prefix string, revision int64) (Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.ready(ctx)
	if err == nil {
		err = m.known(revision)
	}
	if err != nil {
		return Snapshot{}, fmt.Errorf("list %s at revision %d: %w", prefix, revision, err)
	}
	entries := maps.Clone(m.base)
	for _, change := range m.changes {
		if change.Revision <= revision {
			change.applyTo(entries)
		}
	}
	return m.snapshot(prefix, revision, entries), nil
}

// known says why a revision is not known. Call with mu held.
func (m *Memory) known(revision int64) error {
	if revision+1 < m.compacted || revision > m.revision {
		return fmt.Errorf("%w: revision %d of %d..%d", ErrCompacted, revision, m.compacted, m.revision)
	}
	return nil
}

func (b Batch) applyTo(entries map[string]Entry) {
	for _, ev := range b.Events {
		if ev.Deleted {
			delete(entries, ev.Key)
		} else {
			entries[ev.Key] = ev.Entry
		}
	}
}

// Head implements KV.
func (m *Memory) Head(ctx context.Context) (Head, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ready(ctx); err != nil {
		return Head{}, fmt.Errorf("head: %w", err)
	}
	m.heads++
	m.changed()
	return Head{Revision: m.revision, Cluster: m.cluster}, nil
}

// Commit implements KV.
func (m *Memory) Commit(ctx context.Context, txn Txn) (int64, error) {
	if err := m.limits.Check(txn); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ready(ctx); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	for _, c := range txn.Conds {
		if got := m.entries[c.Key].Revision; got != c.Revision {
			return 0, fmt.Errorf("%w: %s is at revision %d, not %d", ErrConflict, c.Key, got, c.Revision)
		}
	}
	for _, op := range txn.Ops {
		if _, ok := m.leases[op.Lease]; op.Lease != 0 && !ok {
			return 0, fmt.Errorf("%w: the lease of %s has expired", ErrConflict, op.Key)
		}
	}
	m.apply(txn.Ops)
	return m.revision, nil
}

// apply writes ops as one revision; deletes of absent keys alone make none. Call with mu held.
func (m *Memory) apply(ops []Op) {
	revision := m.revision + 1
	var events []Event
	for _, op := range ops {
		if !op.Delete {
			e := Entry{Key: op.Key, Value: bytes.Clone(op.Value), Revision: revision, Lease: op.Lease}
			m.entries[op.Key] = e
			events = append(events, Event{Entry: e})
		} else if _, ok := m.entries[op.Key]; ok {
			delete(m.entries, op.Key)
			events = append(events, Event{Entry: Entry{Key: op.Key, Revision: revision}, Deleted: true})
		}
	}
	if len(events) == 0 {
		return
	}
	m.revision = revision
	m.changes = append(m.changes, Batch{Revision: revision, Cluster: m.cluster, Events: events})
	m.changed()
}

// Watch implements KV.
func (m *Memory) Watch(ctx context.Context, prefix string, after int64, fn func(Batch) error) error {
	ticker := time.NewTicker(memoryProgress)
	defer ticker.Stop()
	told, asked := after, 0 // the revision that fn was told, and how often Head had been asked then
	for {
		batch, heads, wake, err := m.since(ctx, prefix, after)
		if err != nil {
			return fmt.Errorf("watch %s: %w", prefix, err)
		}
		after = batch.Revision
		if len(batch.Events) > 0 || heads > asked && after > told {
			told, asked = after, heads
			if err := fn(batch); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-wake:
		case <-ticker.C:
			told, asked = after, heads
			if err := fn(batch); err != nil {
				return err
			}
		}
	}
}

// since gathers what changed below prefix after a revision. When nothing did, wake is closed once anything does.
func (m *Memory) since(ctx context.Context, prefix string, after int64) (batch Batch, heads int, wake <-chan struct{}, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ready(ctx); err != nil {
		return Batch{}, 0, nil, err
	}
	if err := m.known(after); err != nil {
		return Batch{}, 0, nil, err
	}
	batch = Batch{Revision: m.revision, Cluster: m.cluster}
	from, _ := slices.BinarySearchFunc(m.changes, after+1, func(b Batch, r int64) int { return int(b.Revision - r) })
	for _, change := range m.changes[from:] {
		for _, ev := range change.Events {
			if strings.HasPrefix(ev.Key, prefix) {
				batch.Events = append(batch.Events, ev)
			}
		}
	}
	return batch, m.heads, m.wake, nil
}

// Grant implements KV.
func (m *Memory) Grant(ctx context.Context, ttl time.Duration) (LeaseID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ready(ctx); err != nil {
		return 0, fmt.Errorf("grant a lease: %w", err)
	}
	m.lastLease++
	id := m.lastLease
	m.leases[id] = &memoryLease{
		ttl:     ttl,
		expires: time.Now().Add(ttl),
		timer:   time.AfterFunc(ttl, func() { m.expire(id) }),
	}
	return id, nil
}

// Renew implements KV.
func (m *Memory) Renew(ctx context.Context, id LeaseID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ready(ctx); err != nil {
		return fmt.Errorf("renew lease %d: %w", id, err)
	}
	lease, ok := m.leases[id]
	if !ok {
		return fmt.Errorf("renew lease %d: %w: it has expired", id, ErrConflict)
	}
	lease.expires = time.Now().Add(lease.ttl)
	lease.timer.Reset(lease.ttl)
	return nil
}

// Revoke implements KV.
func (m *Memory) Revoke(ctx context.Context, id LeaseID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ready(ctx); err != nil {
		return fmt.Errorf("revoke lease %d: %w", id, err)
	}
	m.end(id)
	return nil
}

// expire ends a lease whose time has come. A renewal may have overtaken the timer.
func (m *Memory) expire(id LeaseID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if lease, ok := m.leases[id]; ok && !time.Now().Before(lease.expires) {
		m.end(id)
	}
}

// end drops a lease and deletes its keys as one revision. Call with mu held.
func (m *Memory) end(id LeaseID) {
	lease, ok := m.leases[id]
	if !ok {
		return
	}
	lease.timer.Stop()
	delete(m.leases, id)
	var ops []Op
	for _, key := range slices.Sorted(maps.Keys(m.entries)) {
		if m.entries[key].Lease == id {
			ops = append(ops, Op{Key: key, Delete: true})
		}
	}
	m.apply(ops)
}

// Compact forgets the changes before revision, as etcd's compaction does.
func (m *Memory) Compact(revision int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.compacted = max(m.compacted, min(revision, m.revision))
	m.changes = slices.DeleteFunc(m.changes, func(b Batch) bool {
		gone := b.Revision < m.compacted
		if gone {
			b.applyTo(m.base)
		}
		return gone
	})
}

// Fail makes every call, and every running watch, return err, as ErrUnavailable, until Fail(nil).
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failure = nil
	if err != nil {
		m.failure = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	m.changed()
}

// Restore replaces everything, as restoring a backup does: the store has these entries, is at this revision and says it is this
// cluster. Entries keep their revisions. Leases end without a trace.
func (m *Memory) Restore(cluster uint64, revision int64, entries []Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, lease := range m.leases {
		lease.timer.Stop()
	}
	clear(m.leases)
	clear(m.entries)
	for _, e := range entries {
		m.entries[e.Key] = e
	}
	m.base = maps.Clone(m.entries)
	m.cluster, m.revision, m.compacted, m.changes = cluster, revision, revision+1, nil
	m.changed()
}
