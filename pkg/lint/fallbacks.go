package lint

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// answers reports whether something answers in place of the called service.
func (s *side) answers() bool { return s.Fallback != nil }

// fallsBack is the service that gets the call when the called one fails; ok is false where there is none.
func (s *side) fallsBack() (service string, ok bool) {
	if s.Fallback == nil || s.Fallback.Service == nil {
		return "", false
	}
	return *s.Fallback.Service, true
}

// breaks finds a breaker that can take a service away from several others at once.
func (l *spots) breaks(c *call) {
	o := c.cluster.OutlierDetection
	if !c.cluster.ejects() || *o.MaxEjectionPercent < 100 || c.answers() {
		return
	}
	object, path, ok := c.cluster.at("outlierDetection.consecutive5xx", "outlierDetection.consecutiveGatewayFailure",
		"outlierDetection.consecutiveLocalOriginFailure", "outlierDetection.maxEjectionPercent")
	callers := c.to.stranded()
	if !ok || len(callers) < 2 {
		return
	}
	l.add(c.to, Finding{
		Code: BreakerWithoutFallback, Severity: Warning, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why: fmt.Sprintf("%s all depend on %s; when all its hosts are ejected every call fails, also those that a host would have answered",
			strings.Join(callers, ", "), key(c.to)),
		Instead: "a fallback, so that an open breaker has an answer; or maxEjectionPercent below 100, so that some hosts stay",
	})
}

// stranded are the services whose calls to n nothing else answers.
func (n *node) stranded() []string {
	var list []string
	for _, caller := range n.callers {
		if slices.ContainsFunc(caller.out.calls, func(c *call) bool { return c.to == n && !c.spare && !c.answers() }) {
			list = append(list, key(caller))
		}
	}
	return list
}

// stalls finds a fallback service that never gets a call which hangs.
func (l *spots) stalls(c *call) {
	service, ok := c.fallsBack()
	object, path, written := c.at("fallback.service")
	if !ok || !written {
		return
	}
	var perTry, request time.Duration
	var limited, ends bool
	if c.Timeout != nil {
		perTry, limited = finite(c.Timeout.PerTry)
		request, ends = finite(c.Timeout.Request)
	}
	all := time.Duration(c.attempts()) * perTry
	why := "without timeout.perTry a call that hangs ends with its request"
	switch {
	case limited && (!ends || all < request):
		return
	case limited:
		why = fmt.Sprintf("%d tries that hang for %s take all of the %s that the call has", c.attempts(), perTry, request)
	}
	l.add(c.to, Finding{
		Code: StallNeverFallsBack, Severity: Warning, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why:     fmt.Sprintf("%s: %s never gets it", why, service),
		Instead: "a timeout.perTry, times the tries, that leaves time in timeout.request for the fallback",
	})
}

// cutOff finds limits whose refusals do not fall back.
func (l *spots) cutOff(c *call) {
	service, ok := c.fallsBack()
	if !ok || c.cluster.Limits == nil || c.cluster.Limits.MaxRequests == nil || *c.cluster.Limits.MaxRequests == manifest.Unlimited || *c.cluster.Limits.MaxRequests == 0 {
		return
	}
	object, path, ok := c.cluster.at("limits.maxRequests")
	if !ok {
		return
	}
	l.add(c.to, Finding{
		Code: FullSkipsFallback, Severity: Info, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why:     fmt.Sprintf("a call over the %s that may be under way is refused, and does not go to %s", *c.cluster.Limits.MaxRequests, service),
		Instead: "more than the calls that a stall of perTry makes: rate times perTry times tries; or fallback.response, which answers those too",
	})
}

