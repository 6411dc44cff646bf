package dataplane

import (
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	accessv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// ReplyMapper changes answers of the agent's own that match.
type ReplyMapper struct {
	When    Condition
	Status  int     // 0: as it is
	Body    *string // nil: as it is
	Headers []HeaderEdit
	Format  *BodyFormat // nil: the listener's
}

// Condition is one on an answer of the agent's own, and its request. Exactly one field is set.
type Condition struct {
	All, Any []Condition
	Status   *StatusCondition
	Flags    []string // one of these response flags; empty and not nil: any flag
	Header   *resilience.HeaderMatch
	Metadata *MetadataCondition
	Details  string // part of the response code details
}

// StatusCondition compares the status with a number.
type StatusCondition struct {
	Op    StatusOp
	Value uint32
}

// StatusOp is how the status compares.
type StatusOp uint8

// The comparisons.
const (
	StatusEqual StatusOp = iota
	StatusAtLeast
	StatusAtMost
	StatusNot
)

// MetadataCondition asks for a string in the metadata of the route.
type MetadataCondition struct {
	Key   MetadataKey
	Value string
}

// BodyFormat makes a body. Exactly one of Text and JSON is set.
type BodyFormat struct {
	ContentType string
	Text        *Format
	JSON        []JSONField // by name
}

// JSONField is one field of a flat object. A value that is one command alone has that one's type.
type JSONField struct {
	Name  string
	Value Format
}

const celFilter = "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"

func localReplyFields() fields {
	// The filters hold each other; as deep as this they are of use.
	leaf := fields{
		"status_code_filter":   {"comparison": {"op": nil, "value": fields{"default_value": nil}.and("runtime_key")}},
		"response_flag_filter": {"flags": nil},
		"header_filter":        {"header": headerMatcherFields()},
		"extension_filter":     {"name": nil, "typed_config": {"@" + celFilter: {"expression": nil}}},
	}
	for range 3 {
		outer := fields{"and_filter": {"filters": leaf}, "or_filter": {"filters": leaf}}
		for name, f := range leaf {
			if name != "and_filter" && name != "or_filter" {
				outer[name] = f
			}
		}
		leaf = outer
	}
	return fields{
		"mappers": {
			"filter": leaf, "status_code": nil, "body": {"inline_string": nil, "inline_bytes": nil}, "headers_to_add": headerOptionFields(),
			"body_format_override": bodyFormatFields(),
		},
		"body_format": bodyFormatFields(),
	}
}

func bodyFormatFields() fields {
	return fields{"text_format": nil, "text_format_source": {"inline_string": nil}, "json_format": nil, "content_type": nil}
}

func (r *reader) localReply(path string, m *hcmv3.LocalReplyConfig, h *HTTP) {
	for i, p := range m.GetMappers() {
		at := indexed(path+".mappers", i)
		out := ReplyMapper{
			When: r.condition(at+".filter", p.GetFilter()), Status: int(p.GetStatusCode().GetValue()),
			Headers: r.headerEdits(at+".headers_to_add", p.GetHeadersToAdd()), Format: r.bodyFormat(at+".body_format_override", p.GetBodyFormatOverride()),
		}
		if p.GetBody() != nil {
			out.Body = new(inline(p.GetBody()))
		}
		h.Replies = append(h.Replies, out)
	}
	h.ReplyFormat = r.bodyFormat(path+".body_format", m.GetBodyFormat())
}

func inline(d *corev3.DataSource) string {
	if b := d.GetInlineBytes(); b != nil {
		return string(b)
	}
	return d.GetInlineString()
}

func (r *reader) condition(path string, f *accessv3.AccessLogFilter) Condition {
	switch f := f.GetFilterSpecifier().(type) {
	case *accessv3.AccessLogFilter_AndFilter:
		return Condition{All: r.conditions(path+".and_filter.filters", f.AndFilter.GetFilters())}
	case *accessv3.AccessLogFilter_OrFilter:
		return Condition{Any: r.conditions(path+".or_filter.filters", f.OrFilter.GetFilters())}
	case *accessv3.AccessLogFilter_StatusCodeFilter:
		return Condition{Status: r.statusCondition(path+".status_code_filter.comparison", f.StatusCodeFilter.GetComparison())}
	case *accessv3.AccessLogFilter_ResponseFlagFilter:
		return Condition{Flags: append([]string{}, f.ResponseFlagFilter.GetFlags()...)}
	case *accessv3.AccessLogFilter_HeaderFilter:
		return Condition{Header: new(r.headerMatch(path+".header_filter.header", f.HeaderFilter.GetHeader()))}
	case *accessv3.AccessLogFilter_ExtensionFilter:
		return r.expression(path+".extension_filter.typed_config.expression", unpack[*celv3.ExpressionFilter](f.ExtensionFilter.GetTypedConfig()).GetExpression())
	}
	r.fault(path, "is missing")
	return Condition{}
}

func (r *reader) conditions(path string, list []*accessv3.AccessLogFilter) []Condition {
	var out []Condition
	for i, f := range list {
		out = append(out, r.condition(indexed(path, i), f))
	}
	return out
}

func (r *reader) statusCondition(path string, c *accessv3.ComparisonFilter) *StatusCondition {
	out := &StatusCondition{Value: c.GetValue().GetDefaultValue()}
	switch c.GetOp() {
	case accessv3.ComparisonFilter_EQ:
	case accessv3.ComparisonFilter_GE:
		out.Op = StatusAtLeast
	case accessv3.ComparisonFilter_LE:
		out.Op = StatusAtMost
	case accessv3.ComparisonFilter_NE:
		out.Op = StatusNot
	default:
		r.notEnforced(path + ".op")
	}
	return out
}

// The two forms of CEL that are enforced: a string in the metadata of the route, and a part of the details.
var (
	ofMetadata = regexp.MustCompile(`\A\s*xds\.route_metadata\.filter_metadata\[(?:'([^'\\]*)'|"([^"\\]*)")\]\[(?:'([^'\\]*)'|"([^"\\]*)")\]\s*==\s*(?:'([^'\\]*)'|"([^"\\]*)")\s*\z`)
	ofDetails  = regexp.MustCompile(`\A\s*response\.code_details\.contains\((?:'([^'\\]+)'|"([^"\\]+)")\)\s*\z`)
)

func (r *reader) expression(path, text string) Condition {
	if m := ofMetadata.FindStringSubmatch(text); m != nil {
		return Condition{Metadata: &MetadataCondition{MetadataKey{m[1] + m[2], m[3] + m[4]}, m[5] + m[6]}}
	}
	if m := ofDetails.FindStringSubmatch(text); m != nil {
		return Condition{Details: m[1] + m[2]}
	}
	r.fault(path, "%q is not enforced by this agent; a string of the route's metadata and a part of the code details are", text)
	return Condition{}
}

// bodyFormat is nil where m is.
func (r *reader) bodyFormat(path string, m *corev3.SubstitutionFormatString) *BodyFormat {
	if m == nil {
		return nil
	}
	out := &BodyFormat{ContentType: m.GetContentType()}
	def := "text/plain"
	switch f := m.GetFormat().(type) {
	case *corev3.SubstitutionFormatString_TextFormat:
		out.Text = new(r.format(path+".text_format", f.TextFormat))
	case *corev3.SubstitutionFormatString_TextFormatSource:
		out.Text = new(r.format(path+".text_format_source.inline_string", f.TextFormatSource.GetInlineString()))
	case *corev3.SubstitutionFormatString_JsonFormat:
		def = "application/json"
		out.JSON = r.jsonFormat(path+".json_format", f.JsonFormat)
	default:
		r.fault(path, "has no format")
	}
	if out.ContentType == "" {
		out.ContentType = def
	}
	return out
}

func (r *reader) jsonFormat(path string, s *structpb.Struct) []JSONField {
	out := []JSONField{}
	for name, v := range s.GetFields() {
		text, ok := v.GetKind().(*structpb.Value_StringValue)
		if !ok {
			r.fault(path+"."+name, "what is no string is not enforced by this agent")
			continue
		}
		out = append(out, JSONField{name, r.format(path+"."+name, text.StringValue)})
	}
	slices.SortFunc(out, func(a, b JSONField) int { return strings.Compare(a.Name, b.Name) })
	return out
}
