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
func (r *result) attempts() int {
	if r.Retry == nil || r.Retry.NumRetries == nil {
		return 1
	}
	return 1 + int(*r.Retry.NumRetries)
}

// pauses is the longest that the back-offs of all retries take together.
func (r *result) pauses() time.Duration {
	if r.Retry == nil || r.Retry.BackOff == nil {
		return 0
	}
	base, _ := finite(r.Retry.BackOff.Base)
	longest, _ := finite(r.Retry.BackOff.Max)
	var sum time.Duration
	for range r.attempts() - 1 {
		sum += min(base, longest)
		base = min(2*base, longest)
	}
	return sum
}

// try is how long one try may take, and whole how long the call may; ok is false where there is no limit.
func (r *result) try() (time.Duration, bool) {
	if r.Timeout == nil {
		return 0, false
	}
	if d, ok := finite(r.Timeout.PerTry); ok {
		return d, true
	}
	return finite(r.Timeout.Request)
}

func (r *result) whole() (time.Duration, bool) {
	if r.Timeout == nil {
		return 0, false
	}
	if d, ok := finite(r.Timeout.Request); ok {
		return d, true
	}
	if d, ok := finite(r.Timeout.PerTry); ok {
		return time.Duration(r.attempts())*d + r.pauses(), true
	}
	return 0, false
}

// tries finds tries that take longer together than the call may.
func (l *linter) tries(c *call) {
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
	l.add(Finding{
		Code: TriesExceedRequest, Severity: Info, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why: fmt.Sprintf("%d tries of %s and up to %s of pauses take up to %s, but the call ends after %s: the later tries only help against what fails fast",
			c.attempts(), perTry, c.pauses(), all, request),
		Instead: fmt.Sprintf("nothing, if a retry is meant for fast failures; else timeout.perTry: %s", fits(request, c)),
	})
}

// fits is a perTry with which all tries of c end within request.
func fits(request time.Duration, c *call) manifest.Duration {
	d := (request - c.pauses()) / time.Duration(c.attempts())
	return manifest.DurationOf(max(d.Truncate(time.Millisecond), time.Millisecond))
}

// keeps is the share of its time that a try should leave to the call that it waits for, in percent.
const keeps = 90

// outlived finds a try that ends before the call it waits for, or that barely outlasts it.
func (l *linter) outlived(outer, inner *call) {
	try, ends := outer.try()
	whole, ok := inner.whole()
	if !ends || !ok || inner.Timeout.Deadline != nil { // a deadline keeps the inner call within what is left, whatever its own request says
		return
	}
	object, path, ok := inner.at("timeout.request", "timeout.perTry")
	if !ok {
		return
	}
	f := Finding{Kind: policy.Kind, Object: object, Path: path, Calls: []string{outer.from, key(outer.to), key(inner.to)}}
	left := manifest.DurationOf(max((try * keeps / 100).Truncate(time.Millisecond), time.Millisecond))
	switch {
	case try < whole:
		f.Code, f.Severity = OuterTryEndsFirst, Warning
		f.Why = fmt.Sprintf("%s gives %s %s for a try, but the call from there to %s may take %s: the outer try ends first, is retried or fails, and what runs inside is wasted",
			outer.from, key(outer.to), try, key(inner.to), whole)
		f.Instead = fmt.Sprintf("timeout.request of at most %s for %s -> %s, or a longer perTry one hop up", left, key(outer.to), key(inner.to))
	case whole*100 > try*keeps:
		f.Code, f.Severity = ThinMargin, Info
		f.Why = fmt.Sprintf("of the %s that a try from %s to %s may take, the call to %s may take %s: %s remain for its own work and the way back",
			try, outer.from, key(outer.to), key(inner.to), whole, try-whole)
		f.Instead = fmt.Sprintf("timeout.request of at most %s, unless the slowest call without its dependency is faster than that", left)
	default:
		return
	}
	l.add(f)
}
