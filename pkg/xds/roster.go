package xds

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// roster is a list of names that a request asks for. All who send the same list share it: an Envoy sorts its names, and a proxy in the
// state of the world says all of them each time. It is immutable.
type roster struct {
	names []string
	all   atomic.Pointer[view.View] // one whose names these are exactly, as was found; nil: none was
}

// is reports whether both are the same list, also where one was read anew since.
func (l *roster) is(other *roster) bool {
	return l == other || l != nil && other != nil && slices.Equal(l.names, other.names)
}

// Bounds of rosters. Shorter lists cost less to read than to look for; longer ones are a stream's own.
const (
	shortest    = 1 << 10 // bytes
	longest     = 256 << 10
	rostersKept = 5 * time.Second // at least, after they were of use
	mostRosters = 8 << 20         // bytes of all that were of use lately
)

// rosters are those that were of use lately, by the bytes of their fields. Its methods may be called by any goroutine.
type rosters struct {
	mu          sync.Mutex
	now, before map[string]*roster
	bytes       int // of the keys of now
	after       func(time.Duration, func())
}

func newRosters() *rosters {
	return &rosters{after: func(d time.Duration, f func()) { time.AfterFunc(d, f) }}
}

// find is the roster whose fields are raw, or nil.
func (r *rosters) find(raw []byte) *roster {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.now[string(raw)]; l != nil {
		return l
	}
	l := r.before[string(raw)]
	if l != nil {
		r.keep(string(raw), l)
	}
	return l
}

// add has the names of raw shared from now on.
func (r *rosters) add(raw []byte, names []string) *roster {
	l := &roster{names: names}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep(string(raw), l)
	return l
}

// keep keeps one for a while. The caller holds mu.
func (r *rosters) keep(raw string, l *roster) {
	if r.bytes+len(raw) > mostRosters {
		r.now, r.before, r.bytes = nil, nil, 0
	}
	if r.now == nil {
		r.now = make(map[string]*roster)
		r.after(rostersKept, r.turn)
	}
	if _, has := r.now[raw]; !has {
		r.bytes += len(raw)
	}
	r.now[raw] = l
}

// turn forgets those that were of no use since the turn before.
func (r *rosters) turn() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before, r.now, r.bytes = r.now, nil, 0
	if r.before != nil {
		r.after(rostersKept, r.turn)
	}
}

// run is where in b a field stands again and again without another between; start is end where it does not stand at all, or what is
// before it can't be read.
func run(b []byte, field protowire.Number) (start, end int) {
	for at := 0; at < len(b); {
		number, kind, n := protowire.ConsumeTag(b[at:])
		if n < 0 {
			break
		}
		size := protowire.ConsumeFieldValue(number, kind, b[at+n:])
		if size < 0 {
			break
		}
		switch is := number == field && kind == protowire.BytesType; {
		case is && end == 0:
			start, end = at, at+n+size
		case is:
			end = at + n + size
		case end > 0:
			return start, end
		}
		at += n + size
	}
	return start, end
}

// covers reports whether the names that q asks for first are exactly those of head.
func (q *request) covers(head *view.View) bool {
	if q.list == nil {
		return covers(head, q.subscribe)
	}
	if q.list.all.Load() == head {
		return true
	}
	if !covers(head, q.list.names) {
		return false
	}
	q.list.all.Store(head)
	return true
}
