package policy

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Fallback answers where the service could not.
type Fallback struct {
	Disabled *bool             `json:"disabled,omitempty" doc:"Clears the fallback that less specific policies set." scope:"route" effect:"in place" bwdefault:"false"`
	Observe  *bool             `json:"observe,omitempty" doc:"Counts what this section would do, and does nothing. It takes the place of nothing that is enforced." scope:"route" effect:"in place" bwdefault:"false"`
	Service  *string           `json:"service,omitempty" doc:"This service, as name or namespace/name, gets the call once every try has failed, or at once where the called one has no host to try. Its proxies receive it even if dependsOn does not name it. On an Envoy with routes of its own it needs clusterName, and turning it on or off rebuilds the cluster of that name." oneof:"answer" scope:"route" effect:"in place" bwdefault:"none"`
	Response *FallbackResponse `json:"response,omitempty" doc:"A fixed response in place of the last try's, also where a limit or an open breaker lets no try happen." oneof:"answer" scope:"route" effect:"in place" bwdefault:"none"`
	When     []string          `json:"when,omitempty" doc:"The failures that it stands in for: 5xx, gateway-error (502, 503, 504), reset, connect-failure, and for gRPC unavailable. With service they are conditions of retries as well." scope:"route" effect:"in place" bwdefault:"5xx, reset, connect-failure; for grpc also unavailable (Breakwater)"`
}

// FallbackResponse is a fixed response.
type FallbackResponse struct {
	Status      *uint32 `json:"status,omitempty" doc:"Its status." minimum:"200" maximum:"599" unit:"HTTP status" scope:"route" effect:"in place" bwdefault:"200 (Breakwater)"`
	Body        *string `json:"body,omitempty" doc:"Its body, at most 64 KiB." scope:"route" effect:"in place" bwdefault:"empty"`
	ContentType *string `json:"contentType,omitempty" doc:"What the body is." scope:"route" effect:"in place" bwdefault:"application/json (Breakwater)"`
}

// The failures that a fallback stands in for.
const (
	On5xx            = "5xx"
	OnGatewayError   = "gateway-error"
	OnReset          = "reset"
	OnConnectFailure = "connect-failure"
	OnUnavailable    = "unavailable" // of gRPC
)

var fallbackWords = []string{On5xx, OnGatewayError, OnReset, OnConnectFailure, OnUnavailable}

const (
	defaultFallbackStatus = 200
	defaultFallbackType   = "application/json"
	longestBody           = 64 << 10
)

func (b *Fallback) complete(protocol string, _ *Sections) {
	if b.When == nil {
		b.When = []string{On5xx, OnReset, OnConnectFailure}
		if protocol == "grpc" {
			b.When = append(b.When, OnUnavailable)
		}
	}
	if b.Response != nil {
		own(&b.Response)
		fill(&b.Response.Status, defaultFallbackStatus)
		fill(&b.Response.ContentType, defaultFallbackType)
	}
}

func (b *Fallback) check() []clash {
	if b.Response == nil && b.Service == nil {
		return []clash{{a: "fallback", rule: "needs fallback.service or fallback.response", oneOf: []string{"fallback.service", "fallback.response"}}}
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
	if b.Service != nil {
		namespace, name, found := strings.Cut(*b.Service, "/")
		if !found {
			namespace, name = "", namespace
		}
		if namespace != "" || found {
			f.name("fallback.service", namespace)
		}
		f.name("fallback.service", name)
	}
	if b.Response != nil {
		b.Response.validate(f)
	}
}

// fallsBackElsewhere checks that a fallback is not the very service that is called. That of one of its routes may be: the route may lead to
// another service, or to a subset.
func fallsBackElsewhere(p *Policy, f *faults) {
	b, to := p.Spec.Fallback, p.Spec.To
	if b == nil || b.Service == nil || to.Service == "" || to.Service == Every || to.Route != "" {
		return
	}
	key, qualified := ParseService(*b.Service)
	if !qualified {
		key = manifest.Key{Namespace: p.Metadata.Namespace, Name: *b.Service}
	}
	if key == (manifest.Key{Namespace: targetNamespace(p), Name: to.Service}) {
		f.add(fallbackService, "must be another service than the called one, which has failed by then: for more tries set retry.numRetries; for a route that leads elsewhere write a policy with to.route")
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

// FallbackService is the service that c's fallback names.
func (c *Compiled) FallbackService() (manifest.Key, bool) {
	for _, set := range c.sets {
		if set.path == fallbackService {
			return ParseService(*set.value.Interface().(*string))
		}
	}
	return manifest.Key{}, false
}

const fallbackService = "fallback.service"

// ParseService reads "namespace/name".
func ParseService(s string) (manifest.Key, bool) {
	namespace, name, ok := strings.Cut(s, "/")
	return manifest.Key{Namespace: namespace, Name: name}, ok
}

// qualify writes the namespace of the policy before the name of a service that has none: once merged, nobody knows whose it was.
func (e *expansion) qualify(namespace string) {
	for i, set := range e.sets {
		if name, ok := set.value.Interface().(*string); ok && set.path == fallbackService && !strings.Contains(*name, "/") {
			e.sets[i].value = reflect.ValueOf(new(namespace + "/" + *name))
		}
	}
}
