package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/store"
)

// checkWhole fails when the events of batches are not exactly the transactions of perTxn writes at the given revisions, each
// once, in order, and whole within one batch.
func checkWhole(t *testing.T, batches []store.Batch, revisions []int64, perTxn int) {
	t.Helper()
	next, last := 0, int64(0)
	for _, batch := range batches {
		if batch.Revision < last {
			t.Fatalf("batch of revision %d after %d", batch.Revision, last)
		}
		last = batch.Revision
		count := make(map[int64]int)
		for _, ev := range batch.Events {
			if count[ev.Revision]++; count[ev.Revision] == 1 {
				if next == len(revisions) || ev.Revision != revisions[next] {
					t.Fatalf("event of revision %d, want that of index %d in %v", ev.Revision, next, revisions)
				}
				next++
			}
			if ev.Revision > batch.Revision {
				t.Fatalf("batch up to %d has an event of %d", batch.Revision, ev.Revision)
			}
		}
		for revision, n := range count {
			if n != perTxn {
				t.Fatalf("a batch holds %d of the %d events of revision %d", n, perTxn, revision)
			}
		}
	}
	if next != len(revisions) {
		t.Fatalf("%d of %d transactions seen", next, len(revisions))
	}
}

func testWatchEveryEvent(t *testing.T, b *bench) {
	const txns, perTxn, watchers = 150, 3, 3
	after := b.list(t).Revision
	end := b.key("%03d/%d", txns-1, perTxn-1)
	seen := make([][]store.Batch, watchers)
	var wg sync.WaitGroup
	for i := range watchers {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(b.ctx, patience)
			defer cancel()
			err := b.KV.Watch(ctx, b.prefix, after, func(batch store.Batch) error {
				seen[i] = append(seen[i], batch)
				if hasKey(end)(batch) {
					return errEnough
				}
				return nil
			})
			if err != errEnough {
				t.Errorf("watch %d: %v", i, err)
			}
		})
	}
	var revisions []int64
	for i := range txns {
		var ops []store.Op
		for j := range perTxn {
			ops = append(ops, put(b.key("%03d/%d", i, j), fmt.Sprint(i)))
		}
		revisions = append(revisions, b.commit(t, ops...))
	}
	wg.Wait()
	for _, batches := range seen {
		checkWhole(t, batches, revisions, perTxn)
	}
	// From the middle, after the fact: the rest alone.
	middle := revisions[txns/2]
	checkWhole(t, b.watch(t, middle, hasKey(end)), revisions[txns/2+1:], perTxn)
}

// testWatchBigTransactions writes transactions that no single message of etcd holds together with another one.
func testWatchBigTransactions(t *testing.T, b *bench) {
	const txns, perTxn = 4, 100
	value := strings.Repeat("x", 1_450_000/perTxn)
	after := b.list(t).Revision
	var revisions []int64
	for i := range txns {
		var ops []store.Op
		for j := range perTxn {
			ops = append(ops, put(b.key("%03d/%03d", i, j), value))
		}
		revisions = append(revisions, b.commit(t, ops...))
	}
	batches := b.watch(t, after, hasKey(b.key("%03d/%03d", txns-1, perTxn-1)))
	checkWhole(t, batches, revisions, perTxn)
	for _, batch := range batches {
		for _, ev := range batch.Events {
			if len(ev.Value) != len(value) {
				t.Fatalf("%s has %d bytes, want %d", ev.Key, len(ev.Value), len(value))
			}
		}
	}
}

func testWatchFromThePast(t *testing.T, b *bench) {
	key := b.key("k")
	after := b.list(t).Revision
	first := b.put(t, key, "one")
	second := b.commit(t, del(key))
	third := b.put(t, key, "three")
	var got []string
	for _, batch := range b.watch(t, after, func(batch store.Batch) bool { return batch.Revision >= third && len(batch.Events) > 0 }) {
		for _, ev := range batch.Events {
			got = append(got, fmt.Sprintf("%d %q %v", ev.Revision, ev.Value, ev.Deleted))
		}
	}
	want := []string{fmt.Sprintf("%d \"one\" false", first), fmt.Sprintf("%d \"\" true", second), fmt.Sprintf("%d \"three\" false", third)}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("got %v, want %v", got, want)
	}
}

// testWatchProgress: a watch of a quiet prefix learns that time goes on elsewhere.
func testWatchProgress(t *testing.T, b *bench) {
	after := b.list(t).Revision
	elsewhere := strings.TrimSuffix(b.prefix, "/") + "-elsewhere"
	var revision int64
	start := time.Now()
	batches := b.watch(t, after, func(batch store.Batch) bool {
		if revision == 0 {
			revision = b.put(t, elsewhere, "x")
		}
		return batch.Revision >= revision
	})
	for _, batch := range batches {
		if len(batch.Events) > 0 {
			t.Errorf("events below a quiet prefix: %s", show(batches))
		}
		if batch.Cluster == 0 {
			t.Error("progress names no cluster")
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("progress over a write elsewhere took %v", took)
	}
}

func testWatchEnds(t *testing.T, b *bench) {
	revision := b.put(t, b.key("k"), "x")
	wrong := errors.New("enough of this")
	if err := b.KV.Watch(b.ctx, b.prefix, revision-1, func(store.Batch) error { return wrong }); err != wrong {
		t.Errorf("watch returns %v, want its function's %v", err, wrong)
	}
	ctx, cancel := context.WithTimeout(b.ctx, 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	err := b.KV.Watch(ctx, b.prefix, revision, func(store.Batch) error { return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("watch returns %v, want its context's error", err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("watch outlived its context by %v", took)
	}
}

func testWatchCompacted(t *testing.T, b *bench) {
	key := b.key("k")
	old := b.put(t, key, "one")
	b.put(t, key, "two")
	head := b.put(t, key, "three")
	if err := b.Compact(b.ctx, head); err != nil {
		t.Fatalf("compact: %v", err)
	}
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	err := b.KV.Watch(ctx, b.prefix, old, func(batch store.Batch) error {
		if len(batch.Events) > 0 {
			return fmt.Errorf("got events: %s", show([]store.Batch{batch}))
		}
		return nil
	})
	if !errors.Is(err, store.ErrCompacted) {
		t.Errorf("watch of a compacted revision: %v, want ErrCompacted", err)
	}
	// From the head on there is nothing missing.
	next := b.put(t, key, "four")
	checkWhole(t, b.watch(t, head, hasKey(key)), []int64{next}, 1)
}

// testWatchFuture: after a restore a replica asks for a revision that the store has not reached yet. Waiting in silence until it
// does would miss all changes on the way.
func testWatchFuture(t *testing.T, b *bench) {
	revision := b.put(t, b.key("k"), "x")
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	err := b.KV.Watch(ctx, b.prefix, revision+1000, func(store.Batch) error { return nil })
	if !errors.Is(err, store.ErrCompacted) {
		t.Errorf("watch of a revision that is not there yet: %v, want ErrCompacted", err)
	}
}
