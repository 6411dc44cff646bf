// Package storetest is the contract of store.KV as a test: every store passes it.
package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/store"
)

// Fixture is one store under test. Tests use keys of their own, so that many may share a store; they run one after another.
type Fixture struct {
	KV store.KV
	// Compact forgets the changes before a revision.
	Compact func(ctx context.Context, revision int64) error
	// Limits are those the store was made with.
	Limits store.Limits
}

// Options fit the suite to a store.
type Options struct {
	// Bubble runs each test in a testing/synctest bubble: for stores that have no process or socket behind them.
	Bubble bool
}

// patience is how long a test waits for what must come. It is generous: it only matters when a test fails.
const patience = 15 * time.Second

// Run runs the contract over the stores that open makes, one call for each test.
func Run(t *testing.T, opts Options, open func(t *testing.T) Fixture) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *bench)
	}{
		{"CompareAndSet", testCompareAndSet},
		{"ConflictNamesTheKey", testConflictNamesTheKey},
		{"ObjectAndHistoryAllOrNothing", testAllOrNothing},
		{"KeyWrittenTwiceIsRefused", testKeyWrittenTwice},
		{"RacingWritersOneWins", testRacingWriters},
		{"ListAtOneRevisionUnderWrites", testListAtOneRevision},
		{"ListAtAPastRevision", testListAt},
		{"PrefixIsNotItsNeighbour", testPrefix},
		{"TooManyOperations", testTooManyOps},
		{"TooManyBytes", testTooManyBytes},
		{"WatchEveryEventOnceInOrder", testWatchEveryEvent},
		{"WatchBigTransactionsWhole", testWatchBigTransactions},
		{"WatchFromThePast", testWatchFromThePast},
		{"WatchProgress", testWatchProgress},
		{"HeadHoldsEveryWrite", testHead},
		{"HeadIsToldToWatches", testHeadTold},
		{"WatchEndsWithItsContextOrFunction", testWatchEnds},
		{"WatchOfACompactedRevision", testWatchCompacted},
		{"WatchOfAFutureRevision", testWatchFuture},
		{"LeaseExpires", testLeaseExpires},
		{"LeaseRenewedLives", testLeaseRenewed},
		{"LeaseRevoked", testLeaseRevoked},
		{"LeaseGoneIsAConflict", testLeaseGone},
		{"ContextEndIsRespected", testContextEnd},
		{"FollowSnapshotThenEvents", testFollow},
		{"FollowOverACompaction", testFollowCompaction},
		{"FollowUnderWritesAndBreaks", testFollowBreaks},
	} {
		t.Run(test.name, func(t *testing.T) {
			run := func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				test.run(t, newBench(ctx, open(t)))
			}
			if opts.Bubble {
				synctest.Test(t, run)
			} else {
				run(t)
			}
		})
	}
}

// bench is a store and a prefix of its own to work under.
type bench struct {
	Fixture
	ctx    context.Context
	prefix string
}

func newBench(ctx context.Context, f Fixture) *bench {
	return &bench{Fixture: f, ctx: ctx, prefix: fmt.Sprintf("/storetest/%016x/", rand.Uint64())}
}

func (b *bench) key(format string, args ...any) string {
	return b.prefix + fmt.Sprintf(format, args...)
}

// commit writes ops without conditions.
func (b *bench) commit(t *testing.T, ops ...store.Op) int64 {
	t.Helper()
	revision, err := b.KV.Commit(b.ctx, store.Txn{Ops: ops})
	if err != nil {
		t.Fatalf("commit %d writes: %v", len(ops), err)
	}
	return revision
}

func (b *bench) put(t *testing.T, key, value string) int64 {
	t.Helper()
	return b.commit(t, put(key, value))
}

func put(key, value string) store.Op { return store.Op{Key: key, Value: []byte(value)} }

func del(key string) store.Op { return store.Op{Key: key, Delete: true} }

func (b *bench) get(t *testing.T, key string) store.Entry {
	t.Helper()
	e, err := b.KV.Get(b.ctx, key)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	return e
}

func (b *bench) list(t *testing.T) store.Snapshot {
	t.Helper()
	snap, err := b.KV.List(b.ctx, b.prefix)
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	return snap
}

// watch collects the batches after a revision until one holds done, and returns them all.
func (b *bench) watch(t *testing.T, after int64, done func(store.Batch) bool) []store.Batch {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	var batches []store.Batch
	err := b.KV.Watch(ctx, b.prefix, after, func(batch store.Batch) error {
		batches = append(batches, batch)
		if done(batch) {
			return errEnough
		}
		return nil
	})
	if err != errEnough {
		t.Fatalf("watch after revision %d: %v, with %d batches seen: %s", after, err, len(batches), show(batches))
	}
	return batches
}

// errEnough ends a watch that has seen what it waited for.
var errEnough = fmt.Errorf("enough")

// hasKey is a condition for watch: the batch changes key.
func hasKey(key string) func(store.Batch) bool {
	return func(b store.Batch) bool {
		for _, ev := range b.Events {
			if ev.Key == key {
				return true
			}
		}
		return false
	}
}

// show writes batches on one line, values left out.
func show(batches []store.Batch) string {
	var out strings.Builder
	for _, b := range batches {
		fmt.Fprintf(&out, "[%d:", b.Revision)
		for _, ev := range b.Events {
			fmt.Fprintf(&out, " %s@%d", ev.Key[strings.LastIndex(ev.Key, "/")+1:], ev.Revision)
			if ev.Deleted {
				out.WriteString("-")
			}
		}
		out.WriteString("] ")
	}
	return out.String()
}
