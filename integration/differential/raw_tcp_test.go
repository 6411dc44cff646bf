package differential_test

import "time"

// byTCP sends HTTP through a TCP proxy, a connection for each request.
func byTCP(n int) func(*side) {
	return func(s *side) {
		for range n {
			s.get(1)
			s.http.CloseIdleConnections()
		}
	}
}

func rawTCP() []*scenario {
	const eject = `{outlier_detection: {consecutive_5xx: 2, interval: 1s, base_ejection_time: 30s, max_ejection_percent: 100}, common_lb_config: {healthy_panic_threshold: {value: 0}}}`
	hello := []behaviour{{body: "hello"}}
	return []*scenario{
		{name: "raw-tcp", raw: &resources{tcp: `{}`}, script: hello, traffic: byTCP(3), mutants: []resources{{tcp: `{cluster: nowhere}`}}},
		{name: "raw-tcp-two-hosts", raw: &resources{tcp: `{}`}, hosts: 2, script: hello, traffic: byTCP(4), anyHost: true},
		{name: "raw-tcp-refused", raw: &resources{tcp: `{}`}, refusing: 1, traffic: byTCP(2)},
		{name: "raw-tcp-no-host", raw: &resources{tcp: `{}`, endpoints: `[]`}, traffic: byTCP(1)},
		{name: "raw-tcp-no-cluster", raw: &resources{tcp: `{cluster: nowhere}`}, traffic: byTCP(1)},
		{name: "raw-tcp-idle", raw: &resources{tcp: `{idle_timeout: 0.3s}`}, script: []behaviour{hangs}, traffic: byTCP(1), mutants: []resources{{tcp: `{idle_timeout: 1.2s}`}}},
		{name: "raw-tcp-max-connections", raw: &resources{tcp: `{}`, cluster: `{circuit_breakers: {thresholds: [{max_connections: 0}]}}`}, script: hello, traffic: byTCP(1)},
		{name: "raw-tcp-ejected", raw: &resources{tcp: `{}`, cluster: eject}, refusing: 1, traffic: func(s *side) { byTCP(2)(s); s.statIs(active, 1); byTCP(1)(s) }, markSlack: time.Second,
			mutants: []resources{{cluster: `{outlier_detection: null}`}}},
		{name: "raw-tcp-ejected-split", raw: &resources{tcp: `{}`, cluster: eject + "\n---\n{outlier_detection: {split_external_local_origin_errors: true, consecutive_local_origin_failure: 2}}"}, refusing: 1,
			traffic: func(s *side) { byTCP(2)(s); s.statIs(active, 1); byTCP(1)(s) }, markSlack: time.Second, mutants: []resources{{cluster: `{outlier_detection: {consecutive_local_origin_failure: 9}}`}}},
		{name: "raw-tcp-closed", raw: &resources{tcp: `{}`}, script: []behaviour{{close: true}}, traffic: byTCP(1)},
		{name: "raw-tcp-reset", raw: &resources{tcp: `{}`}, script: []behaviour{resets}, traffic: byTCP(1)},
		{name: "raw-tcp-caller-gone", raw: &resources{tcp: `{}`}, script: []behaviour{hangs}, shortest: 100 * ms, longest: time.Second, markSlack: time.Second,
			traffic: func(s *side) { s.send(request{patience: 200 * ms}); s.statIs("upstream_rq_active", 0) }},
	}
}
