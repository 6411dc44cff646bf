package xds

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// limits bound what one stream may ask for and how long it may take.
type limits struct {
	names      int           // subscriptions of one type
	greeting   time.Duration // the first request of a stream
	unanswered time.Duration // a response
	warming    time.Duration // a CDS response, whose answer a proxy withholds until its clusters are warm
	hold       time.Duration // how long a scope waits for its route configuration, and removals for a reconnect to tell all it holds
	linger     time.Duration // how long a cluster or a listener stays that nothing names any more
	response   int           // bytes of a response that says much at once
}

// state is the conversation with one proxy: what it subscribes to, was told and accepted. It is pure: no stream, no clock, no
// lock. request takes what the proxy says; next is what to say to it.
type state struct {
	limits  limits
	world   bool // it is held in the state of the world: a response of LDS, CDS or SRDS is all there is of the type
	gates   bool // the proxy subscribes to all clusters, as Envoy and our agent do: routes wait for them
	resumed bool // it came with resources of an earlier stream
	opened  time.Time
	last    uint64              // nonce
	seal    func(uint64) string // makes a nonce that can't be guessed; nil: it may be
	courses *courses            // nil: it finds its own way always
	subs    [view.NumTypes]sub
}

func newState(l limits, gates bool, now time.Time) *state {
	return &state{limits: l, gates: gates, opened: now}
}

// request takes one message of the proxy. Its errors are gRPC statuses, and end the stream.
func (s *state) request(q request, head *world.Head, now time.Time) error {
	sub := &s.subs[q.typ]
	repeated := false
	if s.world {
		q = sub.differ(q)
		repeated = sub.repeated(q)
	}
	if len(q.subscribe)+len(q.unsubscribe) > 0 {
		sub.urgeAsked()
	}
	if q.nonce != "" {
		s.answer(q, now)
	}
	if repeated {
		view.Diff(nil, sub.names, func(_, r *view.Resource) { sub.urge(r.Name, answer) })
	}
	first := !sub.open
	sub.open = true
	if first {
		if len(q.subscribe) == 0 && len(q.unsubscribe) == 0 && wildcardByDefault(q.typ) && !s.world {
			sub.wild = true
		}
		s.resumed = s.resumed || len(q.known) > 0
		if q.typ == view.EDS && s.gates && !s.subs[view.CDS].open {
			// Envoy asks for clusters first. It does not while one warms: that one waits for an assignment, unchanged or not.
			q.known = nil
		}
	}
	if n, most := len(q.known), s.limits.names+head.Views[q.typ].Len(); n > most {
		return refuse(tooManyNames, "the versions of %d resources of %s are told, at most %d are allowed", n, q.typ, most)
	}
	sub.drop(q.unsubscribe)
	sub.add(q, first, head.Views[q.typ])
	switch {
	case q.typ != view.EDS:
	case first:
		s.catchUp()
	default:
		s.born(q.subscribe)
	}
	if n := sub.names.Len(); n > s.limits.names {
		return refuse(tooManyNames, "%d names of %s in one stream, at most %d are allowed", n, q.typ, s.limits.names)
	}
	return nil
}

// wildcardByDefault reports whether a first request without names asks for everything.
func wildcardByDefault(t view.Type) bool { return t == view.LDS || t == view.CDS || t == view.SRDS }

// add takes new subscriptions. A name that was subscribed already is asked for again, and is answered even if unchanged.
func (s *sub) add(q request, first bool, head *view.View) {
	if first && s.names == nil && q.covers(head) {
		s.names = head // one set of names for all streams that subscribe to everything
		if len(q.known) == 0 {
			s.asked = head
			return
		}
	}
	var names, drop []view.Change
	for _, name := range q.subscribe {
		if name == "*" {
			s.everything(first)
			continue
		}
		if !first && !s.has(name) {
			drop = append(drop, view.Change{Name: name})
			s.forget(name)
			s.void(name)
		}
		if s.names.Get(name) == nil {
			r := head.Get(name)
			if r == nil {
				r = stranger(q.typ, name, "")
			}
			names = append(names, view.Put(r))
		}
		if _, known := q.known[name]; !first || !known {
			s.urge(name, answer)
		}
	}
	s.names = s.names.With(names)
	s.sent, s.acked = s.sent.With(drop), s.acked.With(drop)
	if first && len(q.known) > 0 {
		s.adopt(q.typ, q.known, head)
	}
}

