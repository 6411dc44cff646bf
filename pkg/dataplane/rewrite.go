package dataplane

import (
	"net/textproto"
	"regexp"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// rewriter is what says how a path is rewritten.
type rewriter interface {
	GetPrefixRewrite() string
	GetRegexRewrite() *matcherv3.RegexMatchAndSubstitute
}

// pathRewrite is nil where nothing is rewritten.
func (r *reader) pathRewrite(path string, by rewriter, m *routev3.RouteMatch) *PathRewrite {
	prefix, expression := by.GetPrefixRewrite(), by.GetRegexRewrite()
	switch {
	case prefix != "" && expression != nil:
		r.fault(path+".regex_rewrite", "is there beside prefix_rewrite")
	case prefix != "":
		out := &PathRewrite{With: prefix, Cut: -1}
		switch p := m.GetPathSpecifier().(type) {
		case *routev3.RouteMatch_Prefix:
			out.Cut = len(p.Prefix)
		case *routev3.RouteMatch_PathSeparatedPrefix:
			out.Cut = len(p.PathSeparatedPrefix)
		}
		return out
	case expression != nil:
		return &PathRewrite{Change: r.substitution(path+".regex_rewrite", expression)}
	}
	return nil
}

func (r *reader) hostRewrite(path string, a *routev3.RouteAction) HostRewrite {
	out := HostRewrite{Tell: a.GetAppendXForwardedHost()}
	switch h := a.GetHostRewriteSpecifier().(type) {
	case *routev3.RouteAction_HostRewriteLiteral:
		out.Literal = h.HostRewriteLiteral
	case *routev3.RouteAction_HostRewriteHeader:
		out.Header = textproto.CanonicalMIMEHeaderKey(h.HostRewriteHeader)
	case *routev3.RouteAction_HostRewritePathRegex:
		out.Path = r.substitution(path+".host_rewrite_path_regex", h.HostRewritePathRegex)
	case *routev3.RouteAction_AutoHostRewrite:
		out.Auto = h.AutoHostRewrite.GetValue()
	}
	return out
}

func (r *reader) redirect(path string, a *routev3.RedirectAction, m *routev3.RouteMatch) *DirectResponse {
	to := &Redirect{Scheme: a.GetSchemeRedirect(), Host: a.GetHostRedirect(), Path: a.GetPathRedirect(), StripQuery: a.GetStripQuery()}
	if a.GetHttpsRedirect() {
		to.Scheme = "https"
	}
	if port := a.GetPortRedirect(); port != 0 {
		to.Port = strconv.FormatUint(uint64(port), 10)
	}
	to.Rewrite = r.pathRewrite(path, a, m)
	status, ok := map[routev3.RedirectAction_RedirectResponseCode]int{
		routev3.RedirectAction_MOVED_PERMANENTLY: 301, routev3.RedirectAction_FOUND: 302, routev3.RedirectAction_SEE_OTHER: 303,
		routev3.RedirectAction_TEMPORARY_REDIRECT: 307, routev3.RedirectAction_PERMANENT_REDIRECT: 308,
	}[a.GetResponseCode()]
	if !ok {
		r.fault(path+".response_code", "is not known")
	}
	return &DirectResponse{Status: status, Redirect: to}
}

// substitution replaces every match of an expression, wherever it is.
func (r *reader) substitution(path string, m *matcherv3.RegexMatchAndSubstitute) func(string) string {
	re, err := regexp.Compile(m.GetPattern().GetRegex())
	if err != nil {
		r.fault(path+".pattern.regex", "%q is no regular expression", m.GetPattern().GetRegex())
		return nil
	}
	with, ok := template(m.GetSubstitution(), re.NumSubexp())
	if !ok {
		r.fault(path+".substitution", "%q is none for its pattern", m.GetSubstitution())
	}
	return func(s string) string { return re.ReplaceAllString(s, with) }
}

// template is a substitution of RE2, with \0 to \9, as Go writes it. Groups says how many the pattern has.
func template(re2 string, groups int) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(re2); i++ {
		c := re2[i]
		if c == '$' {
			b.WriteString("$$")
			continue
		}
		if c != '\\' {
			b.WriteByte(c)
			continue
		}
		if i++; i == len(re2) {
			return "", false
		}
		switch c := re2[i]; {
		case c == '\\':
			b.WriteByte(c)
		case c >= '0' && c <= '9' && int(c-'0') <= groups:
			b.WriteString("${" + string(c) + "}")
		default:
			return "", false
		}
	}
	return b.String(), true
}
