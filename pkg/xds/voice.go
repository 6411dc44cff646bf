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
	next    *stream      // in a queue, guarded by its mu
	sending sync.Mutex   // held while something is sent; nothing but the end of the stream waits for that
	waits   *claim       // of who speaks; mostly nil
}

// claim is a first answer that waits for its turn.
type claim struct {
	frame *frame
	bytes int64
	since time.Time
	alone bool // all that was sent before was answered
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
// which goes on from there. So does a speaker, once the turn has come of what has to wait for that.
func (st *stream) speak() {
	for {
		woken := st.voice.woken.Load()
		aside := st.flush()
		switch {
		case aside != nil:
			go func() {
				st.await(aside)
				st.speak()
			}()
			return
		case st.voice.waits != nil:
			st.server.doorway.add(st)
			return
		case st.voice.woken.CompareAndSwap(woken, 0):
			return
		}
	}
}

// flush sends until nothing is left to say, or something has to wait for its turn, or may have to wait for the proxy: it returns that.
//
// Where everything before it was answered, and so was read, the transport has room for a response and takes it at once. Otherwise a proxy
// that does not read could hold up for ever who sends.
func (st *stream) flush() (aside *frame) {
	st.voice.sending.Lock()
	defer st.voice.sending.Unlock()
	defer st.guard()
	if w := st.voice.waits; w != nil {
		st.voice.waits = nil
		switch {
		case st.ended():
			return nil
		case !w.alone:
			return w.frame
		}
		st.send(w.frame)
	}
	for {
		now := time.Now()
		r, busy := st.next(now)
		if r == nil {
			return nil
		}
		f := st.form.frame(r)
		st.server.cfg.Metrics.Sent(r.typ, len(r.set), f.buffers.Len())
		switch {
		case r.loading > 0 && !st.share.take(r.loading, st.server.doorway.empty()):
			st.voice.waits = &claim{frame: f, bytes: r.loading, since: now, alone: busy == 0}
			return nil
		case busy > 0:
			return f
		}
		st.send(f)
	}
}

func (st *stream) send(f *frame) {
	if err := st.g.SendMsg(f); err != nil {
		_ = st.end(err)
	}
}

// await sends f once the proxy reads.
func (st *stream) await(f *frame) {
	st.voice.sending.Lock()
	defer st.voice.sending.Unlock()
	defer st.guard()
	if !st.ended() {
		st.send(f)
	}
}

// admit waits for the turn of what waits, and has it said then.
func (st *stream) admit() {
	w := st.voice.waits
	if err := st.share.turn(st.g.Context(), w.bytes, w.since); err != nil {
		_ = st.end(err)
	}
	st.server.speakers.add(st)
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

// queue is streams for which something is to be done, by some goroutines, which are there while streams wait. The zero value is none.
type queue struct {
	most int // goroutines
	do   func(*stream)

	mu          sync.Mutex
	first, last *stream // that wait
	busy        int
}

// add has it done for st once it was for those that came before.
func (q *queue) add(st *stream) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.first == nil {
		q.first = st
	} else {
		q.last.voice.next = st
	}
	q.last = st
	if q.busy < q.most {
		q.busy++
		go q.run()
	}
}

// empty reports whether it is done for no stream.
func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.busy == 0
}

func (q *queue) run() {
	for st := q.take(); st != nil; st = q.take() {
		q.do(st)
	}
}

// take is the stream that has waited longest. Nil: none waits, and who asked goes.
func (q *queue) take() *stream {
	q.mu.Lock()
	defer q.mu.Unlock()
	st := q.first
	if st == nil {
		q.busy--
		return nil
	}
	q.first, st.voice.next = st.voice.next, nil
	return st
}
