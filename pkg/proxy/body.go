package proxy

import (
	"io"
	"net/http"
	"slices"
	"sync"
)

// window is how far the application may be ahead of the host.
const window = 64 << 10

// body is the body of a request, kept while it may have to be sent again. One goroutine pumps it from the application; each attempt
// reads it from the start.
type body struct {
	source   io.Reader
	limit    int    // of what is kept
	complete func() // the application has sent everything
	tooLong  func() // the limit is passed: no further attempt can be made

	mu      sync.Mutex
	changed sync.Cond     // something was read, appended or closed
	data    []byte        // kept, from offset first on
	first   int64         // > 0: the beginning is lost
	err     error         // io.EOF: data holds the rest
	readers []*bodyReader // open ones: of an attempt, and of those beside it
	replay  bool
	started bool
	stopped bool
	done    chan struct{} // closed when the pump has ended
}

func newBody(source io.Reader, limit int, complete, tooLong func()) *body {
	b := &body{source: source, limit: limit, complete: complete, tooLong: tooLong, replay: true, done: make(chan struct{})}
	b.changed.L = &b.mu
	return b
}

// start begins to take the body from the application. Further calls do nothing.
func (b *body) start() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.started && !b.stopped {
		b.started = true
		go b.pump()
	}
}

// pump ends when the body does, or when the source breaks off, or after stop once its read returns.
func (b *body) pump() {
	defer close(b.done)
	buf := make([]byte, 16<<10)
	for {
		n, err := b.source.Read(buf)
		if err == io.EOF {
			b.complete()
		}
		if b.append(buf[:n], err) {
			b.tooLong()
		}
		if err != nil || !b.wait() {
			return
		}
	}
}

// append adds what was read, and reports that the limit was passed by it.
func (b *body) append(p []byte, err error) (passed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data = append(b.data, p...)
	b.err = err
	if b.replay && len(b.data) > b.limit {
		b.replay, passed = false, true
	}
	b.changed.Broadcast()
	return passed
}

// wait returns when there is room for more, or false when nobody wants it.
func (b *body) wait() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.stopped && b.ahead() >= window {
		b.changed.Wait()
	}
	return !b.stopped
}

// ahead is how much waits for the fastest reader.
func (b *body) ahead() int64 {
	offset := b.first
	for _, r := range b.readers {
		offset = max(offset, r.offset)
	}
	return b.first + int64(len(b.data)) - offset
}

// stop ends the readers now and the pump after its present read. It reports whether the application had sent everything.
func (b *body) stop() (whole bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	for _, r := range b.readers {
		r.closed = true
	}
	b.changed.Broadcast()
	return b.err == io.EOF
}

// lost reports whether a new reader could not begin at the beginning.
func (b *body) lost() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.first > 0
}

// broken reports whether the application broke off.
func (b *body) broken() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err != nil && b.err != io.EOF
}

// join waits for the end of a started pump.
func (b *body) join() {
	b.mu.Lock()
	started := b.started
	b.mu.Unlock()
	if started {
		<-b.done
	}
}

// open starts reading from the beginning.
func (b *body) open() *bodyReader {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &bodyReader{b: b, closed: b.stopped}
	b.readers = append(b.readers, r)
	return r
}

// bodyReader is the body for one attempt.
type bodyReader struct {
	b      *body
	offset int64
	closed bool
}

// Read implements io.Reader.
func (r *bodyReader) Read(p []byte) (int, error) {
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if r.closed {
			return 0, http.ErrBodyReadAfterClose
		}
		if have := b.data[r.offset-b.first:]; len(have) > 0 {
			n := copy(p, have)
			r.offset += int64(n)
			b.forget()
			b.changed.Broadcast()
			return n, nil
		}
		if b.err != nil {
			return 0, b.err
		}
		b.changed.Wait()
	}
}

// forget drops what all readers have read, where it won't be read again.
func (b *body) forget() {
	if b.replay {
		return
	}
	offset := b.readers[0].offset
	for _, r := range b.readers[1:] {
		offset = min(offset, r.offset)
	}
	n := copy(b.data, b.data[offset-b.first:])
	b.data, b.first = b.data[:n], offset
}

// Close implements io.Closer: a blocked Read returns.
func (r *bodyReader) Close() error {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.closed = true
	r.b.readers = slices.DeleteFunc(r.b.readers, func(other *bodyReader) bool { return other == r })
	r.b.changed.Broadcast()
	return nil
}

// ready reports whether a Read would return at once.
func (r *bodyReader) ready() bool {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	return r.closed || r.b.err != nil || r.offset < r.b.first+int64(len(r.b.data))
}

// taken is how many bytes have come from the application.
func (b *body) taken() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.first + int64(len(b.data))
}

// whole reports whether the application has sent everything.
func (b *body) whole() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err == io.EOF
}
