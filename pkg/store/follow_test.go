package store_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/store/storetest"
)

// bubble runs test with a Memory and a follower of "/" in a bubble.
func bubble(t *testing.T, test func(t *testing.T, m *store.Memory, mirror *storetest.Mirror)) {
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory(store.Limits{})
		put(t, m, "/first", "x")
		mirror, stop := storetest.Follow(t, m, "/")
		defer stop()
		synctest.Wait()
		test(t, m, mirror)
	})
}

func put(t *testing.T, m *store.Memory, key, value string) int64 {
	t.Helper()
	return write(t, m, []store.Op{set(key, value)})
}

func list(t *testing.T, m *store.Memory) store.Snapshot {
	t.Helper()
	snap, err := m.List(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

func TestFollowTellsSinceWhenItIsStale(t *testing.T) {
	bubble(t, func(t *testing.T, m *store.Memory, mirror *storetest.Mirror) {
		heard := time.Now()
		time.Sleep(500 * time.Millisecond) // before the first progress
		broken := errors.New("broken by the test")
		m.Fail(broken)
		since, err := mirror.WaitStale(t)
		if !since.Equal(heard) || !errors.Is(err, broken) {
			t.Errorf("stale since %v, %v; want %v, %v", since, err, heard, broken)
		}
		time.Sleep(time.Minute)
		if since, _ := mirror.WaitStale(t); !since.Equal(heard) {
			t.Errorf("a minute later stale since %v, want still %v", since, heard)
		}
		m.Fail(nil)
		back := time.Now()
		mirror.WaitRevision(t, put(t, m, "/second", "x"))
		if took := time.Since(back); took > 3*time.Second {
			t.Errorf("took %v to hear of the store's return", took)
		}
		mirror.Check(t, list(t, m))
	})
}

func TestFollowOfAStoreThatIsNotThereYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory(store.Limits{})
		m.Fail(errors.New("not yet"))
		mirror, stop := storetest.Follow(t, m, "/")
		defer stop()
		if since, _ := mirror.WaitStale(t); !since.IsZero() {
			t.Errorf("stale since %v though nothing was ever heard", since)
		}
		m.Fail(nil)
		mirror.WaitRevision(t, 1)
		if first := mirror.Deliveries()[0]; !first.Snapshot || len(first.Events) != 0 {
			t.Errorf("first delivery of an empty store: got %+v, want a snapshot of nothing", first)
		}
	})
}

// counting counts the attempts to list and watch.
type counting struct {
	store.KV
	attempts int
}

// List implements store.KV.
func (c *counting) List(ctx context.Context, prefix string) (store.Snapshot, error) {
	c.attempts++
	return c.KV.List(ctx, prefix)
}

func TestFollowBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory(store.Limits{})
		m.Fail(errors.New("for good"))
		kv := &counting{KV: m}
		_, stop := storetest.Follow(t, kv, "/")
		time.Sleep(time.Minute)
		stop()
		// 2 s at most, 1 s at least between two of them, after a few quick ones.
		if kv.attempts < 30 || kv.attempts > 70 {
			t.Errorf("%d attempts in a minute, want 30 to 70", kv.attempts)
		}
	})
}

func TestFollowOverARestore(t *testing.T) {
	for _, test := range []struct {
		name     string
		cluster  uint64
		revision int64
		reset    bool
	}{
		{"went back", 1, 2, true},
		{"another cluster behind", 2, 2, true},
		{"another cluster at the same revision", 2, 12, true},
		{"another cluster ahead", 2, 100, true},
		{"the same cluster ahead", 1, 100, true},
		{"compacted, nothing lost", 1, 100, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *store.Memory, mirror *storetest.Mirror) {
				for range 9 {
					put(t, m, "/changing", "x")
				}
				same := put(t, m, "/same", "before") // revision 12
				mirror.WaitRevision(t, same)
				before := len(mirror.Deliveries())
				// The same key at the same revision, yet with another value unless it is the same store.
				value, other := "before", int64(50)
				if test.reset {
					value, other = "another", 2
				}
				m.Restore(test.cluster, test.revision, []store.Entry{
					{Key: "/same", Value: []byte(value), Revision: same},
					{Key: "/other", Value: []byte("x"), Revision: other},
				})
				mirror.WaitRevision(t, put(t, m, "/after", "x"))
				time.Sleep(5 * time.Second)
				mirror.Check(t, list(t, m))
				resets := 0
				for _, d := range mirror.Deliveries()[before:] {
					if d.Reset {
						resets++
						t.Log(d.Why)
					}
					if d.Reset != (d.Why != nil) {
						t.Errorf("reset %v, why: %v", d.Reset, d.Why)
					}
					if d.Snapshot {
						t.Error("a second snapshot")
					}
				}
				if want := map[bool]int{true: 1}[test.reset]; resets != want {
					t.Errorf("%d resets, want %d", resets, want)
				}
			})
		})
	}
}

