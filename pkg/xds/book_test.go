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
