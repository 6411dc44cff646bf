package xds

import (
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// connectAgent is connect for our agent, which says its own version.
func (r *rig) connectAgent() *client {
	c := r.connect()
	c.node.UserAgentName, c.node.UserAgentVersionType = "breakwater-agent", nil
	return c
}

// Our agent subscribes to all clusters, as Envoy does: its routes wait for them likewise.
func TestAnAgentsRouteWaitsForItsCluster(t *testing.T) {
	r := newRig(t, shop{"shop/billing": "gone"}.head(1), Config{})
	c := r.connectAgent()
	c.subscribe(view.CDS)
	c.want("CDS shop/payments")
	c.subscribe(view.RDS, "shop/payments", "shop/billing")
	c.want("RDS shop/payments")
	r.classes.publish(shop{}.head(2))
	m := c.expect("CDS shop/billing")
	c.quiet()
	c.ack(m)
	c.want("RDS shop/billing")
	c.quiet()
}
