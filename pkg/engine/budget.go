package engine

import (
	"net/http"
	"strconv"
	"time"
)

// The headers that carry a deadline along a chain of calls, as our control plane's filters write them when a call comes.
const (
	budgetHeader   = "X-Breakwater-Budget-Ms"
	deadlineHeader = "X-Breakwater-Deadline-Ms"
	grpcTimeout    = "Grpc-Timeout"
)

// Budgeted is h as the attempt sends it. Where the route asks for it, what h says of the call's time says what is left for this attempt:
// of a later attempt, what those before it have not used; of any, no more than the time of a try. H itself stays as it is.
func (a *Attempt) Budgeted(h http.Header) http.Header {
	c := a.call
	if !c.route.AttemptBudget {
		return h
	}
	whole, err := strconv.ParseInt(h.Get(budgetHeader), 10, 64)
	if err != nil {
		return h
	}
	left, bounded := c.times.leftFor(a.Number, time.Duration(whole)*time.Millisecond, c.hedges())
	budget := max(1, int64((left+time.Millisecond-1)/time.Millisecond))
	if budget == whole {
		return h
	}
	h = h.Clone() // other attempts may be under way with the same
	text := strconv.FormatInt(budget, 10)
	h[budgetHeader] = []string{text}
	if bounded && h[deadlineHeader] != nil {
		h[deadlineHeader] = []string{strconv.FormatInt(time.Now().Add(left).UnixMilli(), 10)}
	}
	if c.grpc && h[grpcTimeout] != nil {
		h[grpcTimeout] = []string{text + "m"}
	}
	return h
}

// leftFor is what attempt n, which begins now, has of whole, the time that the call had when it came; bounded says that the time of a try
// ends it sooner than the call.
func (t *times) leftFor(n int, whole time.Duration, hedged bool) (left time.Duration, bounded bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	left = whole
	if n > 1 && t.global > 0 {
		left = t.global
		if !t.completed.IsZero() {
			left -= time.Since(t.completed)
		}
	}
	if t.perTry > 0 && !hedged && t.perTry < left {
		return t.perTry, true
	}
	return left, false
}
