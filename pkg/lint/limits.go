package lint

import (
	"fmt"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// zeros finds limits that let nothing through.
func (l *spots) zeros(c *call) {
	limits := c.cluster.Limits
	if limits == nil || c.cluster.protocol == string(catalog.TCP) {
		return
	}
	prefix, requests, pending, retries := "limits.", limits.MaxRequests, limits.MaxPendingRequests, limits.MaxRetries
	if c.high {
		if limits.High == nil {
			return
		}
		prefix, requests, pending, retries = "limits.high.", limits.High.MaxRequests, limits.High.MaxPendingRequests, limits.High.MaxRetries
	}
	l.zero(c, requests, prefix+"maxRequests", "every call is refused at once", "1 or more; to let calls fail on purpose a fault, which ends by itself")
	l.zero(c, pending, prefix+"maxPendingRequests", "a call waits while its connection is made, and none may wait: without an open connection that is free every call is refused",
		"1 or more, at least as many calls as come at once after a rest")
	if c.counts(retries) {
		l.zero(c, retries, prefix+"maxRetries", "no call is ever tried again, nor sent to a fallback service", "retry: {disabled: true} where nothing is to be tried again; else 1 or more")
	}
}

// counts reports whether a number of retries counts for c: a budget takes its place, though not for high priority, and the number for
// that one counts for nothing where there is a fallback service.
func (c *call) counts(retries *manifest.Count) bool {
	_, falls := c.fallsBack()
	if c.spare || retries == nil || c.attempts() < 2 && !falls {
		return false
	}
	if c.high {
		return !falls
	}
	return c.cluster.Retry == nil || c.cluster.Retry.Budget == nil
}

func (l *spots) zero(c *call, limit *manifest.Count, field, why, instead string) {
	object, path, ok := c.cluster.at(field)
	if limit == nil || *limit != 0 || !ok {
		return
	}
	l.add(c.to, Finding{
		Code: LimitOfZero, Severity: Warning, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why: fmt.Sprintf("with %s 0 %s", field, why), Instead: instead,
	})
}