// starves finds a retry budget beside a fallback service.
func (l *spots) starves(c *call) {
	service, ok := c.fallsBack()
	if !ok {
		return
	}
	object, path, ok := c.cluster.at("retry.budget.minConcurrent", "retry.budget.percent")
	if !ok {
		return
	}
	allowed := "any number of retries may run at once"
	if l := c.cluster.Limits; l != nil && l.MaxRequests != nil && *l.MaxRequests != manifest.Unlimited {
		allowed = fmt.Sprintf("%s may run at once, as many as limits.maxRequests allows calls", *l.MaxRequests)
	}
	l.add(c.to, Finding{
		Code: BudgetBesideFallback, Severity: Info, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why: fmt.Sprintf("the step to %s is a retry, of which a budget would let few run when they are needed: so it is not kept, and %s",
			service, allowed),
		Instead: "limits.maxRequests, or a bulkhead, as the bound of both",
	})
}

// bounded finds a number of retries that bounds the steps to a fallback service, too.
func (l *spots) bounded(c *call) {
	service, ok := c.fallsBack()
	limits := c.cluster.Limits
	if !ok || limits == nil || limits.MaxRetries == nil || *limits.MaxRetries == 0 || *limits.MaxRetries == manifest.Unlimited {
		return
	}
	object, path, ok := c.cluster.at("limits.maxRetries")
	if !ok || limits.MaxRequests != nil && *limits.MaxRetries >= *limits.MaxRequests || c.cluster.Retry != nil && c.cluster.Retry.Budget != nil {
		return
	}
	l.add(c.to, Finding{
		Code: RetriesStarveFallback, Severity: Warning, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why: fmt.Sprintf("the step to %s is a retry: no more than %s calls are there or tried again at once, and when %s is down all others fail",
			service, *limits.MaxRetries, key(c.to)),
		Instead: "a bulkhead, or limits.maxRequests, as the bound of both, and no maxRetries below it",
	})
}

// itself finds calls that fall back to where all their tries have failed.
func (l *spots) itself(c *call) {
	service, ok := c.fallsBack()
	object, path, written := c.at("fallback.service")
	if !ok || !written || c.subset != "" || service != key(c.to) {
		return
	}
	severity := Warning
	if c.from == "" {
		severity = Info // it may be there as a fallback only
	}
	l.add(c.to, Finding{
		Code: FallbackToItself, Severity: severity, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why:     fmt.Sprintf("what %s has failed to answer goes to %s once more, a POST or PATCH too, whatever retry.methods says", service, service),
		Instead: "a to that does not cover it, or fallback: {disabled: true} in a policy for it; for more tries retry.numRetries",
	})
}

// volumes finds detectors that wait for more calls than a rate limit lets through.
func (l *spots) volumes(c *call) {
	o, r := c.cluster.OutlierDetection, c.RateLimit
	if o == nil || r == nil || r.Requests == nil || c.hosts() == 0 || c.route != "" && c.ofRoute || c.to != c.named {
		return // other calls, which it does not hold for, may go to the same hosts
	}
	every, ok := finite(r.Interval)
	if !ok {
		return
	}
	interval, _ := finite(o.Interval)
	rested := *r.Requests
	if r.Burst != nil {
		rested = *r.Burst
	}
	each := (float64(rested) + float64(*r.Requests)*float64(interval)/float64(every)) / float64(c.hosts())
	if s := o.SuccessRate; s != nil {
		l.volume(c, "outlierDetection.successRate", *s.RequestVolume, each)
	}
	if f := o.FailurePercentage; f != nil {
		l.volume(c, "outlierDetection.failurePercentage", *f.RequestVolume, each)
	}
}

func (l *spots) volume(c *call, detector string, wanted uint32, each float64) {
	object, path, ok := c.cluster.at(detector+".requestVolume", detector+".minimumHosts", detector+".threshold", detector+".stdevFactor")
	if !ok || each >= float64(wanted) {
		return
	}
	l.add(c.to, Finding{
		Code: VolumeNeverReached, Severity: Warning, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why: fmt.Sprintf("%s judges a host after %d calls in %s, but rateLimit lets a proxy send no more than %.0f to each of %s",
			detector, wanted, *c.cluster.OutlierDetection.Interval, math.Floor(each), count(c.hosts(), "host")),
		Instead: "a requestVolume that is reached, a longer outlierDetection.interval, or consecutive5xx",
	})
}
