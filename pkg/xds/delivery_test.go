package xds

import (
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// delivery is how far names have come with the one proxy that there is, or was.
func (r *rig) delivery(rev int64, names ...view.ID) Delivery {
	r.t.Helper()
	p := r.server.Look().Progress(func(*world.Class) *Wanted { return &Wanted{Names: names} }, rev, true)
	if len(p.Proxies) != 1 || p.Proxies[0].ID != "orders-1" || (p.Acked == 1) != (p.Proxies[0].State == Acked) {
		r.t.Fatalf("got %+v, want orders-1", p)
	}
	return p.Proxies[0]
}

func TestDelivery(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.start()
	names := []view.ID{{Type: view.RDS, Name: "shop/payments"}, {Type: view.RDS, Name: "of/nobody"}}
	state := func(rev int64) DeliveryState {
		t.Helper()
		return r.delivery(rev, names...).State
	}
	if got := state(1); got != Acked {
		t.Errorf("at rest: %s, want acked", got)
	}
	if got := state(2); got != Pending {
		t.Errorf("a revision that the class has not reached: %s, want pending", got)
	}
	r.classes.publish(shop{"RDS shop/payments": "new"}.head(2))
	if got := state(2); got != Pending {
		t.Errorf("published: %s, want pending", got)
	}
	a := c.expect("RDS shop/payments")
	if got := state(2); got != Pending {
		t.Errorf("sent: %s, want pending", got)
	}
	c.ack(a)
	c.quiet()
	if got := state(2); got != Acked {
		t.Errorf("accepted: %s, want acked", got)
	}
	r.classes.publish(shop{"RDS shop/payments": "bad"}.head(3))
	c.nack(c.expect("RDS shop/payments"), "no such thing")
	c.quiet()
	if d := r.delivery(3, names...); d.State != Rejected || len(d.Rejected) != 1 || d.Rejected[0].Text != "no such thing" {
		t.Errorf("rejected: %+v, want rejected with the text", d)
	}
	r.classes.publish(shop{"RDS shop/payments": "new"}.head(4))
	c.want("RDS shop/payments")
	c.quiet()
	if got := state(4); got != Acked {
		t.Errorf("taken back: %s, want acked", got)
	}
	if p := r.server.Look().Progress(func(*world.Class) *Wanted { return nil }, 4, true); len(p.Proxies) != 0 || p.Acked != 0 {
		t.Errorf("no class is concerned: %+v, want nobody", p)
	}
}

// What a sent resource names is waited for, though it is not subscribed yet.
func TestDeliveryWaitsForWhatASentResourceNames(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.subscribe(view.CDS)
	c.want("CDS shop/billing shop/payments")
	c.subscribe(view.SRDS)
	c.want("SRDS billing.shop payments.shop")
	c.quiet()
	for _, tt := range []struct {
		id   view.ID
		want DeliveryState
	}{
		{view.ID{Type: view.CDS, Name: "shop/payments"}, Acked},
		{view.ID{Type: view.EDS, Name: "shop/payments"}, Pending},
		{view.ID{Type: view.RDS, Name: "shop/payments"}, Pending},
		{view.ID{Type: view.LDS, Name: "outbound"}, Pending},
		{view.ID{Type: view.RTDS, Name: "limits-0"}, Acked},
	} {
		if d := r.delivery(1, tt.id); d.State != tt.want {
			t.Errorf("%s: %s, want %s", tt.id, d.State, tt.want)
		}
	}
}

// A proxy that has just come has not said yet what it holds of an earlier stream. One that went is spoken of for a while.
func TestWhoJoinsAndWhoLeft(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.subscribe(view.RTDS, "limits-0")
	c.want("RTDS limits-0")
	id := view.ID{Type: view.EDS, Name: "shop/payments"}
	if d := r.delivery(1, id); d.State != Joining {
		t.Errorf("before the first word about clusters: %s, want joining", d.State)
	}
	c.stop()
	gone := r.server.Changed()
	for len(r.server.Proxies()) > 0 {
		<-gone
		gone = r.server.Changed()
	}
	if d := r.delivery(1, id); d.State != Offline || d.Left.IsZero() || d.Service != "orders" {
		t.Errorf("after it went: %+v, want offline since when", d)
	}
	r.connect().start()
	if d := r.delivery(1, id); d.State != Acked {
		t.Errorf("when it is back: %s, want acked", d.State)
	}
}

// A route that needs a rejected cluster will not come: that is said, with the proxy's words, instead of waiting for it.
func TestWhatARejectionHoldsBackIsRejectedToo(t *testing.T) {
	r := newRig(t, shop{"shop/payments": "gone"}.head(1), Config{})
	c := r.connect()
	c.subscribe(view.CDS)
	c.want("CDS shop/billing")
	c.subscribe(view.SRDS)
	c.want("SRDS billing.shop")
	r.classes.publish(shop{}.head(2))
	c.nack(c.expect("CDS shop/payments"), "no such policy")
	c.want("SRDS payments.shop")
	c.subscribe(view.RDS, "shop/billing", "shop/payments")
	c.want("RDS shop/billing")
	c.quiet()
	d := r.delivery(2, view.ID{Type: view.RDS, Name: "shop/payments"})
	if d.State != Rejected || len(d.Rejected) != 1 || d.Rejected[0].ID != (view.ID{Type: view.CDS, Name: "shop/payments"}) || d.Rejected[0].Text != "no such policy" {
		t.Errorf("%+v, want rejected with what was said of the cluster", d)
	}
	if d := r.delivery(2, view.ID{Type: view.EDS, Name: "shop/payments"}); d.State != Acked {
		t.Errorf("the assignment of a cluster that is not there: %s, want acked, as nobody waits for it", d.State)
	}
}
