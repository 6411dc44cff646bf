package xds

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// admission bounds how many bytes of first answers are under way, sent and not answered yet, over all streams: however many proxies
// come at once, those that were let in are served soon, and in the order in which they came.
//
// What counts is what was sent in truth, so a proxy that reads nothing takes no more than its first responses. A stream that waits
// holds nothing, and one that holds something does not wait, since its proxy may answer the first response only once it has the next. A
// share is given back when the responses are answered, when the stream ends, and after a while in any case: a proxy that answers
// nothing is no longer waited for by others, long before it is closed.
type admission struct {
	bytes *semaphore.Weighted
	most  int64         // bytes
	wait  time.Duration // for a turn
	keep  time.Duration // a share
}

func newAdmission(most int64, wait, keep time.Duration) *admission {
	return &admission{bytes: semaphore.NewWeighted(most), most: most, wait: wait, keep: keep}
}

// share is what one stream holds. The zero value with an admission holds nothing.
type share struct {
	of *admission

	mu     sync.Mutex
	held   int64
	closed bool
	end    *time.Timer // of the share; nil: it holds nothing
}

// take takes n bytes without waiting, where no stream waits. False: this one must wait for its turn.
func (s *share) take(n int64, nobodyWaits bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = min(n, s.of.most)
	if nobodyWaits && s.of.bytes.TryAcquire(n) {
		s.add(n)
		return true
	}
	return s.held > 0
}

// turn waits until n bytes can be taken, but not for ever since then. Streams wait in the order in which they came, so that each is told in
// time that its turn has not come.
func (s *share) turn(ctx context.Context, n int64, since time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, since.Add(s.of.wait))
	defer cancel()
	n = min(n, s.of.most)
	if err := s.of.bytes.Acquire(ctx, n); err != nil {
		return refuse(outOfCapacity, "very many proxies have come at once, and the turn of this one has not come for %s: come back after a random wait", s.of.wait)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(n)
	return nil
}

// add books n bytes that were taken. The caller holds mu.
func (s *share) add(n int64) {
	if s.closed {
		s.of.bytes.Release(n)
		return
	}
	s.held += n
	if s.end == nil && s.held > 0 {
		s.end = time.AfterFunc(s.of.keep, func() { s.settle(0) })
	}
}

// settle gives back what the stream holds above n bytes.
func (s *share) settle(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held > n {
		s.of.bytes.Release(s.held - n)
		s.held = n
	}
	if s.held == 0 && s.end != nil {
		s.end.Stop()
		s.end = nil
	}
}

// close gives everything back, also what is taken later.
func (s *share) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.settle(0)
}
