package differential_test

import "strings"

// difference is one that is known: why it is, and what is to become of it, stands under its name in docs/agent-fidelity.md.
type difference struct {
	name  string
	parts []string // of the lines that it explains
}

func (d difference) explains(line string) bool {
	for _, part := range d.parts {
		if strings.Contains(line, part) {
			return true
		}
	}
	return false
}

// knownDifferences are those that are expected, by scenario. One that does not show fails its scenario.
func knownDifferences() map[string][]difference {
	brokenBody := difference{"broken-body-late", []string{"answer 1: elapsed"}}
	goesOn := []string{"answers: envoy 2, agent 3", "answer 1: ", "answer 2: elapsed", "requests ", "stat upstream_rq_"} // the connection, and what was on it
	malformed := func(name, answer string) []difference {
		return []difference{{name, goesOn}, {name, []string{"answer 2: body: envoy \" connection: pong|end\", agent \"" + answer}}}
	}
	length := difference{"wrong-length-http2", []string{"stat upstream_rq_tx_reset", "stat upstream_rq_pending_failure_eject", "log 1: flags: envoy UPE, agent UC", "log 1: details", "log 1: out"}}
	code := difference{"reset-codes", []string{`envoy "GET /  reset as INTERNAL_ERROR", agent "GET /  reset as CANCEL"`}}
	budget := difference{"attempt-budget", []string{"request 2 upstream: header x-breakwater-budget-ms"}}
	return map[string][]difference{
		"policy-deadline-retried":                  {budget},
		"raw-h2-malformed-connection-header":       malformed("malformed-http2", "head 400 "),
		"raw-h2-malformed-upper-case":              malformed("malformed-http2", `PROTOCOL_ERROR|END"`),
		"raw-h2-malformed-absolute-path":           malformed("malformed-http2", `head 200|ok|END"`),
		"raw-h2-malformed-length-without-body":     malformed("malformed-http2", `head 200|ok|END"`),
		"raw-h2-malformed-many-headers":            {{"malformed-http2", []string{`answer 2: body: envoy "INTERNAL_ERROR|END", agent "head 431 `}}},
		"raw-h2-streams-over-the-limit":            malformed("streams-over-limit", `PROTOCOL_ERROR|END"`),
		"raw-h2-rapid-resets":                      {{"rapid-resets", []string{`answer 1: body: envoy " connection: end", agent "head 200|ok|END"`}}, {"rapid-resets", []string{"requests ", "stat upstream_rq_", "answer 1: elapsed"}}},
		"raw-h2-cancel-cancel-code":                {code},
		"raw-h2-cancel-internal-error-code":        {code},
		"raw-h2-body-too-long":                     {brokenBody, length},
		"raw-h2-body-too-short":                    {brokenBody, length, {"wrong-length-http2", []string{`answer 1: body: envoy "", agent "half"`}}},
		"raw-h2-refused-in-body":                   {brokenBody},
		"raw-h2-reset-no-error-in-body-1":          {brokenBody},
		"raw-h2-reset-protocol-error-in-body-1":    {brokenBody},
		"raw-h2-reset-internal-error-in-body-1":    {brokenBody},
		"raw-h2-reset-refused-stream-in-body-1":    {brokenBody},
		"raw-h2-reset-cancel-in-body-1":            {brokenBody},
		"raw-h2-reset-enhance-your-calm-in-body-1": {brokenBody},
		"cut-short":                      {brokenBody},
		"cut-short-not-retried":          {brokenBody},
		"request-timeout-in-body":        {brokenBody},
		"policy-rate-limit-edited-route": {{"live-filters", []string{"answer 4: ", "requests ", "stat upstream_rq_"}}},
		"raw-websocket-2":                {{"websocket-http2", []string{"answer 1: ", "requests ", "stat ", "log 1: "}}},
	}
}
