package world

import (
	"fmt"
	"slices"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// What injects a fault comes and goes with it, an edit is one of its routes alone, and the service's own cluster is never among it.
func TestFaultsComeAndGo(t *testing.T) {
	w, c := newWorld(service(key("shop", "orders")), service(key("shop", "payments")))
	b := NewBuilder()
	b.Update(w, c)
	class := b.Join(orders())
	p, rev := key("shop", "p"), int64(1)
	write := func(x *policy.Fault) string {
		rev++
		s := policy.Sections{Fault: x, Limits: &policy.Limits{MaxRequests: ptr(manifest.Count(9))}}
		return fmt.Sprint(step(b, class, rev, Changes{Policies: map[manifest.Key]*policy.Compiled{
			p: compiled(t, p, policy.Spec{To: policy.Target{Service: "payments"}, ExpiresAt: ptr(manifest.Instant("2099-01-01T00:00:00Z")), Sections: s}),
		}}))
	}
	limit := fmt.Sprintf("RTDS limits-%d", envoy.LayerOf("shop/payments"))
	write(nil)
	abort := func(status uint32) *policy.Fault { return &policy.Fault{Abort: &policy.Abort{Status: &status}} }
	for _, tt := range []struct {
		fault *policy.Fault
		want  string
	}{
		{abort(503), "[+CDS shop/payments~fault +LDS shop/payments~fault +RDS shop/payments~fault RDS shop/payments " + limit + "]"},
		{abort(502), "[RDS shop/payments~fault]"},
		{nil, "[-CDS shop/payments~fault -LDS shop/payments~fault -RDS shop/payments~fault RDS shop/payments " + limit + "]"},
	} {
		if got := write(tt.fault); got != tt.want {
			t.Errorf("%+v: %s changed, want %s", tt.fault, got, tt.want)
		}
		shaped := slices.Contains(b.Shaped(policy.Kind, p)[class], view.ID{Type: view.LDS, Name: "shop/payments~fault"})
		if shaped != (tt.fault != nil) {
			t.Errorf("%+v: the policy shapes the listener: %v", tt.fault, shaped)
		}
	}
	write(abort(503))
	if got := fmt.Sprint(step(b, class, rev+1, Changes{Policies: map[manifest.Key]*policy.Compiled{p: nil}})); got != "[-CDS shop/payments~fault -LDS shop/payments~fault -RDS shop/payments~fault RDS shop/payments "+limit+"]" {
		t.Errorf("without the policy %s changed", got)
	}
}
