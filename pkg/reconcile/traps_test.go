package reconcile

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// The tests of this file are named after the traps of xDS in docs/xds-traps.md.

// What changes while nobody of a class is connected is there for who comes back, whether the class was kept for it or made anew.
func TestTrap28_WhoComesBackGetsWhatIsNow(t *testing.T) {
	inBubble(t, func(r *running) {
		r.settled(r.putService("payments"))
		for i, away := range []time.Duration{classIdle / 2, 3 * classIdle} {
			class := r.join()
			r.Leave(class)
			was := class.Head().Views[view.RDS].Get("shop/payments").Version
			rev := r.putTimeout(fmt.Sprint(i+2, "s"))
			r.settled(rev)
			time.Sleep(away)
			class = r.join()
			if now := class.Head(); now.Rev < rev || now.Views[view.RDS].Get("shop/payments").Version == was {
				t.Errorf("after %s away the head is of revision %d, with the routes of before: %v; want %d", away, now.Rev, now.Views[view.RDS].Get("shop/payments").Version == was, rev)
			}
			r.Leave(class)
		}
	})
}

// Heads are made by one goroutine, in the order of the store: none is followed by an older one, whoever comes in between.
func TestTrap29_AHeadIsNeverFollowedByAnOlderOne(t *testing.T) {
	inBubble(t, func(r *running) {
		r.settled(r.putService("payments"))
		class := r.join()
		defer r.Leave(class)
		wake := make(bell, 1)
		defer class.Subscribe(wake)()
		var revs []int64
		done, end := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-wake:
					revs = append(revs, class.Head().Rev)
				case <-end:
					return
				}
			}
		}()
		for i := range 200 {
			rev := r.putTimeout(fmt.Sprint(i%7+1, "s"))
			if i%10 == 0 {
				r.settled(rev)
			}
		}
		close(end)
		<-done
		if !slices.IsSorted(revs) || len(revs) < 10 {
			t.Errorf("the heads are of revisions %v, want a rising line", revs)
		}
	})
}
