package world

import (
	"fmt"
	"slices"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// logged is a builder with a class of orders and one of web, and a step that leads it on.
func logged(t *testing.T) (b *Builder, orders_, web *Class, step func(rev int64, c Changes)) {
	w, c := newWorld(service(key("shop", "orders")), service(key("shop", "payments")), service(key("shop", "web")))
	b = NewBuilder()
	b.Update(w, c)
	other := orders()
	other.Service = "web"
	return b, b.Join(orders()), b.Join(other), func(rev int64, c Changes) { b.Update(b.World().With(rev, c), c) }
}

func bound(t *testing.T, from string, limit string) Changes {
	spec := policy.Spec{To: policy.Target{Service: "payments"}, Sections: policy.Sections{Timeout: &policy.Timeout{Request: ptr(manifest.Duration(limit))}}}
	if from != "" {
		spec.From = &policy.Source{Service: from}
	}
	k := key("shop", "bound")
	return Changes{Policies: map[manifest.Key]*policy.Compiled{k: compiled(t, k, spec)}}
}

func TestTheLogSaysWhatABatchTouched(t *testing.T) {
	b, orders, web, step := logged(t)
	step(2, bound(t, "orders", "1s"))
	step(5, bound(t, "orders", "2s"))
	step(6, Changes{Policies: map[manifest.Key]*policy.Compiled{key("shop", "bound"): nil}})
	step(7, Changes{})
	routes := []view.ID{{Type: view.RDS, Name: "shop/payments"}}
	for _, tt := range []struct {
		rev, from, to int64
		names         []view.ID
	}{{2, 2, 2, routes}, {3, 3, 5, routes}, {5, 3, 5, routes}, {6, 6, 6, routes}, {7, 7, 7, []view.ID{}}} {
		batch := b.Log().At(tt.rev)
		if batch == nil || batch.From != tt.from || batch.To != tt.to || !slices.Equal(batch.Names(), tt.names) {
			t.Fatalf("the batch of %d is %+v, want %+v", tt.rev, batch, tt)
		}
		if batch.Touched(orders) != (len(tt.names) > 0) || batch.Touched(web) {
			t.Errorf("the batch of %d touched orders %v, web %v; want orders alone, if anything changed", tt.rev, batch.Touched(orders), batch.Touched(web))
		}
	}
	for _, rev := range []int64{0, 1, 8} {
		if batch := b.Log().At(rev); batch != nil {
			t.Errorf("the batch of %d is %+v, want none", rev, batch)
		}
	}
	for rev, want := range map[int64]bool{2: true, 4: true, 5: true, 6: false, 7: false} {
		if got := b.Log().Since(rev, routes[0]); got != want {
			t.Errorf("touched since %d: %v, want %v", rev, got, want)
		}
	}
}

func TestTheLogIsBounded(t *testing.T) {
	var l Log
	for i := range int64(3 * maxBatches) {
		l = l.With(&Batch{From: i, To: i})
	}
	if l.At(2*maxBatches) == nil || l.At(2*maxBatches-1) != nil || l.At(3*maxBatches-1) == nil {
		t.Errorf("%d batches are kept, want %d", len(l.batches), maxBatches)
	}
	wide := &Batch{From: 3 * maxBatches, To: 3 * maxBatches, names: map[view.ID]struct{}{}}
	for i := range maxTouched + 1 {
		wide.names[view.ID{Name: fmt.Sprint(i)}] = struct{}{}
	}
	before := l
	if l = l.With(wide); len(l.batches) != 1 || l.At(wide.To) != wide {
		t.Errorf("beside a very wide batch %d are kept, want it alone", len(l.batches))
	}
	if before.At(3*maxBatches-1) == nil {
		t.Error("a log that somebody holds has changed")
	}
}

func TestAStoreThatWentBackBeginsTheLogAnew(t *testing.T) {
	b, _, _, step := logged(t)
	step(9, bound(t, "", "1s"))
	step(4, bound(t, "", "2s"))
	if b.Log().At(9) != nil || b.Log().At(4) != nil {
		t.Errorf("the log still has %+v", b.Log())
	}
	next := b.World().With(8, bound(t, "", "3s"))
	next.Cluster = 77
	b.Update(next, bound(t, "", "3s"))
	if b.Log().At(8) != nil {
		t.Error("the log goes on in another store")
	}
}

// Seats are given again; what an earlier class did in one is not said of the next, which is younger.
func TestAClassIsYoungerThanWhatItsSeatSaw(t *testing.T) {
	b, orders_, web, step := logged(t)
	step(2, bound(t, "", "1s"))
	b.Drop(web.Key)
	step(3, Changes{})
	again := b.Join(web.Key)
	if again.seat != web.seat || again.Born() != 3 || orders_.Born() != 1 {
		t.Errorf("seat %d after %d, born %d and %d; want the same seat, born at 3 and 1", again.seat, web.seat, again.Born(), orders_.Born())
	}
}
