package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/internal/testkit/etcdcluster"
	"github.com/breakwater-mesh/breakwater/internal/testkit/wire"
)

// services are those of the world, by name.
func (r *replica) services() (names []string) {
	for _, s := range r.loop.World().Services() {
		names = append(names, s.Metadata.Name)
	}
	slices.Sort(names)
	return names
}

// TestRestoreThatWasOvertaken: etcd is restored from an older snapshot, as the same cluster, and written to, past the revision that a control
// plane has seen, before that one hears of it. It must come to what the store has, over no world that never was.
func TestRestoreThatWasOvertaken(t *testing.T) {
	t.Parallel()
	cluster := etcdcluster.Start(t, 1)
	link, err := wire.Start(strings.TrimPrefix(cluster.Endpoints()[0], "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Close)
	writer := newReplica(t, cluster.Endpoints(), time.Second, time.Minute)
	away := newReplica(t, []string{"http://" + link.Address}, time.Second, time.Minute)
	writer.putService("kept")
	file := cluster.Snapshot(0)
	seen := writer.putService("lost")
	away.wait(seen)
	worlds, stop := away.record(t)

	link.Hold()
	cluster.Restore(file, cluster.Token(), 0)
	writer.putUntil("other", seen+5)
	last := writer.putUntil("last", seen+6)
	link.Cut()
	link.Release()
	away.wait(last)
	stop()
	if got, want := fmt.Sprint(*worlds), "[[kept lost] [kept last other]]"; got != want {
		t.Errorf("the worlds were %s, want %s", got, want)
	}
	if got := away.served(); got < last {
		t.Errorf("a new stream was answered with revision %d, want at least %d", got, last)
	}
	if w := away.loop.World(); w.Recalls(seen) {
		t.Errorf("revision %d of the lost history is said to be remembered", seen)
	}
	away.logging.Lock()
	defer away.logging.Unlock()
	if got := strings.Count(away.log.String(), "the store has another history"); got != 1 {
		t.Errorf("the log says %d times that the store has another history, want once:\n%s", got, &away.log)
	}
}

// putUntil writes a service again and again until the store has come to a revision.
func (r *replica) putUntil(name string, revision int64) int64 {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		got, err := r.tryPutService(name)
		if err == nil && got >= revision {
			return got
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("revision %d, %v; want %d", got, err, revision)
		}
	}
}

// record notes what services the world has, each time that changes, until stop is called.
func (r *replica) record(t *testing.T) (worlds *[][]string, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	worlds = &[][]string{r.services()}
	done := make(chan struct{})
	note := func() {
		if now := r.services(); !slices.Equal(now, (*worlds)[len(*worlds)-1]) {
			*worlds = append(*worlds, now)
		}
	}
	go func() {
		defer close(done)
		for {
			advanced := r.loop.Advanced()
			note()
			select {
			case <-ctx.Done():
				note()
				return
			case <-advanced:
			}
		}
	}()
	return worlds, func() { cancel(); <-done }
}
