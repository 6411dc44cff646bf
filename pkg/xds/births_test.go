package xds

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// growing is a conversation with an Envoy of which a cluster warms, so that it answers nothing of CDS, and that was sent a new one, which is
// prompt or checks health.
type growing struct {
	*client
	rig    *rig
	answer []string // nonces of CDS
}

// billed is a head with shop/billing as content says, "gone" without it.
func billed(rev int64, content string, prompt bool) *world.Head {
	h := shop{"CDS shop/payments": "slow", "CDS shop/billing": content, "shop/billing": content}.head(rev)
	if r := h.Views[view.CDS].Get("shop/billing"); r != nil {
		r.Prompt = prompt // of one that nobody has seen yet
	}
	return h
}

func newGrowing(t *testing.T, prompt bool) *growing {
	r := newRig(t, shop{"shop/billing": "gone"}.head(1), Config{})
	g := &growing{client: r.connect(), rig: r}
	g.subscribe(view.CDS)
	m := g.expect("CDS shop/payments")
	g.subscribe(view.EDS, "shop/payments")
	g.want("EDS shop/payments")
	g.ack(m)
	g.subscribe(view.SRDS)
	g.want("SRDS payments.shop")
	g.subscribe(view.RDS, "shop/payments")
	g.want("RDS shop/payments")
	r.classes.publish(billed(2, "gone", prompt))
	g.warms("CDS shop/payments")
	g.want("EDS shop/payments")
	r.classes.publish(billed(3, "new", prompt))
	g.warms("CDS shop/billing")
	g.want("SRDS billing.shop")
	g.subscribe(view.RDS, "shop/billing")
	g.silent()
	return g
}

// warms expects a CDS response that is not answered for now.
func (g *growing) warms(line string) {
	g.t.Helper()
	g.answer = append(g.answer, g.expect(line).Nonce)
}

// silent is quiet for what may come after the answer to the question too: what is asked for first is said first.
func (g *growing) silent() {
	g.t.Helper()
	for range 3 {
		g.quiet()
	}
}

func TestRoutesGoToANewClusterOnceItsAssignmentIsAccepted(t *testing.T) {
	g := newGrowing(t, true)
	g.subscribe(view.EDS, "shop/billing")
	m := g.expect("EDS shop/billing")
	g.silent()
	g.ack(m)
	g.want("RDS shop/billing")
	g.silent()
}

func TestARejectedAssignmentMakesNoClusterServe(t *testing.T) {
	g := newGrowing(t, true)
	g.subscribe(view.EDS, "shop/billing")
	g.nack(g.expect("EDS shop/billing"), "malformed IP address")
	g.silent()
}

func TestRoutesWaitForANewClusterThatChecksHealth(t *testing.T) {
	g := newGrowing(t, false)
	g.subscribe(view.EDS, "shop/billing")
	g.want("EDS shop/billing")
	g.silent()
	for _, nonce := range g.answer {
		g.ackAndSubscribe(view.CDS.URL(), nonce)
	}
	g.want("RDS shop/billing")
}

// The assignment is that of a cluster that checks health, and the next one waits for its own.
func TestAnAssignmentBeforeTheClusterChangedMakesNothingServe(t *testing.T) {
	g := newGrowing(t, false)
	g.subscribe(view.EDS, "shop/billing")
	m := g.expect("EDS shop/billing")
	g.rig.classes.publish(billed(4, "newer", true))
	g.warms("CDS shop/billing")
	g.ack(m)
	m = g.expect("EDS shop/billing")
	g.silent()
	g.ack(m)
	g.want("RDS shop/billing")
}

// A cluster that goes, and comes back, is a new one.
func TestAClusterThatComesBackServesNotYet(t *testing.T) {
	g := newGrowing(t, true)
	g.subscribe(view.EDS, "shop/billing")
	g.want("EDS shop/billing")
	g.want("RDS shop/billing")
	g.rig.classes.publish(billed(4, "gone", true))
	g.want("SRDS -billing.shop")
	g.want("RDS -shop/billing")
	g.warms("CDS -shop/billing")
	g.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: view.EDS.URL(), ResourceNamesUnsubscribe: []string{"shop/billing"}})
	g.silent()
	g.rig.classes.publish(billed(5, "new", true))
	g.warms("CDS shop/billing")
	g.want("SRDS billing.shop")
	g.silent()
	g.subscribe(view.EDS, "shop/billing")
	m := g.expect("EDS shop/billing")
	g.silent()
	g.ack(m)
	g.want("RDS shop/billing")
}
