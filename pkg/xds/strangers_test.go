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
	c.nack(c.recv(), "no") // without a rejection there is nothing to look for
	c.quiet()
	begun := time.Now()
	list, _, ok := r.server.Holdings("orders-1")
	if took := time.Since(begun); !ok || len(list) < 2000 || took > 10*time.Second {
		t.Errorf("%d resources (%v) after %v, want 2000 at least within 10 s", len(list), ok, took)
	}
}
