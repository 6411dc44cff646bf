package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Retry sends a failed call again.
type Retry struct {
	Disabled   *bool   `json:"disabled,omitempty" doc:"Clears every retry setting that less specific policies made: no retries." scope:"route" effect:"in place; budget.interval rebuilds the cluster" bwdefault:"false"`
	Observe    *bool   `json:"observe,omitempty" doc:"Counts what this section would do, and does nothing. It takes the place of nothing that is enforced." scope:"route" effect:"in place; budget.interval rebuilds the cluster" bwdefault:"false"`
	NumRetries *uint32 `json:"numRetries,omitempty" doc:"Tries after the first." minimum:"1" maximum:"100" zero:"to switch retries off write disabled: true" unit:"tries" scope:"route" effect:"in place" bwdefault:"1 (Envoy)"`

	RetryOn              []string      `json:"retryOn,omitempty" doc:"What is retried, in Envoy's words." scope:"route" effect:"in place" bwdefault:"connect-failure, refused-stream; for grpc also unavailable (Breakwater)"`
	RetriableStatusCodes []uint32      `json:"retriableStatusCodes,omitempty" doc:"The codes that retriable-status-codes stands for." unit:"HTTP status" minimum:"100" maximum:"599" scope:"route" effect:"in place" bwdefault:"none"`
	RetriableHeaders     []HeaderMatch `json:"retriableHeaders,omitempty" doc:"The response headers that retriable-headers stands for." scope:"route" effect:"in place" bwdefault:"none"`
	Methods              *Methods      `json:"methods,omitempty" doc:"Which methods may be sent again though the host may have seen them: safe, idempotent, all, or a list. What surely never reached a host is retried for every method." scope:"route" effect:"in place" bwdefault:"idempotent; for grpc all (Breakwater)"`

	BackOff            *BackOff            `json:"backOff,omitempty" doc:"The pause before a retry." scope:"route" effect:"in place" bwdefault:"base 25ms, max 10x base (Envoy)"`
	RateLimitedBackOff *RateLimitedBackOff `json:"rateLimitedBackOff,omitempty" doc:"A pause that the response itself asks for." scope:"route" effect:"in place" bwdefault:"none"`

	AvoidPreviousHosts      *bool   `json:"avoidPreviousHosts,omitempty" doc:"A retry prefers a host that was not tried before." scope:"route" effect:"in place" bwdefault:"false (Envoy)"`
	HostSelectionAttempts   *uint32 `json:"hostSelectionAttempts,omitempty" doc:"How often a host is picked anew before one tried before is taken after all." minimum:"1" maximum:"100" unit:"picks" scope:"route" effect:"in place" bwdefault:"1 (Envoy); 3 with avoidPreviousHosts (Breakwater)"`
	AvoidPreviousPriorities *bool   `json:"avoidPreviousPriorities,omitempty" doc:"A retry prefers a priority that was not tried before." scope:"route" effect:"in place" bwdefault:"false (Envoy)"`
	BufferBytes             *uint32 `json:"bufferBytes,omitempty" doc:"A larger request is not retried." minimum:"1" maximum:"67108864" unit:"bytes" scope:"route" effect:"in place" bwdefault:"1048576 (Envoy)"`

	Budget *Budget `json:"budget,omitempty" doc:"Limits retries to a share of the active requests; limits.maxRetries then counts for nothing." scope:"cluster" effect:"in place; interval rebuilds the cluster" bwdefault:"20 %, at least 3, unless limits.maxRetries is set (Breakwater)"`
}

// HeaderMatch matches a response header by exact value or presence.
type HeaderMatch struct {
	Name    string  `json:"name" doc:"The header, in lower case." scope:"route" effect:"in place" bwdefault:"required"`
	Exact   *string `json:"exact,omitempty" doc:"The whole value." scope:"route" effect:"in place" bwdefault:"any value"`
	Present *bool   `json:"present,omitempty" doc:"Whether the header must be there." scope:"route" effect:"in place" bwdefault:"true"`
}

// BackOff is the pause before a retry: uniform in [0, min(base*2^(n-1), max)).
type BackOff struct {
	Base *manifest.Duration `json:"base,omitempty" doc:"The longest first pause; doubled for each retry after it." unit:"duration" scope:"route" effect:"in place" bwdefault:"25ms (Envoy)"`
	Max  *manifest.Duration `json:"max,omitempty" doc:"No pause is longer. At least base." unit:"duration" scope:"route" effect:"in place" bwdefault:"10x base (Envoy)"`
}

