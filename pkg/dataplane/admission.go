package dataplane

import (
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	admissionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/admission_control/v3"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// Admission is admission control of a cluster.
type Admission struct {
	Limits resilience.AdmissionLimits
	HTTP   []StatusRange // statuses that are successes; nil: below 500
	GRPC   uint32        // bits of the gRPC statuses that are successes

	Observed bool // what it would refuse is counted, and goes on
}

// StatusRange is from Start to before End.
type StatusRange struct{ Start, End int32 }

// defaultGRPCSuccess are Envoy's.
const defaultGRPCSuccess = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<5 | 1<<6 | 1<<7 | 1<<9 | 1<<11 | 1<<12 | 1<<16

func admissionFields() fields {
	value := fields{"default_value": {"value": nil}}.and("runtime_key") // no layer may say anything of it
	number := fields{"default_value": nil}.and("runtime_key")
	return fields{
		"enabled": number, "sampling_window": nil, "aggression": number, "sr_threshold": value, "rps_threshold": number,
		"max_rejection_probability": value,
		"success_criteria": {
			"http_criteria": {"http_success_status": {"start": nil, "end": nil}},
			"grpc_criteria": {"grpc_success_status": nil},
		},
	}
}

// upstreamFilters takes at most one admission control, before the codec, which is last; where it is observed, one that is not enabled.
func (r *reader) upstreamFilters(path string, list []*hcmv3.HttpFilter, observed bool) *Admission {
	var out *Admission
	for i, f := range list {
		m, ok := unpackAny(f.GetTypedConfig()).(*admissionv3.AdmissionControl)
		last := i == len(list)-1
		switch {
		case ok == last:
			r.fault(path, "has its codec not at its end")
			return nil
		case ok && out != nil:
			r.fault(indexed(path, i), "a second one is not enforced by this agent")
		case ok && observed != (m.GetEnabled() == nil || m.GetEnabled().GetDefaultValue().GetValue()):
			out = r.admission(indexed(path, i)+".typed_config", m)
			out.Observed = observed
		}
	}
	return out
}

func (r *reader) admission(path string, m *admissionv3.AdmissionControl) *Admission {
	out := &Admission{Limits: resilience.DefaultAdmission(), GRPC: defaultGRPCSuccess}
	limits := &out.Limits
	limits.Window = orDuration(m.GetSamplingWindow(), limits.Window)
	if m.GetAggression() != nil {
		limits.Aggression = m.GetAggression().GetDefaultValue()
	}
	if m.GetSrThreshold() != nil {
		limits.SuccessRate = m.GetSrThreshold().GetDefaultValue().GetValue() / 100
	}
	if m.GetMaxRejectionProbability() != nil {
		limits.MaxRejection = m.GetMaxRejectionProbability().GetDefaultValue().GetValue() / 100
	}
	limits.MinimumRate = float64(m.GetRpsThreshold().GetDefaultValue())
	if limits.SuccessRate < 0.01 {
		r.fault(path+".sr_threshold.default_value.value", "is less than 1")
	}
	for _, s := range m.GetSuccessCriteria().GetHttpCriteria().GetHttpSuccessStatus() {
		out.HTTP = append(out.HTTP, StatusRange{s.GetStart(), s.GetEnd()})
	}
	if g := m.GetSuccessCriteria().GetGrpcCriteria(); g != nil {
		out.GRPC = 0
		for _, code := range g.GetGrpcSuccessStatus() {
			if code > 16 {
				r.fault(path+".success_criteria.grpc_criteria.grpc_success_status", "%d is no gRPC status", code)
			}
			out.GRPC |= 1 << min(code, 31)
		}
	}
	return out
}
