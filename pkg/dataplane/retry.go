package dataplane

import (
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3" // policies pack it
	prioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// Envoy's defaults of a retry policy.
const (
	defaultBackOff         = 25 * time.Millisecond
	defaultBackOffFactor   = 10 // of the base, for the longest wait
	defaultRateLimitedWait = 300 * time.Second
)

// retry is nil where p is.
func (r *reader) retry(path string, p *routev3.RetryPolicy) *resilience.Retry {
	if p == nil {
		return nil
	}
	out := &resilience.Retry{
		On:                      retryOn(p.GetRetryOn()),
		NumRetries:              orValue(p.GetNumRetries(), 1),
		RetriableStatusCodes:    p.GetRetriableStatusCodes(),
		RetriableHeaders:        r.headerMatches(path+".retriable_headers", p.GetRetriableHeaders()),
		RetriableRequestHeaders: r.headerMatches(path+".retriable_request_headers", p.GetRetriableRequestHeaders()),
		PerTryTimeout:           p.GetPerTryTimeout().AsDuration(),
		PerTryIdleTimeout:       p.GetPerTryIdleTimeout().AsDuration(),
		BackOff:                 r.backOff(path+".retry_back_off", p.GetRetryBackOff()),
		RateLimited:             rateLimited(p.GetRateLimitedRetryBackOff()),
		AvoidPreviousHosts:      len(p.GetRetryHostPredicate()) > 0, // no other predicate passes the walk
		HostSelectionAttempts:   1,
	}
	if n := p.GetHostSelectionRetryMaxAttempts(); n > 0 {
		out.HostSelectionAttempts = clamp32(uint64(n))
	} else if n < 0 {
		r.fault(path+".host_selection_retry_max_attempts", "is negative")
	}
	if a := p.GetRetryPriority().GetTypedConfig(); a != nil {
		out.AvoidPreviousPriorities = true
		out.UpdateFrequency = uint32(max(1, unpack[*prioritiesv3.PreviousPrioritiesConfig](a).GetUpdateFrequency()))
	}
	return out
}

// retryOn reads the tokens of a retry policy. Those that Envoy does not know it ignores, and so does the agent.
func retryOn(tokens string) resilience.RetryOn {
	var on resilience.RetryOn
	for token := range strings.SplitSeq(tokens, ",") {
		on |= retryCondition(strings.TrimSpace(token))
	}
	return on
}

func retryCondition(token string) resilience.RetryOn {
	switch token {
	case "5xx":
		return resilience.On5xx
	case "gateway-error":
		return resilience.OnGatewayError
	case "reset":
		return resilience.OnReset
	case "reset-before-request":
		return resilience.OnResetBeforeRequest
	case "connect-failure":
		return resilience.OnConnectFailure
	case "refused-stream":
		return resilience.OnRefusedStream
	case "retriable-4xx":
		return resilience.OnRetriable4xx
	case "retriable-status-codes":
		return resilience.OnRetriableStatusCodes
	case "retriable-headers":
		return resilience.OnRetriableHeaders
	case "envoy-ratelimited":
		return resilience.OnEnvoyRateLimited
	case "cancelled":
		return resilience.OnGRPCCancelled
	case "deadline-exceeded":
		return resilience.OnGRPCDeadlineExceeded
	case "internal":
		return resilience.OnGRPCInternal
	case "resource-exhausted":
		return resilience.OnGRPCResourceExhausted
	case "unavailable":
		return resilience.OnGRPCUnavailable
	}
	return 0
}

func (r *reader) backOff(path string, b *routev3.RetryPolicy_RetryBackOff) resilience.BackOff {
	base := max(time.Millisecond, orDuration(b.GetBaseInterval(), defaultBackOff))
	out := resilience.BackOff{Base: base, Max: orDuration(b.GetMaxInterval(), defaultBackOffFactor*base)}
	if out.Max < out.Base {
		r.fault(path+".max_interval", "is less than base_interval")
	}
	return out
}

func rateLimited(b *routev3.RetryPolicy_RateLimitedRetryBackOff) *resilience.RateLimitedBackOff {
	if b == nil {
		return nil
	}
	out := &resilience.RateLimitedBackOff{Max: orDuration(b.GetMaxInterval(), defaultRateLimitedWait)}
	for _, h := range b.GetResetHeaders() {
		out.Headers = append(out.Headers, resilience.ResetHeader{
			Name: strings.ToLower(h.GetName()), Unix: h.GetFormat() == routev3.RetryPolicy_UNIX_TIMESTAMP,
		})
	}
	return out
}
