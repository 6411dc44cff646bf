package fleet_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/fleet"
	"github.com/breakwater-mesh/breakwater/pkg/store"
)

func memory() *store.Memory { return store.NewMemory(store.Limits{MaxOps: 100, MaxBytes: 1 << 20}) }

// replica runs a registry until the test ends, or stop is called.
func replica(t *testing.T, kv store.KV, id, address string) (r *fleet.Registry, stop func()) {
	t.Helper()
	r = fleet.New(fleet.Config{KV: kv, Self: api.Replica{ID: id, Address: address}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Run(ctx) // it ends with the context
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	<-r.Joined()
	return r, stop
}

func ids(r *fleet.Registry) string {
	var list []string
	for _, one := range r.Others() {
		list = append(list, one.ID)
	}
	return strings.Join(list, " ")
}

// knows waits until r knows these others.
func knows(t *testing.T, r *fleet.Registry, want string) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		changed := r.Changed()
		if ids(r) == want {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("the others are %q, want %q", ids(r), want)
		}
	}
}

func entries(t *testing.T, kv store.KV) string {
	t.Helper()
	snap, err := kv.List(t.Context(), store.ReplicasPrefix)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range snap.Entries {
		list = append(list, strings.TrimPrefix(e.Key, store.ReplicasPrefix))
	}
	return strings.Join(list, " ")
}

// Who has joined knows all that had joined before; those learn of it at once.
func TestReplicasKnowEachOther(t *testing.T) {
	kv := memory()
	a, _ := replica(t, kv, "a", "127.0.0.1:1")
	b, stop := replica(t, kv, "b", "127.0.0.1:2")
	if got := ids(b); got != "a" {
		t.Errorf("as it joins, b knows %q, want a", got)
	}
	knows(t, a, "b")
	if got := a.Others()[0]; got.Address != "127.0.0.1:2" || a.Self().ID != "a" {
		t.Errorf("b is known as %+v", got)
	}
	stop()
	if got := entries(t, kv); got != "a" {
		t.Errorf("after the stop of b %q are registered, want a", got)
	}
}

// The entry is made again when its lease ran out while the store was away, when the store is an older one, and when somebody deleted it;
// while all is well it is left alone.
func TestEntryIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := memory()
		replica(t, kv, "a", "127.0.0.1:1")
		synctest.Wait()
		before := revision(t, kv)
		time.Sleep(time.Minute)
		if got := revision(t, kv); got != before {
			t.Errorf("in a quiet minute the store moved from %d to %d", before, got)
		}
		for _, tt := range []struct {
			name string
			harm func()
			soon time.Duration
		}{
			{"away", func() { kv.Fail(errors.New("no quorum")); time.Sleep(time.Minute); kv.Fail(nil) }, 10 * time.Second},
			{"deleted", func() { commit(t, kv, store.Op{Key: store.ReplicaKey("a"), Delete: true}) }, time.Second},
			{"restored", func() { kv.Restore(7, 1, nil) }, time.Second}, // far sooner than the lease is renewed
		} {
			tt.harm()
			time.Sleep(tt.soon)
			if got := entries(t, kv); got != "a" {
				t.Errorf("%s: %q are registered, want a", tt.name, got)
			}
		}
		before = revision(t, kv)
		time.Sleep(time.Minute)
		if got := revision(t, kv); got != before {
			t.Errorf("once it is made again the store moves from %d to %d", before, got)
		}
	})
}

// An entry that went by this replica's own doing, as the outcome of a write was lost or its lease ran out, is not mistaken for somebody's harm:
// whether the watch tells of it while the entry is made again or long after.
func TestOwnLossesAreMadeGoodOnce(t *testing.T) {
	for name, kv := range map[string]*deaf{
		"lost": {left: 2}, "lost, and told late": {left: 1, watch: 4 * time.Second}, "expired, and told meanwhile": {expired: true, grant: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kv.Memory = memory()
				replica(t, kv, "a", "127.0.0.1:1")
				time.Sleep(time.Minute)
				before := revision(t, kv)
				time.Sleep(time.Minute)
				if got := revision(t, kv); got != before || entries(t, kv) != "a" {
					t.Errorf("the store moves from %d to %d, with %q registered; want it to rest", before, got, entries(t, kv))
				}
			})
		})
	}
}

