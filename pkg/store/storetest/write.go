package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/store"
)

// wantConflict checks that a Txn is refused as a conflict.
func (b *bench) wantConflict(t *testing.T, what string, txn store.Txn) error {
	t.Helper()
	revision, err := b.KV.Commit(b.ctx, txn)
	if !errors.Is(err, store.ErrConflict) {
		t.Fatalf("%s: got revision %d, error %v, want ErrConflict", what, revision, err)
	}
	return err
}

func testCompareAndSet(t *testing.T, b *bench) {
	key := b.key("policy")
	if e := b.get(t, key); e.Revision != 0 || e.Value != nil {
		t.Fatalf("absent key: got %+v, want revision 0", e)
	}
	create := store.Txn{Conds: []store.Cond{{Key: key}}, Ops: []store.Op{put(key, "one")}}
	first, err := b.KV.Commit(b.ctx, create)
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	if e := b.get(t, key); string(e.Value) != "one" || e.Revision != first || e.Key != key {
		t.Fatalf("after create at %d: got %+v", first, e)
	}
	b.wantConflict(t, "create of what exists", create)

	update := store.Txn{Conds: []store.Cond{{Key: key, Revision: first}}, Ops: []store.Op{put(key, "two")}}
	second, err := b.KV.Commit(b.ctx, update)
	if err != nil || second <= first {
		t.Fatalf("update: revision %d after %d, error %v", second, first, err)
	}
	b.wantConflict(t, "update of an old revision", update)
	if e := b.get(t, key); string(e.Value) != "two" || e.Revision != second {
		t.Fatalf("after a conflict: got %+v, want the value of revision %d", e, second)
	}

	remove := store.Txn{Conds: []store.Cond{{Key: key, Revision: second}}, Ops: []store.Op{del(key)}}
	if _, err := b.KV.Commit(b.ctx, remove); err != nil {
		t.Fatalf("delete: %v", err)
	}
	b.wantConflict(t, "delete of what is gone", remove)
	if e := b.get(t, key); e.Revision != 0 {
		t.Fatalf("after delete: got %+v, want revision 0", e)
	}
	if _, err := b.KV.Commit(b.ctx, create); err != nil {
		t.Fatalf("create after delete: %v", err)
	}
}

func testConflictNamesTheKey(t *testing.T, b *bench) {
	good, bad := b.key("good"), b.key("bad")
	revision := b.put(t, good, "x")
	b.put(t, bad, "x")
	err := b.wantConflict(t, "second condition wrong", store.Txn{
		Conds: []store.Cond{{Key: good, Revision: revision}, {Key: bad, Revision: revision}},
		Ops:   []store.Op{put(good, "y"), put(bad, "y")},
	})
	if text := err.Error(); !strings.Contains(text, bad) || strings.Contains(text, good) {
		t.Errorf("conflict says %q, want it to name %s alone", text, bad)
	}
}

func testAllOrNothing(t *testing.T, b *bench) {
	object, history := b.key("object"), b.key("history/0000000001")
	revision := b.commit(t, put(object, "v1"), put(history, "v1"))
	for _, key := range []string{object, history} {
		if e := b.get(t, key); e.Revision != revision {
			t.Errorf("%s: revision %d, want %d: both are one transaction", key, e.Revision, revision)
		}
	}
	next := b.key("history/0000000002")
	b.wantConflict(t, "history there already", store.Txn{
		Conds: []store.Cond{{Key: object, Revision: revision}, {Key: history}},
		Ops:   []store.Op{put(object, "v2"), put(next, "v2"), del(history)},
	})
	snap := b.list(t)
	if len(snap.Entries) != 2 {
		t.Errorf("after a conflict there are %d keys, want the 2 from before", len(snap.Entries))
	}
	for _, e := range snap.Entries {
		if e.Revision != revision || string(e.Value) != "v1" {
			t.Errorf("%s: %q at %d, want it untouched", e.Key, e.Value, e.Revision)
		}
	}
}

