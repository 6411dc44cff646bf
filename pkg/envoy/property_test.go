package envoy

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// Whatever valid policies merge to, Envoy's API takes it, for every protocol and target, and it is always the same.
func TestWhateverIsValidCompiles(t *testing.T) {
	compiledOnce := 0
	rapid.Check(t, func(r *rapid.T) {
		svc := payments(rapid.SampledFrom([]catalog.Protocol{catalog.HTTP, catalog.HTTP2, catalog.GRPC}).Draw(r, "protocol"))
		var applied []*policy.Compiled
		for i := range rapid.IntRange(0, 3).Draw(r, "policies") {
			p := drawPolicy(r, i)
			if len(policy.Validate(p)) == 0 {
				applied = append(applied, policy.Compile(p))
			}
		}
		slices.SortFunc(applied, (*policy.Compiled).Compare)
		called := policy.Service{Key: svc.Key(), Protocol: string(svc.Spec.Protocol)}
		eff, _ := policy.Merge(called, applied)
		for _, runtime := range []bool{true, false} {
			target := Target{Profile: "sidecar", Version: "1.40", Runtime: runtime}
			c, err := Service(target, svc, eff)
			if err != nil {
				r.Fatalf("%v\nfrom %+v", err, eff.Sections)
			}
			if again, _ := Service(target, svc, eff); !bytes.Equal(c.Route.Wire, again.Route.Wire) || !bytes.Equal(c.Cluster.Wire, again.Cluster.Wire) {
				r.Fatal("another result from the same input")
			}
			if _, err := Layer(LayerOf("shop/payments"), c.Limits); err != nil {
				r.Fatal(err)
			}
		}
		compiledOnce += len(applied)
	})
	if compiledOnce < 20 {
		t.Errorf("only %d of the drawn policies were valid: the test shows little", compiledOnce)
	}
}

func maybe[T any](r *rapid.T, name string, draw func() T) *T {
	if !rapid.Bool().Draw(r, "has "+name) {
		return nil
	}
	return new(draw())
}

func drawPolicy(r *rapid.T, i int) *policy.Policy {
	p := &policy.Policy{Metadata: manifest.Meta{Namespace: "shop", Name: fmt.Sprint("p", i)}}
	p.Spec.To.Service = "payments"
	p.Spec.Precedence = new(int32(i))
	p.Spec.Timeout = maybe(r, "timeout", func() policy.Timeout { return drawTimeout(r) })
	p.Spec.Retry = maybe(r, "retry", func() policy.Retry { return drawRetry(r) })
	p.Spec.Limits = maybe(r, "limits", func() policy.Limits { return drawLimits(r) })
	p.Spec.OutlierDetection = maybe(r, "outlierDetection", func() policy.OutlierDetection { return drawOutlier(r) })
	if p.Spec.OutlierDetection == nil {
		p.Spec.CircuitBreaker = maybe(r, "circuitBreaker", func() policy.CircuitBreaker {
			return policy.CircuitBreaker{FailureThreshold: drawCount(r, "failureThreshold", 1, 1000), RecoveryTimeout: drawDuration(r, "recoveryTimeout")}
		})
	}
	p.Spec.LoadBalancing = maybe(r, "loadBalancing", func() policy.LoadBalancing {
		return policy.LoadBalancing{
			Algorithm: maybe(r, "algorithm", func() string {
				return rapid.SampledFrom([]string{"round-robin", "least-request", "random", "ring-hash", "maglev"}).Draw(r, "algorithm")
			}),
			PanicThreshold: drawCount(r, "panicThreshold", 0, 100), HashOn: []policy.HashKey{{Header: new("x-user"), Terminal: new(true)}, {Cookie: &policy.HashCookie{Name: new("s"), TTL: drawDuration(r, "ttl")}}},
			FailTrafficOnPanic: maybe(r, "fail", func() bool { return true }), LocalityWeighted: maybe(r, "locality", func() bool { return true }),
			SlowStart: maybe(r, "slowStart", func() policy.SlowStart {
				return policy.SlowStart{Window: new(manifest.Duration("3s")), Aggression: new(0.5), MinWeightPercent: drawCount(r, "minWeight", 0, 100)}
			}),
		}
	})
	p.Spec.FailureCriteria = maybe(r, "failureCriteria", func() policy.FailureCriteria {
		return rapid.SampledFrom([]policy.FailureCriteria{
			{HTTP: &policy.HTTPFailure{Statuses: []policy.Status{"1xx", "2xx", "3xx", "4xx", "5xx"}}}, {HTTP: &policy.HTTPFailure{ExceptStatuses: []policy.Status{"5xx"}}},
			{HTTP: &policy.HTTPFailure{Statuses: []policy.Status{"429"}, Headers: []policy.HeaderMatch{{Name: "x-error", Present: new(true)}}}, GRPC: &policy.GRPCFailure{Codes: []string{"internal"}}},
		}).Draw(r, "criteria")
	})
	p.Spec.AdmissionControl = maybe(r, "admissionControl", func() policy.AdmissionControl {
		return policy.AdmissionControl{SuccessRatePercent: drawCount(r, "rate", 1, 100), Window: new(manifest.Duration("7s")), RPSThreshold: drawCount(r, "rps", 0, 10)}
	})
	p.Spec.HealthCheck = maybe(r, "healthCheck", func() policy.HealthCheck { return drawHealthCheck(r) })
	return p
}

