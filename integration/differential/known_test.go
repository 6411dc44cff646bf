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
	var (
		localReplies    = difference{"local-replies-completed", []string{"stat upstream_rq_completed"}}
		resets          = difference{"resets-counted", []string{"stat upstream_rq_rx_reset", "stat upstream_rq_tx_reset"}}
		pendingFailures = difference{"pending-failure-eject", []string{"stat upstream_rq_pending_failure_eject"}}
		brokenBody      = difference{"broken-body-late", []string{"answer 1: elapsed"}}
		maxStream       = difference{"max-stream-code", []string{"stat upstream_rq_5xx", "stat upstream_rq_504"}}
		notSpoken       = difference{"http2-not-spoken", []string{"answer ", "stat upstream_rq_503"}}
		beforeRequest   = difference{"reset-before-request", []string{"answer 1: ", "requests upstream", "requests by host", "stat upstream_rq_total", "stat upstream_rq_200", "stat upstream_rq_5xx",
			"stat upstream_rq_503", "stat upstream_rq_504", "stat upstream_rq_retry"}}
	)
	return map[string][]difference{
		"all-ejected-no-panic":         {localReplies},
		"breaker":                      {localReplies},
		"breaker-opens-again":          {localReplies},
		"bulkhead":                     {localReplies},
		"bulkhead-at-once":             {localReplies},
		"closed":                       {localReplies, resets},
		"cut-short":                    {brokenBody, resets},
		"cut-short-not-retried":        {brokenBody, resets},
		"eject-refused":                {localReplies, pendingFailures},
		"eject-reset":                  {localReplies, resets},
		"eject-split-local":            {localReplies, pendingFailures},
		"eject-timeout":                {localReplies, resets},
		"ejected-comes-back":           {localReplies},
		"exhausted-reset":              {localReplies, resets},
		"http2-not-spoken":             {localReplies, resets, notSpoken},
		"limits-edited":                {localReplies},
		"max-requests":                 {localReplies},
		"max-requests-retried":         {localReplies},
		"max-stream":                   {resets, maxStream},
		"on-5xx-reset":                 {resets},
		"on-connect-failure-not-reset": {localReplies, resets},
		"on-gateway-error-reset":       {resets},
		"on-refused-all":               {localReplies, pendingFailures},
		"on-reset":                     {resets},
		"on-reset-before-request":      {resets, beforeRequest},
		"on-reset-before-request-late": {resets, beforeRequest},
		"on-reset-close":               {resets},
		"pending-none":                 {localReplies},
		"per-try-alone":                {localReplies, resets},
		"per-try-exhausted":            {localReplies, resets},
		"per-try-idle":                 {resets},
		"per-try-idle-exhausted":       {localReplies, resets},
		"per-try-retried":              {resets},
		"post-refused":                 {localReplies, pendingFailures},
		"refused":                      {localReplies, pendingFailures},
		"request-timeout":              {localReplies, resets},
		"request-timeout-in-body":      {brokenBody, resets},
		"reset":                        {localReplies, resets},
		"reset-then-503":               {resets},
		"timeout-edited":               {localReplies, resets},
		"timeout-over-retries":         {localReplies, resets},
	}
}
