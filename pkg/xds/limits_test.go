package xds

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

func TestTooManyNamesEndTheStream(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	names := make([]string, DefaultMaxNames)
	for i := range names {
		names[i] = fmt.Sprint("shop/s", i)
	}
	c := r.connect()
	c.subscribe(view.RDS, names...)
	c.quiet()
	c.subscribe(view.RDS, "shop/one-more")
	c.ended(codes.ResourceExhausted, "10001 names of RDS")
}

func TestARequestOf17MiBIsRefused(t *testing.T) {
	log := new(record)
	r := newRig(t, shop{}.head(1), Config{Logger: log.logger()})
	c := r.connect()
	c.node = nil
	if err := c.s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: view.CDS.URL(), ResponseNonce: string(make([]byte, 17<<20))}); err != nil {
		t.Fatal(err)
	}
	c.ended(codes.ResourceExhausted, "larger than max")
	r.wait(func() bool { return log.lines("reason=size") == 1 })
}

// big is a head whose assignments together exceed what the transport takes from a proxy that does not read.
func big(rev int64, n int) *world.Head {
	h := shop{}.head(rev)
	var all []*view.Resource
	for i := range n {
		name := fmt.Sprint("shop/s", i)
		all = append(all, view.New(view.EDS, name, append(cluster(name, fmt.Sprint(rev)), make([]byte, 64<<10)...), nil))
	}
	h.Views[view.EDS] = view.Of(all...)
	return h
}

func TestAProxyThatAnswersNothingIsClosedAndTheOthersAreServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, big(1, 100), Config{})
		names := make([]string, 100)
		for i := range names {
			names[i] = fmt.Sprint("shop/s", i)
		}
		slow := r.connect()
		slow.subscribe(view.EDS, names...) // 6 MiB, and it does not read: the sender is stuck
		slow.subscribe(view.CDS)
		slow.subscribe(view.LDS)
		synctest.Wait()
		began := time.Now()

		other := r.connect()
		other.node.Id = "orders-2"
		other.subscribe(view.LDS)
		other.want("LDS outbound")
		other.subscribe(view.RTDS, "limits-0")
		other.want("RTDS limits-0")
		for rev := range 5 {
			r.classes.publish(shop{"limits": fmt.Sprint(rev)}.head(int64(rev + 2)))
			other.want("RTDS limits-0")
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("the other stream was held up for %s", d)
		}
		if n := len(r.server.Proxies()); n != 2 {
			t.Errorf("%d proxies in the book, want 2", n)
		}
		time.Sleep(DefaultAnswerTimeout + time.Second)
		synctest.Wait()
		if p := r.server.Proxies(); len(p) != 1 || p[0].ID != "orders-2" {
			t.Errorf("the book has %+v, want orders-2 alone", p)
		}
		slow.ended(codes.DeadlineExceeded, "a response of EDS has not been answered for 1m0s")
	})
}

// The answer to CDS is withheld while clusters warm: it may take longer.
func TestCDSMayBeAnsweredLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, shop{}.head(1), Config{})
		c := r.connect()
		c.subscribe(view.CDS)
		m := c.expect("CDS shop/billing shop/payments")
		time.Sleep(DefaultAnswerTimeout + time.Second)
		c.ack(m)
		c.quiet()
		r.classes.publish(shop{"CDS shop/payments": "new"}.head(2))
		c.expect("CDS shop/payments")
		began := time.Now()
		c.ended(codes.DeadlineExceeded, "a response of CDS")
		if d := time.Since(began); d != DefaultWarmingTimeout {
			t.Errorf("closed after %s, want %s", d, DefaultWarmingTimeout)
		}
	})
}

func TestASilentStreamIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, shop{}.head(1), Config{})
		c := r.connect()
		began := time.Now()
		c.ended(codes.DeadlineExceeded, "no request has come")
		if d := time.Since(began); d != greeting {
			t.Errorf("closed after %s, want %s", d, greeting)
		}
	})
}

// An alias whose new routes nobody else asks for moves after a while, so that it asks itself.
func TestAMovingAliasDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		head := func(to string) *world.Head {
			h := shop{}.head(1)
			h.Views[view.SRDS] = view.Of(view.New(view.SRDS, "pay", cluster("pay", to), []view.ID{{Type: view.RDS, Name: to}}))
			return h
		}
		r := newRig(t, head("shop/payments"), Config{})
		c := r.connect()
		c.subscribe(view.CDS)
		c.want("CDS shop/billing shop/payments")
		c.subscribe(view.SRDS)
		c.want("SRDS pay")
		c.subscribe(view.RDS, "shop/payments")
		c.want("RDS shop/payments")
		c.quiet()
		began := time.Now()
		r.classes.publish(head("shop/billing"))
		c.want("SRDS pay")
		if d := time.Since(began); d != DefaultHold {
			t.Errorf("moved after %s, want %s", d, DefaultHold)
		}
	})
}

// A peer that is gone without a word is found by pings, though no answer is due; Envoy's own pings, every 10 s, are not too many.
func TestTrap31_AHalfOpenStreamIsFound(t *testing.T) {
	if minPingOfPeer > 5*time.Second {
		t.Errorf("pings more often than every %s are punished, and Envoy sends them every 10 s", minPingOfPeer)
	}
	if pingInterval+pingTimeout > 30*time.Second {
		t.Errorf("a dead peer is found after %s, want 30 s at most", pingInterval+pingTimeout)
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, shop{}.head(1), Config{})
		c := r.connect()
		c.subscribe(view.LDS)
		c.want("LDS outbound")
		c.quiet()
		r.freeze()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if p := r.server.Proxies(); len(p) != 0 {
			t.Errorf("after 30 s the book still has %+v", p)
		}
		r.thaw()
	})
}

// A call that a fault holds back, or that waits to be tried again, looks for its cluster only then: one that nothing names any more stays
// for a while, and its assignment as long. One that is named again in that time stays for good.
func TestWhatNothingNamesStaysForCallsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, shop{}.head(1), Config{Linger: DefaultLinger})
		c := r.connect()
		c.start()
		r.classes.publish(shop{"shop/billing": "gone"}.head(2))
		c.want("SRDS -billing.shop")
		c.want("RDS -shop/billing")
		c.quiet()
		time.Sleep(DefaultLinger / 2)
		r.classes.publish(shop{}.head(3))
		c.want("SRDS billing.shop")
		c.want("RDS shop/billing")
		time.Sleep(2 * DefaultLinger)
		c.quiet() // the cluster was never away
		r.classes.publish(shop{"shop/billing": "gone"}.head(4))
		c.want("SRDS -billing.shop")
		c.want("RDS -shop/billing")
		began := time.Now()
		c.want("CDS -shop/billing")
		if d := time.Since(began); d != DefaultLinger {
			t.Errorf("removed after %s, want %s", d, DefaultLinger)
		}
		c.want("EDS -shop/billing")
		c.quiet()
	})
}
