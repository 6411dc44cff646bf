package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/store"
)

// ttl is the shortest that etcd rounds nowhere.
const ttl = 2 * time.Second

func (b *bench) grant(t *testing.T, ttl time.Duration) store.LeaseID {
	t.Helper()
	id, err := b.KV.Grant(b.ctx, ttl)
	if err != nil || id == 0 {
		t.Fatalf("grant: lease %d, error %v", id, err)
	}
	return id
}

// waitDeleted watches until key is deleted.
func (b *bench) waitDeleted(t *testing.T, key string, after int64) {
	t.Helper()
	b.watch(t, after, func(batch store.Batch) bool {
		for _, ev := range batch.Events {
			if ev.Key == key && ev.Deleted {
				if ev.Value != nil {
					t.Errorf("delete of %s carries a value", key)
				}
				return true
			}
		}
		return false
	})
}

func testLeaseExpires(t *testing.T, b *bench) {
	leased, free := b.key("leased"), b.key("free")
	id := b.grant(t, ttl)
	start := time.Now()
	revision := b.commit(t, store.Op{Key: leased, Value: []byte("x"), Lease: id}, put(free, "x"))
	if e := b.get(t, leased); e.Lease != id {
		t.Errorf("lease %d, want %d", e.Lease, id)
	}
	b.waitDeleted(t, leased, revision)
	if took := time.Since(start); took < ttl-500*time.Millisecond {
		t.Errorf("gone after %v, want no less than about %v", took, ttl)
	}
	if e := b.get(t, leased); e.Revision != 0 {
		t.Errorf("%s is still there: %+v", leased, e)
	}
	if e := b.get(t, free); e.Revision != revision {
		t.Errorf("%s was touched: %+v", free, e)
	}
}

func testLeaseRenewed(t *testing.T, b *bench) {
	key := b.key("renewed")
	id := b.grant(t, ttl)
	b.commit(t, store.Op{Key: key, Value: []byte("x"), Lease: id})
	end := time.Now().Add(ttl + ttl/2)
	tick := time.NewTicker(ttl / 4)
	defer tick.Stop()
	for time.Now().Before(end) {
		<-tick.C
		if err := b.KV.Renew(b.ctx, id); err != nil {
			t.Fatalf("renew: %v", err)
		}
	}
	e := b.get(t, key)
	if e.Revision == 0 {
		t.Fatalf("%s expired though its lease was renewed", key)
	}
	b.waitDeleted(t, key, e.Revision) // and not a moment longer than its lease
}

func testLeaseRevoked(t *testing.T, b *bench) {
	key, moved := b.key("revoked"), b.key("moved")
	id := b.grant(t, time.Minute)
	b.commit(t, store.Op{Key: key, Value: []byte("x"), Lease: id}, store.Op{Key: moved, Value: []byte("x"), Lease: id})
	revision := b.put(t, moved, "without a lease")
	if err := b.KV.Revoke(b.ctx, id); err != nil {
		t.Fatalf("revoke: %v", err)
	}
	b.waitDeleted(t, key, revision)
	if e := b.get(t, moved); e.Revision != revision {
		t.Errorf("a key that was put again without the lease went with it: %+v", e)
	}
	if err := b.KV.Revoke(b.ctx, id); err != nil {
		t.Errorf("revoke of what is gone: %v, want nil", err)
	}
}

func testLeaseGone(t *testing.T, b *bench) {
	id := b.grant(t, time.Minute)
	if err := b.KV.Revoke(b.ctx, id); err != nil {
		t.Fatalf("revoke: %v", err)
	}
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := b.KV.Renew(ctx, id); !errors.Is(err, store.ErrConflict) {
		t.Errorf("renew of a lease that is gone: got %v, want ErrConflict", err)
	}
	key := b.key("orphan")
	b.wantConflict(t, "put with a lease that is gone", store.Txn{Ops: []store.Op{{Key: key, Value: []byte("x"), Lease: id}}})
	if e := b.get(t, key); e.Revision != 0 {
		t.Errorf("written all the same: %+v", e)
	}
}
