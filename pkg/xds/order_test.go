package xds

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

func (c *client) ackAndSubscribe(url, nonce string, names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, ResponseNonce: nonce, ResourceNamesSubscribe: names})
}

// Envoy answers a changed cluster only once an assignment came after it: so it is sent though unchanged and though CDS is unanswered.
func TestTrap04_AnAssignmentFollowsItsChangedCluster(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.start()
	r.classes.publish(shop{"CDS shop/payments": "http2", "RDS shop/payments": "new"}.head(2))
	m := c.expect("CDS shop/payments")
	eds := c.expect("EDS shop/payments")
	if eds.Resources[0].Version == "" || len(eds.Resources[0].Resource.GetValue()) == 0 {
		t.Errorf("the assignment is empty: %v", eds)
	}
	c.ack(eds)
	c.want("RDS shop/payments") // the old version of its cluster serves
	c.ack(m)
	c.quiet()
}

func TestTrap05_AnAssignmentSubscribedAfterItsClusterIsSent(t *testing.T) {
	r := newRig(t, shop{"gone": ""}.head(1), Config{})
	c := r.connect()
	c.subscribe(view.EDS, "shop/payments")
	c.want("EDS shop/payments")
	c.subscribe(view.CDS)
	m := c.expect("CDS shop/billing shop/payments")
	c.want("EDS shop/payments") // subscribed, and sent before its cluster: that does not count
	c.subscribe(view.EDS, "shop/billing")
	c.want("EDS shop/billing")
	c.ack(m)
	c.quiet()
}

func TestARouteWaitsForANewClusterToBeWarm(t *testing.T) {
	r := newRig(t, shop{"shop/billing": "gone"}.head(1), Config{})
	c := r.connect()
	c.subscribe(view.CDS)
	c.want("CDS shop/payments")
	c.subscribe(view.LDS)
	c.want("LDS outbound")
	c.subscribe(view.SRDS)
	c.want("SRDS payments.shop")
	r.classes.publish(shop{}.head(2))
	m := c.expect("CDS shop/billing")
	c.want("SRDS billing.shop") // a new scope waits for nothing: only it makes the proxy ask for the routes
	c.subscribe(view.RDS, "shop/payments", "shop/billing")
	c.want("RDS shop/payments")
	c.quiet()
	c.ack(m)
	c.want("RDS shop/billing")
	c.quiet()
}

func TestRemovalsComeLastAndInOrder(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.start()
	r.classes.publish(shop{"shop/billing": "gone", "RDS shop/payments": "new"}.head(2))
	c.want("RDS shop/payments")
	m := c.expect("SRDS -billing.shop")
	c.quiet()
	c.ack(m)
	m = c.expect("RDS -shop/billing")
	c.quiet()
	c.ack(m)
	m = c.expect("CDS -shop/billing")
	c.quiet()
	c.ack(m)
	c.want("EDS -shop/billing")
	c.quiet()
}

func TestAnUnsubscribedRouteNeedsNoRemoval(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.start()
	r.classes.publish(shop{"shop/billing": "gone"}.head(2))
	m := c.expect("SRDS -billing.shop")
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: view.RDS.URL(), ResourceNamesUnsubscribe: []string{"shop/billing"}})
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: view.EDS.URL(), ResourceNamesUnsubscribe: []string{"shop/billing"}})
	c.ack(m)
	c.want("CDS -shop/billing")
	c.quiet()
}

// A moving alias must never point at a route configuration that is not there.
// withPay is h with an alias that leads to a service.
func withPay(h *world.Head, to string) *world.Head {
	h.Views[view.SRDS] = h.Views[view.SRDS].With([]view.Change{view.Put(
		view.New(view.SRDS, "pay", cluster("pay", to), []view.ID{{Type: view.RDS, Name: to}}))})
	return h
}

func TestAMovingAliasWaitsForItsNewRoutes(t *testing.T) {
	r := newRig(t, withPay(shop{"shop/billing": "gone"}.head(1), "shop/payments"), Config{})
	c := r.connect()
	c.subscribe(view.CDS)
	c.want("CDS shop/payments")
	c.subscribe(view.SRDS)
	c.want("SRDS pay payments.shop")
	c.subscribe(view.RDS, "shop/payments")
	c.want("RDS shop/payments")
	r.classes.publish(withPay(shop{}.head(2), "shop/billing"))
	c.want("CDS shop/billing")
	c.want("SRDS billing.shop")
	c.subscribe(view.RDS, "shop/billing")
	m := c.expect("RDS shop/billing")
	c.quiet()
	c.ack(m)
	c.want("SRDS pay")
	c.quiet()
}

// A proxy that asks for a route configuration again has dropped it, and has none until the answer is accepted.
func TestAMovingAliasWaitsForRoutesThatAreAskedForAnew(t *testing.T) {
	r := newRig(t, withPay(shop{}.head(1), "shop/payments"), Config{})
	c := r.connect()
	c.subscribe(view.CDS)
	c.want("CDS shop/billing shop/payments")
	c.subscribe(view.SRDS)
	c.want("SRDS billing.shop pay payments.shop")
	c.subscribe(view.RDS, "shop/billing", "shop/payments")
	c.want("RDS shop/billing shop/payments")
	c.subscribe(view.RDS, "shop/billing")
	m := c.expect("RDS shop/billing")
	r.classes.publish(withPay(shop{}.head(2), "shop/billing"))
	c.quiet()
	c.ack(m)
	c.want("SRDS pay")
	c.quiet()
}

func TestMissingNames(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.subscribe(view.RTDS, "limits-0", "of-nobody")
	c.want("RTDS limits-0 of-nobody")
	c.subscribe(view.EDS, "shop/none")
	c.want("EDS -shop/none")
	c.subscribe(view.RDS, "shop/none")
	c.quiet()
}

func TestEmptyWildcardsAreAnswered(t *testing.T) {
	r := newRig(t, &world.Head{Rev: 1}, Config{})
	c := r.connect()
	c.subscribe(view.CDS)
	c.want("CDS")
	c.subscribe(view.LDS, "*")
	c.want("LDS")
	c.subscribe(view.SRDS)
	c.want("SRDS")
	c.quiet()
}

func TestTrap21_ANameAskedForAgainIsAnsweredUnchanged(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.start()
	c.subscribe(view.EDS, "shop/payments")
	c.want("EDS shop/payments")
	c.quiet()
}
