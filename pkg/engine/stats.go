package engine

import (
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// counter is one statistic of a cluster.
type counter uint8

const (
	cxTotal counter = iota
	cxActive
	cxConnectFail
	cxConnectTimeout
	cxOverflow
	cxPoolOverflow
	rqTotal
	rqActive
	rqPendingTotal
	rqPendingActive
	rqPendingOverflow
	rqActiveOverflow
	rqPendingFailureEject
	rqCompleted
	rqRetry
	rqRetrySuccess
	rqRetryOverflow
	rqRetryLimitExceeded
	rqRetryBackoffExponential
	rqRetryBackoffRatelimited
	rqTimeout
	rqPerTryTimeout
	rqPerTryIdleTimeout
	rqMaxDurationReached
	rqCancelled
	rqMaintenanceMode
	rqRxReset
	rqTxReset
	rqDropOverload
	noneHealthy
	healthyPanic
	bufferAbandoned
	ejectionsActive
	ejectionsOverflow
	ejectionsEnforcedTotal
	detected5xx
	enforced5xx
	detectedGateway
	enforcedGateway
	detectedLocal
	enforcedLocal
	detectedSuccessRate
	enforcedSuccessRate
	detectedFailurePercentage
	enforcedFailurePercentage
	detectedLocalSuccessRate
	enforcedLocalSuccessRate
	detectedLocalFailurePercentage
	enforcedLocalFailurePercentage
	counters
)

// counterNames are Envoy's, below "cluster.<name>.".
var counterNames = [counters]string{
	cxTotal: "upstream_cx_total", cxActive: "upstream_cx_active", cxConnectFail: "upstream_cx_connect_fail",
	cxConnectTimeout: "upstream_cx_connect_timeout", cxOverflow: "upstream_cx_overflow", cxPoolOverflow: "upstream_cx_pool_overflow",
	rqTotal: "upstream_rq_total", rqActive: "upstream_rq_active", rqPendingTotal: "upstream_rq_pending_total",
	rqPendingActive: "upstream_rq_pending_active", rqPendingOverflow: "upstream_rq_pending_overflow",
	rqPendingFailureEject: "upstream_rq_pending_failure_eject",
	rqActiveOverflow:      "upstream_rq_active_overflow", rqCompleted: "upstream_rq_completed", rqRetry: "upstream_rq_retry",
	rqRetrySuccess: "upstream_rq_retry_success", rqRetryOverflow: "upstream_rq_retry_overflow",
	rqRetryLimitExceeded: "upstream_rq_retry_limit_exceeded", rqRetryBackoffExponential: "upstream_rq_retry_backoff_exponential",
	rqRetryBackoffRatelimited: "upstream_rq_retry_backoff_ratelimited", rqTimeout: "upstream_rq_timeout",
	rqPerTryTimeout: "upstream_rq_per_try_timeout", rqPerTryIdleTimeout: "upstream_rq_per_try_idle_timeout",
	rqMaxDurationReached: "upstream_rq_max_duration_reached", rqCancelled: "upstream_rq_cancelled",
	rqMaintenanceMode: "upstream_rq_maintenance_mode", rqRxReset: "upstream_rq_rx_reset", rqTxReset: "upstream_rq_tx_reset",
	rqDropOverload: "upstream_rq_drop_overload", noneHealthy: "upstream_cx_none_healthy", healthyPanic: "lb_healthy_panic",
	bufferAbandoned: "retry_or_shadow_abandoned", ejectionsActive: "outlier_detection.ejections_active",
	ejectionsOverflow:              "outlier_detection.ejections_overflow",
	ejectionsEnforcedTotal:         "outlier_detection.ejections_enforced_total",
	detected5xx:                    "outlier_detection.ejections_detected_consecutive_5xx",
	enforced5xx:                    "outlier_detection.ejections_enforced_consecutive_5xx",
	detectedGateway:                "outlier_detection.ejections_detected_consecutive_gateway_failure",
	enforcedGateway:                "outlier_detection.ejections_enforced_consecutive_gateway_failure",
	detectedLocal:                  "outlier_detection.ejections_detected_consecutive_local_origin_failure",
	enforcedLocal:                  "outlier_detection.ejections_enforced_consecutive_local_origin_failure",
	detectedSuccessRate:            "outlier_detection.ejections_detected_success_rate",
	enforcedSuccessRate:            "outlier_detection.ejections_enforced_success_rate",
	detectedFailurePercentage:      "outlier_detection.ejections_detected_failure_percentage",
	enforcedFailurePercentage:      "outlier_detection.ejections_enforced_failure_percentage",
	detectedLocalSuccessRate:       "outlier_detection.ejections_detected_local_origin_success_rate",
	enforcedLocalSuccessRate:       "outlier_detection.ejections_enforced_local_origin_success_rate",
	detectedLocalFailurePercentage: "outlier_detection.ejections_detected_local_origin_failure_percentage",
	enforcedLocalFailurePercentage: "outlier_detection.ejections_enforced_local_origin_failure_percentage",
}

// stats are the statistics of one cluster; retried holds responses that a further attempt replaced.
type stats struct {
	counters       [counters]atomic.Int64
	codes, retried codes

	rqTime    resilience.Timings // from the complete request to the complete response
	connectMs resilience.Timings // of connections that were established
	named     named
}

// named are statistics that only some clusters have, by name.
type named struct{ by sync.Map }

func (n *named) add(name string) {
	counter, ok := n.by.Load(name)
	if !ok {
		counter, _ = n.by.LoadOrStore(name, new(atomic.Int64))
	}
	counter.(*atomic.Int64).Add(1)
}

func (n *named) each(yield func(name string, n int64)) {
	n.by.Range(func(name, counter any) bool {
		yield(name.(string), counter.(*atomic.Int64).Load())
		return true
	})
}

// completed counts an answer.
func (s *stats) completed(status int) {
	s.add(rqCompleted)
	s.codes.add(status)
}

func (s *stats) add(c counter)          { s.counters[c].Add(1) }
func (s *stats) sub(c counter)          { s.counters[c].Add(-1) }
func (s *stats) get(c counter) int64    { return s.counters[c].Load() }
func (s *stats) set(c counter, n int64) { s.counters[c].Store(n) }

// codes count responses by status; the array is made by the first response.
type codes struct {
	by atomic.Pointer[[600]atomic.Int64]
}

func (c *codes) add(status int) {
	by := c.by.Load()
	if by == nil {
		c.by.CompareAndSwap(nil, new([600]atomic.Int64))
		by = c.by.Load()
	}
	if status >= 100 && status < 600 {
		by[status].Add(1)
	}
}

// each yields "200" and the like, and the classes "2xx", of those that are not 0.
func (c *codes) each(yield func(name string, n int64)) {
	by := c.by.Load()
	if by == nil {
		return
	}
	for class := 1; class <= 5; class++ {
		sum := int64(0)
		for status := class * 100; status < class*100+100; status++ {
			if n := by[status].Load(); n > 0 {
				yield(strconv.Itoa(status), n)
				sum += n
			}
		}
		if sum > 0 {
			yield(strconv.Itoa(class)+"xx", sum)
		}
	}
}
