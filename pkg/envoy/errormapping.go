package envoy

import (
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	accessv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// reasonHeader says why there is no answer of the service's: Envoy's response flags, or "deadline".
const reasonHeader = "x-breakwater-reason"

// noAnswer are the response flags of a 503 that says that no answer could be had, for whatever reason but time.
var noAnswer = []string{"UF", "UC", "UH", "UO", "UR", "LR", "NC", "URX", "DO", "UDO", "UPE", "DF", "OM"}

// localReplies change what Envoy answers by itself. They are on the listener once; routes switch the mapping of errors on in their
// metadata. gRPC has words of its own for all of this. The first that matches counts.
func localReplies() *hcmv3.LocalReplyConfig {
	return &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{
		{ // the floor is a fault filter, and must not sound like one
			Filter:       all(statusIs(504), expression("response.code_details.contains('fault_filter_abort')")),
			Body:         inlineString("no time is left for the call"),
			HeadersToAdd: []*corev3.HeaderValueOption{overwrite(reasonHeader, "deadline")},
		},
		mapped(504, statusIs(503), expression("response.code_details.contains('connection_timeout')")),
		mapped(502, statusIs(503), &accessv3.AccessLogFilter{FilterSpecifier: &accessv3.AccessLogFilter_ResponseFlagFilter{
			ResponseFlagFilter: &accessv3.ResponseFlagFilter{Flags: noAnswer},
		}}),
		mapped(504, statusIs(504)), // for its reason
	}}
}

// mapped makes a status of what matches on a route that asks for it.
func mapped(status uint32, when ...*accessv3.AccessLogFilter) *hcmv3.ResponseMapper {
	when = append(when, noGRPC(), expression("xds.route_metadata.filter_metadata['breakwater']['errors'] == 'gateway'"))
	return &hcmv3.ResponseMapper{
		Filter:       all(when...),
		StatusCode:   wrapperspb.UInt32(status),
		HeadersToAdd: []*corev3.HeaderValueOption{overwrite(reasonHeader, "%RESPONSE_FLAGS%")},
	}
}

func all(filters ...*accessv3.AccessLogFilter) *accessv3.AccessLogFilter {
	return &accessv3.AccessLogFilter{FilterSpecifier: &accessv3.AccessLogFilter_AndFilter{AndFilter: &accessv3.AndFilter{Filters: filters}}}
}

// statusIs has a runtime key because the API demands one; no layer holds it.
func statusIs(status uint32) *accessv3.AccessLogFilter {
	return &accessv3.AccessLogFilter{FilterSpecifier: &accessv3.AccessLogFilter_StatusCodeFilter{StatusCodeFilter: &accessv3.StatusCodeFilter{
		Comparison: &accessv3.ComparisonFilter{
			Op: accessv3.ComparisonFilter_EQ, Value: &corev3.RuntimeUInt32{DefaultValue: status, RuntimeKey: "breakwater.none"},
		},
	}}}
}

func noGRPC() *accessv3.AccessLogFilter {
	return &accessv3.AccessLogFilter{FilterSpecifier: &accessv3.AccessLogFilter_HeaderFilter{HeaderFilter: &accessv3.HeaderFilter{
		Header: &routev3.HeaderMatcher{
			Name: "content-type", InvertMatch: true, TreatMissingHeaderAsEmpty: true,
			HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
				MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "application/grpc"},
			}},
		},
	}}}
}

func expression(text string) *accessv3.AccessLogFilter {
	return &accessv3.AccessLogFilter{FilterSpecifier: &accessv3.AccessLogFilter_ExtensionFilter{ExtensionFilter: &accessv3.ExtensionFilter{
		Name:       "envoy.access_loggers.extension_filters.cel",
		ConfigType: &accessv3.ExtensionFilter_TypedConfig{TypedConfig: pack(&celv3.ExpressionFilter{Expression: text})},
	}}}
}

func overwrite(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

func inlineString(text string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: text}}
}

// metadata switches on for a route what the listener holds for all, and what only an agent does. It is nil where there is nothing to
// switch.
func (in input) metadata() *corev3.Metadata {
	switches := make(map[string]*structpb.Struct)
	if e := in.sections.ErrorMapping; e != nil && orElse(e.Gateway, false) {
		switches["breakwater"] = &structpb.Struct{Fields: map[string]*structpb.Value{"errors": structpb.NewStringValue("gateway")}}
	}
	if hints := in.agentHints(); hints != nil {
		switches[Hints] = hints
	}
	if len(switches) == 0 {
		return nil
	}
	return &corev3.Metadata{FilterMetadata: switches}
}

var errorMappingLines = []line{
	{field: "errorMapping", on: clustersOnly, level: Unsupported, reason: "the proxy's listeners are its owner's"},
	{field: "errorMapping.gateway", when: grpcService, level: Unsupported, reason: "gRPC has statuses of its own for this, and they stay"},
}
