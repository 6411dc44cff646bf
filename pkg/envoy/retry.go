package envoy

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	prioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// unsent are the conditions under which a host can't have begun on the request, and what implies them. "reset-before-request" is not
// among them: of what it stands for, these two are what is sure.
var unsent = [...]struct {
	token     string
	impliedBy []string
}{
	{"connect-failure", []string{"connect-failure", "5xx", "gateway-error", "reset", "reset-before-request", policy.FailureCriteriaToken}},
	{"refused-stream", []string{"refused-stream", "5xx", "gateway-error", "reset", "reset-before-request", policy.FailureCriteriaToken}},
}

// retryPolicy is the full policy of the route. Without retries it exists only to bound a try in time, and with neither it is nil:
// Envoy counts a policy of no retries as exhausted, and says so in its response flags.
func (in input) retryPolicy() *routev3.RetryPolicy {
	if !in.retries() {
		return in.tryOnly()
	}
	r := in.sections.Retry
	p := in.retryFrame(r)
	p.RetryOn = strings.Join(conditions(r.RetryOn), ",")
	p.RetriableStatusCodes = r.RetriableStatusCodes
	for _, h := range r.RetriableHeaders {
		p.RetriableHeaders = append(p.RetriableHeaders, headerMatcher(h))
	}
	if slices.Contains(r.RetryOn, policy.FailureCriteriaToken) {
		p.RetriableHeaders = append(p.RetriableHeaders, in.failures()...)
	}
	p.RateLimitedRetryBackOff = rateLimitedBackOff(r.RateLimitedBackOff)
	return p
}

// conditions are Envoy's words for what an author wrote. A failure by the criteria is an answer that their matchers take, or none at all:
// reset is any connection that fails or breaks, and a try's timeout.
func conditions(written []string) []string {
	var list []string
	add := func(word string) {
		if !slices.Contains(list, word) {
			list = append(list, word)
		}
	}
	for _, word := range written {
		if word == policy.FailureCriteriaToken {
			add("retriable-headers")
			add("reset")
			continue
		}
		add(word)
	}
	return list
}

// guardedRetryPolicy is the policy for methods that must not be sent twice once a host may have seen them.
func (in input) guardedRetryPolicy() *routev3.RetryPolicy {
	r := in.sections.Retry
	var on []string
	for _, u := range unsent {
		if slices.ContainsFunc(u.impliedBy, func(token string) bool { return slices.Contains(r.RetryOn, token) }) {
			on = append(on, u.token)
		}
	}
	if len(on) == 0 {
		return in.tryOnly()
	}
	p := in.retryFrame(r)
	p.RetryOn = strings.Join(on, ",")
	return p
}

// retries reports whether anything is retried at all.
func (in input) retries() bool {
	r := in.sections.Retry
	return r != nil && orElse(r.NumRetries, 1) > 0
}

// tryOnly bounds the one try in time and never retries.
func (in input) tryOnly() *routev3.RetryPolicy {
	whole, idle := in.perTry()
	if whole == nil && idle == nil {
		return nil
	}
	return &routev3.RetryPolicy{PerTryTimeout: whole, PerTryIdleTimeout: idle}
}

// retryFrame is what a policy holds whatever it retries on.
func (in input) retryFrame(r *policy.Retry) *routev3.RetryPolicy {
	p := &routev3.RetryPolicy{NumRetries: wrapperspb.UInt32(orElse(r.NumRetries, 1))}
	p.PerTryTimeout, p.PerTryIdleTimeout = in.perTry()
	if b := r.BackOff; b != nil && finite(b.Base) {
		p.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: duration(b.Base), MaxInterval: duration(b.Max)}
	}
	if orElse(r.AvoidPreviousHosts, false) {
		p.RetryHostPredicate = []*routev3.RetryPolicy_RetryHostPredicate{{
			Name:       "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: pack(&hostsv3.PreviousHostsPredicate{})},
		}}
		p.HostSelectionRetryMaxAttempts = int64(orElse(r.HostSelectionAttempts, 1))
	}
	if orElse(r.AvoidPreviousPriorities, false) {
		p.RetryPriority = &routev3.RetryPolicy_RetryPriority{
			Name: "envoy.retry_priorities.previous_priorities",
			// 1: the very next try avoids the priority that failed.
			ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{TypedConfig: pack(&prioritiesv3.PreviousPrioritiesConfig{UpdateFrequency: 1})},
		}
	}
	return p
}

func headerMatcher(h policy.HeaderMatch) *routev3.HeaderMatcher {
	m := &routev3.HeaderMatcher{Name: h.Name}
	if h.Exact != nil {
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: exactly(*h.Exact)}
	} else {
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: orElse(h.Present, true)}
	}
	return m
}

func exactly(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}}
}

func rateLimitedBackOff(b *policy.RateLimitedBackOff) *routev3.RetryPolicy_RateLimitedRetryBackOff {
	if b == nil {
		return nil
	}
	out := &routev3.RetryPolicy_RateLimitedRetryBackOff{}
	if finite(b.Max) {
		out.MaxInterval = durationpb.New(b.Max.D())
	}
	for _, h := range b.ResetHeaders {
		format := routev3.RetryPolicy_SECONDS
		if h.Format == "unix-timestamp" {
			format = routev3.RetryPolicy_UNIX_TIMESTAMP
		}
		out.ResetHeaders = append(out.ResetHeaders, &routev3.RetryPolicy_ResetHeader{Name: h.Name, Format: format})
	}
	return out
}

// retriedMethods are the methods that the full policy retries, sorted; nil where it makes no difference between them.
func (in input) retriedMethods() []string {
	if !in.retries() || in.sections.Retry.Methods == nil {
		return nil
	}
	switch m := in.sections.Retry.Methods; m.Class {
	case policy.MethodsSafe:
		return []string{"GET", "HEAD", "OPTIONS", "TRACE"}
	case policy.MethodsIdempotent:
		return []string{"DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"}
	case policy.MethodsAll:
		return nil
	default:
		return slices.Compact(slices.Sorted(slices.Values(m.List)))
	}
}

// grpcConditions are retry conditions that look at the gRPC status.
var grpcConditions = [...]string{"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}

var retryLines = []line{
	{field: "retry.retryOn", on: proxies, when: retriesOnStatus, always: true, inherent: true, level: Approximate,
		reason: "a gRPC status is seen where the response is nothing but trailers; behind a message or headers of its own it is not"},
}

func retriesOnStatus(in input, _ policy.Field) bool {
	return slices.ContainsFunc(grpcConditions[:], func(token string) bool { return slices.Contains(in.sections.Retry.RetryOn, token) })
}
