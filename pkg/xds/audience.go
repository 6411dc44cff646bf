package xds

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// Where endpoints come and go all the time, a class is told of them once in a while: it takes its time to tell thousands of proxies of one,
// and they take theirs, on machines that are there for something else. That time grows with the fleet. Nothing but assignments waits for it,
// and these not where the last of them came longer ago.
const (
	breath     = 100 * time.Microsecond // between two heads, for each proxy and of one processor
	breathMost = 250 * time.Millisecond
)

// audience is the streams of one class, which are told of its heads together: so they all go the same way, and what it takes is found once.
type audience struct {
	class *world.Class
	pause func() time.Duration
	told  atomic.Pointer[news]
	stop  func() // of its subscription to the class

	mu      sync.Mutex
	streams map[*stream]struct{}
	at      time.Time   // when it was told
	waits   *time.Timer // for the end of a breath; nil: there is nothing that it was not told
	first   time.Time   // that waits: when it was seen

	members int // streams that have joined, guarded by the server's mu
}

// news is the head that streams work towards, and when the first change was seen of those that came with it.
type news struct {
	head  *world.Head
	since time.Time
}

// head is what the streams work towards. Where nothing but the revision of the class has changed since, that is its own.
func (a *audience) head() *world.Head {
	told, now := a.told.Load().head, a.class.Head()
	if told.Views == now.Views {
		return now
	}
	return told
}

// Wake hears of a new head of the class. It does not block.
func (a *audience) Wake() {
	a.mu.Lock()
	defer a.mu.Unlock()
	h, now := a.class.Head(), time.Now()
	since := h.Seen
	if a.waits != nil {
		since = a.first
	}
	if end := a.at.Add(a.pause()); now.Before(end) && assignmentsAlone(a.told.Load().head, h) {
		if a.waits == nil {
			a.first, a.waits = since, time.AfterFunc(end.Sub(now), a.due)
		}
		return
	}
	a.tell(&news{h, since}, now)
}

// due is the end of a breath.
func (a *audience) due() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waits != nil {
		a.tell(&news{a.class.Head(), a.first}, time.Now())
	}
}

// tell wakes all streams. The caller holds mu.
func (a *audience) tell(n *news, now time.Time) {
	if a.waits != nil {
		a.waits.Stop()
		a.waits = nil
	}
	a.told.Store(n)
	a.at = now
	for st := range a.streams {
		st.Wake()
	}
}

// add has st woken from now on.
func (a *audience) add(st *stream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.streams[st] = struct{}{}
}

func (a *audience) remove(st *stream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.streams, st)
}

// assignmentsAlone reports whether nothing else is different.
func assignmentsAlone(before, after *world.Head) bool {
	for t := range view.NumTypes {
		if t != view.EDS && before.Views[t] != after.Views[t] {
			return false
		}
	}
	return true
}

// join is the audience that the class has, or a new one. It ends with as many calls of part.
func (s *Server) join(class *world.Class) *audience {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.audiences[class]
	if a == nil {
		a = &audience{class: class, pause: s.pause, streams: make(map[*stream]struct{})}
		a.told.Store(&news{head: class.Head()})
		a.stop = class.Subscribe(a)
		a.Wake() // of what came in between
		s.audiences[class] = a
	}
	a.members++
	return a
}

func (s *Server) part(a *audience) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.members--; a.members == 0 {
		delete(s.audiences, a.class)
		a.stop()
	}
}

// pause is how long a breath is at present.
func (s *Server) pause() time.Duration {
	return min(breathMost, s.breath*time.Duration(s.count.Load()))
}