func drawHealthCheck(r *rapid.T) policy.HealthCheck {
	h := policy.HealthCheck{
		Interval: drawDuration(r, "interval"), Timeout: drawDuration(r, "timeout"), Jitter: drawDuration(r, "jitter"), NoTrafficInterval: drawDuration(r, "noTraffic"),
		HealthyThreshold: drawCount(r, "healthy", 1, 1000), UnhealthyThreshold: drawCount(r, "unhealthy", 1, 1000),
	}
	switch rapid.IntRange(0, 3).Draw(r, "how") {
	case 0:
		h.HTTP = &policy.HTTPCheck{Path: new("/healthz"), Method: maybe(r, "method", func() string { return "HEAD" }), ExpectedStatuses: []policy.Status{"2xx", "404"}}
	case 1:
		h.GRPC = &policy.GRPCCheck{Service: maybe(r, "service", func() string { return "pay" })}
	case 2:
		h.TCP = &policy.TCPCheck{Send: maybe(r, "send", func() string { return "hello" }), Receive: []string{"hi"}}
	}
	return h
}

func drawDuration(r *rapid.T, name string) *manifest.Duration {
	return maybe(r, name, func() manifest.Duration {
		return rapid.SampledFrom([]manifest.Duration{"1ms", "25ms", "500ms", "1s", "90s", "1h", "24h", manifest.None}).Draw(r, name)
	})
}

func drawCount(r *rapid.T, name string, low, high uint32) *uint32 {
	return maybe(r, name, func() uint32 { return rapid.Uint32Range(low, high).Draw(r, name) })
}

func drawLimit(r *rapid.T, name string) *manifest.Count {
	return maybe(r, name, func() manifest.Count {
		return rapid.SampledFrom([]manifest.Count{0, 1, 20, 1_000_000, manifest.Unlimited}).Draw(r, name)
	})
}

func drawTimeout(r *rapid.T) policy.Timeout {
	return policy.Timeout{
		Request: drawDuration(r, "request"), PerTry: drawDuration(r, "perTry"), PerTryIdle: drawDuration(r, "perTryIdle"),
		MaxStream: drawDuration(r, "maxStream"), Connect: drawDuration(r, "connect"), ConnectionIdle: drawDuration(r, "connectionIdle"),
	}
}

