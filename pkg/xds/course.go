package xds

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// leg is one response on the way from one view of a type to another, as it is for every stream that has nothing of its own to say. It
// is shared and immutable.
type leg struct {
	before, after *view.View
	from, to      *view.View // of the whole course, which ends before what has to wait or to go
	next          *leg
	adds          bool // the course brings names that were not there
	changed       []*view.Resource
	set           []*view.Resource // changed, and in the state of the world what the proxy is to keep
	bytes         []byte           // of set, in the dialect of the course
}

// items is what the leg says, as if the stream had come to it by itself.
func (l *leg) items(anew bool) (items []item) {
	for _, r := range l.changed {
		items = append(items, item{name: r.Name, res: r, anew: anew})
	}
	return items
}

// journey is what tells courses apart.
type journey struct {
	typ      view.Type
	from, to *view.View
	clusters *view.View // which the proxies have accepted; nil where the type needs none
	loaded   bool       // sub.loaded
	world    bool       // state.world
}

// Bounds of courses. Where many streams have one way to go, they go it at about the same time.
const (
	coursesKept = 5 * time.Second
	mostCourses = 1024
)

// courses are the ways that streams went lately. One is laid when a second stream is about to go it, so that a fleet of any size looks
// at what changed once, and keeps what is under way once. Its methods may be called by any goroutine.
type courses struct {
	mu    sync.Mutex
	known map[journey]*course
	after func(time.Duration, func()) // time.AfterFunc; nil: nothing is forgotten
	eager bool                        // the first stream is enough
	most  int                         // bytes of a leg, as limits.response
}

// course is one way. It has no legs where it was asked for once, or where all that is to do depends on the stream.
type course struct {
	laid  bool
	first *leg
}

func newCourses(most int) *courses {
	return &courses{most: most, after: func(d time.Duration, f func()) { time.AfterFunc(d, f) }}
}

// find is the first leg of a journey, or nil where each stream has to find its own way.
func (c *courses) find(j journey) *leg {
	c.mu.Lock()
	defer c.mu.Unlock()
	way := c.known[j]
	if way == nil {
		way = c.note(j)
		if !c.eager {
			return nil
		}
	}
	if !way.laid {
		way.laid, way.first = true, lay(j, c.most)
	}
	return way.first
}

func (c *courses) note(j journey) *course {
	if len(c.known) >= mostCourses {
		c.known = nil
	}
	if c.known == nil {
		c.known = make(map[journey]*course)
		if c.after != nil {
			c.after(coursesKept, c.forget)
		}
	}
	way := new(course)
	c.known[j] = way
	return way
}

func (c *courses) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = nil
}

// lay cuts a journey into legs of so many bytes. What is to be removed, or may have to wait for what it needs, is left to each stream.
func lay(j journey, most int) *leg {
	var all []view.Change
	adds, left := false, false
	view.Diff(j.from, j.to, func(old, now *view.Resource) {
		switch {
		case now == nil:
		case j.waits(old, now):
			left = true
		default:
			all = append(all, view.Put(now))
			adds = adds || old == nil
		}
	})
	if left && j.world && whole(j.typ) {
		return nil // or what need not wait would be said in a response of its own, with all the rest
	}
	if most = bound(j.typ, j.loaded, len(all), most); j.world && whole(j.typ) {
		most = math.MaxInt
	}
	var first *leg
	end, at := &first, j.from
	for len(all) > 0 {
		n := fitting(all, most, func(c view.Change) int { return len(c.Now.Wire) })
		some := all[:n]
		all = all[n:]
		l := &leg{before: at, after: at.Toward(j.to, some), from: j.from, to: j.to, adds: adds}
		at = l.after
		l.fill(j, some)
		*end, end = l, &l.next
	}
	return first
}

// waits reports whether r may have to wait for what it needs.
func (j journey) waits(old, r *view.Resource) bool {
	if j.typ == view.CDS && leads(old) {
		return true
	}
	if j.typ == view.SRDS {
		return old != nil && (unknown(old) || !slices.Equal(old.Needs, r.Needs))
	}
	return slices.ContainsFunc(r.Needs, func(need view.ID) bool {
		return need.Type == view.CDS && j.clusters.Get(need.Name) == nil
	})
}

// fill puts in what the leg says.
func (l *leg) fill(j journey, changes []view.Change) {
	for _, c := range changes {
		l.changed = append(l.changed, c.Now)
	}
	l.set = l.changed
	if j.world && whole(j.typ) {
		view.Diff(nil, l.after, func(_, r *view.Resource) {
			if !unknown(r) && !view.Differs(l.before, l.after, r.Name) {
				l.set = append(l.set, r)
			}
		})
	}
	part := func(r *view.Resource) []byte {
		if j.world {
			return r.Sotw
		}
		return r.Wire
	}
	if len(l.set) == 1 {
		l.bytes = part(l.set[0])
		return
	}
	for _, r := range l.set {
		l.bytes = append(l.bytes, part(r)...)
	}
}

// leg is the next response of a type where a course leads to head, nil where this stream has something of its own to say.
func (s *state) leg(t view.Type, head *world.Head) *leg {
	sub, to := &s.subs[t], head.Views[t]
	if s.courses == nil || sub.sent == to || sub.limit > 0 || len(sub.force)+len(sub.rejected)+len(sub.held) > 0 ||
		sub.asked != nil && sub.asked != to {
		return nil
	}
	j := journey{typ: t, from: sub.sent, to: to, loaded: sub.loaded, world: s.world}
	if s.gates && (t == view.LDS || t == view.RDS) {
		j.clusters = head.Views[view.CDS]
		if cds := &s.subs[view.CDS]; !cds.open || !cds.atRest(j.clusters) {
			return nil
		}
	}
	l := sub.ahead
	if l == nil || l.before != sub.sent || l.to != to {
		l = s.courses.find(j)
	}
	if l == nil || sub.wild || sub.names == to {
		return l
	}
	if sub.call(l.from); l.adds || sub.names != l.from {
		return nil
	}
	return l
}

// follow books that l is about to be sent.
func (s *state) follow(t view.Type, l *leg, head *world.Head, now time.Time) *response {
	s.last++
	sub := &s.subs[t]
	r := &response{typ: t, nonce: s.nonce(), rev: head.Rev, set: l.set, bytes: l.bytes}
	if !sub.loaded {
		r.loading = r.weigh()
	}
	sub.flights = append(sub.flights, flight{number: s.last, nonce: r.nonce, at: now, leg: l, anew: sub.asked != nil, loading: r.loading})
	sub.sent, sub.ahead, sub.answered = l.after, l.next, true
	if sub.sent == l.to {
		sub.asked = nil
		if !sub.wild {
			sub.names = l.to // the same names, and one set of them for all streams
		}
	}
	if t == view.CDS && s.subs[view.EDS].open {
		for _, res := range l.changed {
			s.accompany(t, item{name: res.Name, res: res})
		}
	}
	return r
}
