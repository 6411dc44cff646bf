package reconcile

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/store"
)

var paymentsService = manifest.Key{Namespace: "shop", Name: "payments"}

// faulty is a store whose reads of the head are slow, or hang, and whose watches tell nothing for a while.
type faulty struct {
	*store.Memory
	slow  time.Duration // of Head; what it finds is as of its begin
	hangs atomic.Bool   // Head answers only when its context ends

	reads, running, most atomic.Int32 // of Head

	mu     sync.Mutex
	halted chan struct{} // nil: watches tell
}

// Head implements store.KV.
func (f *faulty) Head(ctx context.Context) (store.Head, error) {
	f.reads.Add(1)
	f.most.Store(max(f.most.Load(), f.running.Add(1)))
	defer f.running.Add(-1)
	if f.hangs.Load() {
		<-ctx.Done()
		return store.Head{}, store.ErrUnavailable
	}
	head, err := f.Memory.Head(ctx)
	time.Sleep(f.slow)
	return head, err
}

// Watch implements store.KV.
func (f *faulty) Watch(ctx context.Context, prefix string, after int64, fn func(store.Batch) error) error {
	err := f.Memory.Watch(ctx, prefix, after, func(b store.Batch) error {
		f.wait(ctx)
		return fn(b)
	})
	f.wait(ctx)
	return err
}

// wait returns once watches tell, or when ctx ends.
func (f *faulty) wait(ctx context.Context) {
	f.mu.Lock()
	halted := f.halted
	f.mu.Unlock()
	if halted == nil {
		return
	}
	select {
	case <-halted:
	case <-ctx.Done():
	}
}

// halt stops what watches tell, until the function that it returns is called.
func (f *faulty) halt() (resume func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	halted := make(chan struct{})
	f.halted = halted
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.halted = nil
		close(halted)
	}
}

// overFaulty runs f in a bubble with a loop over kv that has read the store, which has the service payments.
func overFaulty(t *testing.T, kv *faulty, f func(*running)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		kv.Memory = store.NewMemory(store.Limits{})
		var text strings.Builder
		log := hclog.New(&hclog.LoggerOptions{Output: &text, Mutex: &sync.Mutex{}})
		r := &running{New(kv, log, nil), t, kv.Memory, &text}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("Run ended with %v", err)
			}
		}()
		r.settled(r.putService("payments"))
		f(r)
	})
}

// confirmed is what Confirm says, and how long it took.
func (r *running) confirmed() (took time.Duration, err error) {
	begun := time.Now()
	err = r.Confirm(context.Background())
	return time.Since(begun), err
}

func TestAnswersWaitForWhatTheStoreHeldWhenTheyWereAskedFor(t *testing.T) {
	kv := &faulty{slow: 20 * time.Millisecond}
	overFaulty(t, kv, func(r *running) {
		for range 3 {
			rev := r.putTimeout("2s")
			if took, err := r.confirmed(); err != nil || took > 100*time.Millisecond {
				t.Fatalf("Confirm = %v after %v, want nil soon", err, took)
			}
			if got := r.World().Rev; got < rev {
				t.Errorf("confirmed at revision %d, the store was at %d", got, rev)
			}
		}
		// What is not configuration has a revision too, and nobody waits for the next progress because of it.
		r.put("/elsewhere", []byte("x"))
		if took, err := r.confirmed(); err != nil || took > 100*time.Millisecond {
			t.Errorf("Confirm after a write elsewhere = %v after %v, want nil soon", err, took)
		}
	})
}