// covers reports whether names are exactly those of head.
func covers(head *view.View, names []string) bool {
	if len(names) == 0 || len(names) != head.Len() {
		return false
	}
	seen := make(map[string]struct{}, len(names))
	for _, name := range names {
		if head.Get(name) == nil {
			return false
		}
		seen[name] = struct{}{}
	}
	return len(seen) == len(names)
}

// everything subscribes to whatever there is. Where that is not the first thing the proxy says, it is all told anew.
func (s *sub) everything(first bool) {
	if s.wild {
		return
	}
	s.wild = true
	if !first {
		s.sent, s.acked, s.answered = nil, nil, false
		for f := range s.flights {
			for i := range s.flights[f].list() {
				s.flights[f].items[i].void = true
			}
		}
	}
}

// drop ends subscriptions.
func (s *sub) drop(names []string) {
	var changes []view.Change
	for _, name := range names {
		if name == "*" {
			s.wild = false
			continue
		}
		changes = append(changes, view.Change{Name: name})
		if s.wild {
			s.urge(name, answer) // it is still wanted by the wildcard, and the proxy may have dropped it
			continue
		}
		s.forget(name)
		s.void(name)
	}
	s.names = s.names.With(changes)
}

// mostFlights is how many unanswered responses of a type there may be. One warming cluster withholds the answers to all CDS
// responses, so that more of those may be under way: after the first load, one for each edit while health is checked.
func (s *state) mostFlights(t view.Type) int {
	switch {
	case t != view.CDS || s.world: // where each response is all there is, the next one can wait
		return 1
	case s.subs[t].loaded:
		return 64
	}
	return 8
}

// next is the next thing to say, or nil. Types go in the order in which a proxy must receive them, removals last.
func (s *state) next(head *world.Head, now time.Time) *response {
	s.subs[view.CDS].outlive(s.limits.linger, now)
	for t := range view.NumTypes {
		if r := s.update(t, head, now); r != nil {
			return r
		}
	}
	return s.removal(head, now)
}

// atRest reports whether there is nothing to say and nothing to settle: the proxy accepted all of head that it asked for. It may be
// false where next has nothing to say either, never true where it has.
func (s *state) atRest(head *world.Head) bool {
	for t := range s.subs {
		if !s.subs[t].atRest(head.Views[t]) {
			return false
		}
	}
	return true
}

// fly books a response that is about to be sent.
func (s *state) fly(t view.Type, items []item, head *world.Head, now time.Time) *response {
	s.last++
	r := &response{typ: t, nonce: s.nonce(), rev: head.Rev}
	sub := &s.subs[t]
	sub.ahead = nil
	f := flight{number: s.last, nonce: r.nonce, at: now, items: items}
	var changes []view.Change
	for i, it := range items {
		items[i].anew = sub.force[it.name] == answer
		switch {
		case it.res == nil:
			f.removals = true
			r.gone = append(r.gone, it.name)
			delete(sub.births, it.name)
		default:
			r.set = append(r.set, it.res)
		}
		switch {
		case !it.echo:
			changes = append(changes, view.Change{Name: it.name, Now: it.res})
		case it.told != nil:
			changes = append(changes, view.Put(it.told))
		}
		delete(sub.force, it.name)
		delete(sub.held, it.name)
		s.accompany(t, it)
	}
	sub.sent = sub.sent.Toward(head.Views[t], changes)
	sub.flights = append(sub.flights, f)
	sub.answered = true
	if s.world && whole(t) {
		r.set, r.gone = sub.complete(items), nil
	}
	if !sub.loaded {
		r.loading = r.weigh()
		sub.flights[len(sub.flights)-1].loading = r.loading
	}
	return r
}

