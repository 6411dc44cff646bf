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
	known := map[string][]difference{
		"raw-h2-reset-no-error-in-body-1":          {brokenBody},
		"raw-h2-reset-protocol-error-in-body-1":    {brokenBody},
		"raw-h2-reset-internal-error-in-body-1":    {brokenBody},
		"raw-h2-reset-refused-stream-in-body-1":    {brokenBody},
		"raw-h2-reset-cancel-in-body-1":            {brokenBody},
		"raw-h2-reset-enhance-your-calm-in-body-1": {brokenBody},
		"cut-short":               {brokenBody},
		"cut-short-not-retried":   {brokenBody},
		"request-timeout-in-body": {brokenBody},
		"raw-websocket-2":         {{"websocket-http2", []string{"answer 1: ", "requests ", "stat ", "log 1: "}}},
	}
	length := difference{"length-of-nothing", []string{"header content-length: envoy [], agent [\"0\"]"}}
	for _, name := range []string{
		"raw-frame-drop-retried", "raw-frame-ending-reset", "raw-frame-goaway-reset", "raw-frame-goaway-retried", "raw-frame-junk-retried",
		"raw-frame-none-retried", "raw-frame-plain", "raw-frame-refused-5xx", "raw-frame-refused-reset", "raw-frame-refused-retried",
		"raw-grpc-attempt-duration", "raw-grpc-deadline", "raw-grpc-deadline-max", "raw-grpc-deadline-none-said", "raw-grpc-deadline-nonsense",
		"raw-grpc-deadline-unheard", "raw-grpc-direct", "raw-grpc-direct-200", "raw-grpc-ejected", "raw-grpc-idle", "raw-grpc-maintenance",
		"raw-grpc-matched", "raw-grpc-max-duration", "raw-grpc-max-requests", "raw-grpc-no-cluster", "raw-grpc-no-host", "raw-grpc-no-route",
		"raw-grpc-per-try", "raw-grpc-reset", "raw-grpc-timeout",
	} {
		known[name] = append(known[name], length)
	}
	return known
}