func drawRetry(r *rapid.T) policy.Retry {
	tokens := []string{"5xx", "gateway-error", "reset", "connect-failure", "refused-stream", "reset-before-request", "retriable-4xx", "envoy-ratelimited", "unavailable"}
	return policy.Retry{
		NumRetries: drawCount(r, "numRetries", 1, 100),
		RetryOn:    rapid.SliceOfNDistinct(rapid.SampledFrom(tokens), 0, 4, rapid.ID[string]).Draw(r, "retryOn"),
		Methods: maybe(r, "methods", func() policy.Methods {
			return rapid.SampledFrom([]policy.Methods{{Class: "safe"}, {Class: "idempotent"}, {Class: "all"}, {List: []string{"GET"}}, {List: []string{"PUT", "GET"}}}).Draw(r, "methods")
		}),
		BackOff: maybe(r, "backOff", func() policy.BackOff {
			return policy.BackOff{Base: drawDuration(r, "base"), Max: drawDuration(r, "max")}
		}),
		RateLimitedBackOff: maybe(r, "rateLimitedBackOff", func() policy.RateLimitedBackOff {
			return policy.RateLimitedBackOff{ResetHeaders: []policy.ResetHeader{{Name: "retry-after"}}, Max: drawDuration(r, "reset max")}
		}),
		AvoidPreviousHosts:      maybe(r, "avoidPreviousHosts", func() bool { return rapid.Bool().Draw(r, "hosts") }),
		HostSelectionAttempts:   drawCount(r, "hostSelectionAttempts", 1, 100),
		AvoidPreviousPriorities: maybe(r, "avoidPreviousPriorities", func() bool { return rapid.Bool().Draw(r, "priorities") }),
		BufferBytes:             drawCount(r, "bufferBytes", 1, 67108864),
		Budget: maybe(r, "budget", func() policy.Budget {
			return policy.Budget{Percent: drawCount(r, "percent", 0, 100), MinConcurrent: drawCount(r, "minConcurrent", 0, 1000000), Interval: drawDuration(r, "budget interval")}
		}),
	}
}

func drawLimits(r *rapid.T) policy.Limits {
	return policy.Limits{
		MaxConnections: drawLimit(r, "maxConnections"), MaxPendingRequests: drawLimit(r, "maxPendingRequests"), MaxRequests: drawLimit(r, "maxRequests"),
		MaxRetries: drawLimit(r, "maxRetries"), MaxConnectionPools: drawLimit(r, "maxConnectionPools"),
		PerHost: maybe(r, "perHost", func() policy.PerHostLimits { return policy.PerHostLimits{MaxConnections: drawLimit(r, "perHost")} }),
		High:    maybe(r, "high", func() policy.HighLimits { return policy.HighLimits{MaxRequests: drawLimit(r, "high")} }),
	}
}

func drawOutlier(r *rapid.T) policy.OutlierDetection {
	percent := func(name string) *uint32 { return drawCount(r, name, 0, 100) }
	return policy.OutlierDetection{
		Consecutive5xx: drawCount(r, "consecutive5xx", 1, 1000), ConsecutiveGatewayFailure: drawCount(r, "consecutiveGatewayFailure", 1, 1000),
		SplitLocalOriginErrors: maybe(r, "split", func() bool { return rapid.Bool().Draw(r, "split") }),
		SuccessRate: maybe(r, "successRate", func() policy.SuccessRate {
			return policy.SuccessRate{MinimumHosts: drawCount(r, "sr hosts", 1, 1000), StdevFactor: drawCount(r, "stdev", 1, 10000)}
		}),
		FailurePercentage: maybe(r, "failurePercentage", func() policy.FailurePercentage {
			return policy.FailurePercentage{Threshold: percent("threshold"), RequestVolume: drawCount(r, "volume", 1, 1000)}
		}),
		Interval: drawDuration(r, "interval"), BaseEjectionTime: drawDuration(r, "base"), MaxEjectionTime: drawDuration(r, "max ejection"),
		MaxEjectionTimeJitter: drawDuration(r, "jitter"), MaxEjectionPercent: percent("maxEjectionPercent"),
		EnforcingPercent: maybe(r, "enforcing", func() policy.EnforcingPercent {
			return policy.EnforcingPercent{Consecutive5xx: percent("e5xx"), SuccessRate: percent("esr")}
		}),
	}
}
