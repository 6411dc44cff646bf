package xds

import (
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// The tests of this file and of traps_answer_test.go are named after the traps of xDS in docs/xds-traps.md.

// with is h with a resource of that content in place of the one of its name.
func with(h *world.Head, t view.Type, name, content string, needs ...string) *world.Head {
	var ids []view.ID
	for _, need := range needs {
		ids = append(ids, view.ID{Type: view.CDS, Name: need})
	}
	h.Views[t] = h.Views[t].With([]view.Change{view.Put(view.New(t, name, cluster(name, content), ids))})
	return h
}

// without is h without a resource.
func without(h *world.Head, t view.Type, name string) *world.Head {
	h.Views[t] = h.Views[t].With([]view.Change{{Name: name}})
	return h
}

// moved is a head in which the routes of payments lead to billing, and the cluster of payments is gone.
func moved(rev int64) *world.Head {
	h := with(shop{}.head(rev), view.RDS, "shop/payments", "moved", "shop/billing")
	return without(without(h, view.CDS, "shop/payments"), view.EDS, "shop/payments")
}

// answered waits until the server has heard the answers to all that it said.
func (r *rig) answered() {
	r.t.Helper()
	for {
		changed, busy := r.server.Changed(), 0
		for _, st := range r.server.list() {
			st.mu.Lock()
			busy += st.state.unanswered()
			st.mu.Unlock()
		}
		if busy == 0 {
			return
		}
		<-changed
	}
}

func TestTrap01_ResponsesComeInOrder(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.start()
	c.subscribe(view.RTDS, "limits-0")
	c.want("RTDS limits-0")
	r.answered()
	edit := shop{"limits": "new", "CDS shop/payments": "new", "RDS shop/payments": "new"}
	r.classes.publish(with(with(edit.head(2), view.LDS, "outbound", "new"), view.SRDS, "payments.shop", "new"))
	c.want("RTDS limits-0")
	m := c.expect("CDS shop/payments")
	c.want("EDS shop/payments")
	c.want("LDS outbound")
	c.want("SRDS payments.shop")
	c.want("RDS shop/payments")
	c.ack(m)
	c.quiet()
}

func TestTrap02_AClusterGoesAfterTheRouteThatNamedItIsAccepted(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.start()
	r.classes.publish(moved(2))
	m := c.expect("RDS shop/payments")
	c.quiet()
	c.nack(m, "no such thing")
	c.quiet() // the old routes are in force, and name it
	r.classes.publish(with(moved(3), view.RDS, "shop/payments", "better", "shop/billing"))
	c.want("RDS shop/payments")
	c.want("CDS -shop/payments")
	c.want("EDS -shop/payments")
	c.quiet()
}

// A proxy may work with what was good in a response that it rejected, until it accepts something else of that name.
func TestTrap02_AClusterStaysThatTheGoodPartOfARejectionNames(t *testing.T) {
	h := with(with(shop{"RDS shop/billing": "bad"}.head(1), view.CDS, "shop/third", ""), view.RDS, "shop/payments", "third", "shop/third")
	r := newRig(t, h, Config{})
	c := r.connect()
	c.subscribe(view.CDS)
	c.want("CDS shop/billing shop/payments shop/third")
	c.subscribe(view.LDS)
	c.want("LDS outbound")
	c.subscribe(view.SRDS)
	c.want("SRDS billing.shop payments.shop")
	c.subscribe(view.RDS, "shop/billing", "shop/payments")
	m := c.expect("RDS shop/billing shop/payments")
	r.classes.publish(shop{"RDS shop/billing": "bad", "RDS shop/payments": "bad"}.head(2))
	c.nack(m, "shop/billing is bad")
	c.nack(c.expect("RDS shop/payments"), "no")
	c.quiet()
	r.classes.publish(shop{"RDS shop/billing": "bad"}.head(3))
	c.want("RDS shop/payments")
	c.want("CDS -shop/third")
	c.quiet()
}

// The control plane dies after the new cluster, before the routes that name it: the one that comes after it goes on there, and takes
// nothing away before.
func TestTrap03_AMoveGoesOnAfterTheStreamBroke(t *testing.T) {
	before := without(without(shop{}.head(1), view.CDS, "shop/billing"), view.EDS, "shop/billing")
	before = without(without(before, view.RDS, "shop/billing"), view.SRDS, "billing.shop")
	first := newRig(t, before, Config{})
	c := first.connect()
	c.subscribe(view.CDS)
	c.want("CDS shop/payments")
	c.subscribe(view.EDS, "shop/payments")
	c.want("EDS shop/payments")
	c.subscribe(view.RDS, "shop/payments")
	c.want("RDS shop/payments")
	first.classes.publish(moved(2))
	c.want("CDS shop/billing")
	c.stop()

	second := newRig(t, moved(2), Config{})
	d := second.connect()
	between := *before
	between.Views[view.CDS] = shop{}.head(1).Views[view.CDS] // both
	d.resume(view.CDS, &between)
	d.want("CDS")
	d.resume(view.EDS, before, "shop/payments", "shop/billing")
	d.want("EDS shop/billing")
	d.resume(view.RDS, before, "shop/payments")
	m := d.expect("RDS shop/payments")
	d.resume(view.LDS, shop{}.head(1))
	d.want("LDS")
	d.resume(view.SRDS, before)
	d.want("SRDS billing.shop")
	d.quiet()
	d.ack(m)
	d.want("CDS -shop/payments")
	d.want("EDS -shop/payments")
	d.quiet()
}

// An Envoy that waits for an assignment answers no CDS response: silence is no answer, whatever is asked for.
func TestTrap06_EveryAssignmentThatIsAskedForIsAnswered(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.subscribe(view.EDS, "shop/billing", "shop/none")
	c.want("EDS -shop/none shop/billing")
	r.classes.publish(shop{"EDS shop/payments": "bad"}.head(2))
	c.subscribe(view.EDS, "shop/payments")
	c.nack(c.expect("EDS shop/payments"), "malformed IP address")
	c.subscribe(view.EDS, "shop/payments")
	c.want("EDS -shop/payments")
	r.classes.publish(shop{"shop/billing": "gone"}.head(3))
	c.want("EDS shop/payments")
	c.want("EDS -shop/billing")
	c.subscribe(view.EDS, "shop/billing")
	c.want("EDS -shop/billing")
	c.quiet()
}

// What is asked for and what exists may differ both ways.
func TestTrap08_NamesThatAreNotAskedForHoldUpNothing(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	t.Run("delta", func(t *testing.T) {
		c := r.connect()
		c.subscribe(view.EDS, "shop/none", "shop/payments")
		c.want("EDS -shop/none shop/payments")
		r.classes.publish(shop{"EDS shop/payments": "new", "EDS shop/billing": "new"}.head(2))
		c.want("EDS shop/payments")
		c.quiet()
	})
	t.Run("state of the world", func(t *testing.T) {
		s := r.connectWorld()
		s.ask(view.EDS, "", "", "shop/none", "shop/payments")
		m := s.want(view.EDS, "shop/payments")
		s.ask(view.EDS, m.GetNonce(), "", "shop/none", "shop/payments")
		r.classes.publish(shop{"EDS shop/payments": "newer", "EDS shop/billing": "newer"}.head(3))
		s.want(view.EDS, "shop/payments")
	})
}

// An assignment whose cluster is not there, since it was rejected, is neither sent nor in the way of others.
func TestTrap09_AnAssignmentOfAClusterThatIsNotThereIsNotSent(t *testing.T) {
	r := newRig(t, shop{"shop/billing": "gone"}.head(1), Config{})
	c := r.connect()
	c.subscribe(view.CDS)
	c.want("CDS shop/payments")
	c.subscribe(view.EDS, "shop/payments")
	c.want("EDS shop/payments")
	r.classes.publish(shop{}.head(2))
	c.nack(c.expect("CDS shop/billing"), "no such thing")
	r.classes.publish(shop{"EDS shop/payments": "new", "EDS shop/billing": "new"}.head(3))
	c.want("EDS shop/payments")
	c.quiet()
}

// A cluster that comes back while its assignment was changed there and back waits for it all the same.
func TestTrap27_AnAssignmentThatIsAsBeforeIsSentToAClusterThatWaits(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.start()
	r.classes.publish(shop{"EDS shop/payments": "new"}.head(2))
	m := c.expect("EDS shop/payments")
	r.classes.publish(shop{"EDS shop/payments": "newer", "CDS shop/payments": "new"}.head(3))
	cds := c.expect("CDS shop/payments")
	r.classes.publish(shop{"EDS shop/payments": "new", "CDS shop/payments": "new"}.head(4))
	c.ack(m)
	c.want("EDS shop/payments") // it was sent, but before the cluster
	c.ack(cds)
	c.quiet()
}

// An assignment was in a response that was rejected as a whole, and is away while that is sent again. It comes back as it was.
func TestTrap27_AnAssignmentThatWasAwayAfterARejectionIsSent(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.subscribe(view.EDS, "shop/billing", "shop/payments")
	m := c.expect("EDS shop/billing shop/payments")
	r.classes.publish(without(shop{}.head(2), view.EDS, "shop/payments"))
	c.nack(m, "malformed IP address")
	c.want("EDS shop/billing")
	m = c.expect("EDS -shop/payments")
	r.classes.publish(shop{}.head(3))
	c.ack(m)
	c.want("EDS shop/payments")
	c.quiet()
}
