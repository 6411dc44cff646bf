package differential_test

import "time"

// call is a gRPC request.
func grpcCall(header map[string]string) request {
	all := map[string]string{"Content-Type": "application/grpc", "Te": "trailers"}
	for name, value := range header {
		all[name] = value
	}
	return request{method: "POST", path: "/pkg.Service/Method", body: "\x00\x00\x00\x00\x02hi", header: all, http2: true}
}

// rawGRPC are gRPC over HTTP/2 on both sides, with the status where servers put it.
func rawGRPC() []*scenario {
	const http2 = `{explicit_http_config: {http_protocol_options: null, http2_protocol_options: {}}}`
	content := map[string]string{"content-type": "application/grpc"}
	answer := behaviour{header: content, body: "\x00\x00\x00\x00\x02ok", trailer: map[string]string{"grpc-status": "0", "x-last": "yes"}}
	inTrailer := func(status string) behaviour {
		return behaviour{header: content, trailer: map[string]string{"grpc-status": status, "grpc-message": "no%20way"}}
	}
	inHeader := func(status string) behaviour {
		return behaviour{header: map[string]string{"content-type": "application/grpc", "grpc-status": status, "grpc-message": "no%20way"}}
	}
	one := mixed(grpcCall(nil))
	over := func(r resources) *resources {
		r.options = http2 + "\n---\n" + r.options
		return &r
	}
	if2 := func(name string, r resources, script []behaviour, traffic func(*side), mutants ...resources) *scenario {
		return &scenario{name: "raw-grpc-" + name, protocol: "grpc", raw: over(r), script: script, traffic: traffic, mutants: mutants}
	}
	retry := func(name, word, status string) *scenario {
		return if2("on-"+name, resources{action: again(`num_retries: 1, retry_on: ` + word)}, []behaviour{inHeader(status), answer}, one, resources{action: `{retry_policy: {retry_on: null}}`})
	}
	within := func(value string) func(*side) { return mixed(grpcCall(map[string]string{"Grpc-Timeout": value})) }
	hang := []behaviour{hangs}
	late := if2("deadline-long", resources{action: `{max_stream_duration: {grpc_timeout_header_max: 0s}}`}, []behaviour{{delay: 200 * ms, header: content, trailer: map[string]string{"grpc-status": "0"}}}, within("5S"))
	return []*scenario{
		if2("unary", resources{}, []behaviour{answer}, mixed(grpcCall(nil), grpcCall(map[string]string{"X-Bin-Bin": "AAE="}))),
		if2("streaming", resources{}, []behaviour{{header: content, body: "\x00\x00\x00\x00\x02ok\x00\x00\x00\x00\x02ok", slow: 200 * ms, trailer: map[string]string{"grpc-status": "0"}}}, one),
		if2("status-in-trailer", resources{}, []behaviour{inTrailer("14")}, one),
		if2("trailers-only", resources{}, []behaviour{inHeader("14")}, one),
		if2("not-grpc-answer", resources{}, []behaviour{{status: 503, body: "sorry"}}, one),
		if2("trailer-not-retried", resources{action: again(`num_retries: 1, retry_on: unavailable`)}, []behaviour{inTrailer("14")}, one),
		retry("cancelled", "cancelled", "1"), retry("deadline", "deadline-exceeded", "4"), retry("exhausted", "resource-exhausted", "8"),
		retry("internal", "internal", "13"), retry("unavailable", "unavailable", "14"),
		if2("on-other", resources{action: again(`num_retries: 1, retry_on: "internal,cancelled"`)}, []behaviour{inHeader("14")}, one),
		if2("on-5xx", resources{action: again(`num_retries: 1, retry_on: 5xx`)}, []behaviour{inHeader("14"), answer}, one),
		if2("no-route", resources{host: `{domains: [nobody]}`}, nil, one),
		if2("no-cluster", resources{action: `{cluster: nowhere}`}, nil, one),
		if2("no-host", resources{endpoints: `[]`}, nil, one),
		if2("timeout", resources{action: `{timeout: 0.2s}`}, hang, one),
		if2("reset", resources{}, []behaviour{resets}, one),
		if2("exhausted", resources{action: again(`num_retries: 1, retry_on: unavailable`)}, []behaviour{inHeader("14")}, one),
		ignoring(if2("max-requests", resources{cluster: `{circuit_breakers: {thresholds: [{max_requests: 0}]}}`}, nil, one), "in"),
		if2("maintenance", resources{runtime: `{upstream.maintenance_mode.$NAME: 100}`}, nil, one),
		if2("direct", resources{routes: `[{match: {prefix: "/"}, direct_response: {status: 429, body: {inline_string: "too much: 100%"}}}]`}, nil, one),
		if2("direct-200", resources{routes: `[{match: {prefix: "/"}, direct_response: {status: 200, body: {inline_string: "fine"}}}]`}, nil, one),
		if2("deadline", resources{action: `{max_stream_duration: {grpc_timeout_header_max: 10s}}`}, hang, within("200m"),
			resources{action: `{max_stream_duration: null, timeout: 1.6s}`}),
		if2("deadline-max", resources{action: `{max_stream_duration: {grpc_timeout_header_max: 0.2s}}`}, hang, within("5S"), resources{action: `{max_stream_duration: {grpc_timeout_header_max: 1.6s}}`}),
		late,
		if2("deadline-unheard", resources{action: `{timeout: 0.3s}`}, hang, within("50m")),
		if2("deadline-none-said", resources{action: `{max_stream_duration: {max_stream_duration: 0.3s, grpc_timeout_header_max: 10s}}`}, hang, one),
		if2("deadline-not-grpc", resources{action: `{max_stream_duration: {max_stream_duration: 0.3s, grpc_timeout_header_max: 10s}}`}, hang, mixed(request{header: map[string]string{"Grpc-Timeout": "50m"}})),
		if2("deadline-nonsense", resources{action: `{max_stream_duration: {max_stream_duration: 0.3s, grpc_timeout_header_max: 10s}}`}, hang, within("soon")),
		if2("per-try", resources{action: again(`num_retries: 1, retry_on: unavailable, per_try_timeout: 0.2s`)}, hang, one),
		if2("max-duration", resources{hcm: `{common_http_protocol_options: {max_stream_duration: 0.2s}}`}, hang, one),
		if2("attempt-duration", resources{options: `{common_http_protocol_options: {max_stream_duration: 0.2s}}`}, hang, one),
		if2("idle", resources{action: `{idle_timeout: 0.2s}`}, hang, one),
		if2("matched", resources{routes: `[{match: {prefix: "/", grpc: {}}, direct_response: {status: 503}}, {match: {prefix: "/"}, route: {cluster: $NAME}}]`}, nil, mixed(grpcCall(nil), request{}),
			resources{routes: `[{match: {prefix: "/"}, direct_response: {status: 503}}, {match: {prefix: "/"}, route: {cluster: $NAME}}]`}),
		{name: "raw-grpc-ejected", raw: over(resources{cluster: `{outlier_detection: {consecutive_5xx: 3, interval: 1s, max_ejection_percent: 100}, common_lb_config: {healthy_panic_threshold: {value: 0}}}`}),
			script: []behaviour{inHeader("14")}, traffic: func(s *side) { s.mixed(3, grpcCall(nil)); s.statIs(active, 1); s.send(grpcCall(nil)) }, markSlack: time.Second},
		{name: "raw-grpc-not-ejected", raw: over(resources{cluster: `{outlier_detection: {consecutive_5xx: 3, interval: 1s, max_ejection_percent: 100}, common_lb_config: {healthy_panic_threshold: {value: 0}}}`}),
			script: []behaviour{inTrailer("14"), inHeader("5"), inHeader("8")}, traffic: func(s *side) { s.mixed(6, grpcCall(nil)) }},
	}
}

func (s *side) mixed(n int, r request) {
	for range n {
		s.send(r)
	}
}

func ignoring(sc *scenario, what ...string) *scenario {
	sc.ignore = append(sc.ignore, what...)
	return sc
}