func testKeyWrittenTwice(t *testing.T, b *bench) {
	key := b.key("twice")
	_, err := b.KV.Commit(b.ctx, store.Txn{Ops: []store.Op{put(key, "a"), del(key)}})
	if err == nil || errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), key) {
		t.Errorf("a key written twice: got %v, want an error naming it", err)
	}
}

func testRacingWriters(t *testing.T, b *bench) {
	const writers, rounds = 8, 5
	key := b.key("contended")
	for range rounds {
		before := b.get(t, key).Revision
		errs := make([]error, writers)
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				_, errs[i] = b.KV.Commit(b.ctx, store.Txn{
					Conds: []store.Cond{{Key: key, Revision: before}},
					Ops:   []store.Op{put(key, fmt.Sprint(i))},
				})
			})
		}
		wg.Wait()
		winner, wins := -1, 0
		for i, err := range errs {
			if err == nil {
				winner, wins = i, wins+1
			} else if !errors.Is(err, store.ErrConflict) {
				t.Errorf("loser: got %v, want ErrConflict", err)
			}
		}
		if got := string(b.get(t, key).Value); wins != 1 || got != fmt.Sprint(winner) {
			t.Fatalf("%d writers won, the last being %d; the value is of %s", wins, winner, got)
		}
	}
}

func testTooManyOps(t *testing.T, b *bench) {
	if b.Limits.MaxOps == 0 {
		t.Fatal("the fixture states no limit of operations")
	}
	before := b.list(t)
	var txn store.Txn
	for i := range b.Limits.MaxOps {
		txn.Ops = append(txn.Ops, put(b.key("%05d", i), ""))
		txn.Conds = append(txn.Conds, store.Cond{Key: b.key("%05d", i)})
	}
	over := txn
	over.Ops = append(over.Ops[:len(over.Ops):len(over.Ops)], put(b.key("over"), ""))
	_, err := b.KV.Commit(b.ctx, over)
	if !errors.Is(err, store.ErrTooLarge) || !strings.Contains(err.Error(), fmt.Sprint(b.Limits.MaxOps)) || !strings.Contains(err.Error(), b.Limits.OpsFlag) {
		t.Errorf("one operation too many: got %v, want ErrTooLarge with the limit %d and %q", err, b.Limits.MaxOps, b.Limits.OpsFlag)
	}
	if after := b.list(t); len(after.Entries) != len(before.Entries) {
		t.Errorf("a refused transaction wrote %d keys", len(after.Entries)-len(before.Entries))
	}
	if err := b.commitLarge(txn); err != nil {
		t.Errorf("exactly %d operations: %v", b.Limits.MaxOps, err)
	}
	if got := len(b.list(t).Entries); got != b.Limits.MaxOps {
		t.Errorf("%d keys, want %d", got, b.Limits.MaxOps)
	}
}

// commitLarge commits what must be there but once. On a busy machine it may take longer than a store waits, with an outcome that nobody
// knows: then it is tried again.
func (b *bench) commitLarge(txn store.Txn) error {
	_, err := b.KV.Commit(b.ctx, txn)
	for errors.Is(err, store.ErrUnavailable) && b.ctx.Err() == nil {
		if _, err = b.KV.Commit(b.ctx, txn); errors.Is(err, store.ErrConflict) {
			return nil // the one before went through
		}
	}
	return err
}

func testTooManyBytes(t *testing.T, b *bench) {
	if b.Limits.MaxBytes == 0 {
		t.Fatal("the fixture states no limit of bytes")
	}
	key := b.key("big")
	_, err := b.KV.Commit(b.ctx, store.Txn{Ops: []store.Op{{Key: key, Value: make([]byte, b.Limits.MaxBytes)}}})
	if !errors.Is(err, store.ErrTooLarge) || !strings.Contains(err.Error(), fmt.Sprint(b.Limits.MaxBytes)) {
		t.Errorf("a value as big as a request may be: got %v, want ErrTooLarge with the limit %d", err, b.Limits.MaxBytes)
	}
	if _, err := b.KV.Commit(b.ctx, store.Txn{Ops: []store.Op{{Key: key, Value: make([]byte, b.Limits.MaxBytes-1024)}}}); err != nil {
		t.Errorf("a value 1 KiB below the limit: %v", err)
	}
}
