package storetest

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/store"
)

// testListAtOneRevision lists more keys than fit in one page while a writer changes the first and the last together.
func testListAtOneRevision(t *testing.T, b *bench) {
	const keys = 1201
	first, last := b.key("%05d", 0), b.key("%05d", keys-1)
	for from := 0; from < keys; from += 100 {
		var ops []store.Op
		for i := from; i < min(from+100, keys); i++ {
			ops = append(ops, put(b.key("%05d", i), "0"))
		}
		b.commit(t, ops...)
	}
	b.commit(t, put(first, "0"), put(last, "0"))
	ctx, cancel := context.WithCancel(b.ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			value := strings.Repeat("x", i%7)
			_, _ = b.KV.Commit(ctx, store.Txn{Ops: []store.Op{put(first, value), put(last, value)}})
		}
	})
	defer wg.Wait()
	defer cancel()
	var previous int64
	for range 15 {
		snap := b.list(t)
		if len(snap.Entries) != keys {
			t.Fatalf("list has %d entries, want %d", len(snap.Entries), keys)
		}
		if !slices.IsSortedFunc(snap.Entries, func(x, y store.Entry) int { return strings.Compare(x.Key, y.Key) }) {
			t.Fatal("list is not in key order")
		}
		a, z := snap.Entries[0], snap.Entries[keys-1]
		if a.Revision > snap.Revision || a.Revision != z.Revision {
			t.Fatalf("list at %d holds %s of %d and %s of %d: not one revision", snap.Revision, a.Key, a.Revision, z.Key, z.Revision)
		}
		if snap.Revision < previous {
			t.Fatalf("a list went back from %d to %d", previous, snap.Revision)
		}
		if snap.Cluster == 0 {
			t.Fatal("list names no cluster")
		}
		previous = snap.Revision
	}
}

// testListAt reads the past, over more than a page.
func testListAt(t *testing.T, b *bench) {
	const keys = 501
	var ops []store.Op
	for i := range keys {
		ops = append(ops, put(b.key("%05d", i), "0"))
	}
	for from := 0; from < keys; from += 100 {
		b.commit(t, ops[from:min(from+100, keys)]...)
	}
	then := b.list(t)
	b.commit(t, put(ops[0].Key, "1"), del(ops[1].Key), put(b.key("new"), "1"))
	now := b.list(t)
	for _, want := range []store.Snapshot{then, now} {
		got, err := b.KV.ListAt(b.ctx, b.prefix, want.Revision)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("list at revision %d: %d entries of revision %d, %v; want %d as they were", want.Revision, len(got.Entries), got.Revision, err, len(want.Entries))
		}
	}
	if err := b.Compact(b.ctx, now.Revision); err != nil {
		t.Fatalf("compact: %v", err)
	}
	if got, err := b.KV.ListAt(b.ctx, b.prefix, now.Revision); err != nil || !reflect.DeepEqual(got, now) {
		t.Errorf("list at the revision that the store is compacted to: %d entries, %v; want %d", len(got.Entries), err, len(now.Entries))
	}
	for what, revision := range map[string]int64{"a compacted": then.Revision - 1, "a future": now.Revision + 1000} {
		if _, err := b.KV.ListAt(b.ctx, b.prefix, revision); !errors.Is(err, store.ErrCompacted) {
			t.Errorf("list at %s revision: %v, want ErrCompacted", what, err)
		}
	}
}

func testPrefix(t *testing.T, b *bench) {
	after := b.list(t).Revision
	inside := b.key("a")
	outside := strings.TrimSuffix(b.prefix, "/") + "0" // the first key after the prefix
	before := strings.TrimSuffix(b.prefix, "/")
	b.put(t, outside, "x")
	b.put(t, before, "x")
	b.put(t, inside, "x")
	snap := b.list(t)
	if len(snap.Entries) != 1 || snap.Entries[0].Key != inside {
		t.Errorf("list below %s: got %+v, want %s alone", b.prefix, snap.Entries, inside)
	}
	for _, batch := range b.watch(t, after, hasKey(inside)) {
		for _, ev := range batch.Events {
			if ev.Key != inside {
				t.Errorf("watch below %s tells of %s", b.prefix, ev.Key)
			}
		}
	}
	b.commit(t, del(outside), del(before))
}

func testContextEnd(t *testing.T, b *bench) {
	ended, cancel := context.WithCancel(b.ctx)
	cancel()
	late, cancelLate := context.WithDeadline(b.ctx, time.Now().Add(-time.Second))
	defer cancelLate()
	key := b.key("never")
	for _, c := range []struct {
		name string
		ctx  context.Context
		want error
	}{{"cancelled", ended, context.Canceled}, {"late", late, context.DeadlineExceeded}} {
		for name, call := range map[string]func() error{
			"get":    func() error { _, err := b.KV.Get(c.ctx, key); return err },
			"head":   func() error { _, err := b.KV.Head(c.ctx); return err },
			"list":   func() error { _, err := b.KV.List(c.ctx, b.prefix); return err },
			"commit": func() error { _, err := b.KV.Commit(c.ctx, store.Txn{Ops: []store.Op{put(key, "x")}}); return err },
			"grant":  func() error { _, err := b.KV.Grant(c.ctx, time.Minute); return err },
			"renew":  func() error { return b.KV.Renew(c.ctx, 12345) },
			"revoke": func() error { return b.KV.Revoke(c.ctx, 12345) },
		} {
			start := time.Now()
			err := call()
			if !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, c.want) {
				t.Errorf("%s with a %s context: got %v, want ErrUnavailable and %v", name, c.name, err, c.want)
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("%s with a %s context took %v", name, c.name, took)
			}
		}
	}
	if e := b.get(t, key); e.Revision != 0 {
		t.Errorf("a commit whose context had ended was written: %+v", e)
	}
}
