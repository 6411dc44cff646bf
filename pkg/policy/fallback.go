package policy

import (
	"fmt"
	"strings"
)

// Fallback answers where the service could not.
type Fallback struct {
	Disabled *bool             `json:"disabled,omitempty" doc:"Clears the fallback that less specific policies set." scope:"route" effect:"in place" bwdefault:"false"`
	Response *FallbackResponse `json:"response,omitempty" doc:"A fixed response in place of the last try's, also where a limit or an open breaker lets no try happen." oneof:"answer" scope:"route" effect:"in place" bwdefault:"none"`
	When     []string          `json:"when,omitempty" doc:"The failures that it stands in for: 5xx, gateway-error (502, 503, 504), reset, connect-failure." scope:"route" effect:"in place" bwdefault:"5xx, reset, connect-failure (Breakwater)"`
}

// FallbackResponse is a fixed response.
type FallbackResponse struct {
	Status      *uint32 `json:"status,omitempty" doc:"Its status." minimum:"200" maximum:"599" unit:"HTTP status" scope:"route" effect:"in place" bwdefault:"200 (Breakwater)"`
	Body        *string `json:"body,omitempty" doc:"Its body, at most 64 KiB." scope:"route" effect:"in place" bwdefault:"empty"`
	ContentType *string `json:"contentType,omitempty" doc:"What the body is." scope:"route" effect:"in place" bwdefault:"application/json (Breakwater)"`
}

// NotYet answers for the fields that later versions of the language have.
func (Fallback) NotYet() map[string]string { return later("observe", "service") }

// The failures that a fallback stands in for.
const (
	On5xx            = "5xx"
	OnGatewayError   = "gateway-error"
	OnReset          = "reset"
	OnConnectFailure = "connect-failure"
)

var fallbackWords = []string{On5xx, OnGatewayError, OnReset, OnConnectFailure}

const (
	defaultFallbackStatus = 200
	defaultFallbackType   = "application/json"
	longestBody           = 64 << 10
)

func (b *Fallback) complete(string, *Sections) {
	if b.When == nil {
		b.When = []string{On5xx, OnReset, OnConnectFailure}
	}
	if b.Response != nil {
		own(&b.Response)
		fill(&b.Response.Status, defaultFallbackStatus)
		fill(&b.Response.ContentType, defaultFallbackType)
	}
}

func (b *Fallback) check() []clash {
	if b.Response == nil {
		return []clash{{a: "fallback", rule: "needs fallback.response"}}
	}
	return nil
}

// checkAlone lets one policy change when another's fallback answers.
func (b *Fallback) checkAlone() []clash { return nil }

func (b *Fallback) validate(f *faults, _ *Sections) {
	for i, word := range b.When {
		f.word(fmt.Sprintf("fallback.when[%d]", i), word, fallbackWords, nil)
	}
	f.unique("fallback.when", b.When)
	if b.Response != nil {
		b.Response.validate(f)
	}
}

func (r *FallbackResponse) validate(f *faults) {
	if r.Body != nil && len(*r.Body) > longestBody {
		f.add("fallback.response.body", "has %d bytes, and %d are the most", len(*r.Body), longestBody)
	}
	if r.ContentType != nil && (*r.ContentType == "" || strings.ContainsFunc(*r.ContentType, func(c rune) bool { return c < ' ' || c > '~' })) {
		f.add("fallback.response.contentType", "%q is no media type, such as application/json", *r.ContentType)
	}
	if r.Status != nil && *r.Status < 400 && (*r.Status == 204 || *r.Status == 304) && r.Body != nil && *r.Body != "" {
		f.add("fallback.response.body", "can't stand beside status %d, which has none", *r.Status)
	}
}
