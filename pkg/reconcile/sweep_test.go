package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

const lease = time.Minute

var paymentsKey = manifest.Key{Namespace: "shop", Name: "payments"}

// register puts a leased endpoint of shop/payments and its sign of life, as the API does, and returns the lease.
func (r *running) register(i int) store.LeaseID {
	r.t.Helper()
	id := fmt.Sprintf("e%d", i)
	granted, err := r.kv.Grant(context.Background(), lease)
	if err != nil {
		r.t.Fatal(err)
	}
	port := uint32(80)
	value, err := world.EncodeEndpoint(&catalog.Endpoint{Lease: lease, Spec: catalog.EndpointSpec{Address: fmt.Sprintf("10.0.0.%d", i+1), Port: &port}})
	if err != nil {
		r.t.Fatal(err)
	}
	life, err := world.EncodeLife()
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.kv.Commit(context.Background(), store.Txn{Ops: []store.Op{
		{Key: store.EndpointKey("shop", "payments", id), Value: value}, {Key: store.LiveKey("shop", "payments", id), Value: life, Lease: granted},
	}}); err != nil {
		r.t.Fatal(err)
	}
	return granted
}

// agents renews leases until its end; those that are taken out fall silent.
type agents map[store.LeaseID]bool

func (r *running) renew(a agents, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(lease / 3) {
		for id := range a {
			_ = r.kv.Renew(context.Background(), id) // the test breaks the store at times
		}
	}
}

// standing is how the endpoints of shop/payments stand, one letter each.
func (r *running) standing() string {
	w := r.World()
	var text []byte
	for _, e := range w.Endpoints(paymentsKey) {
		absence, _ := w.Absence(e)
		text = append(text, absence[0])
	}
	return string(text)
}

func (r *running) want(standing, when string) {
	r.t.Helper()
	if got := r.standing(); got != standing {
		r.t.Errorf("%s: %s, want %s", when, got, standing)
	}
}

// payments is a service with n leased endpoints, in a loop that has had its store for long.
func (r *running) payments(n int) []store.LeaseID {
	r.putService("payments")
	var leases []store.LeaseID
	a := agents{}
	for i := range n {
		leases = append(leases, r.register(i))
		a[leases[i]] = true
	}
	r.renew(a, 3*lease)
	return leases
}

func heardOf(leases ...store.LeaseID) agents {
	a := agents{}
	for _, id := range leases {
		a[id] = true
	}
	return a
}

func TestASilentAgentLosesItsEndpoint(t *testing.T) {
	inBubble(t, func(r *running) {
		leases := r.payments(4)
		r.want("llll", "all are heard")
		rev := r.World().Rev
		r.renew(heardOf(leases[1:]...), lease/3)
		r.want("llll", "the lease has not run out")
		r.renew(heardOf(leases[1:]...), lease)
		r.want("slll", "its lease ran out")
		if w := r.World(); len(w.Serving(paymentsKey)) != 3 {
			t.Errorf("%d endpoints are served, want 3", len(w.Serving(paymentsKey)))
		}
		snap, err := r.kv.List(context.Background(), store.ConfigPrefix)
		if err != nil {
			t.Fatal(err)
		}
		if last := slices.MaxFunc(snap.Entries, func(a, b store.Entry) int { return int(a.Revision - b.Revision) }); last.Revision > rev {
			t.Errorf("%s was written by renewals or silence", last.Key)
		}
		r.register(0)
		time.Sleep(time.Second)
		r.want("llll", "it registered anew")
	})
}

func TestManySilentAgentsAtOnceLoseNothing(t *testing.T) {
	inBubble(t, func(r *running) {
		leases := r.payments(4)
		r.renew(heardOf(leases[3]), 3*lease)
		r.want("pppl", "three of four fell silent")
		if n := len(r.World().Serving(paymentsKey)); n != 4 {
			t.Errorf("%d endpoints are served, want all 4", n)
		}
	})
}

func TestAReplicaThatIsNewToItsStoreSaysNothing(t *testing.T) {
	inBubble(t, func(r *running) {
		leases := r.payments(4)
		r.kv.Fail(errors.New("gone"))
		time.Sleep(5 * lease)
		r.want("llll", "without a store")
		r.kv.Fail(nil)
		back := time.Now()
		r.renew(heardOf(leases[1:]...), 2*lease-lease/3)
		if got := r.standing(); got != "uuuu" && got != "ulll" {
			// The store in memory lets leases run out while it fails; etcd does not.
			t.Errorf("%v after the store's return: %s, want none stale", time.Since(back), got)
		}
		a := agents{}
		for i := 1; i < 4; i++ {
			a[r.register(i)] = true
		}
		r.renew(a, lease)
		r.want("slll", "two leases after the store's return")
	})
}

