package differential_test

import "time"

func rawTimeouts() []*scenario {
	hang := []behaviour{hangs}
	late := []behaviour{{delay: 400 * ms, body: "late"}}
	retried := func(fields string) string {
		return `{retry_policy: {retry_back_off: {base_interval: 0.001s}, ` + fields + `}}`
	}
	upload := mixed(request{method: "POST", body: "slowly", slow: 500 * ms})
	return []*scenario{
		{name: "raw-timeout", raw: &resources{action: `{timeout: 0.2s}`}, script: hang, traffic: get(1), mutants: []resources{{action: `{timeout: 1.6s}`}}},
		{name: "raw-timeout-none", raw: &resources{action: `{timeout: 0s}`}, script: late, traffic: get(1), mutants: []resources{{action: `{timeout: 0.1s}`}}},
		{name: "raw-timeout-upload", raw: &resources{action: `{timeout: 0.3s}`}, script: []behaviour{{echo: true}}, traffic: upload},
		{name: "raw-timeout-in-body", raw: &resources{action: `{timeout: 0.3s}`}, script: []behaviour{{stall: true, body: "half"}}, traffic: mixed(request{http2: true})},
		{name: "raw-timeout-retried", raw: &resources{action: retried(`retry_on: 5xx, num_retries: 9`) + "\n---\n{timeout: 0.5s}"}, script: []behaviour{{status: 503, delay: 350 * ms}},
			traffic: get(1), longest: 600 * ms},
		{name: "raw-per-try", raw: &resources{action: retried(`retry_on: reset, num_retries: 1, per_try_timeout: 0.15s`)}, script: []behaviour{hangs, always200}, traffic: get(1),
			mutants: []resources{{action: `{retry_policy: {per_try_timeout: 1.6s}}`}, {action: `{retry_policy: {retry_on: null}}`}, {action: `{retry_policy: {num_retries: 0}}`}}},
		{name: "raw-per-try-exhausted", raw: &resources{action: retried(`retry_on: gateway-error, num_retries: 2, per_try_timeout: 0.15s`)}, script: hang, traffic: get(1), longest: 800 * ms},
		{name: "raw-per-try-alone", raw: &resources{action: `{retry_policy: {per_try_timeout: 0.2s}}`}, script: hang, traffic: get(1)},
		{name: "raw-per-try-over-timeout", raw: &resources{action: retried(`retry_on: reset, num_retries: 3, per_try_timeout: 0.4s`) + "\n---\n{timeout: 0.4s}"}, script: hang, traffic: get(1)},
		{name: "raw-per-try-idle", raw: &resources{action: retried(`retry_on: reset, num_retries: 1, per_try_idle_timeout: 0.2s`)}, script: []behaviour{hangs, always200}, traffic: get(1),
			mutants: []resources{{action: `{retry_policy: {per_try_idle_timeout: 1.6s}}`}}},
		{name: "raw-per-try-idle-exhausted", raw: &resources{action: retried(`retry_on: reset, num_retries: 1, per_try_idle_timeout: 0.2s`)}, script: hang, traffic: get(1), longest: 700 * ms},
		{name: "raw-per-try-idle-in-body", raw: &resources{action: `{retry_policy: {per_try_idle_timeout: 0.3s}}`}, script: []behaviour{{stall: true, body: "half"}}, traffic: mixed(request{http2: true})},
		{name: "raw-idle", raw: &resources{action: `{idle_timeout: 0.2s}`}, script: hang, traffic: get(1), mutants: []resources{{action: `{idle_timeout: 1.6s}`}}},
		{name: "raw-idle-upload", raw: &resources{action: `{idle_timeout: 0.2s}`}, traffic: upload},
		{name: "raw-idle-in-body", raw: &resources{action: `{idle_timeout: 0.3s}`}, script: []behaviour{{stall: true, body: "half"}}, traffic: mixed(request{http2: true})},
		{name: "raw-stream-idle", raw: &resources{hcm: `{stream_idle_timeout: 0.2s}`}, script: hang, traffic: get(1), mutants: []resources{{hcm: `{stream_idle_timeout: 1.6s}`}}},
		{name: "raw-stream-idle-overridden", raw: &resources{hcm: `{stream_idle_timeout: 0.2s}`, action: `{idle_timeout: 0s}`}, script: late, traffic: get(1)},
		{name: "raw-request-timeout", raw: &resources{hcm: `{request_timeout: 0.2s}`}, traffic: upload, mutants: []resources{{hcm: `{request_timeout: 2s}`}}},
		{name: "raw-duration", raw: &resources{hcm: `{common_http_protocol_options: {max_stream_duration: 0.2s}}`}, script: hang, traffic: get(1),
			mutants: []resources{{hcm: `{common_http_protocol_options: {max_stream_duration: 1.6s}}`}}},
		{name: "raw-duration-upload", raw: &resources{hcm: `{common_http_protocol_options: {max_stream_duration: 0.2s}}`}, traffic: upload},
		{name: "raw-duration-of-route", raw: &resources{action: `{max_stream_duration: {max_stream_duration: 0.2s}}`}, script: hang, traffic: get(1),
			mutants: []resources{{action: `{max_stream_duration: {max_stream_duration: 1.6s}}`}}},
		{name: "raw-duration-in-body", raw: &resources{action: `{max_stream_duration: {max_stream_duration: 0.3s}}`}, script: []behaviour{{stall: true, body: "half"}}, traffic: mixed(request{http2: true})},
		{name: "raw-duration-of-route-none", raw: &resources{hcm: `{common_http_protocol_options: {max_stream_duration: 0.2s}}`, action: `{max_stream_duration: {max_stream_duration: 0s}}`},
			script: late, traffic: get(1)},
		{name: "raw-duration-empty", raw: &resources{action: `{timeout: 0.1s, max_stream_duration: {}}`}, script: late, traffic: get(1)},
		{name: "raw-attempt-duration", raw: &resources{options: `{common_http_protocol_options: {max_stream_duration: 0.2s}}`}, script: hang, traffic: get(1),
			mutants: []resources{{options: `{common_http_protocol_options: {max_stream_duration: 1.6s}}`}}},
		{name: "raw-attempt-duration-retried", raw: &resources{options: `{common_http_protocol_options: {max_stream_duration: 0.2s}}`, action: retried(`retry_on: reset, num_retries: 1`)},
			script: []behaviour{hangs, always200}, traffic: get(1)},
		{name: "raw-attempt-duration-exhausted", raw: &resources{options: `{common_http_protocol_options: {max_stream_duration: 0.2s}}`, action: retried(`retry_on: reset, num_retries: 1`)},
			script: hang, traffic: get(1), longest: 600 * ms},
		{name: "raw-attempt-duration-in-body", raw: &resources{options: `{common_http_protocol_options: {max_stream_duration: 0.3s}}`}, script: []behaviour{{stall: true, body: "half"}},
			traffic: mixed(request{http2: true})},
		{name: "raw-caller-gone", raw: &resources{}, script: hang, traffic: mixed(request{patience: 200 * ms}), shortest: 100 * ms, longest: time.Second},
		{name: "raw-caller-gone-retrying", raw: &resources{action: `{retry_policy: {retry_on: 5xx, num_retries: 9, retry_back_off: {base_interval: 60s, max_interval: 60s}}}`},
			script: []behaviour{always503}, traffic: mixed(request{patience: time.Second}), shortest: 900 * ms, longest: 2 * time.Second},
	}
}
