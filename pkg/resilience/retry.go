package resilience

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// GRPCRetryOn are the conditions that x-envoy-retry-grpc-on may set; x-envoy-retry-on may set the others.
const GRPCRetryOn = OnGRPCCancelled | OnGRPCDeadlineExceeded | OnGRPCInternal | OnGRPCResourceExhausted | OnGRPCUnavailable

// ParseRetryOn reads a comma-separated list of conditions. What it does not know it ignores, as Envoy does.
func ParseRetryOn(text string) (on RetryOn) {
	for token := range strings.SplitSeq(text, ",") {
		on |= retryOn(strings.TrimSpace(token))
	}
	return on
}

func retryOn(token string) RetryOn {
	switch token {
	case "5xx":
		return On5xx
	case "gateway-error":
		return OnGatewayError
	case "reset":
		return OnReset
	case "reset-before-request":
		return OnResetBeforeRequest
	case "connect-failure":
		return OnConnectFailure
	case "refused-stream":
		return OnRefusedStream
	case "retriable-4xx":
		return OnRetriable4xx
	case "retriable-status-codes":
		return OnRetriableStatusCodes
	case "retriable-headers":
		return OnRetriableHeaders
	case "envoy-ratelimited":
		return OnEnvoyRateLimited
	case "cancelled":
		return OnGRPCCancelled
	case "deadline-exceeded":
		return OnGRPCDeadlineExceeded
	case "internal":
		return OnGRPCInternal
	case "resource-exhausted":
		return OnGRPCResourceExhausted
	case "unavailable":
		return OnGRPCUnavailable
	}
	return 0
}

// Failure is how an attempt ended without a response.
type Failure uint8

// The failures.
const (
	NoFailure       Failure = iota // response headers have come
	FailedConnect                  // refused, unreachable, connect timeout
	FailedReset                    // reset or disconnected, also by a limit on the attempt's duration
	FailedRefused                  // HTTP/2 REFUSED_STREAM, or a GOAWAY below the stream
	FailedTimeout                  // per-try timeout or per-try idle timeout
	FailedOverflow                 // a limit of this cluster
	FailedForGood                  // the whole call is over, such as by its timeout
	FailedNoHealthy                // no host to try
)

// Result is what came of one attempt.
type Result struct {
	Failure Failure

	// Started says that any attempt has got as far as a connection. Committed says that the caller has been sent headers, 1xx
	// included, so that nothing can be retried.
	Started, Committed bool

	// Of response headers.
	Status      int
	GRPCStatus  int // of grpc-status in headers; negative where it is missing
	RateLimited bool
	Headers     Headers
}

// Verdict is what becomes of a call after an attempt.
type Verdict uint8

// The verdicts. All but RetryAgain pass the result on to the caller.
const (
	RetryNot      Verdict = iota
	RetryAgain            // upstream_rq_retry
	RetryLimit            // upstream_rq_retry_limit_exceeded, flag URX
	RetryOverflow         // upstream_rq_retry_overflow, flag UO
)

// RetryState is what one call may still retry. It belongs to the call's goroutine.
type RetryState struct {
	policy    *Retry
	on        RetryOn
	remaining uint64
	statuses  []uint32 // beside the policy's
	names     []string // retriable response headers beside the policy's
	held      bool     // a retry of the counters
	any       bool     // conditions were set, though the request's headers may have switched them off
	waits     uint32   // exponential ones
}

// Start begins a call under policy, which may be nil. Trusted says that the request's x-envoy- headers count. (The caller strips them.)
func (s *RetryState) Start(policy *Retry, get Headers, trusted bool) {
	*s = RetryState{policy: policy}
	if policy != nil {
		s.on, s.remaining = policy.On, uint64(policy.NumRetries)
	}
	if trusted {
		s.readHeaders(get)
	}
	s.any = s.on != 0
	if policy != nil && s.any && !matchesAny(policy.RetriableRequestHeaders, get) {
		s.on = 0
	}
}

func (s *RetryState) readHeaders(get Headers) {
	s.on |= ParseRetryOn(first(get("x-envoy-retry-on"))) &^ GRPCRetryOn
	s.on |= ParseRetryOn(first(get("x-envoy-retry-grpc-on"))) & GRPCRetryOn
	if s.on == 0 {
		return
	}
	if s.policy == nil {
		s.remaining = 1
	}
	if n, err := strconv.ParseUint(first(get("x-envoy-max-retries")), 10, 32); err == nil {
		s.remaining = n
	}
	for code := range strings.SplitSeq(first(get("x-envoy-retriable-status-codes")), ",") {
		if n, err := strconv.ParseUint(strings.TrimSpace(code), 10, 32); err == nil {
			s.statuses = append(s.statuses, uint32(n))
		}
	}
	for name := range strings.SplitSeq(first(get("x-envoy-retriable-header-names")), ",") {
		if name = strings.ToLower(strings.TrimSpace(name)); name != "" {
			s.names = append(s.names, name)
		}
	}
}