func TestABrokenConnectionIsNoSilence(t *testing.T) {
	inBubble(t, func(r *running) {
		leases := r.payments(4)
		for range 6 { // as something between may break each, again and again
			r.renew(heardOf(leases[1:]...), lease/3)
			r.kv.Fail(errors.New("broken"))
			time.Sleep(100 * time.Millisecond)
			r.kv.Fail(nil)
		}
		time.Sleep(5 * time.Second)
		r.want("slll", "its lease ran out, over connections that broke")
	})
}

func TestAMarkOfAnotherReplicaCounts(t *testing.T) {
	inBubble(t, func(r *running) {
		r.putService("payments")
		for i := range 4 {
			r.register(i)
		}
		r.mark(0, "e2")
		time.Sleep(time.Second)
		r.want("llsl", "another replica has marked one")
	})
}

// mark says of endpoints that they have been silent for a while.
func (r *running) mark(since time.Duration, ids ...string) {
	r.t.Helper()
	for _, id := range ids {
		value, err := world.EncodeMark(world.Mark{Since: time.Now().Add(-since), Of: 4, Fleet: 4})
		if err != nil {
			r.t.Fatal(err)
		}
		r.put(store.LiveKey("shop", "payments", id), value)
	}
}

func TestAnEndpointIsForgottenAfterADay(t *testing.T) {
	inBubble(t, func(r *running) {
		leases := r.payments(4)
		heard := heardOf(leases[1:]...)
		r.mark(Forgotten-2*time.Minute, "e0")
		r.renew(heard, time.Minute)
		r.want("slll", "for almost a day")
		r.renew(heard, 2*time.Minute)
		r.want("lll", "after a day")
		snap, err := r.kv.List(context.Background(), store.LivePrefix)
		if err != nil || len(snap.Entries) != 3 {
			t.Errorf("%d live keys, %v; want 3", len(snap.Entries), err)
		}
	})
}

func TestTheLastAreNotForgotten(t *testing.T) {
	inBubble(t, func(r *running) {
		r.payments(2)
		r.mark(3*Forgotten, "e0", "e1")
		time.Sleep(time.Minute)
		r.want("pp", "all silent for days")
		heard := agents{r.register(7): true}
		r.renew(heard, time.Minute)
		r.want("l", "another came")
	})
}

func TestMarksWithoutAnEndpointAreSweptAway(t *testing.T) {
	inBubble(t, func(r *running) {
		leases := r.payments(4)
		r.renew(heardOf(leases[1:]...), 2*lease)
		r.want("slll", "one is silent")
		r.put(store.EndpointKey("shop", "payments", "e0"), nil)
		time.Sleep(3 * time.Second)
		if e, err := r.kv.Get(context.Background(), store.LiveKey("shop", "payments", "e0")); err != nil || e.Revision != 0 {
			t.Errorf("the mark is still there: %+v, %v", e, err)
		}
	})
}

// TestTheFirstWorldKnowsWhoLeft: a replica that starts must not serve for a moment what the others have taken out.
func TestTheFirstWorldKnowsWhoLeft(t *testing.T) {
	inBubble(t, func(r *running) {
		leases := r.payments(4)
		r.renew(heardOf(leases[1:]...), 2*lease)
		kv := &slowLive{KV: r.kv}
		second := New(kv, r.Loop.log, nil)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- second.Run(ctx) }()
		if err := second.Wait(ctx, 0); err != nil {
			t.Fatal(err)
		}
		if n := len(second.World().Serving(paymentsKey)); n != 3 {
			t.Errorf("its first world serves %d endpoints, want 3", n)
		}
		cancel()
		<-done
	})
}

// slowLive lists the live keys late.
type slowLive struct{ store.KV }

// List implements store.KV.
func (s *slowLive) List(ctx context.Context, prefix string) (store.Snapshot, error) {
	if prefix == store.LivePrefix {
		time.Sleep(5 * time.Second)
	}
	return s.KV.List(ctx, prefix)
}
