package resilience

import (
	"math"
	"sync/atomic"
	"time"
)

// TokenBucket is a rate limit. It fills continuously. All methods may be called from many goroutines.
type TokenBucket struct {
	most, perSecond float64
	start           time.Time
	empty           atomic.Uint64 // bits of a float: when it was or would have been empty, in seconds after start
}

// NewTokenBucket returns a full bucket of most tokens, of which perFill come back in each interval.
func NewTokenBucket(most, perFill uint32, interval time.Duration, now time.Time) *TokenBucket {
	b := &TokenBucket{most: float64(most), perSecond: float64(perFill) / interval.Seconds(), start: now}
	b.empty.Store(math.Float64bits(-b.most / b.perSecond))
	return b
}

// rounding is how much of a token may be missing: sums of floats are not exact.
const rounding = 1e-6

// Take takes a token. False means that there is none: 429, flag RL.
func (b *TokenBucket) Take(now time.Time) bool {
	at := now.Sub(b.start).Seconds()
	for {
		old := b.empty.Load()
		tokens := b.tokens(at, old)
		if tokens < 1-rounding {
			return false
		}
		empty := at - (tokens-1)/b.perSecond
		if b.empty.CompareAndSwap(old, math.Float64bits(empty)) {
			return true
		}
	}
}

// Tokens is how many tokens there are.
func (b *TokenBucket) Tokens(now time.Time) uint32 {
	return uint32(b.tokens(now.Sub(b.start).Seconds(), b.empty.Load()) + rounding)
}

// Wait is how long it takes until there is a token, for Retry-After.
func (b *TokenBucket) Wait(now time.Time) time.Duration {
	missing := 1 - b.tokens(now.Sub(b.start).Seconds(), b.empty.Load())
	if missing <= rounding {
		return 0
	}
	return time.Duration(missing / b.perSecond * float64(time.Second))
}

func (b *TokenBucket) tokens(at float64, empty uint64) float64 {
	return max(0, min(b.most, (at-math.Float64frombits(empty))*b.perSecond))
}
