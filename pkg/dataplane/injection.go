package dataplane

import (
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
)

func (r *reader) faultInjection(path string, m *faultv3.HTTPFault) *FaultInjection {
	f := &FaultInjection{
		Cluster: m.GetUpstreamCluster(), Headers: r.headerMatches(path+".headers", m.GetHeaders()), GRPC: -1, MaxActive: -1,
	}
	if d, ok := m.GetDelay().GetFaultDelaySecifier().(*commonv3.FaultDelay_FixedDelay); ok {
		f.Delay = d.FixedDelay.AsDuration()
		f.DelayOf = r.fraction(path+".delay.percentage", m.GetDelay().GetPercentage())
	}
	switch a := m.GetAbort().GetErrorType().(type) {
	case *faultv3.FaultAbort_HttpStatus:
		f.Status = int(a.HttpStatus)
	case *faultv3.FaultAbort_GrpcStatus:
		f.GRPC = int(min(a.GrpcStatus, 1<<16))
	}
	f.AbortOf = r.fraction(path+".abort.percentage", m.GetAbort().GetPercentage())
	if n := m.GetMaxActiveFaults(); n != nil {
		f.MaxActive = int64(n.GetValue())
	}
	return f
}
