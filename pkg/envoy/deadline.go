package envoy

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	mutationrulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/cel/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// The headers that carry a deadline along the chain. They are private: Envoy's own are dropped with the first x-forwarded-for, and
// who may send them may add retries, too.
const (
	budgetHeader   = "x-breakwater-budget-ms"
	deadlineHeader = "x-breakwater-deadline-ms"
	timeoutHeader  = "x-envoy-upstream-rq-timeout-ms" // the router's
)

const grpcTimeoutHeader = "grpc-timeout"

// deadline is nil where calls have none of their caller's.
func (in input) deadline() *policy.Deadline {
	t := in.sections.Timeout
	if t == nil || t.Deadline == nil || !finite(t.Request) || !in.target.knows("envoy.extensions.filters.http.header_mutation.v3.Mutations.formatters") {
		return nil
	}
	return t.Deadline
}

// deadlineMutations write what the call has, in milliseconds, for the router and for the next hop. They are done in order and see what
// those before did; an expression that fails, of a header that is missing or no number, changes nothing. So whatever
// arrives, the call has between 1 ms and the route's timeout.
func (in input) deadlineMutations() proto.Message {
	d := in.deadline()
	if d == nil {
		return nil
	}
	whole, keep, least := in.sections.Timeout.Request.D().Milliseconds(), orElse(d.KeepPercent, 90), d.Minimum.D().Milliseconds()
	const now = "int(request.time)*1000 + request.time.getMilliseconds()"
	budget := number(timeoutHeader)
	left := fmt.Sprintf("(%s - int(request.time)*1000 - request.time.getMilliseconds())*%d/100", number(deadlineHeader), keep)
	set := func(action corev3.HeaderValueOption_HeaderAppendAction, name, value string) *mutationrulesv3.HeaderMutation {
		return &mutationrulesv3.HeaderMutation{Action: &mutationrulesv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
			Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: action,
		}}}
	}
	const (
		absent = corev3.HeaderValueOption_ADD_IF_ABSENT
		exists = corev3.HeaderValueOption_OVERWRITE_IF_EXISTS
		always = corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
	)
	list := []*mutationrulesv3.HeaderMutation{removeHeader(timeoutHeader)}
	if in.protocol == catalog.GRPC {
		for _, u := range grpcUnits {
			list = append(list, set(absent, timeoutHeader, cel("int(request.headers['%s'].replace('%s',''))*%d/%d", grpcTimeoutHeader, u.unit, u.times*int64(keep), u.over*100)))
		}
	}
	list = append(list,
		set(absent, timeoutHeader, cel("%s*%d/100", number(budgetHeader), keep)),
		set(absent, timeoutHeader, fmt.Sprint(whole)),
		set(exists, timeoutHeader, cel("%s < %s ? %s : %s", left, budget, left, budget)),
		set(exists, timeoutHeader, cel("%s < 1 ? 1 : (%s > %d ? %d : %s)", budget, budget, whole, whole, budget)),
		set(always, budgetHeader, cel("%s < %d ? 0 : %s", budget, least, budget)),
		set(always, deadlineHeader, cel("%s + %s", now, budget)),
	)
	if in.protocol == catalog.GRPC {
		list = append(list, set(always, grpcTimeoutHeader, "%REQ("+timeoutHeader+")%m"))
	}
	return &mutationv3.HeaderMutationPerRoute{Mutations: &mutationv3.Mutations{
		RequestMutations: list,
		Formatters: []*corev3.TypedExtensionConfig{{ // the one that is built in knows no functions of text
			Name: "envoy.formatter.cel", TypedConfig: pack(&celv3.Cel{CelConfig: &corev3.CelExpressionConfig{EnableStringFunctions: true}}),
		}},
	}}
}

// grpcUnits are the units of grpc-timeout, as times/over milliseconds. Of a header, all but one fail.
var grpcUnits = []struct {
	unit        string
	times, over int64
}{{"m", 1, 1}, {"u", 1, 1000}, {"S", 1000, 1}, {"n", 1, 1_000_000}, {"M", 60_000, 1}, {"H", 3_600_000, 1}}

func number(header string) string { return "int(request.headers['" + header + "'])" }

func cel(format string, args ...any) string { return "%CEL(" + fmt.Sprintf(format, args...) + ")%" }

// deadlineFloor answers a call without time left: its budget was written as 0.
func (in input) deadlineFloor() proto.Message {
	if in.deadline() == nil {
		return nil
	}
	abort := &faultv3.FaultAbort{
		ErrorType:  &faultv3.FaultAbort_HttpStatus{HttpStatus: 504},
		Percentage: &typev3.FractionalPercent{Numerator: 100},
	}
	if in.protocol == catalog.GRPC {
		abort.ErrorType = &faultv3.FaultAbort_GrpcStatus{GrpcStatus: 4}
	}
	return &faultv3.HTTPFault{
		Headers: []*routev3.HeaderMatcher{{Name: budgetHeader, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: exactly("0")}}},
		Abort:   abort,
	}
}

// noRequestTimeout reports that there is nothing that a caller's deadline could be held against.
func noRequestTimeout(in input, _ policy.Field) bool { return !finite(in.sections.Timeout.Request) }

// severalTries holds where a try may have less time than the call had when it came.
func severalTries(in input, _ policy.Field) bool {
	return in.retries() || finite(in.sections.Timeout.PerTry)
}

var deadlineLines = []line{
	{field: "timeout.deadline", on: clustersOnly, level: Unsupported, reason: "the proxy's listeners are its owner's"},
	{field: "timeout.deadline", on: proxies, when: noRequestTimeout, beside: true, level: Unsupported, reason: "without timeout.request a call has no time to hold a deadline against", instead: "timeout.request beside it"},
	{field: "timeout.deadline.keepPercent", on: sidecars, when: severalTries, always: true, inherent: true, level: Approximate,
		reason: "every try is told what the whole call had when it came; x-breakwater-deadline-ms, which stands still, is right for all"},
}