// RateLimitedBackOff takes the pause from a response header.
type RateLimitedBackOff struct {
	ResetHeaders []ResetHeader      `json:"resetHeaders,omitempty" doc:"Looked at in this order; the first that can be read counts." scope:"route" effect:"in place" bwdefault:"required"`
	Max          *manifest.Duration `json:"max,omitempty" doc:"A header that asks for more is passed over." unit:"duration" scope:"route" effect:"in place" bwdefault:"5m (Envoy)"`
}

// ResetHeader is a header that says when to come back.
type ResetHeader struct {
	Name   string `json:"name" doc:"The header, in lower case." scope:"route" effect:"in place" bwdefault:"required"`
	Format string `json:"format,omitempty" doc:"How the header counts." enum:"seconds,unix-timestamp" scope:"route" effect:"in place" bwdefault:"seconds (Envoy)"`
}

// Budget limits retries to a share of the active requests.
type Budget struct {
	Percent       *uint32            `json:"percent,omitempty" doc:"Share of the active and waiting requests that may be retries." unit:"percent" maximum:"100" scope:"cluster" effect:"in place" bwdefault:"20 (Envoy)"`
	MinConcurrent *uint32            `json:"minConcurrent,omitempty" doc:"So many retries may always run." unit:"retries" maximum:"1000000" scope:"cluster" effect:"in place" bwdefault:"3 (Envoy)"`
	Interval      *manifest.Duration `json:"interval,omitempty" doc:"Finished requests count too, for so long." unit:"duration" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"only active requests count (Envoy)"`
}

// Methods says which HTTP methods may be sent twice though the server may have seen them: "safe", "idempotent" or "all" (one
// word, Class), or a list.
type Methods struct {
	Class string
	List  []string
}

// The classes of methods.
const (
	MethodsSafe       = "safe"
	MethodsIdempotent = "idempotent"
	MethodsAll        = "all"
)

// MarshalJSON writes the word or the list.
func (m Methods) MarshalJSON() ([]byte, error) {
	if m.Class != "" {
		return json.Marshal(m.Class)
	}
	return json.Marshal(m.List)
}

// UnmarshalJSON reads the word or the list.
func (m *Methods) UnmarshalJSON(data []byte) error {
	*m = Methods{}
	if json.Unmarshal(data, &m.Class) == nil {
		return nil
	}
	if json.Unmarshal(data, &m.List) == nil {
		return nil
	}
	return errors.New("must be safe, idempotent, all, or a list of methods such as [GET, PUT]")
}

