package xds

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// A stream that goes the way of others says what it would have said by itself, and holds the same in the end.
func TestACourseSaysWhatAStreamSaysByItself(t *testing.T) {
	for seed := range uint64(200) {
		town := newTown(rand.New(rand.NewPCG(seed, 2)))
		town.evil = false
		heads := []*world.Head{town.head()}
		for range 4 {
			town.edit()
			heads = append(heads, town.head())
		}
		for _, dialect := range []string{"delta", "state of the world"} {
			shared := newCourses(1 << 10)
			shared.after = nil
			alone := conversation(t, heads, dialect, nil)
			conversation(t, heads, dialect, shared) // asks for each course once
			if got := conversation(t, heads, dialect, shared); !slices.Equal(got, alone) {
				t.Fatalf("walk %d, %s: %s", seed, dialect, firstDifference(got, alone))
			}
		}
	}
}

func firstDifference(got, want []string) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("at %d got %q, want %q", i, got[i:min(i+5, len(got))], want[i:min(i+5, len(want))])
		}
	}
	return fmt.Sprintf("got %d things, want %d", len(got), len(want))
}

// conversation is what one stream is told until it holds each head in turn, sorted within a head.
func conversation(t *testing.T, heads []*world.Head, dialect string, shared *courses) (told []string) {
	t.Helper()
	now := time.Unix(1000, 0)
	s := newState(testLimits, true, now)
	s.courses, s.world = shared, dialect != "delta"
	for _, head := range heads {
		var step []string
		for range 4 {
			for typ := range view.NumTypes {
				q := request{typ: typ}
				if !wildcardByDefault(typ) {
					q = asks(&s.subs[typ], head.Views[typ], typ, s.world)
				}
				if first := !s.subs[typ].open; first || len(q.subscribe)+len(q.wanted) > 0 {
					must(t, s.request(q, head, now))
				}
				step = append(step, answered(t, s, head, now)...)
			}
			now = now.Add(time.Minute)
		}
		slices.Sort(step)
		told = append(told, step...)
		for typ := range view.NumTypes {
			if sub := &s.subs[typ]; sub.acked != sub.sent || sub.ahead != nil || sub.asked != nil || len(sub.flights) > 0 {
				t.Fatalf("not at rest:\n%s", s)
			}
		}
	}
	return told
}

// asks subscribes to what of head the proxy has not asked for.
func asks(sub *sub, head *view.View, typ view.Type, world bool) request {
	q := request{typ: typ}
	var all, fresh []string
	for r := range head.All() {
		all = append(all, r.Name)
		if sub.names.Get(r.Name) == nil {
			fresh = append(fresh, r.Name)
		}
	}
	if world && len(fresh) > 0 {
		q.wanted = all
	} else if !world {
		q.subscribe = fresh
	}
	return q
}

// answered is what s has to say, each response accepted at once.
func answered(t *testing.T, s *state, head *world.Head, now time.Time) (told []string) {
	t.Helper()
	for r := s.next(head, now); r != nil; r = s.next(head, now) {
		for _, res := range r.set {
			told = append(told, fmt.Sprint(res.ID(), "@", res.Version))
		}
		for _, name := range r.gone {
			told = append(told, fmt.Sprint(r.typ, " -", name))
		}
		if n := len(r.bytes); n > 0 {
			for _, res := range r.set {
				n -= len(res.Wire)
				if s.world {
					n += len(res.Wire) - len(res.Sotw)
				}
			}
			if n != 0 {
				t.Fatalf("the bytes of a %s response are %d more than its resources", r.typ, n)
			}
		}
		q := request{typ: r.typ, nonce: r.nonce}
		if s.world && !wildcardByDefault(r.typ) {
			view.Diff(nil, s.subs[r.typ].names, func(_, r *view.Resource) { q.wanted = append(q.wanted, r.Name) })
		}
		must(t, s.request(q, head, now))
	}
	return told
}

// A stream that went its own way, and whose proxy has not answered when the next head comes, goes on with the others.
func TestAStreamComesBackToTheCoursesOfOthers(t *testing.T) {
	a, names := fleetHead(100)
	edit := func(h *world.Head, name, content string) *world.Head {
		next := &world.Head{Rev: h.Rev + 1, Views: h.Views}
		next.Views[view.EDS] = h.Views[view.EDS].With([]view.Change{view.Put(view.New(view.EDS, name, []byte(content), nil))})
		return next
	}
	b := edit(a, names[1], "b")
	c := edit(b, names[2], "c")
	now := time.Unix(1000, 0)
	s := newState(testLimits, true, now)
	must(t, s.request(request{typ: view.EDS, subscribe: names}, a, now))
	answered(t, s, a, now)
	own := s.next(b, now) // it has no courses yet
	s.courses = &courses{eager: true, most: 1 << 10}
	must(t, s.request(request{typ: view.EDS, nonce: own.nonce}, c, now))
	if s.leg(view.EDS, c) == nil {
		t.Error("it goes its own way for ever")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A course is laid for the second stream that would go it, and is forgotten some time later.
func TestACourseIsLaidForTheSecondStream(t *testing.T) {
	head, _ := fleetHead(100)
	var forget func()
	c := &courses{most: 1 << 10, after: func(_ time.Duration, f func()) { forget = f }}
	j := journey{typ: view.CDS, to: head.Views[view.CDS]}
	if c.find(j) != nil {
		t.Error("the first stream got a course, want none")
	}
	first := c.find(j)
	if first == nil || first != c.find(j) {
		t.Fatal("the second stream and the third have no course in common")
	}
	n := 0
	last := first
	for l := first; l != nil; last, l = l, l.next {
		n++
		if most := c.most + len(l.set[0].Wire); len(l.bytes) > most || l.next != nil && len(l.bytes) < c.most {
			t.Errorf("a leg of %d bytes, want %d to %d", len(l.bytes), c.most, most)
		}
	}
	if n < 3 || last.after != j.to {
		t.Errorf("%d legs that end at %p, want some that end at %p", n, last.after, j.to)
	}
	forget()
	if c.find(j) != nil {
		t.Error("a course was kept that is to be forgotten")
	}
}
