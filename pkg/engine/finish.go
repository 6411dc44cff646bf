package engine

import (
	"net/netip"
	"strconv"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// End is how the bringing of an answer ended.
type End uint8

// The ends.
const (
	Whole   End = iota
	AppGone     // the application went away
	broken      // the host's response broke off
)

// Finish ends the call after its answer was brought. Without it counts would stay.
func (c *Call) Finish(end End) { c.finish(end, None) }

// FinishBroken is Finish where the host's response broke off, as f says.
func (c *Call) FinishBroken(f Failure) { c.finish(broken, f) }

func (c *Call) finish(end End, f Failure) {
	c.times.stop()
	c.observeCall()
	for _, s := range c.steps {
		s.end(end == Whole && !c.replaced)
	}
	if c.response {
		c.finishResponse(end, f)
		c.endAttempt(c.last)
	}
	if c.cancel != nil {
		c.cancel(nil)
	}
}

func (c *Call) finishResponse(end End, f Failure) {
	live := c.last.serving.live
	switch end {
	case Whole:
		took, _ := c.times.since()
		c.target.live.stats.rqTime.Add(took)
	case broken:
		if cause := c.last.cause(); cause != nil {
			c.late(cause)
			return
		}
		c.flags, c.details = c.flags|flagOf(f), "upstream_reset_after_response_started{"+f.word()+"}"
		c.last.countReset(f)
		live.record(c.last.Host, resilience.Reset)
	case AppGone:
		c.noteGone()
		c.last.countReset(LocalReset)
	}
}

// late ends a response whose time is over. Only by the idle timeout of its attempt is the host to blame.
func (c *Call) late(cause error) {
	a := c.last
	stats := &c.target.live.stats
	a.countReset(LocalReset)
	c.interrupted(cause) // for flags and details
	switch cause {
	case errTimeout:
		stats.add(rqTimeout)
		a.Host.counts.rqTimeout.Add(1)
	case errMaxStream:
		a.serving.live.stats.add(rqMaxDurationReached)
	case errPerTryIdle:
		stats.add(rqPerTryIdleTimeout)
		a.Host.counts.rqTimeout.Add(1)
		a.serving.live.record(a.Host, resilience.TimedOut)
	}
}

// Report is what is to be told of a call that has ended.
type Report struct {
	Flags          Flags
	Details        string         // Envoy's response_code_details
	Cluster, Route string         // "" where there is none
	Host           netip.AddrPort // of the last attempt
	Attempts       int
	gRPC           bool
}

// GRPCStatus is what a gRPC answer without one comes to by its status code; "" for other answers.
func (r *Report) GRPCStatus(status int) string {
	if !r.gRPC || status == 0 {
		return ""
	}
	return strconv.Itoa(grpcStatus(status))
}

// Report is good after Finish.
func (c *Call) Report() Report {
	r := Report{Flags: c.flags, Details: c.details, Attempts: c.attempts, gRPC: c.grpc}
	if c.route != nil {
		r.Route = c.route.Name
	}
	if c.target != nil {
		r.Cluster = c.target.live.name
	}
	if c.last != nil && !c.crowded {
		r.Host = c.last.Host.Address
	}
	return r
}