// deaf commits, and says for so many times that it has not. It takes its time.
type deaf struct {
	*store.Memory
	left         int
	expired      bool // a lease has run out by the first time that it is renewed
	grant, watch time.Duration
}

func (d *deaf) Commit(ctx context.Context, txn store.Txn) (int64, error) {
	revision, err := d.Memory.Commit(ctx, txn)
	if d.left > 0 {
		d.left--
		return 0, store.ErrUnavailable
	}
	return revision, err
}

func (d *deaf) Renew(ctx context.Context, id store.LeaseID) error {
	if d.expired {
		d.expired = false
		_ = d.Revoke(ctx, id)
	}
	return d.Memory.Renew(ctx, id)
}

func (d *deaf) Grant(ctx context.Context, ttl time.Duration) (store.LeaseID, error) {
	time.Sleep(d.grant)
	return d.Memory.Grant(ctx, ttl)
}

func (d *deaf) Watch(ctx context.Context, prefix string, after int64, f func(store.Batch) error) error {
	return d.Memory.Watch(ctx, prefix, after, func(b store.Batch) error {
		time.Sleep(d.watch)
		return f(b)
	})
}

func revision(t *testing.T, kv store.KV) int64 {
	t.Helper()
	snap, err := kv.List(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	return snap.Revision
}

func commit(t *testing.T, kv store.KV, ops ...store.Op) {
	t.Helper()
	if _, err := kv.Commit(t.Context(), store.Txn{Ops: ops}); err != nil {
		t.Fatal(err)
	}
}

// A replica whose entry is gone is asked until it does not answer; one that is registered stays, whatever it answers.
func TestWhoAnswersStays(t *testing.T) {
	kv := memory()
	a, _ := replica(t, kv, "a", "127.0.0.1:1")
	up := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query().Get("replica"); got != "b" || !up {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_ = json.NewEncoder(w).Encode(api.Version{Version: r.URL.Path})
	}))
	defer server.Close()
	value, err := json.Marshal(map[string]any{"schema": 1, "id": "b", "address": server.Listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() error {
		var v api.Version
		if err := a.Get(t.Context(), "b", api.VersionPath, &v); err != nil || v.Version == api.VersionPath {
			return err
		}
		t.Errorf("b answers %+v", v)
		return nil
	}
	commit(t, kv, store.Op{Key: store.ReplicaKey("b"), Value: value}, store.Op{Key: store.ReplicaKey("c"), Value: []byte("?")})
	knows(t, a, "b c")
	if err := ask(); err != nil {
		t.Error(err)
	}
	up = false
	if err := ask(); err == nil || errors.Is(err, api.ErrGone) || !slices.Contains(strings.Fields(ids(a)), "b") {
		t.Errorf("b fails, and is registered: %v", err)
	}
	if err := a.Get(t.Context(), "c", api.VersionPath, nil); err == nil || !strings.Contains(err.Error(), "can't be read") {
		t.Errorf("c has no address: %v", err)
	}
	up = true
	changed := a.Changed()
	commit(t, kv, store.Op{Key: store.ReplicaKey("b"), Delete: true}, store.Op{Key: store.ReplicaKey("c"), Delete: true})
	<-changed
	if err := ask(); err != nil {
		t.Errorf("b is not registered, and answers: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Get(ctx, "b", api.VersionPath, nil); err == nil || errors.Is(err, api.ErrGone) {
		t.Errorf("who asked has gone: %v", err)
	}
	up = false
	if err := ask(); !errors.Is(err, api.ErrGone) {
		t.Errorf("b is neither registered nor answers: %v", err)
	}
	if err := ask(); !errors.Is(err, api.ErrGone) || ids(a) != "c" {
		t.Errorf("the others are %q, want c alone: %v", ids(a), err)
	}
}
