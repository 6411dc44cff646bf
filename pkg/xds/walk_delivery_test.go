package xds

import (
	"fmt"
	"slices"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// chronicle is what every edit of a walk touched, by revision.
type chronicle map[int64][]view.ID

func (c chronicle) note(before, now *world.Head) {
	var names []view.ID
	for t := range view.NumTypes {
		view.Diff(before.Views[t], now.Views[t], func(old, r *view.Resource) { names = append(names, view.ID{Type: t, Name: nameOf(old, r)}) })
	}
	c[now.Rev] = names
}

// delivery asks how far names have come, as the book does.
func (w *walk) delivery(want *Wanted) Delivery {
	snap := &snapshot{head: w.head, gates: w.state.gates}
	snap.copy(w.state)
	return snap.delivery(want, w.head.Rev)
}

// lacks says which of names the proxy has not as they are now; empty where it has all that it wants.
func (c *reference) lacks(head *world.Head, names []view.ID) string {
	for _, id := range names {
		now, held := head.Views[id.Type].Get(id.Name), c.held[id.Type][id.Name]
		if hidden := c.reported[id.Name]; id.Type == view.CDS && hidden != nil && held != nil {
			held = hidden // of the good part of a rejected response a proxy does not tell, when it comes back
		}
		switch {
		case c.asking(id): // it dropped it by itself, and the server has not heard that
		case now == nil && held != nil && wildcardByDefault(id.Type) && c.accepted(id):
			return fmt.Sprint(id, " is gone, and the proxy has it")
		case now == nil || !c.wants(id) && !c.willWant(id):
		case held == nil || held.Version != now.Version || c.warming[id.Name] != nil && id.Type == view.CDS:
			return fmt.Sprintf("%v is %s, and the proxy has %.40s", id, now.Version, fmt.Sprint(held))
		}
	}
	return ""
}

// asking reports whether the proxy is about to ask for id.
func (c *reference) asking(id view.ID) bool {
	return slices.ContainsFunc(c.out, func(q request) bool {
		return q.typ == id.Type && slices.Contains(q.subscribe, id.Name) && q.known == nil
	})
}

// willWant reports whether something that the proxy holds names id.
func (c *reference) willWant(id view.ID) bool {
	switch id.Type {
	case view.EDS:
		r := c.held[view.CDS][id.Name]
		return r != nil && len(r.Needs) == 0 || c.warming[id.Name] != nil
	case view.RDS:
		for _, scope := range c.held[view.SRDS] {
			if scope.Needs[0] == id {
				return true
			}
		}
	}
	return wildcardByDefault(id.Type)
}

// silent reports whether nobody has anything to say, or is about to.
func (w *walk) silent() bool {
	c := w.proxy
	return len(c.out)+len(c.withheld)+len(w.in) == 0 && !c.dirty && !c.paused && w.state.unanswered() == 0
}

// Whatever is rejected, dropped or reconnected: of no revision it is said that the proxy has it while it has not; and once it has, and its
// answer was heard, that is said at once.
func TestDeliveryOfARandomWalk(t *testing.T) {
	first, last := uint64(1), uint64(*walks/10)
	if *walkSeed != 0 {
		first, last = *walkSeed, *walkSeed
	}
	acked, early := 0, 0
	for seed := first; seed <= last; seed++ {
		w := newWalk(t, seed)
		past := chronicle{}
		everything := chronicle{}
		everything.note(&world.Head{}, w.head)
		for range 20 + w.rng.IntN(400) {
			before := w.head
			w.step()
			if w.head != before {
				past.note(before, w.head)
			}
			for rev := max(1, w.head.Rev-3); rev <= w.head.Rev; rev++ {
				if names, ok := past[rev]; ok {
					acked += w.judge(seed, rev, names)
					early++
				}
			}
		}
		w.calm()
		for rev, names := range past {
			w.judge(seed, rev, names)
			if d := w.delivery(&Wanted{Names: names}); d.State != Acked && d.State != Rejected {
				t.Fatalf("walk %d: at rest revision %d is %s, waiting for %v\n%s", seed, rev, d.State, d.Waiting, w.state)
			}
		}
		if d := w.delivery(&Wanted{All: true}); !w.town.evil && d.State != Acked {
			t.Fatalf("walk %d: at rest all of it is %s, waiting for %v\n%s", seed, d.State, d.Waiting, w.state)
		}
	}
	t.Logf("seeds %d to %d, %d times a revision was looked at", first, last, early)
	if *walkSeed == 0 && (acked < early/20 || acked > early*9/10) {
		t.Errorf("%d of %d times a revision had arrived: the walks prove little", acked, early)
	}
}

// judge compares what is said of a revision with what the proxy has. It is 1 where it has arrived.
func (w *walk) judge(seed uint64, rev int64, names []view.ID) int {
	d := w.delivery(&Wanted{Names: names})
	missing := w.proxy.lacks(w.head, names)
	switch {
	case d.State == Acked && missing != "":
		w.Fatalf("walk %d: revision %d is said to be there: %s\n%s", seed, rev, missing, w.state)
	case d.State == Rejected && missing == "" && !w.town.evil:
		w.Fatalf("walk %d: revision %d is said to be rejected: %+v\n%s", seed, rev, d.Rejected, w.state)
	case d.State == Pending && missing == "" && w.silent() && w.state.alarm(w.now).IsZero() && !w.speak():
		w.Fatalf("walk %d: revision %d is there and was answered, and is said to wait for %v\n%s", seed, rev, d.Waiting, w.state)
	}
	if d.State == Acked {
		return 1
	}
	return 0
}
