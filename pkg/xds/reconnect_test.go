package xds

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// resume opens a type as a proxy does that holds head's resources.
func (c *client) resume(t view.Type, head *world.Head, names ...string) {
	c.t.Helper()
	known := map[string]string{}
	for r := range head.Views[t].All() {
		known[r.Name] = r.Version
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: t.URL(), ResourceNamesSubscribe: names, InitialResourceVersions: known})
}

func (c *client) resumeAll(head *world.Head) {
	c.t.Helper()
	both := []string{"shop/billing", "shop/payments"}
	c.resume(view.RTDS, head, "limits-0")
	c.resume(view.CDS, head)
	c.resume(view.EDS, head, both...)
	c.resume(view.LDS, head)
	c.resume(view.SRDS, head)
	c.resume(view.RDS, head, both...)
}

// A reconnect of an unchanged proxy gets no resource: the wildcard types an empty answer, so that it knows that we are there.
func TestAReconnectResendsNothing(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.resumeAll(shop{}.head(1))
	got := map[string]int{}
	for range 3 {
		m := c.recv()
		got[say(m)]++
		c.ack(m)
	}
	if len(got) != 3 || got["CDS"] != 1 || got["LDS"] != 1 || got["SRDS"] != 1 {
		t.Errorf("got %v, want an empty answer to CDS, LDS and SRDS each", got)
	}
	c.quiet()
}

func TestAReconnectSendsWhatChangedMeanwhile(t *testing.T) {
	r := newRig(t, shop{"EDS shop/payments": "new"}.head(2), Config{})
	c := r.connect()
	c.resume(view.EDS, shop{}.head(1), "shop/billing", "shop/payments")
	// EDS without CDS: a cluster warms and waits for its assignment, whatever its version
	c.want("EDS shop/billing shop/payments")
	c.quiet()

	d := r.connect()
	d.resume(view.CDS, shop{}.head(1))
	d.want("CDS")
	d.resume(view.EDS, shop{}.head(1), "shop/billing", "shop/payments")
	d.want("EDS shop/payments")
	d.quiet()
}

// What went while the proxy was away is removed, but not before it has told that nothing it holds needs it.
func TestAReconnectRemovesWhatWentInOrder(t *testing.T) {
	r := newRig(t, shop{"shop/billing": "gone"}.head(2), Config{})
	c := r.connect()
	old := shop{}.head(1)
	c.resume(view.CDS, old)
	c.want("CDS")
	c.quiet()
	c.resume(view.EDS, old, "shop/billing", "shop/payments")
	c.resume(view.LDS, old)
	c.want("LDS")
	c.resume(view.RDS, old, "shop/billing", "shop/payments")
	c.quiet()
	c.resume(view.SRDS, old)
	c.want("SRDS")
	c.want("SRDS -billing.shop")
	c.want("RDS -shop/billing")
	c.want("CDS -shop/billing")
	c.want("EDS -shop/billing")
	c.quiet()
}
