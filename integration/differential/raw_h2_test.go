package differential_test

import (
	"bytes"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// rawPeers are the corners of HTTP/2: hosts and applications that send what no library would.
func rawPeers() []*scenario {
	const over2 = `{explicit_http_config: {http_protocol_options: null, http2_protocol_options: {}}}`
	framed := func(name string, r resources, traffic func(*side), script ...frames) *scenario {
		r.options = over2 + "\n---\n" + r.options
		sc := &scenario{name: "raw-h2-" + name, raw: &r, framed: &framedHost{}, traffic: traffic}
		for _, f := range script {
			sc.script = append(sc.script, behaviour{frames: f})
		}
		return sc
	}
	ok := after(head("200", false), content("ok", true))
	retried := func(on string) resources { return resources{action: again(`num_retries: 1, retry_on: ` + on)} }
	var all []*scenario
	add := func(scenarios ...*scenario) {
		for _, sc := range scenarios {
			if sc.name == "raw-h2-204-with-body" {
				sc.ignore = []string{"upstream_rq_tx_reset", "upstream_rq_pending_failure_eject", "flags", "details"}
			}
			sc.framed.conns = strings.HasPrefix(sc.name, "raw-h2-goaway")
			all = append(all, sc)
		}
	}

	for _, code := range []http2.ErrCode{http2.ErrCodeNo, http2.ErrCodeProtocol, http2.ErrCodeInternal, http2.ErrCodeRefusedStream, http2.ErrCodeCancel, http2.ErrCodeEnhanceYourCalm} {
		name := strings.ToLower(strings.ReplaceAll(code.String(), "_", "-"))
		add(framed("reset-"+name, resources{}, mixed(request{}, request{http2: true}), rst(code)),
			framed("reset-"+name+"-refused", retried("refused-stream"), get(2), rst(code), ok, rst(code), rst(code)),
			framed("reset-"+name+"-reset", retried("reset"), get(2), rst(code), ok, rst(code), rst(code)),
			framed("reset-"+name+"-in-body", resources{}, stream("", true), after(head("200", false), content("half", false), later(100*ms, rst(code)))),
			framed("reset-"+name+"-in-body-1", resources{}, get(1), after(head("200|content-length|10", false), content("half", false), later(100*ms, rst(code)))),
		)
	}
	add(
		framed("goaway-refused", resources{}, get(2), goaway(-1, http2.ErrCodeNo), ok),
		framed("goaway-retried", retried("refused-stream"), get(2), goaway(-1, http2.ErrCodeNo), ok),
		framed("goaway-retried-reset", retried("reset"), get(2), goaway(-1, http2.ErrCodeNo), ok),
		framed("goaway-error-retried", retried("refused-stream"), get(2), goaway(-1, http2.ErrCodeEnhanceYourCalm), ok),
		framed("goaway-finishes", resources{}, get(3), after(goaway(0, http2.ErrCodeNo), later(100*ms, ok)), ok),
		framed("goaway-later-finishes", resources{}, func(s *side) { s.get(1); s.rest(200 * ms); s.get(2) }, after(ok, goaway(0, http2.ErrCodeNo)), ok),
		framed("goaway-graceful", resources{}, get(3), after(goaway(1<<29, http2.ErrCodeNo), later(100*ms, after(goaway(0, http2.ErrCodeNo), ok))), ok),
		framed("goaway-error-finishes", resources{}, get(3), after(goaway(0, http2.ErrCodeEnhanceYourCalm), later(100*ms, ok)), ok),
		framed("goaway-and-end", resources{}, get(2), after(goaway(0, http2.ErrCodeNo), hangUp), ok),
		framed("goaway-and-end-retried", retried("refused-stream"), get(2), after(goaway(0, http2.ErrCodeNo), hangUp), ok),
		framed("end", resources{}, get(2), hangUp, ok),
		framed("end-retried", retried("reset"), get(2), hangUp, ok),
		framed("end-in-body", resources{}, stream("", true), after(head("200", false), content("half", false), later(100*ms, hangUp))),
		framed("goaway-and-end-retried-reset", retried("reset"), get(2), after(goaway(0, http2.ErrCodeNo), hangUp), ok),
		framed("end-not-retried", retried("refused-stream"), get(2), hangUp, ok),
		framed("refused-5xx", retried("5xx"), get(1), rst(http2.ErrCodeRefusedStream), ok),
		framed("refused-connect-failure", retried("connect-failure"), get(1), rst(http2.ErrCodeRefusedStream), ok),
		framed("refused-in-body", retried("refused-stream"), get(1), after(head("200", false), content("half", false), rst(http2.ErrCodeRefusedStream))),
		framed("junk", resources{}, get(1), junk),
		framed("junk-retried", retried("reset"), get(1), junk, ok),
		framed("no-status", resources{}, get(1), func(p *peer, id uint32) { p.headers(id, true, "x-a|b") }),
		framed("two-heads", resources{}, stream("", true), after(head("200", false), head("200", true))),
		framed("data-first", resources{}, get(1), content("oops", true)),
		framed("upper-case", resources{}, get(1), head("200|X-Upper|a", true)),
		framed("connection-header", resources{}, get(1), head("200|connection|close", true)),
		framed("big-head", resources{}, get(1), head("200|x-big|"+strings.Repeat("x", 40<<10), true)),
		framed("trailers-only", resources{}, stream(":method|POST|content-type|application/grpc", true), head("200|content-type|application/grpc|grpc-status|7|grpc-message|no", true)),
		framed("after-end", resources{}, get(2), after(ok, content("more", true)), ok),
		framed("100-then-200", resources{}, stream("", true), after(head("100", false), head("103", false), ok)),
		framed("204-with-body", resources{}, stream("", true), after(head("204", false), content("no", true))),
	)
	atHead := func(name string, r resources, traffic func(*side), script ...frames) {
		sc := framed(name, r, traffic, script...)
		sc.framed.atHead = true
		sc.ignore = []string{"upstream_rq_tx_reset", "in"} // the end of an upload that nobody needs, and how much of it had come
		add(sc)
	}
	atHead("early-answer", resources{}, stream(":method|POST", false), ok)
	atHead("early-answer-no-error", resources{}, stream(":method|POST", false), after(ok, rst(http2.ErrCodeNo)))
	atHead("early-answer-cancel", resources{}, stream(":method|POST", false), after(ok, rst(http2.ErrCodeCancel)))
	atHead("early-head", resources{}, upload, after(head("200", false), later(300*ms, content("ok", true))))
	atHead("early-reset", resources{}, stream(":method|POST", false), rst(http2.ErrCodeInternal))
	atHead("early-answer-1", resources{}, mixed(request{method: "POST", body: "slowly", slow: 300 * ms}), ok)

	limited := func(name string, n uint32, r resources, traffic func(*side), script ...frames) *scenario {
		sc := framed(name, r, traffic, script...)
		sc.framed.conns = true
		sc.framed.settings = []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: n}}
		all = append(all, sc)
		return sc
	}
	limited("one-stream", 1, resources{}, func(s *side) {
		s.get(1)
		s.hold2(2)
		s.free()
	}, ok).script = []behaviour{{}, {hold: true}}
	limited("one-stream-pending", 1, resources{cluster: `{circuit_breakers: {thresholds: [{max_connections: 1, max_pending_requests: 0}]}}`}, func(s *side) { s.get(2) }, ok)

	for name, fields := range map[string]string{
		"te-trailers":         "te|trailers",
		"host":                "host|other",
		"big":                 "x-big|" + strings.Repeat("x", 40<<10),
		"cookies":             "cookie|a=b|cookie|c=d",
		"method-not-known":    ":method|FOO",
		"grpc-timeout":        "content-type|application/grpc|grpc-timeout|1S",
		"underscore":          "x_a|b",
		"trailer-announced":   "trailer|x-t",
		"x-envoy-not-trusted": "x-envoy-upstream-rq-timeout-ms|1",
	} {
		add(framed("request-"+name, resources{}, func(s *side) {
			s.frames(func(c *caller) {
				begun := time.Now()
				c.open(s, 1, true, fields)
				c.hears(s, begun, 1)
				if !c.over(0) {
					c.open(s, 3, true, "")
					c.hears(s, begun, 3)
				}
			})
		}, ok))
	}
	for name, fields := range map[string]string{
		"connection-header":   "connection|close",
		"upper-case":          "X-Upper|a",
		"absolute-path":       ":path|http://other/x",
		"length-without-body": "content-length|3",
		"many-headers":        strings.Repeat("x-a|b|", 120) + "x-a|b",
	} {
		sc := framed("malformed-"+name, resources{}, beside(fields), ok)
		sc.unlogged = true
		add(sc)
	}
	over := framed("streams-over-the-limit", resources{hcm: `{http2_protocol_options: {max_concurrent_streams: 1}}`}, beside(""), ok)
	over.unlogged, over.mutants = true, []resources{{hcm: `{http2_protocol_options: {max_concurrent_streams: 100}}`}}
	add(over,
		framed("body-too-short", resources{}, get(1), after(head("200|content-length|10", false), content("half", true))),
		framed("body-too-long", resources{}, get(1), after(head("200|content-length|2", false), content("more", true))),
	)
	for _, code := range []http2.ErrCode{http2.ErrCodeCancel, http2.ErrCodeInternal} {
		name := strings.ToLower(strings.ReplaceAll(code.String(), "_", "-"))
		give := func(heard string) func(*side) {
			return func(s *side) {
				s.frames(func(c *caller) {
					begun := time.Now()
					c.open(s, 1, true, "")
					s.until("the request has come", func() bool { return s.came(1, "") && strings.Contains(c.noted(1), heard) })
					c.locked(func() error { return c.WriteRSTStream(1, code) })
					s.until("the host learns of it", func() bool { return s.told(1) })
					c.open(s, 3, true, "")
					c.hears(s, begun, 3)
				})
			}
		}
		coded := framed("cancel-"+name+"-code", resources{}, give(""), nothing, ok)
		coded.framed.codes = true
		for _, sc := range []*scenario{coded, framed("cancel-"+name, resources{}, give(""), nothing, ok), framed("cancel-"+name+"-in-body", resources{}, give("half"), after(head("200", false), content("half", false)), ok)} {
			sc.framed.resets = true
			add(sc)
		}
	}
	rapid := framed("rapid-resets", resources{}, func(s *side) {
		s.frames(func(c *caller) {
			begun := time.Now()
			id := uint32(1)
			for ; id < 2*1000 && !c.over(0); id += 2 {
				c.open(s, id, false, ":method|POST")
				c.locked(func() error { return c.WriteRSTStream(id, http2.ErrCodeCancel) })
			}
			c.open(s, id, true, "")
			c.hears(s, begun, id)
		})
	}, ok)
	rapid.unlogged = true
	add(rapid)
	add(framed("ping", resources{}, func(s *side) {
		s.frames(func(c *caller) {
			c.locked(func() error { return c.WritePing(false, [8]byte{1}) })
			s.until("the pong", func() bool { return c.noted(0) != "" })
		})
	}))
	return all
}

