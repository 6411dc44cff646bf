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
	return map[string][]difference{
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
}
