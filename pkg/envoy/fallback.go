package envoy

import (
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	customv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/custom_response/v3"
	responsev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/custom_response/local_response_policy/v3"
	inputv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsv3 "github.com/cncf/xds/go/xds/type/matcher/v3"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// fallbackHeader says that an answer is not the service's.
const fallbackHeader = "x-breakwater-fallback"

// fallbackDetails are what the access log says of a fixed response.
const fallbackDetails = "breakwater_fallback_response"

// fallbackResponse stands in for responses by their status: the last try's, and the proxy's own. It is nil where there is none, and for
// gRPC, whose answers have another form.
func (in input) fallbackResponse() proto.Message {
	b := in.sections.Fallback
	if b == nil || b.Response == nil || in.protocol == catalog.GRPC {
		return nil
	}
	local := &responsev3.LocalResponsePolicy{
		StatusCode: wrapperspb.UInt32(orElse(b.Response.Status, 200)),
		Body:       inlineString(orElse(b.Response.Body, "")),
		ResponseHeadersToAdd: []*corev3.HeaderValueOption{
			overwrite("content-type", orElse(b.Response.ContentType, "application/json")), overwrite(fallbackHeader, "response"),
		},
		// Details of its own: with those of the replaced response Envoy 1.40 logs text that it has freed.
		ResponseCodeDetailsAction: &responsev3.LocalResponsePolicy_ResponseCodeDetails{ResponseCodeDetails: fallbackDetails},
	}
	return &customv3.CustomResponse{CustomResponseMatcher: &xdsv3.Matcher{MatcherType: &xdsv3.Matcher_MatcherList_{
		MatcherList: &xdsv3.Matcher_MatcherList{Matchers: []*xdsv3.Matcher_MatcherList_FieldMatcher{{
			Predicate: failed(b.When),
			OnMatch: &xdsv3.Matcher_OnMatch{OnMatch: &xdsv3.Matcher_OnMatch_Action{Action: &xdscorev3.TypedExtensionConfig{
				Name: "local", TypedConfig: pack(local),
			}}},
		}}},
	}}}
}

// failed matches the statuses of failures. What had no response at all is a 503 by now, or with errorMapping a 502.
func failed(when []string) *xdsv3.Matcher_MatcherList_Predicate {
	if slices.Contains(when, policy.On5xx) {
		return statusMatch(&inputv3.HttpResponseStatusCodeClassMatchInput{}, "5xx")
	}
	statuses := []int{502, 503}
	if slices.Contains(when, policy.OnGatewayError) || slices.Contains(when, policy.OnReset) {
		statuses = append(statuses, 504) // of a try that took too long
	}
	var each []*xdsv3.Matcher_MatcherList_Predicate
	for _, status := range statuses {
		each = append(each, statusMatch(&inputv3.HttpResponseStatusCodeMatchInput{}, strconv.Itoa(status)))
	}
	return &xdsv3.Matcher_MatcherList_Predicate{MatchType: &xdsv3.Matcher_MatcherList_Predicate_OrMatcher{
		OrMatcher: &xdsv3.Matcher_MatcherList_Predicate_PredicateList{Predicate: each},
	}}
}

func statusMatch(input proto.Message, value string) *xdsv3.Matcher_MatcherList_Predicate {
	return &xdsv3.Matcher_MatcherList_Predicate{MatchType: &xdsv3.Matcher_MatcherList_Predicate_SinglePredicate_{
		SinglePredicate: &xdsv3.Matcher_MatcherList_Predicate_SinglePredicate{
			Input: &xdscorev3.TypedExtensionConfig{Name: "status", TypedConfig: pack(input)},
			Matcher: &xdsv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{ValueMatch: &xdsv3.StringMatcher{
				MatchPattern: &xdsv3.StringMatcher_Exact{Exact: value},
			}},
		},
	}}
}

// cutsOff reports a limit at which calls fail before any try. Lint speaks of the limits that come from other policies.
func cutsOff(in input, _ policy.Field) bool {
	l := orElse(in.sections.Limits, policy.Limits{})
	for _, n := range []*manifest.Count{l.MaxRequests, l.MaxPendingRequests, l.MaxConnectionPools} {
		if n != nil && *n != manifest.Unlimited {
			return true
		}
	}
	return false
}

func hasSpare(in input, _ policy.Field) bool { return in.spare() != "" }

// byStatusAlone reports that a fixed response has to tell failures apart that have one status.
func byStatusAlone(in input, _ policy.Field) bool {
	b := in.sections.Fallback
	return b.Response != nil && !slices.Contains(b.When, policy.On5xx) && (slices.Contains(b.When, policy.OnReset) || slices.Contains(b.When, policy.OnConnectFailure))
}

var budgetBesideFallback = line{field: "retry.budget", on: proxies, when: hasSpare, level: Approximate,
	reason: "on a route with a fallback service no share of calls is counted: as many retries may run as the service takes calls at once", instead: "limits.maxRequests"}

var fallbackLines = []line{
	{field: "fallback.service", on: proxies, when: cutsOff, level: Approximate,
		reason: "a call that the policy's own limits cut off does not fall back", instead: "fallback.response, which answers those too"},
	budgetBesideFallback,
	{field: "fallback.response", when: grpcService, level: Unsupported, reason: "a fixed response has a form that gRPC does not know"},
	{field: "fallback.when", on: proxies, when: byStatusAlone, level: Approximate,
		reason: "a fixed response goes by the status, so that 502, 503 and 504 of the service's own count as well", instead: "gateway-error"},
}
