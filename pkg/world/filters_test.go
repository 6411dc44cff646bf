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

// Of all that a policy says only adaptive concurrency is in the listener: no other edit touches it, and as long as it is there the policy is
// not delivered before the listener is.
func TestAdaptiveConcurrencyIsInTheListener(t *testing.T) {
	w, c := newWorld(service(key("shop", "orders")), service(key("shop", "payments")), service(key("shop", "email")))
	b := NewBuilder()
	b.Update(w, c)
	class := b.Join(orders())
	rev := int64(1)
	write := func(name, to string, s policy.Sections) []string {
		rev++
		k := key("shop", name)
		return step(b, class, rev, Changes{Policies: map[manifest.Key]*policy.Compiled{k: compiled(t, k, policy.Spec{To: policy.Target{Service: to}, Sections: s})}})
	}
	limit := func(most uint32) policy.Sections {
		return policy.Sections{AdaptiveConcurrency: &policy.AdaptiveConcurrency{MaxConcurrency: &most}}
	}
	for _, tt := range []struct {
		name, to string
		s        policy.Sections
		want     string
		shaped   bool // the listener is the first policy's
	}{
		{"p", "payments", limit(8), "[LDS outbound RDS shop/payments]", true},
		{"p", "payments", limit(9), "[LDS outbound]", true},
		{"e", "email", limit(9), "[LDS outbound RDS shop/email]", true},
		{"other", "payments", policy.Sections{Timeout: &policy.Timeout{Request: ptr(manifest.Duration("1s"))}}, "[RDS shop/payments]", true},
		{"p", "payments", policy.Sections{AdaptiveConcurrency: &policy.AdaptiveConcurrency{Disabled: ptr(true)}}, "[LDS outbound RDS shop/payments]", false},
		{"e", "email", limit(7), "[LDS outbound]", false},
	} {
		if got := fmt.Sprint(write(tt.name, tt.to, tt.s)); got != tt.want {
			t.Errorf("%s, %+v: %s changed, want %s", tt.name, tt.s.AdaptiveConcurrency, got, tt.want)
		}
		shaped := b.Shaped(policy.Kind, key("shop", "p"))[class]
		if got := slices.Contains(shaped, view.ID{Type: view.LDS, Name: envoy.Outbound}); got != tt.shaped {
			t.Errorf("after %s: p shapes %v, want the listener among them: %v", tt.name, shaped, tt.shaped)
		}
	}
	if got := step(b, class, rev+1, Changes{Policies: map[manifest.Key]*policy.Compiled{key("shop", "e"): nil}}); fmt.Sprint(got) != "[LDS outbound RDS shop/email]" {
		t.Errorf("without a policy %v changed, want the listener and the routes", got)
	}
}
