package differential_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"time"
)

// tunnel upgrades a connection, sends text through it, and takes what comes back until the end.
func (s *side) tunnel(protocol, text string) {
	begun := time.Now()
	c, err := net.Dial("tcp", s.proxy.outbound)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c, "GET /chat HTTP/1.1\r\nHost: "+s.service+"\r\n"+sideHeader+": "+s.name+"\r\nConnection: Upgrade\r\nUpgrade: "+protocol+
		"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		s.answers = append(s.answers, answer{err: err.Error(), elapsed: time.Since(begun)})
		return
	}
	var body []byte
	if resp.StatusCode == http.StatusSwitchingProtocols {
		_, _ = io.WriteString(c, text)
		_ = c.(*net.TCPConn).CloseWrite()
		body, _ = io.ReadAll(in)
	} else {
		body, _ = io.ReadAll(resp.Body)
	}
	s.answers = append(s.answers, answer{status: resp.StatusCode, header: resp.Header, body: string(body), elapsed: time.Since(begun)})
}

// rawWire are what HTTP has beside requests and responses.
func rawWire() []*scenario {
	const websocket = `{upgrade_configs: [{upgrade_type: websocket}]}`
	const http2 = `{explicit_http_config: {http_protocol_options: null, http2_protocol_options: {}}}`
	talk := func(protocol string) func(*side) { return func(s *side) { s.tunnel(protocol, "ping") } }
	up := []behaviour{{status: 101, body: "welcome "}}
	trailers := behaviour{body: "body", trailer: map[string]string{"x-sum": "1"}}
	with := request{method: "POST", body: "abc", trailer: map[string]string{"X-Sum": "2"}}
	with2 := with
	with2.http2 = true
	expect := request{method: "POST", body: "abc", header: map[string]string{"Expect": "100-continue"}}
	both := func(name string, r resources, script []behaviour, traffic func(*side)) []*scenario {
		over := r
		over.options = http2 + "\n---\n" + r.options
		return []*scenario{{name: "raw-wire-" + name, raw: &r, script: script, traffic: traffic}, {name: "raw-wire-" + name + "-2", raw: &over, script: script, traffic: traffic}}
	}
	var all []*scenario
	for _, pair := range [][]*scenario{
		both("plain", resources{}, []behaviour{{body: "hello"}}, mixed(request{}, request{http2: true}, request{method: "HEAD"}, request{method: "HEAD", http2: true})),
		both("statuses", resources{}, answers(204, 304, 400, 599), mixed(request{}, request{}, request{}, request{http2: true})),
		both("post", resources{}, []behaviour{{echo: true}}, mixed(request{method: "POST", body: "abc"}, request{method: "POST", body: "abc", http2: true}, request{method: "PUT"}, request{method: "POST"},
			request{method: "DELETE"}, request{method: "PATCH", http2: true})),
		both("upload", resources{}, []behaviour{{echo: true}}, mixed(request{method: "POST", body: string(many('x', 300000))}, request{method: "POST", body: string(many('x', 300000)), http2: true})),
		both("slow", resources{}, []behaviour{{body: "first,second", slow: 200 * ms}}, mixed(request{}, request{http2: true})),
		both("response-trailers", resources{}, []behaviour{trailers}, mixed(request{http2: true})),
		both("request-trailers", resources{}, nil, mixed(with2)),
		both("early", resources{}, []behaviour{{early: []int{103, 103}, body: "x"}}, mixed(request{}, request{http2: true})),
		both("early-not-retried", resources{action: again(`num_retries: 1, retry_on: 5xx`)}, []behaviour{{early: []int{103}, status: 503}, always200}, mixed(request{http2: true})),
		both("cut", resources{}, []behaviour{{cut: true, body: "half"}}, mixed(request{http2: true})),
		both("reset", resources{}, []behaviour{resets}, mixed(request{}, request{http2: true})),
		both("gone", resources{}, []behaviour{hangs}, mixed(request{patience: 300 * ms, http2: true})),
		both("timeout", resources{action: `{timeout: 0.2s}`}, []behaviour{hangs}, mixed(request{http2: true})),
		both("refused", resources{action: again(`num_retries: 1, retry_on: connect-failure`), endpoints: `[{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}}]}]`}, nil, mixed(request{http2: true})),
	} {
		all = append(all, pair...)
	}
	for _, sc := range all {
		if sc.name == "raw-wire-gone" || sc.name == "raw-wire-gone-2" {
			sc.shortest, sc.longest = 200*ms, time.Second
		}
	}
	return append(all,
		&scenario{name: "raw-websocket", raw: &resources{hcm: websocket}, script: up, traffic: talk("websocket"), mutants: []resources{{hcm: `{upgrade_configs: []}`}}},
		&scenario{name: "raw-websocket-off", raw: &resources{}, script: up, traffic: talk("websocket")},
		&scenario{name: "raw-websocket-disabled", raw: &resources{hcm: `{upgrade_configs: [{upgrade_type: websocket, enabled: false}]}`}, script: up, traffic: talk("websocket"),
			mutants: []resources{{hcm: `{upgrade_configs: [{upgrade_type: websocket, enabled: true}]}`}}},
		&scenario{name: "raw-websocket-other", raw: &resources{hcm: websocket}, script: up, traffic: talk("other")},
		&scenario{name: "raw-websocket-refused", raw: &resources{hcm: websocket}, script: []behaviour{{status: 403, body: "no"}}, traffic: talk("websocket")},
		&scenario{name: "raw-websocket-no-host", raw: &resources{hcm: websocket, endpoints: `[]`}, traffic: talk("websocket")},
		&scenario{name: "raw-websocket-retried", raw: &resources{hcm: websocket, action: again(`num_retries: 1, retry_on: 5xx`)}, script: append([]behaviour{always503}, up...), traffic: talk("websocket")},
		&scenario{name: "raw-websocket-timeout", raw: &resources{hcm: websocket, action: `{timeout: 0.3s}`}, script: []behaviour{hangs}, traffic: talk("websocket")},
		&scenario{name: "raw-websocket-2", raw: &resources{hcm: websocket, options: http2}, script: up, traffic: talk("websocket")},
		&scenario{name: "raw-early-passed", raw: &resources{hcm: `{proxy_100_continue: true}`}, script: []behaviour{{early: []int{103, 102}, body: "x"}}, traffic: mixed(request{}, request{http2: true}, expect),
			mutants: []resources{{hcm: `{proxy_100_continue: false}`}}},
		&scenario{name: "raw-trailers-passed", raw: &resources{hcm: `{http_protocol_options: {enable_trailers: true}}`, options: `{explicit_http_config: {http_protocol_options: {enable_trailers: true}}}`},
			script: []behaviour{trailers}, traffic: mixed(request{}, with, with2), mutants: []resources{{hcm: `{http_protocol_options: {enable_trailers: false}}`},
				{options: `{explicit_http_config: {http_protocol_options: {enable_trailers: false}}}`}}},
		&scenario{name: "raw-trailers-1", raw: &resources{}, script: []behaviour{trailers}, traffic: mixed(request{}, with)},
		&scenario{name: "raw-expect", raw: &resources{}, script: []behaviour{{echo: true}}, traffic: mixed(expect)},
	)
}
