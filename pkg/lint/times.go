package lint

import (
	"fmt"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// finite is a timeout as a length of time; ok is false where there is none.
func finite(d *manifest.Duration) (time.Duration, bool) {
	if d == nil || d.D() <= 0 {
		return 0, false
	}
	return d.D(), true
}

// attempts is how often the call is tried at most.
func (s *side) attempts() int {
	if s.Retry == nil || s.Retry.NumRetries == nil {
		return 1
	}
	return 1 + int(*s.Retry.NumRetries)
}

// attempts is how often the call is tried where it ends.
func (c *call) attempts() int {
	if c.spare {
		return 1
	}
	return c.side.attempts()
}

// pauses is the longest that the back-offs of all retries take together.
func (s *side) pauses() time.Duration {
	if s.Retry == nil || s.Retry.BackOff == nil {
		return 0
	}
	base, _ := finite(s.Retry.BackOff.Base)
	longest, _ := finite(s.Retry.BackOff.Max)
	var sum time.Duration
	for range s.attempts() - 1 {
		sum += min(base, longest)
		base = min(2*base, longest)
	}
	return sum
}

// try is how long one try may take, and whole how long the call may; ok is false where there is no limit.
func (s *side) try() (time.Duration, bool) {
	if s.Timeout == nil {
		return 0, false
	}
	if d, ok := finite(s.Timeout.PerTry); ok {
		return d, true
	}
	return finite(s.Timeout.Request)
}

func (s *side) whole() (time.Duration, bool) {
	if s.Timeout == nil {
		return 0, false
	}
	if d, ok := finite(s.Timeout.Request); ok {
		return d, true
	}
	if d, ok := finite(s.Timeout.PerTry); ok {
		return time.Duration(s.attempts())*d + s.pauses(), true
	}
	return 0, false
}

// tries finds tries that take longer together than the call may.
func (l *spots) tries(c *call) {
	if c.Timeout == nil || c.attempts() < 2 {
		return
	}
	perTry, limited := finite(c.Timeout.PerTry)
	request, ends := finite(c.Timeout.Request)
	if !limited || !ends {
		return
	}
	all := time.Duration(c.attempts())*perTry + c.pauses()
	if all <= request {
		return
	}
	object, path, ok := c.at("timeout.perTry", "timeout.request", "retry.numRetries")
	if !ok {
		return
	}
	l.add(c.to, Finding{
		Code: TriesExceedRequest, Severity: Info, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why: fmt.Sprintf("%d tries of %s and up to %s of pauses take up to %s, but the call ends after %s: the later tries only help against what fails fast",
			c.attempts(), perTry, c.pauses(), all, request),
		Instead: "nothing, if a retry is meant for fast failures; else " + fits(request, c),
	})
}

// fits says how all tries of c end within request.
func fits(request time.Duration, c *call) string {
	d := ((request - c.pauses()) / time.Duration(c.attempts())).Truncate(time.Millisecond)
	if d < time.Millisecond {
		return "fewer retry.numRetries, or a shorter retry.backOff"
	}
	return fmt.Sprintf("timeout.perTry: %s", manifest.DurationOf(d))
}

// keeps is the share of its time that a try should leave to the call that it waits for, in percent.
const keeps = 90

// outlived finds a try that ends before the call it waits for, or that barely outlasts it.
func (l *spots) outlived(outer, inner *call) {
	try, ends := outer.try()
	whole, ok := inner.whole()
	if !ends || !ok || inner.spare {
		return
	}
	object, path, ok := inner.at("timeout.request", "timeout.perTry")
	if !ok {
		return
	}
	whole, handed := handed(outer, inner, whole)
	f := Finding{Kind: policy.Kind, Object: object, Path: path, Calls: along(outer, inner)}
	left := manifest.DurationOf(max((try * keeps / 100).Truncate(time.Millisecond), time.Millisecond))
	switch {
	case try < whole:
		f.Code, f.Severity = OuterTryEndsFirst, Warning
		f.Why = fmt.Sprintf("%s gives %s %s for a try, but the call from there to %s may take %s%s: the outer try ends first, is retried or fails, and what runs inside is wasted",
			outer.from, key(outer.to), try, key(inner.to), whole, handed)
		f.Instead = fmt.Sprintf("timeout.request of at most %s for %s -> %s, or a longer perTry one hop up", left, key(outer.to), key(inner.to))
		if inner.deadline() != nil && outer.deadline() == nil {
			f.Instead += fmt.Sprintf("; or timeout.deadline for %s -> %s too", outer.from, key(outer.to))
		}
	case whole*100 > try*keeps:
		f.Code, f.Severity = ThinMargin, Info
		f.Why = fmt.Sprintf("of the %s that a try from %s to %s may take, the call to %s may take %s%s: %s remain for its own work and the way back",
			try, outer.from, key(outer.to), key(inner.to), whole, handed, try-whole)
		f.Instead = fmt.Sprintf("timeout.request of at most %s, unless the slowest call without its dependency is faster than that", left)
	default:
		return
	}
	l.add(inner.to, f)
}

// deadline is what the call does with its caller's deadline, and hands on; nil where neither.
func (s *side) deadline() *policy.Deadline {
	if s.Timeout == nil {
		return nil
	}
	if _, ok := finite(s.Timeout.Request); !ok {
		return nil
	}
	return s.Timeout.Deadline
}

// handed is how long the inner call may take at most, if whole is what it may by itself: where both have a deadline, no more than its
// share of the whole outer call, of which a try knows nothing. In words, why no less.
func handed(outer, inner *call, whole time.Duration) (time.Duration, string) {
	d := inner.deadline()
	if d == nil {
		return whole, ""
	}
	if outer.deadline() == nil {
		return whole, fmt.Sprintf(", for %s -> %s hands no deadline on", outer.from, key(outer.to))
	}
	request, _ := finite(outer.Timeout.Request)
	return min(whole, request*time.Duration(*d.KeepPercent)/100), fmt.Sprintf(", for the deadline that is handed on is of all tries together, %s", request)
}
