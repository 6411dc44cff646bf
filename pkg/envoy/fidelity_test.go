package envoy

import (
	"slices"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

func field(path string, value any) policy.Field { return policy.Field{Path: path, Value: value} }

func TestReportSpeaksOfEveryFieldOnce(t *testing.T) {
	sections := policy.Sections{
		CircuitBreaker:   &policy.CircuitBreaker{Scope: new("service"), HalfOpen: &policy.HalfOpen{MaxProbes: new(uint32(1))}},
		OutlierDetection: &policy.OutlierDetection{Consecutive5xx: new(uint32(5))},
	}
	fields := []policy.Field{
		field("circuitBreaker.halfOpen.maxProbes", 1), field("circuitBreaker.scope", "service"), field("outlierDetection.consecutive5xx", 5),
		field("timeout.request", "1s"), {Path: "timeout.connect", Value: "5s", Origin: policy.Origin{Default: true}}, field("retry", nil),
	}
	c, err := Service(sidecar, payments(catalog.HTTP), &policy.Effective{Sections: sections, Fields: fields})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Level{
		"circuitBreaker.halfOpen": Unsupported, "circuitBreaker.scope": Approximate, "outlierDetection.baseEjectionTime": Approximate,
		"outlierDetection.consecutive5xx": Exact, "timeout.request": Exact,
	}
	for _, f := range c.Report {
		if want[f.Field] != f.Level {
			t.Errorf("%s is %s, want %q", f.Field, f.Level, want[f.Field])
		}
		if (f.Level == Exact) != (f.Reason == "") {
			t.Errorf("%s is %s for the reason %q", f.Field, f.Level, f.Reason)
		}
		delete(want, f.Field)
	}
	if len(want) > 0 {
		t.Errorf("not reported: %v", want)
	}
	if !slices.IsSortedFunc(c.Report, func(a, b Fidelity) int {
		if a.Field < b.Field {
			return -1
		}
		return 1
	}) {
		t.Error("the report is not sorted")
	}
}

func TestUnknownAlgorithmIsReported(t *testing.T) {
	c := compile(t, sidecar, policy.Sections{LoadBalancing: &policy.LoadBalancing{Algorithm: new("astrology")}})
	if len(c.Report) != 1 || c.Report[0].Level != Unsupported {
		t.Errorf("got %v, want unsupported", c.Report)
	}
}
