package policy

import (
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

func TestMergeMostSpecificWins(t *testing.T) {
	def := &Policy{Metadata: manifest.Meta{Namespace: "shop", Name: "all"}, Spec: Spec{To: Target{Service: Every},
		Sections: Sections{Retry: &Retry{NumRetries: new(uint32(2))}, Timeout: &Timeout{Request: new(manifest.Duration("3s"))}}}}
	own := &Policy{Metadata: manifest.Meta{Namespace: "shop", Name: "pay"}, Spec: Spec{To: Target{Service: "payments"},
		Sections: Sections{Retry: &Retry{NumRetries: new(uint32(5))}, CircuitBreaker: &CircuitBreaker{FailureThreshold: new(uint32(7))}}}}
	a, b := Compile(def), Compile(own)
	if !a.Less(b) || b.Less(a) {
		t.Fatal("the default must rank below the service's own policy")
	}
	svc := Service{Key: manifest.Key{Namespace: "shop", Name: "payments"}, Protocol: "http"}
	e, problems := Merge(svc, []*Compiled{a, b})
	if len(problems) != 0 {
		t.Fatalf("problems = %v, want none", problems)
	}
	if got := *e.Retry.NumRetries; got != 5 {
		t.Errorf("numRetries = %d, want 5", got)
	}
	if got := e.Timeout.Request.D().Seconds(); got != 3 {
		t.Errorf("request = %vs, want 3s", got)
	}
	if got := *e.OutlierDetection.Consecutive5xx; got != 7 {
		t.Errorf("consecutive5xx = %d, want 7", got)
	}
	for _, f := range e.Fields {
		t.Logf("%s = %v %+v %v", f.Path, f.Value, f.Origin, f.Losers)
	}
}