// Possible reports whether any result could lead to a retry, so that the request's body must be kept.
func (s *RetryState) Possible() bool { return s.on != 0 && s.remaining > 0 }

// Listens reports whether any condition is set, so that results are looked at.
func (s *RetryState) Listens() bool { return s.on != 0 }

// Decide says what becomes of the call after result. It takes a retry of c, which it gives back at the next Decide or Release: the failed
// request must still be counted then. succeeded says that a retry has led to a final result: upstream_rq_retry_success.
func (s *RetryState) Decide(result *Result, c *Counters, t *Thresholds, now time.Time) (verdict Verdict, succeeded bool) {
	would := s.would(result)
	succeeded = s.held && !would
	s.Release(c)
	if !would {
		return RetryNot, succeeded
	}
	return s.take(c, t, now), false
}

// Hedge asks for a retry beside an attempt that has passed its per-try timeout, whatever the conditions say.
func (s *RetryState) Hedge(c *Counters, t *Thresholds, now time.Time) Verdict {
	switch {
	case !s.any:
		return RetryNot
	case s.remaining == 0:
		return RetryLimit // the retry before goes on, and may succeed
	}
	s.Release(c)
	return s.take(c, t, now)
}

func (s *RetryState) take(c *Counters, t *Thresholds, now time.Time) Verdict {
	if s.remaining == 0 {
		return RetryLimit
	}
	s.remaining--
	if !c.TryRetry(t, now) {
		return RetryOverflow
	}
	s.held = true
	return RetryAgain
}

// Wait is the time before the retry that Decide has just granted for result, or Hedge (result nil).
func (s *RetryState) Wait(result *Result, now time.Time, rnd Rand) time.Duration {
	backOff := DefaultBackOff()
	if s.policy != nil {
		backOff = s.policy.BackOff
		if result != nil && result.Failure == NoFailure {
			if wait, ok := s.policy.RateLimited.Wait(result.Headers, now, rnd); ok {
				return wait
			}
		}
	}
	s.waits++
	return backOff.Wait(s.waits, rnd)
}

// Release gives back the retry that Decide took, if it did. It is called when the call ends.
func (s *RetryState) Release(c *Counters) {
	if s.held {
		s.held = false
		c.DoneRetry()
	}
}

// Would reports whether the conditions ask for a retry of result, whether or not one is left.
func (s *RetryState) Would(result *Result) bool { return s.would(result) }

func (s *RetryState) would(r *Result) bool {
	if s.on == 0 || r.Committed {
		return false
	}
	if r.Failure != NoFailure {
		return s.wouldFailure(r)
	}
	if r.RateLimited {
		return s.on&OnEnvoyRateLimited != 0
	}
	return s.wouldStatus(r.Status) || s.wouldGRPC(r.GRPCStatus) || s.wouldHeaders(r.Headers)
}

func (s *RetryState) wouldFailure(r *Result) bool {
	switch {
	case r.Failure == FailedOverflow, r.Failure == FailedForGood, r.Failure == FailedNoHealthy:
		return false
	case s.on&(On5xx|OnGatewayError|OnReset) != 0:
		return true
	case s.on&OnResetBeforeRequest != 0 && !r.Started:
		return true
	}
	return s.on&OnConnectFailure != 0 && r.Failure == FailedConnect || s.on&OnRefusedStream != 0 && r.Failure == FailedRefused
}

func (s *RetryState) wouldStatus(status int) bool {
	switch {
	case s.on&On5xx != 0 && status >= 500 && status <= 599:
		return true
	case s.on&OnGatewayError != 0 && status >= 502 && status <= 504:
		return true
	case s.on&OnRetriable4xx != 0 && status == 409:
		return true
	case s.on&OnRetriableStatusCodes == 0:
		return false
	}
	return s.policy != nil && slices.Contains(s.policy.RetriableStatusCodes, uint32(status)) || slices.Contains(s.statuses, uint32(status))
}

func (s *RetryState) wouldGRPC(status int) bool {
	switch status {
	case 1:
		return s.on&OnGRPCCancelled != 0
	case 4:
		return s.on&OnGRPCDeadlineExceeded != 0
	case 8:
		return s.on&OnGRPCResourceExhausted != 0
	case 13:
		return s.on&OnGRPCInternal != 0
	case 14:
		return s.on&OnGRPCUnavailable != 0
	}
	return false
}

func (s *RetryState) wouldHeaders(get Headers) bool {
	if s.on&OnRetriableHeaders == 0 || get == nil {
		return false
	}
	if s.policy != nil {
		for i := range s.policy.RetriableHeaders {
			if s.policy.RetriableHeaders[i].matchesEach(get) {
				return true
			}
		}
	}
	return slices.ContainsFunc(s.names, func(name string) bool { return len(get(name)) > 0 })
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
