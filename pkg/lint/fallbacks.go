package lint

import (
	"fmt"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// answers reports whether something answers in place of the called service.
func (r *result) answers() bool { return r.Fallback != nil }

// fallsBack is the service that gets the call when the called one fails; ok is false where there is none.
func (r *result) fallsBack() (service string, ok bool) {
	if r.Fallback == nil || r.Fallback.Service == nil {
		return "", false
	}
	return *r.Fallback.Service, true
}

// breaks finds a breaker that can take a service away from several others at once.
func (l *linter) breaks(c *call) {
	o := c.OutlierDetection
	if !c.ejects() || *o.MaxEjectionPercent < 100 || c.answers() || len(c.to.callers) < 2 {
		return
	}
	object, path, ok := c.at("outlierDetection.consecutive5xx", "outlierDetection.consecutiveGatewayFailure",
		"outlierDetection.consecutiveLocalOriginFailure", "outlierDetection.maxEjectionPercent")
	if !ok {
		return
	}
	var callers []string
	for _, n := range c.to.callers {
		callers = append(callers, key(n))
	}
	l.add(Finding{
		Code: BreakerWithoutFallback, Severity: Warning, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why: fmt.Sprintf("%s all depend on %s; when all its hosts are ejected every call fails, also those that a host would have answered",
			strings.Join(callers, ", "), key(c.to)),
		Instead: "a fallback, so that an open breaker has an answer; or maxEjectionPercent below 100, so that some hosts stay",
	})
}

// stalls finds a fallback service that never gets a call which hangs.
func (l *linter) stalls(c *call) {
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
	l.add(Finding{
		Code: StallNeverFallsBack, Severity: Warning, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why:     fmt.Sprintf("%s: %s never gets it", why, service),
		Instead: "a timeout.perTry, times the tries, that leaves time in timeout.request for the fallback",
	})
}

// cutOff finds limits whose refusals do not fall back.
func (l *linter) cutOff(c *call) {
	service, ok := c.fallsBack()
	if !ok || c.Limits == nil || c.Limits.MaxRequests == nil || *c.Limits.MaxRequests == manifest.Unlimited {
		return
	}
	object, path, ok := c.at("limits.maxRequests")
	if !ok {
		return
	}
	l.add(Finding{
		Code: FullSkipsFallback, Severity: Info, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why:     fmt.Sprintf("a call over the %s that may be under way is refused, and does not go to %s", *c.Limits.MaxRequests, service),
		Instead: "more than the calls that a stall of perTry makes: rate times perTry times tries; or fallback.response, which answers those too",
	})
}

// starves finds a retry budget beside a fallback service.
func (l *linter) starves(c *call) {
	service, ok := c.fallsBack()
	if !ok {
		return
	}
	object, path, ok := c.at("retry.budget.minConcurrent", "retry.budget.percent")
	if !ok {
		return
	}
	allowed := "as many as it likes"
	if c.Limits != nil && c.Limits.MaxRequests != nil {
		allowed = c.Limits.MaxRequests.String()
	}
	l.add(Finding{
		Code: BudgetBesideFallback, Severity: Info, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why: fmt.Sprintf("the step to %s is a retry, of which a budget would let few run when they are needed: so it is not kept, and limits.maxRequests is the limit (%s)",
			service, allowed),
		Instead: "limits.maxRequests, or a bulkhead, as the bound of both",
	})
}

// volumes finds detectors that wait for more calls than a rate limit lets through.
func (l *linter) volumes(c *call) {
	o, r := c.OutlierDetection, c.RateLimit
	if o == nil || r == nil || r.Requests == nil || c.to.Hosts == 0 {
		return
	}
	every, ok := finite(r.Interval)
	if !ok {
		return
	}
	interval, _ := finite(o.Interval)
	each := float64(*r.Requests) * float64(interval) / float64(every) / float64(c.to.Hosts)
	if s := o.SuccessRate; s != nil {
		l.volume(c, "outlierDetection.successRate", *s.RequestVolume, each)
	}
	if f := o.FailurePercentage; f != nil {
		l.volume(c, "outlierDetection.failurePercentage", *f.RequestVolume, each)
	}
}

func (l *linter) volume(c *call, detector string, wanted uint32, each float64) {
	object, path, ok := c.at(detector+".requestVolume", detector+".minimumHosts", detector+".threshold", detector+".stdevFactor")
	if !ok || each >= float64(wanted) {
		return
	}
	l.add(Finding{
		Code: VolumeNeverReached, Severity: Warning, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why: fmt.Sprintf("%s judges a host after %d calls in %s, but rateLimit lets a proxy send each of the %d hosts about %.0f",
			detector, wanted, *c.OutlierDetection.Interval, c.to.Hosts, each),
		Instead: "a requestVolume that is reached, a longer outlierDetection.interval, or consecutive5xx",
	})
}
