package engine

import (
	"net/http"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
)

// customResponse puts answers of its own in the place of those that match.
type customResponse struct {
	noStep
	config *dataplane.CustomResponse
}

func customStep(config *dataplane.CustomResponse) step {
	if len(config.Rules) == 0 {
		return nil
	}
	return customResponse{config: config}
}

func (s customResponse) response(c *Call, status int, _ http.Header) *reply {
	for i := range s.config.Rules {
		rule := &s.config.Rules[i]
		if !statusMatches(&rule.When, status) {
			continue
		}
		r := &reply{status: rule.Status, grpc: -1, body: rule.Body, edits: rule.Headers, details: rule.Details, direct: true}
		if r.status == 0 {
			r.status = status
		}
		if rule.Keep {
			r.details = c.details
		}
		if rule.Format != nil {
			r.body, _ = c.body(rule.Format, r)
		}
		return r
	}
	return nil
}

func statusMatches(m *dataplane.StatusMatch, status int) bool {
	each := func(m dataplane.StatusMatch) bool { return statusMatches(&m, status) }
	switch {
	case m.All != nil:
		return !slices.ContainsFunc(m.All, func(m dataplane.StatusMatch) bool { return !each(m) })
	case m.Any != nil:
		return slices.ContainsFunc(m.Any, each)
	case m.Not != nil:
		return !each(*m.Not)
	case m.Class != 0:
		return status/100 == m.Class
	}
	return status == m.Exact
}
