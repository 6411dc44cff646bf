package envoy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	matchingv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/matcher/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// failures are the criteria as matchers of a response, one of which must match: Envoy reads its status, and the status of a gRPC call
// that is nothing but trailers, as headers.
func (in input) failures() []*routev3.HeaderMatcher {
	c := in.sections.Criteria(string(in.protocol))
	var list []*routev3.HeaderMatcher
	if regex := statusRegex(c.HTTP.Fails); regex != "" {
		list = append(list, textMatcher(":status", regex))
	}
	for _, h := range c.HTTP.Headers {
		list = append(list, headerMatcher(h))
	}
	if c.GRPC != nil {
		var codes []string
		for _, code := range c.GRPC.Codes {
			codes = append(codes, strconv.Itoa(int(policy.GRPCCode(code))))
		}
		slices.Sort(codes)
		list = append(list, textMatcher("grpc-status", strings.Join(codes, "|")))
	}
	return list
}

func textMatcher(header, regex string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: header, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: matching(regex)}}
}

// statusRegex takes the statuses of which is is true, such as 429|5(?:0[02-9]|[1-9][0-9]); "" where there are none.
func statusRegex(is func(status uint32) bool) string {
	var hundreds []string
	for h := uint32(firstStatus); h < endOfStatuses; h += 100 {
		tens := map[string]string{} // the digits of the tens that have the same ones
		var order []string
		for t := range uint32(10) {
			ones := digits(func(d uint32) bool { return is(h + 10*t + d) })
			if ones == "" {
				continue
			}
			if tens[ones] == "" {
				order = append(order, ones)
			}
			tens[ones] += strconv.Itoa(int(t))
		}
		var parts []string
		for _, ones := range order {
			same := tens[ones]
			parts = append(parts, digits(func(d uint32) bool { return strings.Contains(same, strconv.Itoa(int(d))) })+ones)
		}
		switch len(parts) {
		case 0:
		case 1:
			hundreds = append(hundreds, fmt.Sprint(h/100, "")+parts[0])
		default:
			hundreds = append(hundreds, fmt.Sprintf("%d(?:%s)", h/100, strings.Join(parts, "|")))
		}
	}
	return strings.Join(hundreds, "|")
}

// digits is the class of the digits of which is is true, "" where there are none.
func digits(is func(d uint32) bool) string {
	var spans [][2]uint32
	for d := range uint32(10) {
		switch last := len(spans) - 1; {
		case !is(d):
		case last >= 0 && spans[last][1]+1 == d:
			spans[last][1] = d
		default:
			spans = append(spans, [2]uint32{d, d})
		}
	}
	var b strings.Builder
	for _, s := range spans {
		fmt.Fprint(&b, s[0])
		if s[1] > s[0] {
			if s[1] > s[0]+1 {
				b.WriteByte('-')
			}
			fmt.Fprint(&b, s[1])
		}
	}
	if len(spans) == 0 || len(spans) == 1 && spans[0][0] == spans[0][1] {
		return b.String()
	}
	return "[" + b.String() + "]"
}

// errorMatcher has outlier detection go by the criteria; nil where it goes by Envoy's own, which are the default.
func (in input) errorMatcher() *httpv3.HttpProtocolOptions_OutlierDetection {
	o, _ := in.detection()
	if o == nil || in.sections.FailureCriteria == nil || !orElse(o.UseFailureCriteria, false) {
		return nil
	}
	var rules []*matchingv3.MatchPredicate
	for _, m := range in.failures() {
		rules = append(rules, &matchingv3.MatchPredicate{Rule: &matchingv3.MatchPredicate_HttpResponseHeadersMatch{
			HttpResponseHeadersMatch: &matchingv3.HttpHeadersMatch{Headers: []*routev3.HeaderMatcher{m}},
		}})
	}
	matcher := &matchingv3.MatchPredicate{Rule: &matchingv3.MatchPredicate_OrMatch{OrMatch: &matchingv3.MatchPredicate_MatchSet{Rules: rules}}}
	switch len(rules) {
	case 0: // no answer is a failure
		matcher = &matchingv3.MatchPredicate{Rule: &matchingv3.MatchPredicate_NotMatch{NotMatch: &matchingv3.MatchPredicate{Rule: &matchingv3.MatchPredicate_AnyMatch{AnyMatch: true}}}}
	case 1:
		matcher = rules[0]
	}
	return &httpv3.HttpProtocolOptions_OutlierDetection{ErrorMatcher: matcher}
}

var criteriaLines = []line{
	{field: "failureCriteria.http.headers", on: proxies, when: admits, level: Approximate, reason: "admission control looks at statuses alone"},
	{field: "failureCriteria.grpc", on: proxies, inherent: true, level: Approximate,
		reason: "retries and ejection see a gRPC status where the response is nothing but trailers; admission control sees all"},
	{field: "failureCriteria", on: proxies, when: not(admits), always: true, inherent: true, level: Approximate,
		reason: "the proxy's statistics go by the status: by the criteria it counts what admission control sees", instead: "admissionControl: {maxRejectionPercent: 0}, which counts and sheds nothing"},
}

func admits(in input, _ policy.Field) bool { return in.sections.AdmissionControl != nil }

// criteriaMiss holds where Envoy counts a status of gRPC that the criteria leave out: it takes these for 500 and 501 before it asks
// the matcher.
func criteriaMiss(in input, _ policy.Field) bool {
	c := in.sections.Criteria(string(in.protocol))
	if c.GRPC == nil || !orElse(in.sections.OutlierDetection.UseFailureCriteria, false) {
		return false
	}
	return slices.ContainsFunc([]string{"unknown", "unimplemented", "internal", "data-loss"}, func(code string) bool { return !slices.Contains(c.GRPC.Codes, code) })
}

func usesCriteria(in input, _ policy.Field) bool {
	return in.sections.FailureCriteria != nil && orElse(in.sections.OutlierDetection.UseFailureCriteria, false)
}
