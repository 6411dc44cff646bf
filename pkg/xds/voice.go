package xds

import (
	"sync"
	"sync/atomic"
	"time"
)

// voice is who speaks on a stream: one goroutine at a time, and none while there is nothing to say. One for each stream would wait with its
// stack for what seldom comes.
type voice struct {
	woken   atomic.Int64 // how often, since somebody speaks; 0: nobody does
	next    *stream      // in the queue of speakers, guarded by their mu
	sending sync.Mutex   // held while something is sent; nothing but the end of the stream waits for that
}

// over waits until nobody speaks any more. The stream has an end already, by which they stop.
func (v *voice) over() {
	v.sending.Lock()
	defer v.sending.Unlock()
}

// Wake has said what there is to say: by who speaks at this moment, or soon by a speaker. It does not wait.
func (st *stream) Wake() {
	if st.voice.woken.Add(1) == 1 {
		st.server.speakers.add(st)
	}
}

// speak says what there is to say until there is nothing left. It waits for no proxy: what may have to is sent by a goroutine of its own,
// which goes on from there.
func (st *stream) speak() {
	for {
		woken := st.voice.woken.Load()
		if aside := st.flush(); aside != nil {
			go func() {
				aside()
				st.speak()
			}()
			return
		}
		if st.voice.woken.CompareAndSwap(woken, 0) {
			return
		}
	}
}

// flush sends until nothing is left to say, or until it may have to wait: then it returns what is to be done aside.
//
// Where everything before it was answered, and so was read, the transport has room for a response and takes it at once. Otherwise a proxy
// that does not read could hold up for ever who sends, and so could the turn of a first answer.
func (st *stream) flush() (aside func()) {
	st.voice.sending.Lock()
	defer st.voice.sending.Unlock()
	defer st.guard()
	for {
		r, busy := st.next(time.Now())
		if r == nil {
			return nil
		}
		f := st.form.frame(r)
		st.server.cfg.Metrics.Sent(r.typ, len(r.set), f.buffers.Len())
		var turn int64
		if r.loading > 0 && !st.share.take(r.loading) {
			turn = r.loading
		}
		if busy > 0 || turn > 0 {
			return func() { st.await(f, turn) }
		}
		if err := st.g.SendMsg(f); err != nil {
			_ = st.end(err)
		}
	}
}

// await sends f once it is its turn, of so many bytes, and the proxy reads.
func (st *stream) await(f *frame, turn int64) {
	st.voice.sending.Lock()
	defer st.voice.sending.Unlock()
	defer st.guard()
	if st.ended() {
		return
	}
	err := st.share.turn(st.g.Context(), turn)
	if err == nil {
		err = st.g.SendMsg(f)
	}
	if err != nil {
		_ = st.end(err)
	}
}

// next is the next response, nil if there is none or the stream ends, and how many are unanswered without it.
func (st *stream) next(now time.Time) (r *response, busy int) {
	r, busy, err := st.step(now)
	switch {
	case err != nil:
		_ = st.end(err)
	case r == nil:
		st.server.changed.fire() // what can't be said in so many words is done too
	}
	return r, busy
}

// step is next's part under the lock. Its error is the end of the stream.
func (st *stream) step(now time.Time) (r *response, busy int, err error) {
	st.mu.Lock()
	defer st.mu.Unlock() // a panic here closes this stream, and must not hold up those who read the book
	if st.cause != nil {
		return nil, 0, st.cause
	}
	busy = st.state.unanswered()
	if err := st.state.overdue(now); err != nil {
		return nil, busy, err
	}
	st.lag.look(st.audience.told.Load())
	switch r = st.state.next(st.audience.head(), now); {
	case r != nil:
		st.lag.sent = now
	case busy == 0:
		st.caughtUp(now)
	}
	st.arm(now)
	return r, busy, nil
}

// speakers speak for all streams, by as many goroutines as can run at once. They are there while streams wait for one.
type speakers struct {
	most int

	mu          sync.Mutex
	first, last *stream // that wait
	busy        int
}

// add has st spoken for once those have been that came before.
func (s *speakers) add(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first == nil {
		s.first = st
	} else {
		s.last.voice.next = st
	}
	s.last = st
	if s.busy < s.most {
		s.busy++
		go s.run()
	}
}

func (s *speakers) run() {
	for st := s.take(); st != nil; st = s.take() {
		st.speak()
	}
}

// take is the stream that has waited longest. Nil: none waits, and who asked goes.
func (s *speakers) take() *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.first
	if st == nil {
		s.busy--
		return nil
	}
	s.first, st.voice.next = st.voice.next, nil
	return st
}
