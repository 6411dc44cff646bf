package engine

import (
	"net/http"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// charge tells the detector and the statistics of the attempt's result.
func (c *Call) charge(a *Attempt, res Result, cause error) {
	live, h := a.serving.live, a.Host
	switch res.Failure {
	case None:
		status := resilience.Outcome(res.Status)
		if code, ok := grpcCode(res.Header); ok && c.grpc {
			status = resilience.GRPCOutcome(code)
		} else if rule := c.target.config.Errors; rule != nil { // which a gRPC status goes before
			status = resilience.MatchedOutcome(status, rule.Matches(headersOf(res)))
		}
		h.counts.result(status < 500)
		a.record(status)
		if len(res.Header["X-Envoy-Degraded"]) > 0 {
			live.degraded(h)
		}
		if len(res.Header["X-Envoy-Immediate-Health-Check-Fail"]) > 0 {
			live.excludeAtOnce(h)
		}
	case ConnectRefused, ConnectTimeout:
		live.stats.add(rqPendingFailureEject)
		h.counts.result(false)
		a.record(resilience.ConnectFailed)
	case LocalReset:
		c.chargeTime(a, cause)
	case Overflow, BodyLost:
	default:
		a.countReset(res.Failure)
		h.counts.result(false)
		a.record(resilience.Reset)
	}
}

// chargeTime charges an attempt that this end has broken off. An application that went away is nobody's failure. The router's own times
// are counted where the route leads, which over a composite is not where the host is.
func (c *Call) chargeTime(a *Attempt, cause error) {
	live, h := a.serving.live, a.Host
	switch cause {
	case errTimeout:
		c.target.live.stats.add(rqTimeout)
	case errPerTry:
		c.target.live.stats.add(rqPerTryTimeout)
	case errPerTryIdle:
		c.target.live.stats.add(rqPerTryIdleTimeout)
	case errMaxStream:
		live.stats.add(rqMaxDurationReached)
		a.countReset(LocalReset)
		return // no failure of the host's
	default:
		if a.admitted {
			a.countReset(LocalReset)
		} else {
			live.stats.add(rqCancelled)
		}
		return
	}
	if !a.admitted {
		return // it never got to the host
	}
	a.countReset(LocalReset)
	h.counts.rqTimeout.Add(1)
	h.counts.result(false)
	if !a.charged.Load() {
		a.record(resilience.TimedOut)
	}
}

// aborted counts an attempt that failed and is not repeated among the cluster's answers, whoever is answered by what else.
func (c *Call) aborted(res Result, cause error) {
	status := statusOf(res.Failure)
	switch res.Failure {
	case BodyLost:
		return
	case LocalReset:
		if cause != errTimeout && cause != errPerTry && cause != errPerTryIdle {
			return
		}
		status = http.StatusGatewayTimeout
	}
	c.target.live.stats.completed(status)
}

// statusOf is the answer to an attempt that failed, where no time ended it.
func statusOf(f Failure) int {
	if f == ProtocolError {
		return http.StatusBadGateway
	}
	return http.StatusServiceUnavailable
}

// grpcCode is the gRPC status in the headers of a response.
func grpcCode(h http.Header) (uint32, bool) {
	values := h["Grpc-Status"]
	if len(values) == 0 {
		return 0, false
	}
	n := uint32(0)
	for _, d := range []byte(values[0]) {
		if d < '0' || d > '9' || n > 1000 {
			return 2, true
		}
		n = n*10 + uint32(d-'0')
	}
	return n, len(values[0]) > 0
}
