package xds

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// Where assignments change all the time, a class is told once in a while of what has changed since the last time.
func TestAssignmentsThatChangeOftenGoTogether(t *testing.T) {
	const breath = 40 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		head := shop{}.head(1)
		r := newRig(t, head, Config{})
		r.server.breath = breath
		c := r.connect()
		c.start()
		time.Sleep(breath)
		publish := func(rev int64, s shop) time.Time {
			next := &world.Head{Rev: rev, Views: head.Views}
			for typ := range view.NumTypes { // views of which nothing changed are the same, as in a world
				view.Diff(next.Views[typ], s.head(rev).Views[typ], func(_, r *view.Resource) {
					next.Views[typ] = next.Views[typ].With([]view.Change{view.Put(r)})
				})
			}
			head = next
			r.classes.publish(head)
			return time.Now()
		}
		began := publish(2, shop{"EDS shop/billing": "2"})
		c.want("EDS shop/billing")
		if d := time.Since(began); d != 0 {
			t.Errorf("the first came after %s, want at once", d)
		}
		time.Sleep(breath / 4)
		publish(3, shop{"EDS shop/billing": "3"})
		synctest.Wait()
		if rest := typeOf(t, r.server.Proxies()[0], view.EDS); rest.Pending != 1 {
			t.Errorf("%d assignments are pending, want the one that waits", rest.Pending)
		}
		time.Sleep(breath / 4)
		publish(4, shop{"EDS shop/billing": "4", "EDS shop/payments": "4"})
		c.want("EDS shop/billing shop/payments")
		if d := time.Since(began); d != breath {
			t.Errorf("the next came after %s, want %s", d, breath)
		}
		synctest.Wait() // until that is answered
		began = publish(5, shop{"EDS shop/billing": "5", "EDS shop/payments": "4", "RDS shop/payments": "5"})
		c.want("EDS shop/billing")
		c.want("RDS shop/payments")
		if d := time.Since(began); d != 0 {
			t.Errorf("what comes with an edit of a route came after %s, want at once", d)
		}
		synctest.Wait()
		publish(6, shop{"EDS shop/billing": "6", "EDS shop/payments": "4", "RDS shop/payments": "5"})
		c.want("EDS shop/billing")
		time.Sleep(breath / 4)
		publish(7, shop{"EDS shop/billing": "7", "EDS shop/payments": "4", "RDS shop/payments": "5"})
		publish(8, shop{"EDS shop/billing": "7", "EDS shop/payments": "4", "RDS shop/payments": "8"})
		c.want("EDS shop/billing")
		c.want("RDS shop/payments")
		time.Sleep(2 * breath)
		c.quiet()
	})
}

func TestABreathGrowsWithTheFleetUpToABound(t *testing.T) {
	s := New(Config{})
	s.breath = breath
	for n, want := range map[int64]time.Duration{1: breath, 1000: 1000 * breath, 1 << 20: breathMost} {
		s.count.Store(n)
		if got := s.pause(); got != want {
			t.Errorf("with %d proxies %s, want %s", n, got, want)
		}
	}
}