// While the follower is away the store is restored from an older state, as the same cluster, and comes past the revision that the follower has seen.
func TestFollowOverARestoreThatWasOvertaken(t *testing.T) {
	for _, test := range []struct {
		name  string
		lost  []store.Op // after the older state was saved
		other []store.Op // in their place
		reset bool
	}{
		{"other keys", []store.Op{set("/lost", "x")}, []store.Op{set("/other", "x")}, true},
		{"another value at the same revision", []store.Op{set("/kept", "lost")}, []store.Op{set("/kept", "other")}, true},
		{"nothing below the prefix, a key is lost", []store.Op{set("/lost", "x")}, []store.Op{set("elsewhere", "x")}, true},
		{"nothing below the prefix, a key is there again", []store.Op{{Key: "/kept", Delete: true}}, []store.Op{set("elsewhere", "x")}, true},
		{"a key is gone", []store.Op{set("elsewhere", "x")}, []store.Op{{Key: "/kept", Delete: true}}, true},
		{"the same", []store.Op{set("/again", "x")}, []store.Op{set("/again", "x")}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *store.Memory, mirror *storetest.Mirror) {
				put(t, m, "/kept", "x")
				old := list(t, m)
				mirror.WaitRevision(t, write(t, m, test.lost))
				m.Fail(errors.New("away"))
				mirror.WaitStale(t)
				before := len(mirror.Deliveries())
				m.Restore(old.Cluster, old.Revision, old.Entries)
				m.Fail(nil) // nobody asks before time goes on
				write(t, m, test.other)
				put(t, m, "/more", "x")
				mirror.WaitRevision(t, put(t, m, "/more", "y"))
				mirror.Check(t, list(t, m))
				var resets []error
				for _, d := range mirror.Deliveries()[before:] {
					if d.Reset {
						resets = append(resets, d.Why)
					}
				}
				if got := len(resets) == 1; got != test.reset || len(resets) > 1 {
					t.Errorf("resets %v, want one: %v", resets, test.reset)
				}
			})
		})
	}
}

func set(key, value string) store.Op { return store.Op{Key: key, Value: []byte(value)} }

func write(t *testing.T, m *store.Memory, ops []store.Op) int64 {
	t.Helper()
	revision, err := m.Commit(t.Context(), store.Txn{Ops: ops})
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

// halting lists nothing at all beside its error.
type halting struct {
	store.KV
	err atomic.Pointer[error]
}

// List implements store.KV.
func (h *halting) List(ctx context.Context, prefix string) (store.Snapshot, error) {
	if err := h.err.Load(); err != nil {
		return store.Snapshot{Cluster: 1, Revision: 1000}, *err
	}
	return h.KV.List(ctx, prefix)
}

// A store that has compacted away what the follower needs, and then can't be listed, is not an empty store.
func TestFollowTakesAFailedListForNoList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory(store.Limits{})
		put(t, m, "/kept", "x")
		kv := &halting{KV: m}
		mirror, stop := storetest.Follow(t, kv, "/")
		defer stop()
		synctest.Wait()
		before := len(mirror.Deliveries())
		kv.err.Store(new(errors.New("no quorum")))
		m.Fail(store.ErrCompacted) // of the watch
		mirror.WaitStale(t)
		time.Sleep(time.Minute)
		for _, d := range mirror.Deliveries()[before:] {
			if len(d.Events) > 0 {
				t.Errorf("a failed list delivers %+v", d)
			}
		}
		m.Fail(nil)
		kv.err.Store(nil)
		mirror.WaitRevision(t, put(t, m, "/after", "x"))
		mirror.Check(t, list(t, m))
	})
}

// refusing is a sink that fails.
type refusing struct{ err error }

// Deliver implements store.Sink.
func (r refusing) Deliver(store.Delivery) error { return r.err }

// Stale implements store.Sink.
func (r refusing) Stale(time.Time, error) {}

func TestFollowEndsWithItsSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrong := errors.New("no")
		if err := store.Follow(t.Context(), store.NewMemory(store.Limits{}), "/", refusing{wrong}); err != wrong {
			t.Errorf("Follow returns %v, want the sink's %v", err, wrong)
		}
	})
}
