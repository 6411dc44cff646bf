package xds

import (
	"fmt"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Of what a proxy holds from elsewhere the versions alone are known, so that each may name any other: to look through them for what holds
// something up must end all the same.
func TestHoldingsOfAProxyWithManyStrangersAreToldSoon(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.subscribe(view.CDS)
	c.nack(c.expect("CDS shop/billing shop/payments"), "Error adding cluster(s) shop/payments: bad") // or there is nothing to look for
	c.want("CDS shop/billing")
	known := map[string]string{}
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprint("gone/", i))
		known[names[i]] = "elsewhere"
	}
	for _, typ := range []view.Type{view.SRDS, view.RDS} {
		m := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ.URL(), InitialResourceVersions: known}
		if typ == view.RDS {
			m.ResourceNamesSubscribe = names
		}
		c.send(m)
	}
	for end := time.Now().Add(10 * time.Second); ; {
		begun := time.Now()
		list, _, ok := r.server.Holdings("orders-1")
		if took := time.Since(begun); !ok || took > 5*time.Second || time.Now().After(end) {
			t.Fatalf("%d resources (%v) after %v, want %d soon", len(list), ok, took, 2*len(names))
		}
		if len(list) >= 2*len(names) {
			return
		}
	}
}