var (
	methodClasses = []string{MethodsSafe, MethodsIdempotent, MethodsAll}
	httpMethods   = []string{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", "CONNECT"}

	// retryTokens are the conditions Envoy knows; it takes others without a word and ignores them.
	retryTokens = []string{
		"5xx", "gateway-error", "reset", "connect-failure", "refused-stream", "reset-before-request", "retriable-4xx",
		"retriable-status-codes", "retriable-headers", "envoy-ratelimited",
		"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable", FailureCriteriaToken,
	}
)

const (
	defaultNumRetries    = 1
	defaultBackOffBase   = manifest.Duration("25ms")
	defaultMaxFactor     = 10
	defaultBudgetPercent = 20
	defaultBudgetMinimum = 3
	defaultHostPicks     = 1
	defaultAvoidPicks    = 3
	defaultResetMax      = manifest.Duration("5m")
	defaultResetFormat   = "seconds"

	retriableStatusCodes = "retriable-status-codes"
	retriableHeaders     = "retriable-headers"
)

// complete fills in the defaults. protocol is that of the called service.
func (r *Retry) complete(protocol string, s *Sections) {
	fill(&r.NumRetries, defaultNumRetries)
	if r.RetryOn == nil {
		r.RetryOn = []string{"connect-failure", "refused-stream"}
		if protocol == "grpc" {
			r.RetryOn = append(r.RetryOn, "unavailable")
		}
	}
	class := MethodsIdempotent
	if protocol == "grpc" {
		class = MethodsAll
	}
	fill(&r.Methods, Methods{Class: class})
	fill(&r.AvoidPreviousHosts, false)
	fill(&r.AvoidPreviousPriorities, false)
	picks := uint32(defaultHostPicks)
	if *r.AvoidPreviousHosts {
		picks = defaultAvoidPicks
	}
	fill(&r.HostSelectionAttempts, picks)
	r.completeBackOff()
	r.completeBudget(s.Limits)
}

func (r *Retry) completeBackOff() {
	own(&r.BackOff)
	if r.BackOff.Base == nil && r.BackOff.Max != nil && r.BackOff.Max.D() < defaultBackOffBase.D() {
		fill(&r.BackOff.Base, *r.BackOff.Max) // an author who asks for short pauses gets them
	}
	fill(&r.BackOff.Base, defaultBackOffBase)
	fill(&r.BackOff.Max, manifest.DurationOf(defaultMaxFactor*r.BackOff.Base.D()))
	if r.RateLimitedBackOff == nil {
		return
	}
	own(&r.RateLimitedBackOff)
	fill(&r.RateLimitedBackOff.Max, defaultResetMax)
	headers := slices.Clone(r.RateLimitedBackOff.ResetHeaders)
	for i := range headers {
		if headers[i].Format == "" {
			headers[i].Format = defaultResetFormat
		}
	}
	r.RateLimitedBackOff.ResetHeaders = headers
}

// completeBudget gives every retry a budget, since Envoy's own default lets three retries run for a whole service; unless the
// authors have set a count.
func (r *Retry) completeBudget(limits *Limits) {
	if r.Budget == nil && limits != nil && limits.MaxRetries != nil {
		return
	}
	own(&r.Budget)
	fill(&r.Budget.Percent, defaultBudgetPercent)
	fill(&r.Budget.MinConcurrent, defaultBudgetMinimum)
}

// check is what the fields must obey among each other. A list that no condition asks for any more is no fault of those who
// merged: it counts for nothing.
func (r *Retry) check() []clash {
	var found []clash
	if slices.Contains(r.RetryOn, retriableStatusCodes) && len(r.RetriableStatusCodes) == 0 {
		found = append(found, clash{a: "retry.retryOn", rule: "has " + retriableStatusCodes + ", which needs", b: "retry.retriableStatusCodes"})
	}
	if slices.Contains(r.RetryOn, retriableHeaders) && len(r.RetriableHeaders) == 0 {
		found = append(found, clash{a: "retry.retryOn", rule: "has " + retriableHeaders + ", which needs", b: "retry.retriableHeaders"})
	}
	return found
}

// validate checks one author's section alone.
func (r *Retry) validate(f *faults, _ *Sections) {
	for i, token := range r.RetryOn {
		f.word(fmt.Sprintf("retry.retryOn[%d]", i), token, retryTokens, nil)
	}
	f.unique("retry.retryOn", r.RetryOn)
	if len(r.RetriableStatusCodes) > 0 && !slices.Contains(r.RetryOn, retriableStatusCodes) {
		f.add("retry.retriableStatusCodes", "needs %s in retry.retryOn", retriableStatusCodes)
	}
	if len(r.RetriableHeaders) > 0 && !slices.Contains(r.RetryOn, retriableHeaders) {
		f.add("retry.retriableHeaders", "needs %s in retry.retryOn", retriableHeaders)
	}
	if r.Methods != nil {
		r.Methods.validate(f)
	}
	for i, h := range r.RetriableHeaders {
		h.validate(f, fmt.Sprintf("retry.retriableHeaders[%d]", i))
	}
	if b := r.BackOff; b != nil && b.Base != nil && b.Max != nil && b.Base.D() > b.Max.D() {
		f.add("retry.backOff.base", "must be at most retry.backOff.max (%s)", *b.Max)
	}
	if b := r.RateLimitedBackOff; b != nil {
		b.validate(f)
	}
}

func (m *Methods) validate(f *faults) {
	if m.Class != "" {
		f.word("retry.methods", m.Class, methodClasses, nil)
	}
	for i, method := range m.List {
		f.word(fmt.Sprintf("retry.methods[%d]", i), method, httpMethods, nil)
	}
	if m.Class == "" && len(m.List) == 0 {
		f.add("retry.methods", "must be safe, idempotent, all, or a list of methods such as [GET, PUT]")
	}
	f.unique("retry.methods", m.List)
}

func (h HeaderMatch) validate(f *faults, path string) {
	f.header(path+".name", h.Name, true)
	switch {
	case h.Exact != nil && h.Present != nil:
		f.add(path, "takes exact or present, not both")
	case h.Exact == nil && h.Present == nil:
		f.add(path, "needs exact or present")
	}
}

func (b *RateLimitedBackOff) validate(f *faults) {
	if len(b.ResetHeaders) == 0 {
		f.add("retry.rateLimitedBackOff.resetHeaders", "is required: name at least one header, such as retry-after")
	}
	for i, h := range b.ResetHeaders {
		f.header(fmt.Sprintf("retry.rateLimitedBackOff.resetHeaders[%d].name", i), h.Name, false)
	}
}

// headerName reports whether s can be the name of a header, in lower case.
func headerName(s string) bool { return token(s) && s == strings.ToLower(s) }

// token reports whether s is a word as HTTP has it: the name of a header or of a cookie.
func token(s string) bool {
	return s != "" && len(s) <= 256 && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~") == ""
}
