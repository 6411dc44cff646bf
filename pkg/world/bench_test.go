package world

import (
	"fmt"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// meshOf is a world of so many services of one namespace, each with an endpoint and under a policy for all of them.
func meshOf(tb testing.TB, services int) (*World, Changes) {
	var list []*catalog.Service
	for i := range services {
		list = append(list, service(key("shop", fmt.Sprintf("s%04d", i))))
	}
	_, c := newWorld(list...)
	everyone := key("shop", "everyone")
	c.Policies = map[manifest.Key]*policy.Compiled{everyone: compiled(tb, everyone, policy.Spec{
		To: policy.Target{Service: "*"},
		Sections: policy.Sections{
			Timeout:          &policy.Timeout{Request: ptr(manifest.Duration("3s"))},
			OutlierDetection: &policy.OutlierDetection{Consecutive5xx: ptr(uint32(5))},
			Limits:           &policy.Limits{MaxRequests: ptr(manifest.Count(1024))},
		},
	})}
	return (&World{}).With(1, c), c
}

func callerOf(i int) ClassKey {
	k := orders()
	k.Service = fmt.Sprintf("s%04d", i)
	return k
}

// BenchmarkColdBuild is what the first class of a fleet costs, everything included.
func BenchmarkColdBuild(b *testing.B) {
	w, c := meshOf(b, 1000)
	b.ReportAllocs()
	for b.Loop() {
		builder := NewBuilder()
		builder.Update(w, c)
		builder.Join(callerOf(0))
	}
}

// BenchmarkPolicyEdit is what one edit of a route costs among 1,000 services, for as many classes as its name says.
func BenchmarkPolicyEdit(b *testing.B) {
	for _, classes := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(classes), func(b *testing.B) {
			w, c := meshOf(b, 1000)
			builder := NewBuilder()
			builder.Update(w, c)
			for i := range classes {
				builder.Join(callerOf(i))
			}
			edited, rev := key("shop", "edited"), int64(1)
			b.ReportAllocs()
			for b.Loop() {
				rev++
				spec := policy.Spec{To: policy.Target{Service: "s0500"}, Sections: policy.Sections{Timeout: &policy.Timeout{Request: ptr(manifest.Duration(fmt.Sprintf("%dms", 1000+rev%100)))}}}
				c := Changes{Policies: map[manifest.Key]*policy.Compiled{edited: compiled(b, edited, spec)}}
				builder.Update(builder.World().With(rev, c), c)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(classes), "ns/class")
		})
	}
}

// BenchmarkJoin is what one class more costs among 1,000 services, of a caller that sees what others see.
func BenchmarkJoin(b *testing.B) {
	w, c := meshOf(b, 1000)
	builder := NewBuilder()
	builder.Update(w, c)
	builder.Join(callerOf(0))
	b.ReportAllocs()
	for b.Loop() {
		builder.Join(callerOf(1))
		builder.Drop(callerOf(1))
	}
}
