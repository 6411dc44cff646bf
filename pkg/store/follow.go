package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	listTimeout = 30 * time.Second // a list that takes longer is begun anew
	backOffMin  = 50 * time.Millisecond
	backOffMax  = 2 * time.Second
)

// Delivery is one step of what Follow tells. Applied in order, the steps turn nothing into the present content of the prefix.
type Delivery struct {
	Batch // Events may be empty: the store was heard from and nothing changed up to Revision

	// Snapshot: the first delivery. Events holds everything there is.
	Snapshot bool
	// Reset: the store is another one than before, or went back to an earlier state, whether or not it has come past that revision
	// since. Events turns the old content into the new (what is gone as deletes, everything there is as changes), but no revision seen
	// before means anything any more.
	Reset bool
	Why   error // of a Reset: what shows it
}

// Sink takes what Follow finds out. Follow calls it from one goroutine, never twice at a time.
type Sink interface {
	// Deliver takes the next step. It owns the Events; an error ends Follow.
	Deliver(Delivery) error
	// Stale says that the store can't be heard, and why: what was delivered is true as of since (zero: nothing was ever
	// delivered). It is called after each attempt that failed; the next Deliver, which comes within seconds of the store's
	// return, ends it.
	Stale(since time.Time, err error)
}

// Follow keeps sink in step with everything below prefix until ctx ends or sink.Deliver fails, and returns that error. It lists
// at one revision and watches from the next. Before it takes anything from a watch it makes sure that the store still holds what was
// delivered, at its revision. When the store no longer has the revision, or is another one, or went back, it
// lists again and delivers the difference as one step, with deletes for what is gone. Any other error is retried.
func Follow(ctx context.Context, kv KV, prefix string, sink Sink) error {
	f := &follower{kv: kv, prefix: prefix, sink: sink, seen: make(map[string]trace)}
	for {
		err := f.step(ctx)
		switch {
		case f.refused != nil:
			return f.refused
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			continue
		case errors.Is(err, ErrCompacted):
			f.listed = false // this is the store speaking, not its silence
		default:
			sink.Stale(f.heard, err)
		}
		f.failures++
		if err := f.pause(ctx); err != nil {
			return err
		}
	}
}

// follower is the state of one Follow; only its goroutine touches it.
type follower struct {
	kv     KV
	prefix string
	sink   Sink

	seen     map[string]trace // the keys delivered
	revision int64            // delivered up to here; 0: nothing yet
	cluster  uint64
	listed   bool      // false: list before watching
	heard    time.Time // of the last delivery
	other    error     // why what was delivered is of another history than the store's; nil: it is not, as far as is known
	failures int       // since a watch last delivered
	refused  error     // the sink's error
}

// trace is by what one value of a key is told from another. A restored store may give the same revision to another write.
type trace struct {
	revision int64
	lease    LeaseID
	value    uint64
}

var traceSeed = maphash.MakeSeed()

func traceOf(e Entry) trace { return trace{e.Revision, e.Lease, maphash.Bytes(traceSeed, e.Value)} }

// step lists or watches until something fails. Nil: go on with the next step at once.
func (f *follower) step(ctx context.Context) error {
	if f.listed {
		return f.watch(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	snap, err := f.kv.List(ctx, f.prefix)
	if err != nil {
		return err
	}
	d := f.compare(snap)
	f.seen = make(map[string]trace, len(snap.Entries))
	for _, e := range snap.Entries {
		f.seen[e.Key] = traceOf(e)
	}
	f.cluster, f.listed, f.other = snap.Cluster, true, nil
	return f.deliver(d)
}

// watch goes on from what was delivered. The check comes once the watch stands: were the store restored after that, the watch would end.
func (f *follower) watch(ctx context.Context) error {
	checked := false
	return f.kv.Watch(ctx, f.prefix, f.revision, func(b Batch) error {
		if !checked {
			if err := f.check(ctx); err != nil {
				return err
			}
			checked = true
		}
		return f.take(b)
	})
}

// check compares what was delivered with what the store held at that revision. A store that was restored from an older snapshot, as the same
// cluster, may have come past the revision with other writes.
func (f *follower) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	snap, err := f.kv.ListAt(ctx, f.prefix, f.revision)
	if err != nil {
		return err
	}
	err = f.contradicts(snap)
	if err == nil && len(snap.Entries) != len(f.seen) {
		err = fmt.Errorf("at revision %d it had %d keys, not %d", f.revision, len(snap.Entries), len(f.seen))
	}
	if err != nil {
		f.other = err
		return fmt.Errorf("%w: the store has another history: %w", ErrCompacted, err)
	}
	return nil
}

// contradicts says how a list shows another history than the one of what was delivered, if it does.
func (f *follower) contradicts(snap Snapshot) error {
	if snap.Cluster != f.cluster {
		return fmt.Errorf("it is another cluster (%x, before %x)", snap.Cluster, f.cluster)
	}
	if snap.Revision < f.revision {
		return fmt.Errorf("it went back from revision %d to %d", f.revision, snap.Revision)
	}
	for _, e := range snap.Entries {
		if e.Revision <= f.revision && traceOf(e) != f.seen[e.Key] {
			return fmt.Errorf("at revision %d it had written %s otherwise", e.Revision, e.Key)
		}
	}
	return nil
}

// compare turns a list into the step from what was delivered before.
func (f *follower) compare(snap Snapshot) Delivery {
	d := Delivery{Batch: Batch{Revision: snap.Revision, Cluster: snap.Cluster}}
	d.Snapshot = f.revision == 0
	if !d.Snapshot {
		d.Why = cmp.Or(f.other, f.contradicts(snap))
		d.Reset = d.Why != nil
	}
	present := make(map[string]bool, len(snap.Entries))
	var changed []Event
	for _, e := range snap.Entries {
		present[e.Key] = true
		if d.Reset || f.seen[e.Key] != traceOf(e) {
			changed = append(changed, Event{Entry: e})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(f.seen)) {
		if !present[key] {
			d.Events = append(d.Events, Event{Entry: Entry{Key: key, Revision: snap.Revision}, Deleted: true})
		}
	}
	d.Events = append(d.Events, changed...)
	return d
}

// take passes a watch's batch on.
func (f *follower) take(b Batch) error {
	if b.Cluster != f.cluster {
		return fmt.Errorf("%w: the store is another cluster (%x, before %x)", ErrCompacted, b.Cluster, f.cluster)
	}
	if b.Revision < f.revision {
		return fmt.Errorf("%w: the store went back from revision %d to %d", ErrCompacted, f.revision, b.Revision)
	}
	for _, ev := range b.Events {
		if ev.Deleted {
			delete(f.seen, ev.Key)
		} else {
			f.seen[ev.Key] = traceOf(ev.Entry)
		}
	}
	f.failures = 0
	return f.deliver(Delivery{Batch: b})
}

func (f *follower) deliver(d Delivery) error {
	f.revision, f.heard = d.Revision, time.Now()
	f.refused = f.sink.Deliver(d)
	return f.refused
}

// pause waits before the next attempt: longer after each failure, and never in step with other replicas.
func (f *follower) pause(ctx context.Context) error {
	d := backOffMax
	if n := f.failures - 1; n < 6 {
		d = min(backOffMin<<n, backOffMax)
	}
	timer := time.NewTimer(d/2 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
