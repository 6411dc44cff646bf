package dataplane

import (
	"fmt"
	"regexp"
	"strings"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/matcher/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

func (r *reader) headerMatches(path string, list []*routev3.HeaderMatcher) []resilience.HeaderMatch {
	var out []resilience.HeaderMatch
	for i, m := range list {
		out = append(out, r.headerMatch(fmt.Sprintf("%s[%d]", path, i), m))
	}
	return out
}

// headerMatch: without a specifier the header must be there.
func (r *reader) headerMatch(path string, m *routev3.HeaderMatcher) resilience.HeaderMatch {
	out := resilience.HeaderMatch{
		Name: strings.ToLower(m.GetName()), Kind: resilience.Present,
		Invert: m.GetInvertMatch(), TreatMissingAsEmpty: m.GetTreatMissingHeaderAsEmpty(),
	}
	// Other servers still use the older specifiers
	switch s := m.GetHeaderMatchSpecifier().(type) {
	case nil:
	case *routev3.HeaderMatcher_StringMatch:
		r.stringMatch(path+".string_match", s.StringMatch, &out)
	case *routev3.HeaderMatcher_PresentMatch:
		if !s.PresentMatch {
			out.Kind = resilience.Absent
		}
	case *routev3.HeaderMatcher_ExactMatch:
		out.Kind, out.Value = resilience.Exact, s.ExactMatch
	case *routev3.HeaderMatcher_PrefixMatch:
		out.Kind, out.Value = resilience.Prefix, s.PrefixMatch
	case *routev3.HeaderMatcher_SuffixMatch:
		out.Kind, out.Value = resilience.Suffix, s.SuffixMatch
	case *routev3.HeaderMatcher_ContainsMatch:
		out.Kind, out.Value = resilience.Contains, s.ContainsMatch
	case *routev3.HeaderMatcher_SafeRegexMatch:
		out.Kind, out.Value = resilience.Regex, s.SafeRegexMatch.GetRegex()
		out.Match = r.regex(path+".safe_regex_match", s.SafeRegexMatch)
	default:
		r.notEnforced(path)
	}
	return out
}

// predicate is a rule over a response's headers.
func (r *reader) predicate(path string, m *commonv3.MatchPredicate) *resilience.Predicate {
	rules := func(path string, list []*commonv3.MatchPredicate) []*resilience.Predicate {
		var out []*resilience.Predicate
		for i, rule := range list {
			out = append(out, r.predicate(fmt.Sprintf("%s.rules[%d]", path, i), rule))
		}
		return out
	}
	switch rule := m.GetRule().(type) {
	case *commonv3.MatchPredicate_AnyMatch:
		return &resilience.Predicate{Any: true}
	case *commonv3.MatchPredicate_NotMatch:
		return &resilience.Predicate{Not: r.predicate(path+".not_match", rule.NotMatch)}
	case *commonv3.MatchPredicate_AndMatch:
		return &resilience.Predicate{And: rules(path+".and_match", rule.AndMatch.GetRules())}
	case *commonv3.MatchPredicate_OrMatch:
		return &resilience.Predicate{Or: rules(path+".or_match", rule.OrMatch.GetRules())}
	case *commonv3.MatchPredicate_HttpResponseHeadersMatch:
		return &resilience.Predicate{Headers: r.headerMatches(path+".http_response_headers_match.headers", rule.HttpResponseHeadersMatch.GetHeaders())}
	}
	r.notEnforced(path)
	return nil
}

// queryMatches: without a specifier the parameter must be there.
func (r *reader) queryMatches(path string, list []*routev3.QueryParameterMatcher) []resilience.HeaderMatch {
	var out []resilience.HeaderMatch
	for i, m := range list {
		match := resilience.HeaderMatch{Name: m.GetName(), Kind: resilience.Present}
		switch s := m.GetQueryParameterMatchSpecifier().(type) {
		case nil:
		case *routev3.QueryParameterMatcher_StringMatch:
			r.stringMatch(indexed(path, i)+".string_match", s.StringMatch, &match)
		case *routev3.QueryParameterMatcher_PresentMatch:
			if !s.PresentMatch {
				match.Kind = resilience.Absent
			}
		default:
			r.notEnforced(indexed(path, i))
		}
		out = append(out, match)
	}
	return out
}

func (r *reader) stringMatch(path string, m *matcherv3.StringMatcher, out *resilience.HeaderMatch) {
	out.IgnoreCase = m.GetIgnoreCase()
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		out.Kind, out.Value = resilience.Exact, p.Exact
	case *matcherv3.StringMatcher_Prefix:
		out.Kind, out.Value = resilience.Prefix, p.Prefix
	case *matcherv3.StringMatcher_Suffix:
		out.Kind, out.Value = resilience.Suffix, p.Suffix
	case *matcherv3.StringMatcher_Contains:
		out.Kind, out.Value = resilience.Contains, p.Contains
	case *matcherv3.StringMatcher_SafeRegex:
		out.Kind, out.Value = resilience.Regex, p.SafeRegex.GetRegex()
		out.Match = r.regex(path+".safe_regex", p.SafeRegex)
		out.IgnoreCase = false // Envoy has no such thing for an expression
	default:
		r.fault(path, "has no pattern")
	}
}

// regex matches whole strings, as Envoy's does.
func (r *reader) regex(path string, m *matcherv3.RegexMatcher) func(string) bool {
	re, err := regexp.Compile(`\A(?:` + m.GetRegex() + `)\z`)
	if err != nil {
		r.fault(path+".regex", "%q is no regular expression", m.GetRegex())
		return nil
	}
	return re.MatchString
}
