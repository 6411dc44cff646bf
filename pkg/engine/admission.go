package engine

import (
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// admission is the admission control of a cluster at work.
type admission struct {
	config *dataplane.Admission
	now    *resilience.Admission
}

// admissionStats are statistics of the admission control of a cluster.
type admissionStats struct{ rejected, success, failure atomic.Int64 }

// adoptAdmission keeps what is known of the calls, where the numbers stay.
func (c *cluster) adoptAdmission(config *dataplane.Admission) {
	old := c.admission.Load()
	if config == nil {
		c.admission.Store(nil)
		return
	}
	next := &admission{config: config}
	if old != nil && old.config.Limits == config.Limits {
		next.now = old.now
	} else {
		next.now = resilience.NewAdmission(config.Limits)
	}
	c.admission.Store(next)
}

// denied reports that admission control refuses an attempt. It is that of the routed cluster, not of a member.
func (c *Call) denied(a *Attempt) bool {
	gate := c.target.live.admission.Load()
	if gate == nil {
		return false
	}
	if gate.now.Refuse(steady(), c.engine.options.Rand) {
		if gate.config.Observed { // what was refused would not have been answered: that is not recorded
			c.target.live.stats.named.add(observedRefusal)
			return false
		}
		c.target.live.admissionStats.rejected.Add(1)
		return true
	}
	a.gate = gate
	return false
}

// deny is the answer to an attempt that admission control refuses. It is neither retried nor charged to anybody.
func (c *Call) deny() Answer {
	c.retry.release(c)
	c.outer = true
	return c.local(&reply{status: http.StatusServiceUnavailable, grpc: -1, details: "denied_by_admission_control"})
}

// judge records how an admitted attempt was answered: one without an answer counts for nothing, as in Envoy. Without a status in its
// headers a gRPC response is judged by its trailer.
func (c *Call) judge(a *Attempt, res Result) {
	if a.gate == nil {
		return
	}
	if res.Failure != None {
		a.gate = nil
		return
	}
	code, told := grpcCode(res.Header)
	switch {
	case !isGRPC(res.Header) || !told && res.Header.Get("Content-Length") == "0": // nor can a trailer tell
		c.recordAdmission(a, succeeds(a.gate.config, res.Status))
	case told:
		c.recordAdmission(a, succeedsGRPC(a.gate.config, code))
	}
}

// Trailer tells of the trailer of the host's response.
func (c *Call) Trailer(h http.Header) {
	if c.last.gate == nil {
		return
	}
	if code, ok := grpcCode(h); ok {
		c.recordAdmission(c.last, succeedsGRPC(c.last.gate.config, code))
	}
}

// recordAdmission gives admission control what it is owed.
func (c *Call) recordAdmission(a *Attempt, success bool) {
	stats := &c.target.live.admissionStats
	if success {
		stats.success.Add(1)
	} else {
		stats.failure.Add(1)
	}
	a.gate.now.Record(success, steady())
	a.gate = nil
}

func succeeds(config *dataplane.Admission, status int) bool {
	if config.HTTP == nil {
		return status < 500
	}
	return slices.ContainsFunc(config.HTTP, func(r dataplane.StatusRange) bool { return int(r.Start) <= status && status < int(r.End) })
}

func succeedsGRPC(config *dataplane.Admission, code uint32) bool {
	return code <= 16 && config.GRPC>>code&1 == 1
}

// isGRPC reports whether a response is one of gRPC.
func isGRPC(h http.Header) bool {
	types := h["Content-Type"]
	return len(types) > 0 && isGRPCType(types[0])
}

func (s *admissionStats) each(prefix string, yield func(string, int64)) {
	prefix += "admission_control."
	yield(prefix+"rq_rejected", s.rejected.Load())
	yield(prefix+"rq_success", s.success.Load())
	yield(prefix+"rq_failure", s.failure.Load())
}
