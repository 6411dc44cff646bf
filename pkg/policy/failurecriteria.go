package policy

import (
	"fmt"
	"slices"
)

// FailureCriteria says once what counts as a failure. Admission control goes by it, retries where retryOn has failure-criteria, and
// ejection where outlierDetection.useFailureCriteria is true. No answer at all (a connection that fails or breaks, a timeout) is always one.
type FailureCriteria struct {
	Disabled *bool `json:"disabled,omitempty" doc:"Clears the criteria that less specific policies set: failures are then what the defaults say." effect:"in place; rebuilds the cluster where ejection or admission control goes by it" bwdefault:"false"`

	HTTP *HTTPFailure `json:"http,omitempty" doc:"The answers of HTTP that are failures." effect:"in place; rebuilds the cluster where ejection or admission control goes by it" bwdefault:"5xx (Envoy)"`
	GRPC *GRPCFailure `json:"grpc,omitempty" doc:"The statuses of gRPC that are failures." effect:"in place; rebuilds the cluster where ejection or admission control goes by it" bwdefault:"for grpc services unknown, deadline-exceeded, unimplemented, internal, unavailable, data-loss (Envoy); else none"`
}

// NotYet answers for what people look for here: criteria do nothing by themselves.
func (FailureCriteria) NotYet() map[string]string {
	return map[string]string{"observe": "belongs to the sections that go by the criteria, such as outlierDetection.observe"}
}

// HTTPFailure is an answer with one of the statuses, without one of the excepted ones, or with one of the headers.
type HTTPFailure struct {
	Statuses       []Status      `json:"statuses,omitempty" doc:"Such as 429 or \"5xx\"." unit:"HTTP status" effect:"in place; rebuilds the cluster where ejection or admission control goes by it" bwdefault:"[5xx] (Envoy)"`
	ExceptStatuses []Status      `json:"exceptStatuses,omitempty" doc:"Those of them that are no failures." unit:"HTTP status" effect:"in place; rebuilds the cluster where ejection or admission control goes by it" bwdefault:"none"`
	Headers        []HeaderMatch `json:"headers,omitempty" doc:"An answer with one of these is a failure, whatever its status." effect:"in place; rebuilds the cluster where ejection or admission control goes by it" bwdefault:"none"`
}

// GRPCFailure is a call that ends with one of the codes.
type GRPCFailure struct {
	Codes []string `json:"codes,omitempty" doc:"In gRPC's words, such as unavailable." effect:"in place; rebuilds the cluster where ejection or admission control goes by it" bwdefault:"required"`
}

// FailureCriteriaToken is the condition of retry.retryOn that stands for the failure criteria.
const FailureCriteriaToken = "failure-criteria"

// grpcCodes are the statuses of gRPC from 1, as they count.
var grpcCodes = []string{
	"cancelled", "unknown", "invalid-argument", "deadline-exceeded", "not-found", "already-exists", "permission-denied", "resource-exhausted",
	"failed-precondition", "aborted", "out-of-range", "unimplemented", "internal", "unavailable", "data-loss", "unauthenticated",
}

// GRPCCode is the number of a status of gRPC, 0 for a word that is none.
func GRPCCode(word string) uint32 { return uint32(slices.Index(grpcCodes, word) + 1) }

// Criteria are those in force among s for a service of that protocol, with what holds where no policy says anything.
func (s *Sections) Criteria(protocol string) FailureCriteria {
	var c FailureCriteria
	if s.FailureCriteria != nil {
		c = *s.FailureCriteria
	}
	c.complete(protocol, s)
	return c
}

// complete fills in the defaults: what Envoy itself takes for a failure.
func (c *FailureCriteria) complete(protocol string, _ *Sections) {
	own(&c.HTTP)
	if c.HTTP.Statuses == nil {
		c.HTTP.Statuses = []Status{"5xx"}
	}
	if c.GRPC == nil && protocol == "grpc" {
		c.GRPC = &GRPCFailure{Codes: []string{"unknown", "deadline-exceeded", "unimplemented", "internal", "unavailable", "data-loss"}}
	}
}

// Fails reports whether an answer with that status is a failure, whatever its headers.
func (h *HTTPFailure) Fails(status uint32) bool {
	return Covers(h.Statuses, status) && !Covers(h.ExceptStatuses, status)
}

// validate checks one author's section alone.
func (c *FailureCriteria) validate(f *faults, _ *Sections) {
	if h := c.HTTP; h != nil {
		f.statuses("failureCriteria.http.statuses", h.Statuses)
		f.statuses("failureCriteria.http.exceptStatuses", h.ExceptStatuses)
		for i, m := range h.Headers {
			m.validate(f, fmt.Sprintf("failureCriteria.http.headers[%d]", i))
		}
	}
	if g := c.GRPC; g != nil {
		for i, code := range g.Codes {
			f.word(fmt.Sprintf("failureCriteria.grpc.codes[%d]", i), code, grpcCodes, nil)
		}
		f.unique("failureCriteria.grpc.codes", g.Codes)
	}
}
