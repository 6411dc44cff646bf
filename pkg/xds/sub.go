package xds

import (
	"slices"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// request is one message of a proxy, in whichever dialect of xDS it was written.
type request struct {
	typ         view.Type
	wanted      []string // in the state of the world: all there is, from which subscribe and unsubscribe follow
	subscribe   []string
	unsubscribe []string
	list        *roster           // all of wanted, or of the first dialect's subscribe, where others may say the same; else nil
	known       map[string]string // the versions that a proxy which reconnects holds, by name
	nonce       string            // of the response that it answers, or ""
	rejected    bool
	text        string // of the rejection
	size        int    // in bytes, on the wire
}

// response is what the state machine wants said, in whichever dialect.
type response struct {
	typ   view.Type
	nonce string
	rev   int64
	set   []*view.Resource
	gone  []string
	bytes []byte // of set, where many streams say the same

	loading int64 // bytes, where it is of the first load of its type; else 0
}

// weigh is about how many bytes r has.
func (r *response) weigh() (n int64) {
	if r.bytes != nil {
		return int64(len(r.bytes))
	}
	for _, res := range r.set {
		n += int64(len(res.Wire))
	}
	return n
}

// item is one name in a response that is not answered yet.
type item struct {
	name string
	res  *view.Resource // nil: a removal
	echo bool           // an older version that the proxy accepted is said again
	told *view.Resource // of an echo: the version that was rejected, which counts as sent
	void bool           // its subscription changed meanwhile: an ACK says nothing of it, but it was sent
	anew bool           // the proxy asked for it although it was subscribed: it may not have had it since
}

// bytes is what the item adds to a response, about.
func (i item) bytes() int {
	if i.res == nil {
		return len(i.name)
	}
	return len(i.res.Wire)
}

// flight is a response that is not answered yet.
type flight struct {
	number   uint64 // of all responses of the stream, from 1
	nonce    string
	at       time.Time
	items    []item
	removals bool
	loading  int64 // as the response's

	leg  *leg // what it says in place of items
	anew bool // of all that the leg says
}

// list is what the response says.
func (f *flight) list() []item {
	if f.leg != nil {
		f.items, f.leg = f.leg.items(f.anew), nil
	}
	return f.items
}

// urge is why a name is sent although sent says that the proxy has it. The greater wins.
type urge uint8

const (
	again  urge = iota + 1 // it was in a response that was rejected as a whole
	follow                 // the assignment of a cluster that was sent
	answer                 // the proxy asked for the name: something must be said
)

// rejection is what a proxy said of one version of a resource.
type rejection struct {
	version string
	text    string
	since   time.Time
}

// sub is what one stream knows of one type. sent and acked hold, for every name that the proxy subscribes to, exactly what it was
// told and what it accepted; of other names they say nothing. That lets both be the head's own view whenever there is nothing to
// do, so that a stream at rest has no entry for a resource. The maps are empty, and mostly nil, at rest.
type sub struct {
	open     bool // the proxy has asked for the type
	wild     bool // it subscribes to whatever there is
	answered bool // the first answer is out
	heard    bool // the proxy has accepted or rejected something on this stream
	loaded   bool // the first load is over
	limit    int  // > 0: bisecting a rejection that named nobody

	names   *view.View // explicit subscriptions; only its names count. The head's view where the names are the same
	asked   *view.View // names that the proxy asked for as it came; those that were not sent yet are urged to be answered
	ahead   *leg       // the next one, where the last response was a leg
	said    *roster    // in the state of the world, what the last request wanted; nil: it has to be looked at
	sent    *view.View
	acked   *view.View
	flights []flight

	force    map[string]urge
	rejected map[string]rejection
	maybe    map[string]*view.Resource // what the proxy may hold, such as of a response that it rejected, until it accepts something of the name
	lately   []taken                   // of CDS, the oldest first
	births   map[string]bool           // of CDS: see state.born
	held     map[string]time.Time      // since when: scopes wait for their route configuration, clusters and listeners for their end
}

func (s *sub) has(name string) bool { return s.wild || s.names.Get(name) != nil }

// urgeAsked urges each name that was asked for as the proxy came: from here on they are looked at one by one.
func (s *sub) urgeAsked() {
	if s.asked == nil {
		return
	}
	view.Diff(s.sent, s.asked, func(_, r *view.Resource) {
		if r != nil {
			s.urge(r.Name, answer)
		}
	})
	s.asked = nil
}

func (s *sub) urge(name string, u urge) {
	if s.force == nil {
		s.force = make(map[string]urge)
	}
	s.force[name] = max(s.force[name], u)
}

// forget drops every exception of a name.
func (s *sub) forget(name string) {
	delete(s.force, name)
	delete(s.rejected, name)
	delete(s.maybe, name)
	delete(s.held, name)
}

// land ends a flight. Where it was the only one, nothing is kept: a fleet at rest has no room for what was under way.
func (s *sub) land(i int) {
	if len(s.flights) == 1 {
		s.flights, s.births = nil, nil
		return
	}
	s.flights = slices.Delete(s.flights, i, i+1)
}

// void makes the answers in flight say nothing of name.
func (s *sub) void(name string) {
	for f := range s.flights {
		for i := range s.flights[f].list() {
			if it := &s.flights[f].items[i]; it.name == name {
				it.void = true
			}
		}
	}
}

// flying reports whether an unanswered response speaks of name.
func (s *sub) flying(name string) bool {
	for f := range s.flights {
		for _, it := range s.flights[f].list() {
			if it.name == name && !it.void {
				return true
			}
		}
	}
	return false
}

// leaving reports whether an unanswered response removes name.
func (s *sub) leaving(name string) bool {
	for _, f := range s.flights {
		if !f.removals {
			continue
		}
		for _, it := range f.items {
			if it.name == name && it.res == nil {
				return true
			}
		}
	}
	return false
}

// surely reports whether the proxy holds a version of name and nothing under way takes it away. One that asks for the name anew may
// have dropped it: Envoy does not tell of a subscription that ends and begins again in one go.
func (s *sub) surely(name string) bool {
	return s.open && s.has(name) && s.acked.Get(name) != nil && s.sent.Get(name) != nil && !s.leaving(name) && !s.lost(name)
}

// lost reports whether the proxy asked for name anew, and has not accepted the answer yet.
func (s *sub) lost(name string) bool {
	if s.force[name] == answer {
		return true
	}
	for f := range s.flights {
		if fl := &s.flights[f]; fl.leg != nil && !fl.anew {
			continue
		}
		for _, it := range s.flights[f].list() {
			if it.name == name && it.anew && !it.void {
				return true
			}
		}
	}
	return false
}

// holds is the version of name that the proxy works with, as far as was said; nil if none.
func (s *sub) holds(name string) *view.Resource {
	if _, bad := s.rejected[name]; bad {
		return s.acked.Get(name)
	}
	return s.sent.Get(name)
}

// suppose books that the proxy may hold r. Of several versions nobody knows which.
func (s *sub) suppose(r *view.Resource) {
	if old := s.maybe[r.Name]; old != nil && old.Version != r.Version {
		r = stranger(r.Type, r.Name, "")
	}
	if s.maybe == nil {
		s.maybe = make(map[string]*view.Resource)
	}
	s.maybe[r.Name] = r
}

// all is each, and what the proxy may have taken out of responses that it rejected.
func (s *sub) all(f func(*view.Resource)) {
	s.each(f)
	for _, r := range s.maybe {
		f(r)
	}
}

// each calls f with every version of every resource that the proxy holds at this moment, or will if it accepts what is under way.
func (s *sub) each(f func(*view.Resource)) {
	if !s.open {
		return
	}
	use := func(_, r *view.Resource) {
		if r != nil && s.has(r.Name) && !s.rejectedNow(r) {
			f(r)
		}
	}
	view.Diff(nil, s.sent, use)
	view.Diff(s.sent, s.acked, use)
	for i := range s.flights {
		for _, it := range s.flights[i].list() {
			use(nil, it.res)
		}
	}
}

// rejectedNow reports whether the proxy said no to this very version.
func (s *sub) rejectedNow(r *view.Resource) bool {
	no, bad := s.rejected[r.Name]
	return bad && no.version == r.Version
}

// adopt takes over what a proxy that reconnects says it holds.
func (s *sub) adopt(t view.Type, known map[string]string, head *view.View) {
	var changes []view.Change
	view.Diff(nil, head, func(_, r *view.Resource) {
		if _, has := known[r.Name]; !has {
			changes = append(changes, view.Change{Name: r.Name})
		}
	})
	for name, version := range known {
		if !s.has(name) {
			continue
		}
		if r := head.Get(name); r == nil || r.Version != version {
			changes = append(changes, view.Put(stranger(t, name, version)))
		}
	}
	s.sent = head.With(changes)
	s.acked = s.sent
}

// stranger stands for a resource that a proxy holds and of which the version alone is known.
func stranger(t view.Type, name, version string) *view.Resource {
	return &view.Resource{Type: t, Name: name, Version: version}
}

// unknown reports whether r is a stranger: nobody knows what it needs.
func unknown(r *view.Resource) bool { return r.Wire == nil }

// atRest reports whether rest would change nothing, and nothing is under way.
func (s *sub) atRest(head *view.View) bool {
	if !s.open {
		return true
	}
	return s.loaded && s.answered && s.limit == 0 && s.asked == nil && s.sent == head && s.acked == head && len(s.flights)+len(s.force)+len(s.rejected)+len(s.maybe)+len(s.held) == 0
}

// rest makes the views the head's own, now that nothing is left to say.
func (s *sub) rest(head *view.View) {
	s.sent = head
	if len(s.flights) > 0 {
		return
	}
	s.loaded, s.limit, s.force, s.held = true, 0, nil, nil
	if len(s.rejected) == 0 {
		s.acked, s.rejected, s.maybe = head, nil, nil
	}
	s.call(head)
}

// call makes v the set of names, where it has the same: there is one for all streams that subscribe to everything.
func (s *sub) call(v *view.View) {
	if s.names == v || s.names.Len() != v.Len() {
		return
	}
	same := true
	view.Until(s.names, v, func(old, now *view.Resource) bool {
		same = old != nil && now != nil
		return same
	})
	if same {
		s.names = v
	}
}
