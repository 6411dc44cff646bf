package resilience

import (
	"sync/atomic"
	"time"
)

// Counters count what one cluster is doing at one priority. They live longer than any configuration, so that a changed limit knows what is
// in flight. All methods may be called from many goroutines; a limit holds exactly, where Envoy's may be overshot by its workers.
type Counters struct {
	requests, pending, connections, retries Counter
	finished                                finished
}

// Counter is how many of something there are, on a cache line of its own.
type Counter struct {
	n atomic.Int64
	_ [56]byte
}

// Load is the count.
func (c *Counter) Load() int64 { return c.n.Load() }

// try counts one more if fewer than limit are counted. (To add first and take back would refuse a caller that came between.)
func (c *Counter) try(limit uint64) bool {
	for {
		n := c.n.Load()
		if n >= int64(limit) {
			return false
		}
		if c.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// TryRequest takes a request, which DoneRequest gives back. False means an overflow: 503, flag UO, upstream_rq_active_overflow.
func (c *Counters) TryRequest(t *Thresholds) bool { return c.requests.try(uint64(t.MaxRequests)) }

// DoneRequest gives back a request.
func (c *Counters) DoneRequest() { c.requests.n.Add(-1) }

// TryPending takes a place in the queue for a connection, which DonePending gives back. A place is needed also where a connection is
// about to be made for the request. False means an overflow: 503, flag UO, upstream_rq_pending_overflow.
func (c *Counters) TryPending(t *Thresholds) bool {
	return c.pending.try(uint64(t.MaxPendingRequests))
}

// DonePending gives back a place in the queue.
func (c *Counters) DonePending() { c.pending.n.Add(-1) }

// TryConnection takes a connection, which DoneConnection gives back. first says that the pool has none, and may have one regardless
// of the limit. False means that the request stays in the queue: upstream_cx_overflow.
func (c *Counters) TryConnection(t *Thresholds, first bool) bool {
	if first {
		c.connections.n.Add(1)
		return true
	}
	return c.connections.try(uint64(t.MaxConnections))
}

// DoneConnection gives back a connection.
func (c *Counters) DoneConnection() { c.connections.n.Add(-1) }

// TryRetry takes a retry, which DoneRetry gives back. It is asked while the request that failed still counts, and held from there through
// the back-off to the headers of the retry, its failure or the end of the call. False means an overflow: upstream_rq_retry_overflow.
func (c *Counters) TryRetry(t *Thresholds, now time.Time) bool {
	return c.retries.try(c.RetryLimit(t, now))
}

// DoneRetry gives back a retry.
func (c *Counters) DoneRetry() { c.retries.n.Add(-1) }

// RetryLimit is how many retries may be in flight at now.
func (c *Counters) RetryLimit(t *Thresholds, now time.Time) uint64 {
	b := t.Budget
	if b == nil {
		return uint64(t.MaxRetries)
	}
	base := c.requests.Load() + c.pending.Load()
	if b.Interval > 0 {
		base += c.finished.since(now, b.Interval)
	}
	share := min(max(b.Percent, 0), 100) / 100 * float64(max(base, 0))
	return max(uint64(share), uint64(b.MinConcurrent))
}

// Finished tells the budget of a request that has ended: for Interval after its start it still counts. To be called beside DoneRequest.
func (c *Counters) Finished(t *Thresholds, started time.Time) {
	if b := t.Budget; b != nil && b.Interval > 0 {
		c.finished.add(started, b.Interval)
	}
}

// Requests is how many requests are in flight.
func (c *Counters) Requests() int64 { return c.requests.Load() }

// Pending is how many requests wait for a connection.
func (c *Counters) Pending() int64 { return c.pending.Load() }

// Connections is how many connections there are.
func (c *Counters) Connections() int64 { return c.connections.Load() }

// Retries is how many retries are held.
func (c *Counters) Retries() int64 { return c.retries.Load() }

// finished counts requests that have ended by the time they started, in slots of a tenth of the interval.
// A slot holds the number of its tenth in the upper bits, and in the lower ones the count.
type finished struct{ slots [finishedSlots]atomic.Uint64 }

const (
	finishedSlots = 10
	countBits     = 28
)

// tenth numbers the slots of all time.
func tenth(at time.Time, interval time.Duration) uint64 {
	return uint64(at.UnixNano()/int64(max(interval/finishedSlots, 1))) & (1<<(64-countBits) - 1)
}

// add counts a request that started at started, unless its slot is in use for a later time already: then it no longer matters.
func (f *finished) add(started time.Time, interval time.Duration) {
	number := tenth(started, interval)
	slot := &f.slots[number%finishedSlots]
	for {
		old := slot.Load()
		next := old + 1
		switch held := old >> countBits; {
		case held > number:
			return
		case held < number:
			next = number<<countBits | 1
		}
		if slot.CompareAndSwap(old, next) {
			return
		}
	}
}

// since counts the requests that started within interval before now.
func (f *finished) since(now time.Time, interval time.Duration) (n int64) {
	last := tenth(now, interval)
	for i := range f.slots {
		slot := f.slots[i].Load()
		if number := slot >> countBits; number <= last && last-number < finishedSlots {
			n += int64(slot & (1<<countBits - 1))
		}
	}
	return n
}