func nothing(*peer, uint32) {}

// junk is no frame.
func junk(p *peer, _ uint32) {
	p.locked(func() error {
		_, err := p.conn.Write(bytes.Repeat([]byte{0xff}, 64))
		return err
	})
}

// stream is one request, complete or with half of a body that stays so.
func stream(fields string, whole bool) func(*side) {
	return func(s *side) {
		s.frames(func(c *caller) {
			begun := time.Now()
			c.open(s, 1, whole, fields)
			if !whole {
				c.locked(func() error { return c.WriteData(1, false, []byte("half")) })
			}
			c.hears(s, begun, 1)
			s.rest(100 * ms)
		})
	}
}

// beside opens a stream that waits, and beside it one with these fields. It tells of both, and of a third where the connection goes on.
// The proxy's settings are in force by then.
func beside(fields string) func(*side) {
	return func(s *side) {
		s.frames(func(c *caller) {
			c.locked(func() error { return c.WritePing(false, [8]byte{1}) })
			s.until("the pong", func() bool { return c.noted(0) != "" })
			begun := time.Now()
			c.open(s, 1, false, ":method|POST")
			c.open(s, 3, true, fields)
			s.until("the second stream ends", func() bool { return c.over(3) })
			c.locked(func() error { return c.WriteData(1, true, []byte("end")) })
			c.hears(s, begun, 1, 3)
			if !c.over(0) {
				c.open(s, 5, true, "")
				c.hears(s, begun, 5)
			}
		})
	}
}

// upload goes on when the head of the answer is there.
func upload(s *side) {
	s.frames(func(c *caller) {
		begun := time.Now()
		c.open(s, 1, false, ":method|POST")
		s.until("the head has come", func() bool { return c.noted(1) != "" })
		for range 3 {
			c.locked(func() error { return c.WriteData(1, false, []byte("part")) })
		}
		c.locked(func() error { return c.WriteData(1, true, []byte("end")) })
		c.hears(s, begun, 1)
	})
}

// came reports whether the nth request has come to a host, and what it noted of it is there.
func (s *side) came(n int, note string) bool {
	s.up.mu.Lock()
	defer s.up.mu.Unlock()
	log := s.up.sides[s.name].log
	return len(log) >= n && strings.Contains(log[n-1].body, note)
}

// told reports whether the nth request's host knows that nobody waits.
func (s *side) told(n int) bool { return s.came(n, "reset") }

// hold2 sends n requests that the hosts hold.
func (s *side) hold2(n int) {
	before := len(s.up.sides[s.name].log)
	for i := range n {
		done := make(chan answer, 1)
		go func() { done <- s.call(request{}) }() // ends with free
		s.held = append(s.held, done)
		s.until("a request under way", func() bool { return s.came(before+i+1, "") })
	}
}