func TestOneReadAtATimeAndOneQueued(t *testing.T) {
	kv := &faulty{slow: time.Second}
	overFaulty(t, kv, func(r *running) {
		var all sync.WaitGroup
		for i := range 500 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				if err := r.Confirm(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if reads, most := kv.reads.Load(), kv.most.Load(); reads != 2 || most != 1 {
			t.Errorf("500 questions made %d reads, %d at a time; want the one that the first asked for and the one of all others", reads, most)
		}
	})
}

func TestAReadThatIsUnderWaySaysNothingToWhoAsksLater(t *testing.T) {
	kv := &faulty{slow: 500 * time.Millisecond}
	overFaulty(t, kv, func(r *running) {
		if _, err := r.confirmed(); err != nil { // both watches have come so far
			t.Fatal(err)
		}
		defer kv.halt()()
		early, late := make(chan error, 1), make(chan error, 1)
		go func() { early <- r.Confirm(context.Background()) }()
		time.Sleep(100 * time.Millisecond)
		r.putTimeout("2s") // another replica has it, and its client comes here
		go func() { late <- r.Confirm(context.Background()) }()
		if err := <-early; err != nil {
			t.Errorf("the early question: %v, want nil: the world held what there was", err)
		}
		if err := <-late; err == nil || !strings.Contains(err.Error(), "not reached") {
			t.Errorf("the late question: %v, want that this replica lags behind", err)
		}
	})
}

func TestALaggingReplicaRefusesAndCatchesUp(t *testing.T) {
	kv := &faulty{}
	overFaulty(t, kv, func(r *running) {
		resume := kv.halt()
		rev := r.putTimeout("2s")
		for range 20 { // the store answers, so that no time makes old state good enough
			if took, err := r.confirmed(); err == nil || took > confirmWait {
				t.Fatalf("Confirm = %v after %v, want an error after at most %v", err, took, confirmWait)
			}
		}
		resume()
		if _, err := r.confirmed(); err != nil || r.World().Rev < rev {
			t.Errorf("after the watch went on: %v at revision %d, want nil at %d", err, r.World().Rev, rev)
		}
	})
}

func TestAStoreThatIsDownIsServedFromStale(t *testing.T) {
	for name, fail := range map[string]func(*faulty){
		"refuses": func(kv *faulty) { kv.Fail(errors.New("no quorum")) },
		"hangs":   func(kv *faulty) { kv.hangs.Store(true) }, // while its watches go on
	} {
		t.Run(name, func(t *testing.T) {
			kv := &faulty{}
			overFaulty(t, kv, func(r *running) {
				time.Sleep(time.Hour) // nobody has asked for long: that is no reason to count as down
				fail(kv)
				begun := time.Now()
				for {
					took, err := r.confirmed()
					since := time.Since(begun)
					if took > confirmWait {
						t.Fatalf("Confirm took %v", took)
					}
					if err == nil && since < confirmDown-time.Second || err != nil && since > confirmDown+2*confirmWait {
						t.Fatalf("Confirm = %v %v after the store went down", err, since)
					}
					if err == nil {
						break
					}
					time.Sleep(100 * time.Millisecond)
				}
				if s := r.Stale(); s == nil || s.Since.Before(begun.Add(-2*time.Second)) || s.Since.After(begun.Add(confirmWait)) {
					t.Errorf("served from what was read at %+v, want about %v", s, begun)
				}
				kv.Fail(nil)
				kv.hangs.Store(false)
				time.Sleep(10 * time.Second)
				if s := r.Stale(); s != nil {
					t.Errorf("the store is back, and stale is %+v", s)
				}
				defer kv.halt()()
				r.putTimeout("2s")
				if _, err := r.confirmed(); err == nil {
					t.Error("once the store is back, old state is given as if it were down")
				}
			})
		})
	}
}

// A store that went away while nobody asked is known to be down at the first question.
func TestAStoreThatIsLongGoneIsKnownToBeDown(t *testing.T) {
	kv := &faulty{}
	overFaulty(t, kv, func(r *running) {
		kv.Fail(errors.New("gone"))
		time.Sleep(time.Minute)
		if took, err := r.confirmed(); err != nil || took > confirmWait {
			t.Errorf("Confirm = %v after %v, want nil", err, took)
		}
	})
}

// One read that fails by chance says nothing, however long a watch has been silent: the one before succeeded.
func TestASilentWatchAndOneLostReadAreNoStoreThatIsDown(t *testing.T) {
	kv := &faulty{}
	overFaulty(t, kv, func(r *running) {
		if _, err := r.confirmed(); err != nil { // both watches have come so far
			t.Fatal(err)
		}
		defer kv.halt()()
		silent := time.Now()
		time.Sleep(time.Minute)
		r.sink().Stale(silent, errors.New("the watch is silent"))
		if _, err := r.confirmed(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		kv.hangs.Store(true)
		if _, err := r.confirmed(); err == nil {
			t.Error("served from old state a second after the store has answered")
		}
	})
}

func (r *running) sink() sink { return sink{context.Background(), r.Loop, r.Loop.config} }

func TestAReadBehindTheWorldWaitsForTheReset(t *testing.T) {
	for name, cluster := range map[string]uint64{"went back": 1, "another cluster": 2} {
		t.Run(name, func(t *testing.T) {
			kv := &faulty{}
			overFaulty(t, kv, func(r *running) {
				snap, err := kv.List(context.Background(), store.ConfigPrefix)
				if err != nil {
					t.Fatal(err)
				}
				r.settled(r.putTimeout("2s"))
				resume := kv.halt()
				kv.Restore(cluster, snap.Revision, snap.Entries)
				for range 3 {
					if took, err := r.confirmed(); err == nil || took > confirmWait {
						t.Fatalf("Confirm = %v after %v though the world holds what is no more; want an error after at most %v", err, took, confirmWait)
					}
				}
				resume()
				ended := time.Now()
				for _, err := r.confirmed(); err != nil; _, err = r.confirmed() {
					if time.Since(ended) > time.Minute {
						t.Fatal(err)
					}
				}
				if _, ok := r.World().Policy(manifest.Key{Namespace: "shop", Name: "bound"}); ok {
					t.Error("confirmed, though the world holds a policy that the restored store does not have")
				}
				if _, ok := r.World().Service(paymentsService); !ok {
					t.Error("the restored service is gone")
				}
			})
		})
	}
}

func TestNothingIsConfirmedBeforeTheFirstWorld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := store.NewMemory(store.Limits{})
		kv.Fail(errors.New("no quorum"))
		l := New(kv, hclog.NewNullLogger(), nil)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		begun := time.Now()
		if err := l.Confirm(context.Background()); err == nil || time.Since(begun) > confirmWait {
			t.Errorf("Confirm before the store was read = %v after %v", err, time.Since(begun))
		}
		cancel()
		<-done
	})
}

func TestConfirmEndsWithItsContext(t *testing.T) {
	kv := &faulty{}
	overFaulty(t, kv, func(r *running) {
		kv.hangs.Store(true)
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		if err := r.Confirm(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Confirm = %v, want its context's error", err)
		}
	})
}
