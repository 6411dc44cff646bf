package dataplane

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rlv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

const shortestFill = 50 * time.Millisecond

func (r *reader) rateLimit(path string, m *ratev3.LocalRateLimit) *RateLimit {
	b := m.GetTokenBucket()
	l := &RateLimit{
		Place: r.id.String() + " " + path, StatPrefix: m.GetStatPrefix(),
		Bucket:     Bucket{Max: b.GetMaxTokens(), PerFill: orValue(b.GetTokensPerFill(), 1), Interval: b.GetFillInterval().AsDuration()},
		Enabled:    r.runtimeFraction(path+".filter_enabled", m.GetFilterEnabled()),
		Enforced:   r.runtimeFraction(path+".filter_enforced", m.GetFilterEnforced()),
		Status:     statusFrom(m.GetStatus(), 429),
		Exhausted:  m.GetRateLimitedAsResourceExhausted(),
		RetryAfter: m.GetEnableRetryAfterHeader(),
		Response:   r.headerEdits(path+".response_headers_to_add", m.GetResponseHeadersToAdd()),
		Request:    r.headerEdits(path+".request_headers_to_add_when_not_enforced", m.GetRequestHeadersToAddWhenNotEnforced()),
	}
	switch m.GetEnableXRatelimitHeaders() {
	case rlv3.XRateLimitHeadersRFCVersion_OFF:
	case rlv3.XRateLimitHeadersRFCVersion_DRAFT_VERSION_03:
		l.Headers = true
	default:
		r.notEnforced(path + ".enable_x_ratelimit_headers")
	}
	if b != nil && l.Bucket.Interval < shortestFill {
		r.fault(path+".token_bucket.fill_interval", "is less than %v", shortestFill)
	}
	r.limits = append(r.limits, l)
	return l
}

// statusFrom is the status that m asks for; what is no error is not heeded.
func statusFrom(m *typev3.HttpStatus, def int) int {
	if code := int(m.GetCode()); code >= 400 {
		return code
	}
	return def
}

func (r *reader) runtimeFraction(path string, f *corev3.RuntimeFractionalPercent) Fraction {
	return r.fraction(path+".default_value", f.GetDefaultValue())
}

func (r *reader) fraction(path string, f *typev3.FractionalPercent) Fraction {
	out := Fraction{f.GetNumerator(), hundredth}
	switch f.GetDenominator() {
	case typev3.FractionalPercent_HUNDRED:
	case typev3.FractionalPercent_TEN_THOUSAND:
		out.Denominator = 10_000
	case typev3.FractionalPercent_MILLION:
		out.Denominator = 1_000_000
	default:
		r.fault(path+".denominator", "is not known")
	}
	return out
}
