package apiserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/internal/testkit/etcdcluster"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/reconcile"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/store/etcd"
)

// replica is what of a control plane removes policies, over a client of etcd of its own.
type replica struct {
	kv   *etcd.Store
	loop *reconcile.Loop
	now  func() time.Time
}

// newReplica is one whose clock is off by skew.
func newReplica(t *testing.T, cluster *etcdcluster.Cluster, skew time.Duration) *replica {
	t.Helper()
	kv, err := etcd.Open(t.Context(), etcd.Options{Endpoints: cluster.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	r := &replica{kv, reconcile.New(kv, hclog.NewNullLogger(), nil), func() time.Time { return time.Now().Add(skew) }}
	run(t, r.loop.Run)
	return r
}

func (r *replica) config() apiserver.Config {
	return apiserver.Config{KV: r.kv, Worlds: r.loop, Now: r.now}
}

// expire runs the replica's expiry until the test, or the function that is answered, ends it.
func (r *replica) expire(t *testing.T) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	run(t, func(context.Context) error { return apiserver.NewExpiry(r.config()).Run(ctx) })
	return cancel
}

// await waits until as many policies are left in etcd as wanted.
func (r *replica) await(t *testing.T, want int) {
	t.Helper()
	prefix := store.PolicyKey("shop", "")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		snap, err := r.kv.List(t.Context(), prefix)
		if err == nil && len(snap.Entries) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d policies are left, %v; want %d", len(snap.Entries), err, want)
		}
	}
}

// TestExpiryOnEtcd: control planes race on one etcd.
func TestExpiryOnEtcd(t *testing.T) {
	cluster := etcdcluster.Start(t, 1)
	a, b, ahead := newReplica(t, cluster, 0), newReplica(t, cluster, 0), newReplica(t, cluster, 6*time.Hour)
	f := &fixture{t: t, handler: apiserver.New(a.config())}
	if err := a.loop.Wait(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	f.apply(service("payments", ""))

	t.Run("one of two wins each", func(t *testing.T) {
		const many = 20
		text := ""
		for i := range many {
			text += doc("shop", fmt.Sprintf("race%d", i), fmt.Sprintf("to: {service: payments}, precedence: %d, timeout: {request: 3s}, expiresAt: '%s'", i, time.Now().Add(2*time.Second).Format(time.RFC3339Nano)))
		}
		f.apply(text)
		for _, r := range []*replica{a, b} {
			defer r.expire(t)()
		}
		a.await(t, 0)
		snap, err := a.kv.List(t.Context(), strings.TrimSuffix(store.HistoryPrefix(store.Policies, "shop", "race"), "race/"))
		if err != nil || len(snap.Entries) != 2*many {
			t.Fatalf("%d records in the history of %d policies, %v; want one for the write and one for the removal each", len(snap.Entries), many, err)
		}
	})
	t.Run("a clock that is ahead", func(t *testing.T) {
		f.apply(until("early", 3*time.Hour) + until("later", 24*time.Hour))
		defer ahead.expire(t)()
		defer a.expire(t)()
		a.await(t, 1)
		e, err := a.kv.Get(t.Context(), store.HistoryKey(store.Policies, "shop", "early", 2))
		var got tombstone
		if err != nil || json.Unmarshal(e.Value, &got) != nil || time.Until(got.At) < 5*time.Hour {
			t.Errorf("tombstone %s, %v; want the time of who removed it, by its own clock", e.Value, err)
		}
		f.do("DELETE", policies+"/later", "")
	})
	t.Run("none was there at the time", func(t *testing.T) {
		f.apply(until("over", 2*time.Second))
		a.await(t, 1)
		time.Sleep(2100 * time.Millisecond)
		a.await(t, 1)
		defer newReplica(t, cluster, 0).expire(t)()
		a.await(t, 0)
	})
}
