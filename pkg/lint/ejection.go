package lint

import (
	"fmt"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// enforces reports whether a detector in use may eject.
func enforces(threshold, percent *uint32) bool {
	return threshold != nil && (percent == nil || *percent > 0)
}

// ejects reports whether any detector may eject.
func (s *side) ejects() bool {
	o := s.OutlierDetection
	if o == nil {
		return false
	}
	e := o.EnforcingPercent
	if e == nil {
		e = &policy.EnforcingPercent{}
	}
	return enforces(o.Consecutive5xx, e.Consecutive5xx) || enforces(o.ConsecutiveGatewayFailure, e.ConsecutiveGatewayFailure) ||
		enforces(o.ConsecutiveLocalOriginError, e.ConsecutiveLocalOriginError) ||
		o.SuccessRate != nil && (e.SuccessRate == nil || *e.SuccessRate > 0) ||
		o.FailurePercentage != nil && (e.FailurePercentage == nil || *e.FailurePercentage > 0)
}

// mayBeOut is how many of so many hosts may be ejected at once.
func mayBeOut(o *policy.OutlierDetection, hosts int) int {
	out := hosts * int(*o.MaxEjectionPercent) / 100
	if out == 0 && o.AlwaysEjectOneHost != nil && *o.AlwaysEjectOneHost {
		return 1
	}
	return out
}

// neverEjects finds outlier detection that can't eject any of the hosts there are.
func (l *spots) neverEjects(c *call) {
	hosts := c.hosts()
	if hosts == 0 || !c.cluster.ejects() || mayBeOut(c.cluster.OutlierDetection, hosts) > 0 {
		return
	}
	object, path, ok := c.cluster.at("outlierDetection.maxEjectionPercent")
	if !ok {
		return
	}
	least := (100 + hosts - 1) / hosts
	l.add(c.to, Finding{
		Code: NeverEjects, Severity: Error, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why:     fmt.Sprintf("%s has %s, and %d %% of that is less than one: no host is ever ejected", c.end(), count(hosts, "host"), *c.cluster.OutlierDetection.MaxEjectionPercent),
		Instead: fmt.Sprintf("maxEjectionPercent: %s, or alwaysEjectOneHost: true", orMore(least)),
	})
}

// orMore is n percent or more.
func orMore(n int) string {
	if n >= 100 {
		return "100"
	}
	return fmt.Sprintf("%d or more", n)
}

// count is n of something.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// tooFewHosts finds detectors that compare more hosts than there are.
func (l *spots) tooFewHosts(c *call) {
	if c.cluster.OutlierDetection == nil || c.hosts() == 0 {
		return
	}
	if s := c.cluster.OutlierDetection.SuccessRate; s != nil {
		l.fewHosts(c, "outlierDetection.successRate", *s.MinimumHosts)
	}
	if f := c.cluster.OutlierDetection.FailurePercentage; f != nil {
		l.fewHosts(c, "outlierDetection.failurePercentage", *f.MinimumHosts)
	}
}

func (l *spots) fewHosts(c *call, detector string, minimum uint32) {
	if int(minimum) <= c.hosts() {
		return
	}
	object, path, ok := c.cluster.at(detector+".minimumHosts", detector+".requestVolume", detector+".threshold", detector+".stdevFactor")
	if !ok {
		return
	}
	l.add(c.to, Finding{
		Code: TooFewHosts, Severity: Warning, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why:     fmt.Sprintf("%s judges only where at least %d hosts have enough traffic, and %s has %d", detector, minimum, c.end(), c.hosts()),
		Instead: fmt.Sprintf("minimumHosts: %d or less, or consecutive5xx, which looks at each host alone", c.hosts()),
	})
}

// roundedUp finds ejections that are over long before anyone looks.
func (l *spots) roundedUp(c *call) {
	o := c.cluster.OutlierDetection
	if !c.cluster.ejects() || o.BaseEjectionTime == nil {
		return
	}
	interval, _ := finite(o.Interval)
	out, _ := finite(o.BaseEjectionTime)
	object, path, ok := c.cluster.at("outlierDetection.baseEjectionTime", "outlierDetection.interval")
	if interval <= out || !ok {
		return
	}
	instead := fmt.Sprintf("outlierDetection.interval: %s or less", *o.BaseEjectionTime)
	if strings.HasPrefix(path, "spec.circuitBreaker") {
		instead = fmt.Sprintf("circuitBreaker.recoveryTimeout: %s or more", *o.Interval)
	}
	l.add(c.to, Finding{
		Code: EjectionRoundedUp, Severity: Info, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why: fmt.Sprintf("ejected hosts are let back in every %s only: a host that is to be out for %s is out for %s to %s",
			*o.Interval, *o.BaseEjectionTime, *o.BaseEjectionTime, manifest.DurationOf(out+interval)),
		Instead: "nothing, if that is soon enough; else " + instead,
	})
}

// panics finds a panic threshold that sends traffic back to ejected hosts.
func (l *spots) panics(c *call) {
	o := c.cluster.OutlierDetection
	if !c.cluster.ejects() || o.MaxEjectionPercent == nil {
		return
	}
	threshold := 50 // Envoy's
	if c.cluster.LoadBalancing != nil && c.cluster.LoadBalancing.PanicThreshold != nil {
		threshold = int(*c.cluster.LoadBalancing.PanicThreshold)
	}
	left := 100 - int(*o.MaxEjectionPercent)
	if left >= threshold {
		return
	}
	object, path, ok := c.cluster.at("loadBalancing.panicThreshold", "outlierDetection.maxEjectionPercent")
	if !ok {
		return
	}
	then := "sends traffic to all of them again, the ejected ones too"
	if lb := c.cluster.LoadBalancing; lb != nil && lb.FailTrafficOnPanic != nil && *lb.FailTrafficOnPanic {
		then = "makes every call fail, as failTrafficOnPanic says, though there are healthy ones"
	}
	l.add(c.to, Finding{
		Code: PanicUndoesEjection, Severity: Warning, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why: fmt.Sprintf("up to %d %% of the hosts may be ejected, but with fewer than %d %% healthy the panic threshold %s",
			*o.MaxEjectionPercent, threshold, then),
		Instead: fmt.Sprintf("loadBalancing.panicThreshold: %d, or maxEjectionPercent: %d", left, 100-threshold),
	})
}

// blames finds a breaker that opens for what the called service's own dependencies did.
func (l *spots) blames(c *call) {
	o := c.cluster.OutlierDetection
	keys, said := catalog.Dependencies(c.to.Service.Service)
	if o == nil || !said || len(keys) == 0 || c.cluster.byCriteria() && !c.cluster.fails(500) {
		return
	}
	var enforcing *uint32
	if o.EnforcingPercent != nil {
		enforcing = o.EnforcingPercent.Consecutive5xx
	}
	object, path, ok := c.cluster.at("outlierDetection.consecutive5xx")
	if !enforces(o.Consecutive5xx, enforcing) || !ok {
		return
	}
	l.add(c.to, Finding{
		Code: BlamesDependencies, Severity: Warning, Kind: policy.Kind, Object: object, Path: path, Calls: append(c.hops(), keys[0].String()),
		Why:     fmt.Sprintf("any 5xx counts against a host of %s, also the 500 it answers when %s fails: then all its hosts are ejected, and calls that need no %s fail too", key(c.to), keys[0], keys[0].Name),
		Instead: "circuitBreaker.gatewayErrorsOnly: true, or consecutiveGatewayFailure instead of consecutive5xx",
	})
}

// newHosts finds health checks beside a panic threshold that lets no call go where nobody is known to be well.
func (l *spots) newHosts(c *call) {
	lb := c.cluster.LoadBalancing
	if c.cluster.HealthCheck == nil || lb == nil {
		return
	}
	field := "loadBalancing.panicThreshold"
	switch {
	case lb.PanicThreshold != nil && *lb.PanicThreshold == 0:
	case lb.FailTrafficOnPanic != nil && *lb.FailTrafficOnPanic:
		field = "loadBalancing.failTrafficOnPanic"
	default:
		return
	}
	object, path, ok := c.cluster.at(field)
	if !ok {
		return
	}
	l.add(c.to, Finding{
		Code: NewHostsTakeNoCall, Severity: Info, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why: fmt.Sprintf("a new host of %s gets no call before its first health check has passed, and one that is taken out gets none any more: where all are replaced at once, every call fails in between",
			c.end()),
		Instead: "nothing, where hosts are replaced a few at a time; else a panicThreshold over 0 without failTrafficOnPanic, by which hosts that nobody has checked yet get the calls",
	})
}
