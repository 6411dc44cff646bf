package envoy

import (
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

func field(path string, value any) policy.Field { return policy.Field{Path: path, Value: value} }

func defaultField(path string, value any) policy.Field {
	return policy.Field{Path: path, Value: value, Origin: policy.Origin{Default: true}}
}

func TestReportSpeaksOfEveryFieldOnce(t *testing.T) {
	eff := &policy.Effective{
		Sections: policy.Sections{
			CircuitBreaker:   &policy.CircuitBreaker{Scope: new("service"), HalfOpen: &policy.HalfOpen{MaxProbes: new(uint32(1))}},
			OutlierDetection: &policy.OutlierDetection{Consecutive5xx: new(uint32(5))},
		},
		Fields: []policy.Field{
			field("timeout.request", "1s"), defaultField("timeout.connect", "5s"), field("retry", nil), defaultField("outlierDetection.baseEjectionTime", "30s"),
			field("circuitBreaker.halfOpen.maxProbes", 1), field("circuitBreaker.scope", "service"), field("outlierDetection.consecutive5xx", 5),
		},
	}
	want := map[string]Level{
		"circuitBreaker.halfOpen.maxProbes": Unsupported, "circuitBreaker.scope": Approximate, "outlierDetection.baseEjectionTime": Approximate,
		"outlierDetection.consecutive5xx": Exact, "timeout.request": Exact,
	}
	report := Report(sidecar, payments(catalog.HTTP), eff)
	for _, f := range report {
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
	if !slices.IsSortedFunc(report, func(a, b Fidelity) int { return strings.Compare(a.Field, b.Field) }) {
		t.Error("the report is not sorted")
	}
}

// Who has our listener bounds calls by their latency, if there are calls.
func TestWhoBoundsByLatency(t *testing.T) {
	eff := &policy.Effective{
		Sections: policy.Sections{AdaptiveConcurrency: &policy.AdaptiveConcurrency{MaxConcurrency: new(uint32(9))}},
		Fields:   []policy.Field{field("adaptiveConcurrency.maxConcurrency", 9)},
	}
	for _, tt := range []struct {
		profile  string
		protocol catalog.Protocol
		want     Level
	}{
		{Sidecar, catalog.HTTP, Exact}, {Agent, catalog.GRPC, Exact},
		{ClustersOnly, catalog.HTTP, Unsupported}, {GRPC, catalog.GRPC, Unsupported},
		{Sidecar, catalog.TCP, Unsupported}, {Agent, catalog.TCP, Unsupported},
	} {
		target := Target{Profile: tt.profile, Version: "1.40", Runtime: true}
		if r := Report(target, payments(tt.protocol), eff); len(r) != 1 || r[0].Level != tt.want || (tt.want == Unsupported && r[0].Reason == "") {
			t.Errorf("%s, %s: %+v, want %s", tt.profile, tt.protocol, r, tt.want)
		}
	}
}

func TestUnknownAlgorithmIsReported(t *testing.T) {
	report := Report(sidecar, payments(catalog.HTTP), &policy.Effective{
		Sections: policy.Sections{LoadBalancing: &policy.LoadBalancing{Algorithm: new("astrology")}},
		Fields:   []policy.Field{field("loadBalancing.algorithm", "astrology")},
	})
	if len(report) != 1 || report[0].Level != Unsupported {
		t.Errorf("got %v, want unsupported", report)
	}
}

func TestFieldWithoutALine(t *testing.T) {
	for _, c := range []struct {
		profile, field string
		want           Level
	}{
		{Sidecar, "retry.numRetries", Exact},
		{Agent, "retry.numRetries", Exact},
		{ClustersOnly, "timeout.request", Unsupported},
		{ClustersOnly, "outlierDetection.interval", Exact},
		{GRPC, "limits.maxConnectionPools", Unsupported},
	} {
		eff := &policy.Effective{Fields: []policy.Field{field(c.field, 1)}}
		report := Report(Target{Profile: c.profile, Version: "1.40"}, payments(catalog.HTTP), eff)
		if len(report) != 1 || report[0].Level != c.want {
			t.Errorf("%s for %s: got %v, want %s", c.field, c.profile, report, c.want)
		}
	}
}

// TestLinesNameFields finds a line whose field is misspelled, and one that says too little.
func TestLinesNameFields(t *testing.T) {
	for _, l := range lines {
		if _, known := scopes[l.field]; !known {
			t.Errorf("%s is no field of the language", l.field)
		}
		if (l.level == Exact) != (l.reason == "") {
			t.Errorf("%s is %s for the reason %q", l.field, l.level, l.reason)
		}
	}
}

func TestRetriesOnTheCluster(t *testing.T) {
	eff := &policy.Effective{
		Sections: policy.Sections{Retry: &policy.Retry{NumRetries: new(uint32(2)), RetryOn: []string{"5xx"}}},
		Fields:   []policy.Field{field("retry.numRetries", 2)},
	}
	for _, c := range []struct {
		target Target
		want   Level
	}{
		{Target{Profile: ClustersOnly, Version: "1.40"}, Exact},
		{Target{Profile: ClustersOnly, Version: "1.36"}, Unsupported},
		{Target{Profile: ClustersOnly, Version: "1.40", OwnRetries: true}, Unsupported},
	} {
		report := Report(c.target, payments(catalog.HTTP), eff)
		if len(report) != 1 || report[0].Level != c.want {
			t.Errorf("%+v: got %v, want %s", c.target, report, c.want)
		}
		compiled, err := Service(c.target, payments(catalog.HTTP), eff)
		if err != nil || compiled.Route != nil {
			t.Errorf("%+v: a route %v, %v", c.target, compiled.Route, err)
		}
		if rides := strings.Contains(string(jsonOf(t, compiled.Cluster)), "retry_policy"); rides != (c.want == Exact) {
			t.Errorf("%+v: retries ride: %v", c.target, rides)
		}
	}
}

func TestGRPCClientGetsNoTLS(t *testing.T) {
	secured := payments(catalog.GRPC)
	secured.Spec.TLS = &catalog.TLS{Mode: catalog.TLSSimple, CAFile: "/ca.pem"}
	eff := &policy.Effective{Fields: []policy.Field{field("limits.maxRequests", 1)}}
	for _, c := range []struct {
		profile string
		svc     *catalog.Service
		want    int
	}{{GRPC, secured, 2}, {GRPC, payments(catalog.GRPC), 1}, {Sidecar, secured, 1}, {Agent, secured, 1}} {
		report := Report(Target{Profile: c.profile, Version: "1.40"}, c.svc, eff)
		if len(report) != c.want || (c.want == 2) != (report[len(report)-1].Field == "to") {
			t.Errorf("%s, tls %v: got %v", c.profile, c.svc.Spec.TLS, report)
		}
	}
}
