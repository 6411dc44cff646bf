package xds

import (
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

func TestTheBookSaysWhoIsThere(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	if p := r.server.Proxies(); len(p) != 0 {
		t.Errorf("the book has %+v before anybody came", p)
	}
	c := r.connect()
	c.start()
	p := r.server.Proxies()
	if len(p) != 1 || p[0].ID != "orders-1" || p[0].Namespace != "shop" || p[0].Service != "orders" || p[0].Dialect != "envoy" ||
		p[0].Version != "1.40.0" || p[0].Profile != "sidecar" || p[0].Address == "" || p[0].Connected.IsZero() {
		t.Fatalf("the book has %+v, want orders-1", p)
	}
	for _, tt := range []TypeState{
		{Type: view.CDS, Wildcard: true, Subscribed: 2, Acked: 2},
		{Type: view.EDS, Subscribed: 2, Acked: 2},
		{Type: view.LDS, Wildcard: true, Subscribed: 1, Acked: 1},
		{Type: view.SRDS, Wildcard: true, Subscribed: 2, Acked: 2},
		{Type: view.RDS, Subscribed: 2, Acked: 2},
	} {
		got := typeOf(t, p[0], tt.Type)
		if got.Wildcard != tt.Wildcard || got.Subscribed != tt.Subscribed || got.Acked != tt.Acked || got.Pending != 0 || len(got.Rejected) != 0 {
			t.Errorf("got %+v, want %+v", got, tt)
		}
	}
	changed := r.server.Changed()
	c.stop()
	<-changed
	for len(r.server.Proxies()) > 0 {
		changed := r.server.Changed()
		if len(r.server.Proxies()) > 0 {
			<-changed
		}
	}
}

func TestTwoStreamsOfOneIDAreTwo(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	a, b := r.connect(), r.connect()
	a.subscribe(view.LDS)
	a.want("LDS outbound")
	b.subscribe(view.LDS)
	b.want("LDS outbound")
	if n := len(r.server.Proxies()); n != 2 {
		t.Errorf("%d entries, want 2", n)
	}
	a.stop()
	for len(r.server.Proxies()) > 1 {
		changed := r.server.Changed()
		if len(r.server.Proxies()) > 1 {
			<-changed
		}
	}
	r.classes.publish(shop{"limits": "x"}.head(2))
	b.subscribe(view.RTDS, "limits-0")
	b.want("RTDS limits-0") // the end of the one takes nothing from the other
}

func TestDelivery(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.start()
	class := r.classes.class()
	names := []view.ID{{Type: view.RDS, Name: "shop/payments"}, {Type: view.RDS, Name: "of/nobody"}}
	state := func(rev int64) DeliveryState {
		t.Helper()
		d := r.server.Delivery(class, names, rev)
		if len(d) != 1 || d[0].Proxy != "orders-1" {
			t.Fatalf("Delivery = %+v, want orders-1", d)
		}
		return d[0].State
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
	if d := r.server.Delivery(class, names, 3); d[0].State != Rejected || len(d[0].Rejected) != 1 || d[0].Rejected[0].Text != "no such thing" {
		t.Errorf("rejected: %+v, want rejected with the text", d)
	}
	r.classes.publish(shop{"RDS shop/payments": "new"}.head(4))
	c.want("RDS shop/payments")
	c.quiet()
	if got := state(4); got != Acked {
		t.Errorf("taken back: %s, want acked", got)
	}
	if d := r.server.Delivery(nil, names, 4); len(d) != 0 {
		t.Errorf("another class: %+v, want nobody", d)
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
		if d := r.server.Delivery(r.classes.class(), []view.ID{tt.id}, 1); d[0].State != tt.want {
			t.Errorf("%s: %s, want %s", tt.id, d[0].State, tt.want)
		}
	}
}
