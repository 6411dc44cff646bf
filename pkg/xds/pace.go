package xds

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// How much a stream may ask for. What answers a response is free: the server decides how many of those there are.
const (
	asksAtOnce  = 10_000 // an Envoy that starts may ask for each of 10,000 route configurations alone
	asksASecond = 200    // beyond those
	askBytes    = 4 << 10
)

func newPace() *rate.Limiter { return rate.NewLimiter(asksASecond, asksAtOnce) }

// slowDown holds up the reading of a stream that asks for more than it may; what the proxy says meanwhile stays with it.
func (st *stream) slowDown(ctx context.Context, q request) error {
	now := time.Now()
	d := st.pace.ReserveN(now, 1+q.size/askBytes).DelayFrom(now)
	if d == 0 {
		return nil
	}
	st.server.named(now, st.id.node, st.address, refuse(tooFast, "more than %d requests a second, beside those that answer: it is slowed down", asksASecond))
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
