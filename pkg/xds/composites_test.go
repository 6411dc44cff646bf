package xds

import (
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// composed is a head with a cluster that leads to both others, as content says; "" without it.
func composed(rev int64, content string) *world.Head {
	h := shop{}.head(rev)
	if content != "" {
		h.Views[view.CDS] = h.Views[view.CDS].With([]view.Change{view.Put(view.New(view.CDS, "both", cluster("both", content),
			[]view.ID{{Type: view.CDS, Name: "shop/billing"}, {Type: view.CDS, Name: "shop/payments"}}))})
	}
	return h
}

// What one change does to such a cluster must have reached the workers of an Envoy before the next one comes, or it ends. Others wait for
// nothing meanwhile.
func TestAClusterOfClustersChangesAtMostOnceInALinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, composed(1, ""), Config{Linger: DefaultLinger})
		c := r.connect()
		c.start()
		after := func(want time.Duration, line string) {
			t.Helper()
			began := time.Now()
			c.want(line)
			if d := time.Since(began); d != want {
				t.Errorf("%s came after %s, want %s", line, d, want)
			}
		}
		r.classes.publish(composed(2, "one"))
		after(0, "CDS both")
		r.classes.publish(composed(3, "two"))
		c.quiet()
		h := composed(4, "three")
		h.Views[view.RDS] = shop{"RDS shop/payments": "new"}.head(4).Views[view.RDS]
		r.classes.publish(h)
		c.want("RDS shop/payments")
		after(DefaultLinger, "CDS both")
		time.Sleep(DefaultLinger)
		r.classes.publish(composed(5, "four"))
		m := c.expect("CDS both")
		c.want("RDS shop/payments")
		time.Sleep(DefaultLinger)
		r.classes.publish(composed(6, "five"))
		c.quiet() // the one before is not answered
		c.ack(m)
		after(DefaultLinger, "CDS both")
		time.Sleep(DefaultLinger)
		r.classes.publish(composed(7, "six"))
		m = c.expect("CDS both")
		r.classes.publish(composed(8, ""))
		time.Sleep(DefaultLinger)
		c.quiet()
		c.ack(m)
		after(DefaultLinger, "CDS -both")
	})
}

// While another cluster warms, an Envoy answers nothing of CDS: that must not hold a change back for long.
func TestAClusterOfClustersWaitsForAnAnswerUpToTheHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, composed(1, ""), Config{Linger: DefaultLinger})
		c := r.connect()
		c.start()
		r.classes.publish(composed(2, "one"))
		c.expect("CDS both")
		r.classes.publish(composed(3, "two"))
		began := time.Now()
		c.want("CDS both")
		if d := time.Since(began); d != DefaultHold {
			t.Errorf("the change came after %s, want %s", d, DefaultHold)
		}
	})
}

// Where a fallback is turned off, a cluster with hosts may take the place of one that leads to others, by the same name.
func TestAClusterWithHostsWaitsForTheClusterOfClustersBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain := func(rev int64) *world.Head {
			h := composed(rev, "")
			h.Views[view.CDS] = h.Views[view.CDS].With([]view.Change{view.Put(view.New(view.CDS, "both", cluster("both", "hosts"), nil))})
			return h
		}
		r := newRig(t, composed(1, ""), Config{Linger: DefaultLinger})
		r.server.courses.eager = true
		c := r.connect()
		c.start()
		r.classes.publish(composed(2, "one"))
		c.want("CDS both")
		r.classes.publish(plain(3))
		began := time.Now()
		c.want("CDS both")
		if d := time.Since(began); d != DefaultLinger {
			t.Errorf("the change came after %s, want %s", d, DefaultLinger)
		}
		r.classes.publish(composed(4, "two")) // one with hosts is waited for by nobody
		began = time.Now()
		c.want("CDS both")
		if d := time.Since(began); d != 0 {
			t.Errorf("the change back came after %s, want at once", d)
		}
	})
}

// A proxy that reconnects may have been told of a change a moment ago, by another replica.
func TestAClusterOfClustersDoesNotChangeRightAfterAReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, composed(1, "one"), Config{Linger: DefaultLinger})
		c := r.connect()
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: view.CDS.URL(), InitialResourceVersions: map[string]string{
			"both": "older", "shop/billing": "older", "shop/payments": composed(1, "").Views[view.CDS].Get("shop/payments").Version}})
		c.want("CDS shop/billing")
		began := time.Now()
		c.want("CDS both")
		if d := time.Since(began); d != DefaultLinger {
			t.Errorf("the change came after %s, want %s", d, DefaultLinger)
		}
	})
}
