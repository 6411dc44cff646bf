package xds

import (
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

func TestAnEditSendsWhatChangedAlone(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.start()
	r.classes.publish(shop{"RDS shop/payments": "retry"}.head(2))
	m := c.want("RDS shop/payments")
	if m.SystemVersionInfo != "2" {
		t.Errorf("system_version_info = %q, want the revision 2", m.SystemVersionInfo)
	}
	r.classes.publish(shop{"RDS shop/payments": "retry"}.head(3))
	c.quiet()
}

// One resource a response, so that a rejection is blamed without doubt; what is rejected is not sent again, the next version is.
func TestTrap16_ARejectedVersionIsNotSentAgainAndTheNextIs(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.start()
	edit := shop{"EDS shop/billing": "new", "EDS shop/payments": "bad", "CDS shop/billing": "new"}
	r.classes.publish(edit.head(2))
	c.want("CDS shop/billing")
	c.want("EDS shop/billing") // before what may be rejected: that would take the cluster live without it
	c.nack(c.expect("EDS shop/payments"), "malformed IP address")
	c.quiet()

	p := r.server.Proxies()
	if len(p) != 1 {
		t.Fatalf("%d proxies, want 1", len(p))
	}
	eds := typeOf(t, p[0], view.EDS)
	if len(eds.Rejected) != 1 || eds.Rejected[0].ID.Name != "shop/payments" || eds.Rejected[0].Text != "malformed IP address" || eds.Pending != 0 {
		t.Errorf("EDS of the book = %+v, want payments rejected with its text and nothing pending", eds)
	}
	edit["EDS shop/payments"] = "good"
	r.classes.publish(edit.head(3))
	c.want("EDS shop/payments")
	c.quiet()
	if eds := typeOf(t, r.server.Proxies()[0], view.EDS); len(eds.Rejected) != 0 || eds.Acked != 2 {
		t.Errorf("EDS of the book = %+v, want nothing rejected and 2 accepted", eds)
	}
}

func TestTrap15_ARejectedBatchIsSentAgainInHalves(t *testing.T) {
	r := newRig(t, shop{"CDS shop/payments": "bad"}.head(1), Config{})
	c := r.connect()
	c.subscribe(view.CDS)
	c.nack(c.expect("CDS shop/billing shop/payments"), "proto constraint validation failed")
	c.want("CDS shop/billing")
	c.nack(c.expect("CDS shop/payments"), "proto constraint validation failed")
	c.quiet()
}

// Assignments change most often: what changed while an answer was under way goes in one response, which is halved where it is rejected.
func TestAssignmentsThatChangedMeanwhileGoTogether(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.start()
	r.classes.publish(shop{"EDS shop/billing": "2"}.head(2))
	m := c.expect("EDS shop/billing")
	r.classes.publish(shop{"EDS shop/billing": "3", "EDS shop/payments": "bad"}.head(3))
	c.ack(m)
	c.nack(c.expect("EDS shop/billing shop/payments"), "malformed IP address")
	c.want("EDS shop/billing")
	c.nack(c.expect("EDS shop/payments"), "malformed IP address")
	c.quiet()
}

func TestARejectionThatNamesOneIsBelieved(t *testing.T) {
	r := newRig(t, shop{"CDS shop/payments": "bad"}.head(1), Config{})
	c := r.connect()
	c.subscribe(view.CDS)
	c.nack(c.expect("CDS shop/billing shop/payments"), "Error adding cluster(s) shop/payments: bad")
	c.want("CDS shop/billing")
	c.quiet()
}

func TestTrap11_AStaleNonceIsNoAnswerButItsSubscriptionCounts(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.subscribe(view.EDS, "shop/billing")
	m := c.expect("EDS shop/billing")
	stale := m.Nonce + "0"
	c.ackAndSubscribe(m.TypeUrl, stale, "shop/payments")
	c.subscribe(view.RTDS, "limits-0")
	c.want("RTDS limits-0") // and not EDS, whose first response is still unanswered
	c.ack(m)
	c.want("EDS shop/payments")
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		text, name string
		want       bool
	}{
		{"cluster shop/payments: bad", "shop/payments", true},
		{"cluster shop/payments.", "shop/payments", true},
		{`"shop/payments|v2"`, "shop/payments", false},
		{"shop/payments2", "shop/payments", false},
		{"shop/payments2 and shop/payments", "shop/payments", true},
		{"eshop/payments", "shop/payments", false},
		{"a.payments.shop", "payments.shop", false},
		{"payments.shop.eu", "payments.shop", false},
		{"payments.shop", "payments.shop", true},
		{"anything", "", false},
	} {
		if got := names(tt.text, tt.name); got != tt.want {
			t.Errorf("names(%q, %q) = %v, want %v", tt.text, tt.name, got, tt.want)
		}
	}
}

func typeOf(t *testing.T, p Proxy, typ view.Type) TypeState {
	t.Helper()
	for _, ts := range p.Types {
		if ts.Type == typ {
			return ts
		}
	}
	t.Fatalf("%s is not in %+v", typ, p)
	return TypeState{}
}
