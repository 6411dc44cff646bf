package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// window is how far the application may be ahead of the host: as far as Envoy's buffers let it.
const window = 1 << 20

// lateAfter is how long the attempts alone take the body from the application, as they send it. What has not come by then is taken
// whether or not a host takes it: that the request is complete must be seen although no host reads.
const lateAfter = 5 * time.Millisecond

// body is the body of a request, kept while it may have to be sent again. Each attempt reads it from the start.
type body struct {
	source   io.Reader
	limit    int64  // of what is kept
	complete func() // the application has sent everything
	tooLong  func() // the limit is passed: no further attempt can be made; it must not call the body

	mu      sync.Mutex
	changed sync.Cond     // something was read, kept or closed
	chunks  []*chunk      // kept, from offset first on; all but the last are full
	first   int64         // a multiple of the size of a chunk
	size    int64         // of what is kept
	err     error         // io.EOF: nothing follows what is kept
	readers []*bodyReader // open ones: of an attempt, and of those beside it
	replay  bool
	lacking bool // the beginning may be gone
	started bool
	stopped bool
	filling bool // someone reads from source
	pumped  bool // pump takes what comes
	late    *time.Timer
}

// chunk is a piece of a body.
type chunk [16 << 10]byte

const chunkSize = int64(len(chunk{}))

var chunks = sync.Pool{New: func() any { return new(chunk) }}

func newBody(source io.Reader, limit int, complete, tooLong func()) *body {
	b := &body{source: source, limit: int64(limit), complete: complete, tooLong: tooLong, replay: true}
	b.changed.L = &b.mu
	return b
}

// start lets the body be taken from the application. Further calls do nothing.
func (b *body) start() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.started && !b.stopped {
		b.started = true
		b.late = time.AfterFunc(lateAfter, b.pump)
		b.changed.Broadcast()
	}
}

// lead starts the body, and has it taken beside its readers from the beginning. A reader that waits for the application itself can't be
// closed, and net/http waits for those of HTTP/2.
func (b *body) lead() {
	b.start()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil || b.stopped || b.pumped {
		return
	}
	b.pumped = true
	if b.late.Stop() {
		go b.pump()
	}
}

// pump takes the rest of the body, in place of the readers. It ends when the body does, or after stop once its read returns.
func (b *body) pump() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pumped = true
	for !b.stopped && b.err == nil {
		if b.filling || b.ahead() >= window {
			b.changed.Wait()
		} else {
			b.fill()
		}
	}
	b.pumped = false
	b.changed.Broadcast()
}

// fill reads from the application once. mu is held, but for the reading.
func (b *body) fill() {
	room := b.room()
	b.filling = true
	b.mu.Unlock()
	n, err := b.source.Read(room)
	if err == io.EOF {
		b.complete()
	}
	b.mu.Lock()
	b.filling = false
	b.size += int64(n)
	b.err = err
	if b.replay && b.size > b.limit {
		b.replay = false
		b.tooLong()
	}
	b.changed.Broadcast()
}

// room is where the next bytes go.
func (b *body) room() []byte {
	if b.size == int64(len(b.chunks))*chunkSize {
		b.chunks = append(b.chunks, chunks.Get().(*chunk))
	}
	return b.chunks[len(b.chunks)-1][b.size%chunkSize:]
}

// ahead is how much waits for the fastest reader.
func (b *body) ahead() int64 {
	offset := b.first
	for _, r := range b.readers {
		offset = max(offset, r.offset)
	}
	return b.first + b.size - offset
}

// stop ends the readers now, and taking the body after the present read. It reports whether the application had sent everything.
func (b *body) stop() (whole bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	if b.late != nil {
		b.late.Stop()
	}
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
	return b.lacking
}

// broken reports whether the application broke off.
func (b *body) broken() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err != nil && b.err != io.EOF
}

// join waits, after stop, until nothing is taken any more, and lets go of what is kept.
func (b *body) join() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.filling || b.pumped {
		b.changed.Wait()
	}
	for _, c := range b.chunks {
		chunks.Put(c)
	}
	b.chunks = nil
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
		if n := r.copy(p); n > 0 {
			b.forget()
			b.changed.Broadcast()
			if b.err == io.EOF && r.left() == 0 {
				return n, io.EOF // with the last bytes: over HTTP/2 one frame fewer, and so one write
			}
			return n, nil
		}
		switch {
		case b.err != nil:
			return 0, b.err
		case b.started && !b.filling && !b.pumped:
			b.fill()
		default:
			b.changed.Wait()
		}
	}
}

// copy takes what is there.
func (r *bodyReader) copy(p []byte) (n int) {
	for n < len(p) && r.left() > 0 {
		at := r.offset - r.b.first
		have := r.b.chunks[at/chunkSize][at%chunkSize:]
		have = have[:min(int64(len(have)), r.left())]
		c := copy(p[n:], have)
		n += c
		r.offset += int64(c)
	}
	return n
}

// left is how much is there.
func (r *bodyReader) left() int64 { return r.b.first + r.b.size - r.offset }

// forget drops what all readers have read, where it won't be read again.
func (b *body) forget() {
	if b.replay {
		return
	}
	offset := b.readers[0].offset
	for _, r := range b.readers[1:] {
		offset = min(offset, r.offset)
	}
	b.lacking = b.lacking || offset > 0
	for offset-b.first >= chunkSize {
		chunks.Put(b.chunks[0])
		b.chunks = b.chunks[1:]
		b.first += chunkSize
		b.size -= chunkSize
	}
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
	return r.closed || r.b.err != nil || r.left() > 0
}

// taken is how many bytes have come from the application.
func (b *body) taken() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.first + b.size
}

// malformed reports whether what the application sends can't be read, rather than that it has left.
func (b *body) malformed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	var network net.Error
	return b.err != nil && !errors.As(b.err, &network) && !errors.Is(b.err, io.EOF) && !errors.Is(b.err, io.ErrUnexpectedEOF) &&
		!errors.Is(b.err, http.ErrBodyReadAfterClose)
}

// whole reports whether the application has sent everything.
func (b *body) whole() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err == io.EOF
}
