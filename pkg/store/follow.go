package store

import (
	"context"
	"errors"
	"fmt"
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
	// Reset: the store is another one than before, or went back to an earlier state. Events turns the old content into the new
	// (what is gone as deletes, everything there is as changes), but no revision seen before means anything any more.
	Reset bool
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
// at one revision and watches from the next. When the store no longer has the revision, or is another one, or went back, it
// lists again and delivers the difference as one step, with deletes for what is gone. Any other error is retried.
func Follow(ctx context.Context, kv KV, prefix string, sink Sink) error {
	f := &follower{kv: kv, prefix: prefix, sink: sink, seen: make(map[string]int64)}
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

	seen     map[string]int64 // the keys delivered, and their mod revisions
	revision int64            // delivered up to here; 0: nothing yet
	cluster  uint64
	listed   bool      // false: list before watching
	heard    time.Time // of the last delivery
	failures int       // since a watch last delivered
	refused  error     // the sink's error
}

// step lists or watches until something fails. Nil: go on with the next step at once.
func (f *follower) step(ctx context.Context) error {
	if f.listed {
		return f.kv.Watch(ctx, f.prefix, f.revision, f.take)
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	snap, err := f.kv.List(ctx, f.prefix)
	if err != nil {
		return err
	}
	d := f.compare(snap)
	f.seen = make(map[string]int64, len(snap.Entries))
	for _, e := range snap.Entries {
		f.seen[e.Key] = e.Revision
	}
	f.cluster, f.listed = snap.Cluster, true
	return f.deliver(d)
}

// compare turns a list into the step from what was delivered before.
func (f *follower) compare(snap Snapshot) Delivery {
	d := Delivery{Batch: Batch{Revision: snap.Revision, Cluster: snap.Cluster}}
	d.Snapshot = f.revision == 0
	d.Reset = !d.Snapshot && (snap.Cluster != f.cluster || snap.Revision < f.revision)
	present := make(map[string]bool, len(snap.Entries))
	var changed []Event
	for _, e := range snap.Entries {
		present[e.Key] = true
		// After a reset an equal revision does not mean an equal value.
		if revision, ok := f.seen[e.Key]; d.Reset || !ok || revision != e.Revision {
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
			f.seen[ev.Key] = ev.Revision
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
