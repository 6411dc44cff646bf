package envoy

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// named is a route configuration whose virtual hosts have those names, and their place as a domain.
func named(t *testing.T, names ...string) *view.Resource {
	t.Helper()
	m := &routev3.RouteConfiguration{Name: "r"}
	for _, name := range names {
		m.VirtualHosts = append(m.VirtualHosts, &routev3.VirtualHost{Name: name, Domains: []string{"of-" + name}})
	}
	r, err := resource(view.RDS, "r", m)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// An item that comes among others is one difference, as long as they have names; that items change places is said by their names.
func TestDifferenceNamesItems(t *testing.T) {
	for _, tt := range []struct {
		old, now []string
		want     []Line
	}{
		{[]string{"a", "b"}, []string{"a", "x", "b"}, []Line{
			{"virtual_hosts[x]", "", `{"domains":["of-x"],"name":"x"}`},
		}},
		{[]string{"a", "x", "b"}, []string{"a", "b"}, []Line{
			{"virtual_hosts[x]", `{"domains":["of-x"],"name":"x"}`, ""},
		}},
		{[]string{"a", "b", "c"}, []string{"b", "a", "c"}, []Line{{"virtual_hosts", `["a","b","c"]`, `["b","a","c"]`}}},
		{[]string{"a", "b"}, []string{"a", "b"}, nil},
	} {
		t.Run(fmt.Sprint(tt.old, tt.now), func(t *testing.T) {
			got, err := Difference(named(t, tt.old...), named(t, tt.now...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
