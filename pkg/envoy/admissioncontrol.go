package envoy

import (
	"slices"

	"google.golang.org/protobuf/types/known/wrapperspb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	admissionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/admission_control/v3"
	codecv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// upstreamFilters are the HTTP filters of the cluster; nil where no policy asks for one. There what is shed is neither retried nor
// charged to a host.
func (in input) upstreamFilters() []*hcmv3.HttpFilter {
	a, observed := in.admissionControl()
	if a == nil {
		return nil
	}
	filter := in.admission(a)
	if observed {
		filter.Enabled = &corev3.RuntimeFeatureFlag{DefaultValue: wrapperspb.Bool(false)}
	}
	return []*hcmv3.HttpFilter{
		httpFilter("envoy.filters.http.admission_control", filter),
		httpFilter("envoy.filters.http.upstream_codec", &codecv3.UpstreamCodec{}),
	}
}

// admission names keys that Envoy requires, and that no layer has.
func (in input) admission(a *policy.AdmissionControl) *admissionv3.AdmissionControl {
	key := func(name string) string { return "admission_control." + in.name + "." + name }
	percent := func(name string, p uint32) *corev3.RuntimePercent {
		return &corev3.RuntimePercent{DefaultValue: &typev3.Percent{Value: float64(p)}, RuntimeKey: key(name)}
	}
	return &admissionv3.AdmissionControl{
		EvaluationCriteria: &admissionv3.AdmissionControl_SuccessCriteria_{SuccessCriteria: in.successes()},
		SamplingWindow:     duration(a.Window),
		Aggression:         &corev3.RuntimeDouble{DefaultValue: orElse(a.Aggression, 1), RuntimeKey: key("aggression")},
		SrThreshold:        percent("success_rate", orElse(a.SuccessRatePercent, 95)),
		RpsThreshold:       &corev3.RuntimeUInt32{DefaultValue: orElse(a.RPSThreshold, 0), RuntimeKey: key("rps_threshold")},

		MaxRejectionProbability: percent("max_rejection", orElse(a.MaxRejectionPercent, 80)),
	}
}

// successes are what is no failure.
func (in input) successes() *admissionv3.AdmissionControl_SuccessCriteria {
	c := in.sections.Criteria(string(in.protocol))
	http, grpc := &admissionv3.AdmissionControl_SuccessCriteria_HttpCriteria{}, &admissionv3.AdmissionControl_SuccessCriteria_GrpcCriteria{}
	for _, r := range ranges(func(status uint32) bool { return !c.HTTP.Fails(status) }) {
		http.HttpSuccessStatus = append(http.HttpSuccessStatus, &typev3.Int32Range{Start: int32(r.first), End: int32(r.end)})
	}
	if len(http.HttpSuccessStatus) == 0 { // Envoy wants one: no answer ends with this
		http.HttpSuccessStatus = []*typev3.Int32Range{{Start: firstStatus, End: firstStatus + 1}}
	}
	out := &admissionv3.AdmissionControl_SuccessCriteria{HttpCriteria: http}
	if c.GRPC == nil {
		return out
	}
	var failing []uint32
	for _, word := range c.GRPC.Codes {
		failing = append(failing, policy.GRPCCode(word))
	}
	for code := range uint32(17) {
		if !slices.Contains(failing, code) {
			grpc.GrpcSuccessStatus = append(grpc.GrpcSuccessStatus, code)
		}
	}
	out.GrpcCriteria = grpc
	return out
}

var admissionLines = []line{
	{field: "admissionControl.rpsThreshold", on: envoys, inherent: true, level: Approximate, reason: "each worker of the proxy counts its own calls"},
}
