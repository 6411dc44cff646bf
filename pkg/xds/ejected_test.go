package xds

import (
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// What a proxy has ejected is known for as long as its stream lasts, and not where two streams say that they are that proxy.
func TestEjectionsAreForgottenWithTheStream(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	ejected := map[string]int{"shop/payments": 2}
	if r.server.Report("orders-1", "shop", "orders", ejected) {
		t.Error("a proxy without a stream is believed")
	}
	class := world.ClassKey{Namespace: "shop", Service: "orders", Dialect: "envoy", Profile: "sidecar", Tier: "1.40", Outbound: defaultOutbound}
	says := func(want ...int) { // hosts of shop/payments, by proxy; -1: it does not say
		t.Helper()
		all := r.server.Ejected()[class]
		if len(all) != len(want) || len(r.server.Proxies()) != len(want) {
			t.Fatalf("%d proxies, want %d", len(all), len(want))
		}
		for i, p := range r.server.Proxies() {
			for _, hosts := range []map[string]int{all[i], p.Ejected} {
				if n := hosts["shop/payments"]; hosts == nil && want[i] != -1 || hosts != nil && n != want[i] {
					t.Errorf("proxy %d says %v, want %d", i, hosts, want[i])
				}
			}
		}
	}
	gone := func(left int) {
		for len(r.server.Proxies()) > left {
			changed := r.server.Changed()
			if len(r.server.Proxies()) > left {
				<-changed
			}
		}
	}
	a := r.connect()
	a.subscribe(view.LDS)
	a.want("LDS outbound")
	says(-1)
	for _, of := range [][2]string{{"other", "orders"}, {"shop", "payments"}} {
		if r.server.Report("orders-1", of[0], of[1], ejected) {
			t.Errorf("a proxy of %v is believed", of)
		}
	}
	if !r.server.Report("orders-1", "shop", "orders", ejected) {
		t.Error("the proxy is not believed")
	}
	says(2)

	b := r.connect()
	b.subscribe(view.LDS)
	b.want("LDS outbound")
	says(-1, -1)
	if r.server.Report("orders-1", "shop", "orders", ejected) {
		t.Error("it is believed though nobody knows which of two it is")
	}
	a.stop()
	gone(1)
	says(-1)
	if !r.server.Report("orders-1", "shop", "orders", map[string]int{}) {
		t.Error("the one that is left is not believed")
	}
	says(0)
	b.stop()
	gone(0)
	if n := len(r.server.ids); n != 0 {
		t.Errorf("%d ids are left", n)
	}
}
