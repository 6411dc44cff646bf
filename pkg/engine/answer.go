package engine

import (
	"net/http"
	"strconv"
)

// noHost answers where no host is fit.
func (c *Call) noHost() Answer {
	c.retry.release(c)
	if !c.crowded {
		c.target.live.stats.add(noneHealthy)
	}
	return c.fail(http.StatusServiceUnavailable, "no healthy upstream", UH, "no_healthy_upstream")
}

// refuse answers what no host is asked for.
func (c *Call) refuse() (Answer, bool) {
	switch {
	case c.route == nil:
		return c.fail(http.StatusNotFound, "", NR, "route_not_found"), true
	case c.route.Direct != nil:
		return c.direct(), true
	case c.target == nil:
		return c.fail(http.StatusServiceUnavailable, "", NC, "cluster_not_found"), true
	}
	config, rnd := c.target.live.config.Load(), c.engine.options.Rand
	if config.Maintenance > 0 && rnd()%100 < uint64(config.Maintenance) {
		c.target.live.stats.add(rqMaintenanceMode)
		return c.fail(http.StatusServiceUnavailable, "maintenance mode", UO, "maintenance_mode"), true
	}
	if config.DropPercent > 0 && float64(rnd()%1_000_000) < config.DropPercent*10_000 {
		c.target.live.stats.add(rqDropOverload)
		if config.DropPercent >= 100 {
			return c.fail(http.StatusServiceUnavailable, "unconditional drop overload", UDO, "unconditional_drop_overload"), true
		}
		return c.fail(http.StatusServiceUnavailable, "drop overload", DO, "drop_overload"), true
	}
	return Answer{}, false
}

// fail is an answer of our own that counts as the cluster's. Details are Envoy's words for why.
func (c *Call) fail(status int, body string, flags Flags, details string) Answer {
	if c.target != nil {
		c.target.live.stats.completed(status)
	}
	return c.say(status, body, flags, details)
}

// overDuration are the details of a request that has lasted too long.
const overDuration = "max_duration_timeout"

// say is an answer of our own that is none of the cluster's.
func (c *Call) say(status int, body string, flags Flags, details string) Answer {
	r := &reply{status: status, grpc: -1, body: body, flags: flags, details: details}
	if flags&UT != 0 || details == overDuration {
		r.grpc = 4 // DEADLINE_EXCEEDED
	}
	if field, ok := dropFields[flags]; ok && !c.http.SuppressEnvoy {
		r.extra = append(r.extra, field)
	}
	if flags&UO != 0 && !c.http.SuppressEnvoy {
		r.extra = append(r.extra, overloaded)
	}
	return c.local(r)
}

// accept takes the host's response as the answer.
func (c *Call) accept(up Upstream, res Result) Answer {
	c.target.live.stats.completed(res.Status)
	c.response = true
	for _, cookie := range c.cookies {
		res.Header.Add("Set-Cookie", cookie)
	}
	c.details = "via_upstream"
	if res.Header != nil {
		if other := c.dress(res); other != nil {
			up.Drop()
			c.response = false
			c.endAttempt(c.last)
			return c.local(other)
		}
	}
	return Answer{From: up, Status: res.Status, Flags: c.flags}
}

// dress adds to the header of a host's response what its route and the filters say. A reply takes its place.
func (c *Call) dress(res Result) *reply {
	if len(c.route.Response) > 0 {
		c.editLevels(res.Header, c.route.Response, &reply{status: res.Status, details: c.details})
	}
	if c.host.AttemptCountResponse {
		res.Header[attemptCount] = []string{strconv.Itoa(c.last.Number)}
	}
	return c.respond(res.Status, res.Header)
}

// give answers for an attempt without a response that is not repeated.
func (c *Call) give(res Result, cause error) Answer {
	if res.Failure == LocalReset {
		return c.interrupted(cause)
	}
	if res.Failure == BodyLost {
		return c.say(http.StatusInsufficientStorage, "exceeded request buffer limit while retrying upstream", 0,
			"request_payload_exceeded_retry_buffer_limit")
	}
	c.crowded = res.Failure == Overflow && !c.last.met
	again := ""
	if c.attempts > 1 {
		again = "retried and the latest "
	}
	reason := res.Failure.String()
	return c.say(statusOf(res.Failure), "upstream connect error or disconnect/reset before headers. "+again+"reset reason: "+reason,
		flagOf(res.Failure), "upstream_reset_before_response_started{"+res.Failure.word()+"}")
}

// interrupted answers for a time that is over, or for nobody.
func (c *Call) interrupted(cause error) Answer {
	switch cause {
	case errTimeout:
		return c.say(http.StatusGatewayTimeout, "upstream request timeout", UT, "response_timeout")
	case errPerTry:
		return c.say(http.StatusGatewayTimeout, "upstream request timeout", UT, "upstream_per_try_timeout")
	case errPerTryIdle:
		return c.say(http.StatusGatewayTimeout, "upstream request timeout", UT, "upstream_per_try_idle_timeout")
	case errMaxStream:
		return c.say(c.times.lateStatus(), "upstream max stream duration reached", UMSDR, "upstream_max_stream_duration_reached")
	}
	c.outer = true
	switch cause {
	case errMaxDuration:
		return c.say(c.times.lateStatus(), "downstream duration timeout", 0, overDuration)
	case errIdle:
		return c.say(c.times.lateStatus(), "stream timeout", SI, "stream_idle_timeout")
	case errRequest:
		return c.say(http.StatusRequestTimeout, "request timeout", 0, "request_overall_timeout")
	}
	return c.gone()
}

// gone is the answer where nobody waits for one.
func (c *Call) gone() Answer {
	c.noteGone()
	return Answer{Local: &LocalReply{Status: http.StatusServiceUnavailable}, Gone: true, Flags: c.flags}
}

// noteGone notes that nobody waits for an answer any more. One HTTP/2 stream that ends is taken for reset, though all may have.
func (c *Call) noteGone() {
	if c.req.HTTP2 {
		c.flags, c.details = c.flags|DR, "http2.remote_reset"
	} else {
		c.flags, c.details = c.flags|DC, "downstream_remote_disconnect"
	}
}
