package dataplane

import (
	"strconv"

	xdsv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	customv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/custom_response/v3"
	policyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/custom_response/local_response_policy/v3"
	inputv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// CustomResponse puts answers of its own in the place of responses; the first that matches.
type CustomResponse struct{ Rules []CustomRule }

// CustomRule is a condition on the status of a response, and the answer in its place.
type CustomRule struct {
	When    StatusMatch
	Status  int // 0: that of the response
	Body    string
	Format  *BodyFormat // nil: the body as it is
	Headers []HeaderEdit
	Details string // response code details
	Keep    bool   // those of the response are kept
}

// StatusMatch is a condition on a status. Exactly one field is set.
type StatusMatch struct {
	All, Any []StatusMatch
	Not      *StatusMatch
	Exact    int // a status
	Class    int // its first digit; above 9: none
}

func customResponseFields() fields {
	const input = "@envoy.type.matcher.v3.HttpResponse"
	leaf := fields{"single_predicate": {
		"input":       {"name": nil, "typed_config": {input + "StatusCodeMatchInput": {}, input + "StatusCodeClassMatchInput": {}}},
		"value_match": {"exact": nil},
	}}
	for range 4 {
		leaf = fields{
			"single_predicate": leaf["single_predicate"], "not_matcher": leaf,
			"and_matcher": {"predicate": leaf}, "or_matcher": {"predicate": leaf},
		}
	}
	policy := fields{
		"body": {"inline_string": nil, "inline_bytes": nil}, "body_format": bodyFormatFields(), "status_code": nil,
		"response_headers_to_add": headerOptionFields(), "preserve_response_code_details": nil, "response_code_details": nil,
	}
	return fields{"custom_response_matcher": {"matcher_list": {"matchers": {
		"predicate": leaf,
		"on_match": {"action": {"name": nil, "typed_config": {
			"@envoy.extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy": policy,
		}}},
	}}}}
}

func (r *reader) customResponse(path string, m *customv3.CustomResponse) *CustomResponse {
	matchers := m.GetCustomResponseMatcher().GetMatcherList().GetMatchers()
	out := &CustomResponse{}
	for i, f := range matchers {
		at := indexed(path+".custom_response_matcher.matcher_list.matchers", i)
		rule := CustomRule{When: r.statusMatch(at+".predicate", f.GetPredicate())}
		at += ".on_match.action.typed_config"
		p, ok := unpackAny(f.GetOnMatch().GetAction().GetTypedConfig()).(*policyv3.LocalResponsePolicy)
		if !ok {
			r.fault(at, "is missing")
			continue
		}
		rule.Status = int(p.GetStatusCode().GetValue())
		rule.Body = inline(p.GetBody())
		rule.Format = r.bodyFormat(at+".body_format", p.GetBodyFormat())
		rule.Headers = r.headerEdits(at+".response_headers_to_add", p.GetResponseHeadersToAdd())
		rule.Details, rule.Keep = p.GetResponseCodeDetails(), p.GetPreserveResponseCodeDetails()
		out.Rules = append(out.Rules, rule)
	}
	return out
}

func (r *reader) statusMatch(path string, p *xdsv3.Matcher_MatcherList_Predicate) StatusMatch {
	switch m := p.GetMatchType().(type) {
	case *xdsv3.Matcher_MatcherList_Predicate_SinglePredicate_:
		return r.statusIs(path+".single_predicate", m.SinglePredicate)
	case *xdsv3.Matcher_MatcherList_Predicate_AndMatcher:
		return StatusMatch{All: r.statusMatches(path+".and_matcher.predicate", m.AndMatcher.GetPredicate())}
	case *xdsv3.Matcher_MatcherList_Predicate_OrMatcher:
		return StatusMatch{Any: r.statusMatches(path+".or_matcher.predicate", m.OrMatcher.GetPredicate())}
	case *xdsv3.Matcher_MatcherList_Predicate_NotMatcher:
		return StatusMatch{Not: new(r.statusMatch(path+".not_matcher", m.NotMatcher))}
	}
	r.fault(path, "is missing")
	return StatusMatch{}
}

func (r *reader) statusMatches(path string, list []*xdsv3.Matcher_MatcherList_Predicate) []StatusMatch {
	var out []StatusMatch
	for i, p := range list {
		out = append(out, r.statusMatch(indexed(path, i), p))
	}
	return out
}

// statusIs takes "503", or "5xx" of the input that yields classes. What is neither matches nothing.
func (r *reader) statusIs(path string, p *xdsv3.Matcher_MatcherList_Predicate_SinglePredicate) StatusMatch {
	text := p.GetValueMatch().GetExact()
	switch unpackAny(p.GetInput().GetTypedConfig()).(type) {
	case *inputv3.HttpResponseStatusCodeMatchInput:
		if n, err := strconv.Atoi(text); err == nil && n >= 100 && n <= 999 && strconv.Itoa(n) == text {
			return StatusMatch{Exact: n}
		}
		return StatusMatch{Exact: 1}
	case *inputv3.HttpResponseStatusCodeClassMatchInput:
		if len(text) == 3 && text[0] >= '1' && text[0] <= '5' && text[1:] == "xx" {
			return StatusMatch{Class: int(text[0] - '0')}
		}
		return StatusMatch{Class: 10}
	}
	r.fault(path+".input.typed_config", "is missing")
	return StatusMatch{}
}
