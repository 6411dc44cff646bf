package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

var ordersClass = world.ClassKey{Namespace: "shop", Service: "orders", Dialect: "envoy", Profile: "sidecar", Tier: "1.40", Outbound: "127.0.0.1:15001", Runtime: true}

// running is a loop over a store in memory, inside a synctest bubble.
type running struct {
	*Loop
	t   *testing.T
	kv  *store.Memory
	log *strings.Builder
}

// inBubble runs f with a loop that ends with it.
func inBubble(t *testing.T, f func(*running)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		kv := store.NewMemory(store.Limits{})
		var text strings.Builder
		log := hclog.New(&hclog.LoggerOptions{Output: &text})
		r := &running{New(kv, log, nil), t, kv, &text}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		f(r)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func (r *running) put(key string, value []byte) int64 {
	r.t.Helper()
	rev, err := r.kv.Commit(context.Background(), store.Txn{Ops: []store.Op{{Key: key, Value: value, Delete: value == nil}}})
	if err != nil {
		r.t.Fatal(err)
	}
	return rev
}

// settled is the world once everything written so far has come through.
func (r *running) settled(rev int64) *world.World {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.Wait(ctx, rev); err != nil {
		r.t.Fatal(err)
	}
	return r.World()
}

func encoded[S any](t *testing.T, kind, name string, spec S) []byte {
	t.Helper()
	return generation(t, 1, kind, name, spec)
}

func generation[S any](t *testing.T, number int64, kind, name string, spec S) []byte {
	t.Helper()
	value, err := manifest.Encode(&manifest.Object[S]{APIVersion: manifest.APIVersion, Kind: kind, Metadata: manifest.Meta{Namespace: "shop", Name: name, Generation: number}, Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func (r *running) putService(name string) int64 {
	host, err := world.EncodeHost(manifest.Key{Namespace: "shop", Name: name})
	if err != nil {
		r.t.Fatal(err)
	}
	r.put(store.HostKey(name+".shop"), host)
	return r.put(store.ServiceKey("shop", name), service(r.t, name))
}

func service(t *testing.T, name string) []byte {
	return encoded(t, catalog.Kind, name, catalog.ServiceSpec{Protocol: catalog.HTTP})
}

func (r *running) putTimeout(request string) int64 {
	d := manifest.Duration(request)
	return r.put(store.PolicyKey("shop", "bound"), encoded(r.t, policy.Kind, "bound", policy.Spec{
		To: policy.Target{Service: "payments"}, Sections: policy.Sections{Timeout: &policy.Timeout{Request: &d}},
	}))
}

// bell is a subscriber that is waited for.
type bell chan struct{}

func (b bell) Wake() {
	select {
	case b <- struct{}{}:
	default:
	}
}

func TestAWriteReachesEveryClass(t *testing.T) {
	inBubble(t, func(r *running) {
		r.putService("orders")
		r.settled(r.putService("payments"))
		class, err := r.Join(context.Background(), ordersClass)
		if err != nil {
			t.Fatal(err)
		}
		wake := make(bell, 1)
		defer class.Subscribe(wake)()
		before := class.Head()
		w := r.settled(r.putTimeout("2s"))
		if p, ok := w.Policy(manifest.Key{Namespace: "shop", Name: "bound"}); !ok || p.Policy.Metadata.Revision != w.Rev {
			t.Errorf("policy in the world: %v at %v, want it at revision %d", ok, p, w.Rev)
		}
		<-wake
		var changed []string
		for typ := range view.NumTypes {
			view.Diff(before.Views[typ], class.Head().Views[typ], func(_, now *view.Resource) { changed = append(changed, typ.String()+" "+now.Name) })
		}
		if want := []string{"RDS shop/payments"}; !slices.Equal(changed, want) {
			t.Errorf("the write changed %q, want %q", changed, want)
		}
		shaped, err := r.Shaped(context.Background(), policy.Kind, manifest.Key{Namespace: "shop", Name: "bound"})
		if err != nil || len(shaped) != 1 || shaped[class] == nil {
			t.Errorf("the policy shapes %v, %v; want the one class", shaped, err)
		}
	})
}

func TestAValueThatCannotBeReadLeavesWhatItReplaces(t *testing.T) {
	inBubble(t, func(r *running) {
		r.settled(r.putService("payments"))
		good := r.putTimeout("2s")
		r.settled(good)
		r.put(store.PolicyKey("shop", "bound"), []byte(`{"schema":1,"spec":`))
		w := r.settled(r.put(store.ConfigPrefix+"dreams/shop/x", []byte("{}")))
		if p, ok := w.Policy(manifest.Key{Namespace: "shop", Name: "bound"}); !ok || p.Policy.Metadata.Revision != good {
			t.Errorf("after a broken value the policy is %v, %v; want the one of revision %d", p, ok, good)
		}
		if !strings.Contains(r.log.String(), "stored value can't be read") {
			t.Errorf("the log says %q", r.log)
		}
		w = r.settled(r.put(store.PolicyKey("shop", "bound"), nil))
		if _, ok := w.Policy(manifest.Key{Namespace: "shop", Name: "bound"}); ok {
			t.Error("the deleted policy is still in the world")
		}
	})
}

func TestTrap30_JoinWaitsForTheFirstWorld(t *testing.T) {
	inBubble(t, func(r *running) {
		r.kv.Fail(errors.New("no quorum"))
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		joined := make(chan error, 1)
		go func() { _, err := r.Join(ctx, ordersClass); joined <- err }()
		time.Sleep(10 * time.Second)
		select {
		case err := <-joined:
			if err == nil {
				t.Fatal("joined a world that was never read")
			}
		default:
		}
		if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "no quorum") {
			t.Errorf("Ready = %v, want the store's error", err)
		}
		if r.Stale() == nil {
			t.Error("a store that can't be heard is not stale")
		}
		r.kv.Fail(nil)
		if err := <-joined; err != nil {
			t.Errorf("Join after the store came back: %v", err)
		}
		if r.Stale() != nil || r.Ready() != nil {
			t.Errorf("after the store came back: stale %v, ready %v", r.Stale(), r.Ready())
		}
	})
}

func TestAStaleStoreKeepsTheWorld(t *testing.T) {
	inBubble(t, func(r *running) {
		w := r.settled(r.putService("payments"))
		r.kv.Fail(errors.New("gone"))
		time.Sleep(time.Minute)
		if s := r.Stale(); s == nil || s.Since.IsZero() {
			t.Errorf("stale = %+v, want since when", s)
		}
		if _, ok := r.World().Service(manifest.Key{Namespace: "shop", Name: "payments"}); !ok || r.World().Rev < w.Rev {
			t.Errorf("the world went from revision %d to %d, its service is there: %v; a store that can't be heard is no empty one", w.Rev, r.World().Rev, ok)
		}
		r.kv.Fail(nil)
		r.settled(r.putTimeout("1s"))
		time.Sleep(5 * time.Second) // the signs of life are followed by themselves
		if r.Stale() != nil {
			t.Error("still stale after a delivery")
		}
	})
}

func TestAClassOutlivesItsLastProxyForAWhile(t *testing.T) {
	inBubble(t, func(r *running) {
		r.settled(r.putService("payments"))
		join := func() *world.Class {
			class, err := r.Join(context.Background(), ordersClass)
			if err != nil {
				t.Fatal(err)
			}
			return class
		}
		first := join()
		r.Leave(first)
		time.Sleep(classIdle / 2)
		if again := join(); again != first {
			t.Error("a proxy that came back soon got a new class")
		} else {
			r.Leave(again)
		}
		time.Sleep(2 * classIdle)
		if later := join(); later == first {
			t.Error("the class was kept though nobody was in it")
		} else {
			defer r.Leave(later)
			time.Sleep(3 * classIdle)
			if join() != later {
				t.Error("a class with a proxy in it was dropped")
			}
		}
	})
}

func TestVeryManyClassesThatNobodyIsInAreNotKept(t *testing.T) {
	inBubble(t, func(r *running) {
		r.settled(r.putService("payments"))
		join := func(caller string) *world.Class {
			key := ordersClass
			key.Service = caller
			class, err := r.Join(context.Background(), key)
			if err != nil {
				t.Fatal(err)
			}
			return class
		}
		used, first := join("used"), join("first")
		r.Leave(first)
		time.Sleep(time.Second)
		for i := range mostIdle - 1 {
			r.Leave(join(fmt.Sprint("invented-", i)))
		}
		if again := join("first"); again != first {
			t.Error("a class is forgotten before there are too many")
		}
		r.Leave(first)
		time.Sleep(time.Second)
		r.Leave(join("one-more"))
		time.Sleep(time.Second)
		r.Leave(join("another"))
		if join("used") != used || join("first") != first {
			t.Error("a class with a proxy in it, or one that was left last, is forgotten")
		}
		r.Leave(first)
		for i := range mostIdle {
			time.Sleep(time.Millisecond)
			r.Leave(join(fmt.Sprint("invented-", mostIdle+i)))
		}
		if join("first") == first {
			t.Error("the class that was left first is kept, however many came after it")
		}
	})
}
