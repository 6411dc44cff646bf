package policy

import (
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// TestRank lists policies from the least specific to the most: each must rank below all that follow, and above none.
func TestRank(t *testing.T) {
	const root = manifest.SystemNamespace
	of := func(namespace, name string, to Target, from *Source, precedence *int32) *Compiled {
		return Compile(&Policy{Metadata: manifest.Meta{Namespace: namespace, Name: name}, Spec: Spec{To: to, From: from, Precedence: precedence}})
	}
	selector, service := &Source{Selector: map[string]string{"tier": "web"}}, &Source{Service: "orders"}
	everywhere := Target{Namespace: Every, Service: Every}
	ranked := []*Compiled{
		of(root, "a", everywhere, nil, nil),
		of(root, "b", everywhere, nil, nil),
		of(root, "a", everywhere, selector, nil),
		of(root, "a", everywhere, service, new(int32(100))),
		of("shop", "a", Target{Service: Every}, nil, nil),
		of("shop", "a", Target{Service: Every}, service, nil),
		of("shop", "a", Target{Selector: map[string]string{"x": "y"}}, nil, nil),
		of("shop", "a", Target{Selector: map[string]string{"x": "y"}}, service, nil),
		of("shop", "a", Target{Service: "payments"}, nil, new(int32(-1))),
		of("bank", "a", Target{Service: "payments"}, nil, nil),
		of("shop", "a", Target{Service: "payments"}, nil, nil),
		of("shop", "b", Target{Service: "payments"}, nil, nil),
		of("shop", "a", Target{Service: "payments"}, nil, new(int32(1))),
		of("bank", "a", Target{Namespace: "shop", Service: "payments"}, nil, new(int32(-5))), // a consumer's
		of("bank", "a", Target{Namespace: "shop", Service: "payments"}, nil, nil),
		of("shop", "a", Target{Service: "payments"}, selector, nil),
		of("shop", "a", Target{Service: "payments"}, service, nil),
		of("bank", "a", Target{Namespace: "shop", Service: "payments"}, service, nil),
	}
	for i, a := range ranked {
		for j, b := range ranked {
			if got, want := a.Less(b), i < j; got != want {
				t.Errorf("%d (%s, %s) less than %d (%s, %s) = %v, want %v", i, a.Policy.Key(), a.Described(), j, b.Policy.Key(), b.Described(), got, want)
			}
		}
	}
}