// nonce is that of the response that is about to be sent. An answer to it proves that the response was read, as it can't be known
// otherwise.
func (s *state) nonce() string {
	if s.seal != nil {
		return s.seal(s.last)
	}
	return strconv.FormatUint(s.last, 10)
}

// loading is how many bytes of first answers are under way.
func (s *state) loading() (n int64) {
	for t := range s.subs {
		for _, f := range s.subs[t].flights {
			n += f.loading
		}
	}
	return n
}

// accompany has the assignment of a cluster that is sent sent after it, changed or not: Envoy keeps a changed cluster aside until
// an assignment comes that was sent later, and only then answers CDS. Where it is not subscribed yet, the subscription will ask; one that
// leads to other clusters waits for none.
func (s *state) accompany(t view.Type, it item) {
	eds := &s.subs[view.EDS]
	if t == view.CDS && assigned(it.res) && eds.open && eds.has(it.name) {
		eds.urge(it.name, follow)
	}
}

// catchUp is accompany for the clusters that went out before the proxy that reconnects said which assignments it holds.
func (s *state) catchUp() {
	cds := &s.subs[view.CDS]
	for f := range cds.flights {
		for _, it := range cds.flights[f].list() {
			s.accompany(view.CDS, it)
		}
	}
}

// overdue is an error once a response has been unanswered for too long.
func (s *state) overdue(now time.Time) error {
	for t := range view.NumTypes {
		for _, f := range s.subs[t].flights {
			if d := now.Sub(f.at); d >= s.patience(t) {
				return refuse(answersNot, "a response of %s has not been answered for %s", t, d.Round(time.Second))
			}
		}
	}
	return nil
}

func (s *state) patience(t view.Type) time.Duration {
	if t == view.CDS {
		return s.limits.warming
	}
	return s.limits.unanswered
}

// alarm is when time alone changes what there is to say or whether the stream may live; zero if never.
func (s *state) alarm(now time.Time) time.Time {
	var first time.Time
	at := func(t time.Time) {
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	for t := range view.NumTypes {
		for _, f := range s.subs[t].flights {
			at(f.at.Add(s.patience(t)))
		}
		for _, since := range s.subs[t].held {
			if end := since.Add(s.holds(t)); end.After(now) {
				at(end)
			}
		}
	}
	for _, end := range s.settles() {
		if end.After(now) {
			at(end)
		}
	}
	if end := s.opened.Add(s.limits.hold); s.resumed && end.After(now) {
		at(end)
	}
	return first
}

// holds is how long something of a type is held back.
func (s *state) holds(t view.Type) time.Duration {
	if t == view.SRDS {
		return s.limits.hold
	}
	return s.limits.linger
}

// unanswered is the number of responses under way.
func (s *state) unanswered() int {
	n := 0
	for t := range s.subs {
		n += len(s.subs[t].flights)
	}
	return n
}

// String is for the messages of failed tests.
func (s *state) String() string {
	out := ""
	for t := range view.NumTypes {
		b := &s.subs[t]
		out += fmt.Sprintf("%s open=%v wild=%v names=%d sent=%d acked=%d flights=%d force=%v rejected=%v maybe=%v held=%v\n",
			t, b.open, b.wild, b.names.Len(), b.sent.Len(), b.acked.Len(), len(b.flights), b.force, slices.Sorted(maps.Keys(b.rejected)), slices.Sorted(maps.Keys(b.maybe)), b.held)
	}
	return out
}

// sentAt is when the response was sent that q answers, and whether there is one.
func (s *state) sentAt(q request) (time.Time, bool) {
	if q.nonce != "" {
		for _, f := range s.subs[q.typ].flights {
			if f.nonce == q.nonce {
				return f.at, true
			}
		}
	}
	return time.Time{}, false
}
