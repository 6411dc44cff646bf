package xds

import (
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	opensAtOnce  = 100 // streams of one node id
	opensASecond = 1   // beyond those
	mostIDs      = 10_000
	forgetAfter  = opensAtOnce / opensASecond * time.Second // by then a turnstile is as it was at first
)

// turnstile bounds how often each node id opens streams.
type turnstile struct {
	mu    sync.Mutex
	ids   map[string]*rate.Limiter
	swept time.Time
}

// pass reports whether id may open one more stream. Where there are very many ids, new ones pass.
func (t *turnstile) pass(id string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.swept) >= forgetAfter {
		t.swept = now
		maps.DeleteFunc(t.ids, func(_ string, l *rate.Limiter) bool { return l.TokensAt(now) >= opensAtOnce })
	}
	l := t.ids[id]
	if l == nil {
		if len(t.ids) >= mostIDs {
			return true
		}
		l = rate.NewLimiter(opensASecond, opensAtOnce)
		if t.ids == nil {
			t.ids = make(map[string]*rate.Limiter)
		}
		t.ids[id] = l
	}
	return l.AllowN(now, 1)
}
