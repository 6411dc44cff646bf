package world

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// The benchmarks are of a mesh of 1,000 services (meshOf): go test -run '^$' -bench . ./pkg/world. cpu-ms/op is what the whole process takes,
// the collector's idle workers included, and is true where others keep the machine busy. On 2 idle cores: a cold build 202 ms; one edit of a
// route or a cluster 0.25 ms, of a limit 0.76 ms; a class 2.7 us, 9.7 where it gets a runtime layer of its own; an edit for all services 190 ms,
// each built once for each set of policies.

// meter counts what b takes.
type meter struct {
	b   *testing.B
	cpu time.Duration
}

// start is a meter of what comes from here on.
func start(b *testing.B) *meter {
	b.ReportAllocs()
	return &meter{b, cpuTime(b)}
}

// stop reports the CPU time that an operation took.
func (m *meter) stop() (each time.Duration) {
	each = (cpuTime(m.b) - m.cpu) / time.Duration(m.b.N)
	m.b.ReportMetric(float64(each.Nanoseconds())/1e6, "cpu-ms/op")
	return each
}

// cpuTime is what this process has used, in user and in kernel mode.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkColdBuild is what the first class of a fleet costs, everything included: at most 300 ms.
func BenchmarkColdBuild(b *testing.B) {
	w, c := meshOf(b, 1000)
	m := start(b)
	for b.Loop() {
		builder := NewBuilder()
		builder.Update(w, c)
		builder.Join(callerOf(0))
	}
	m.stop()
}

// crowd is a builder of a mesh with so many classes: of the gateways first, which receive all services, then of the others.
func crowd(b *testing.B, classes int) *Builder {
	w, c := meshOf(b, 1000)
	builder := NewBuilder()
	builder.Update(w, c)
	for i := range classes {
		builder.Join(callerOf(i))
	}
	return builder
}

// edits write one policy again and again.
type edits struct {
	to  string
	set func(s *policy.Sections, n uint32)
}

// kinds are edits of what goes to proxies in a route, in a runtime layer and in a cluster.
var kinds = []struct {
	name string
	set  func(s *policy.Sections, n uint32)
}{
	{"route", func(s *policy.Sections, n uint32) {
		s.Timeout = &policy.Timeout{Request: ptr(manifest.Duration(fmt.Sprintf("%dms", 1000+n)))}
	}},
	{"limit", func(s *policy.Sections, n uint32) {
		s.Limits = &policy.Limits{MaxRequests: ptr(manifest.Count(1000 + n))}
	}},
	{"cluster", func(s *policy.Sections, n uint32) {
		s.OutlierDetection = &policy.OutlierDetection{ConsecutiveGatewayFailure: ptr(1000 + n)}
	}},
}

// edit is the n-th of e.
func (e edits) edit(b *testing.B, builder *Builder, n int) {
	k := key("shop", "edited")
	spec := policy.Spec{To: policy.Target{Service: e.to}, Precedence: ptr(int32(1))}
	e.set(&spec.Sections, uint32(n%100))
	c := Changes{Policies: map[manifest.Key]*policy.Compiled{k: compiled(b, k, spec)}}
	builder.Update(builder.World().With(builder.World().Rev+1, c), c)
}

// BenchmarkOneEdit is what an edit of one service costs, from the change of the world to the new head of a class that receives all services:
// at most 1 ms.
func BenchmarkOneEdit(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			e, builder := edits{shared(1000), k.set}, crowd(b, 1)
			e.edit(b, builder, 0)
			m := start(b)
			for n := 1; b.Loop(); n++ {
				e.edit(b, builder, n)
			}
			m.stop()
		})
	}
}

// BenchmarkClasses is what an edit costs for each class that receives the edited service, of 1,000 that are all different but for ten: at
// most 1.5 us.
func BenchmarkClasses(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			e, builder := edits{shared(1000), k.set}, crowd(b, 1000)
			e.edit(b, builder, 0)
			m := start(b)
			for n := 1; b.Loop(); n++ {
				e.edit(b, builder, n)
			}
			b.ReportMetric(float64(m.stop().Nanoseconds())/1000, "cpu-ns/class")
		})
	}
}

// BenchmarkWideEdit is what an edit of a policy for all 1,000 services costs, for a hundred classes: how many services it builds, for how
// many it is sent a changed resource, and how many bytes these are together.
func BenchmarkWideEdit(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			e, builder := edits{policy.Every, k.set}, crowd(b, 100)
			built := 0
			builder.Reshape = func(envoy.Target, *envoy.Compiled) { built++ }
			e.edit(b, builder, 0)
			built = 0
			m := start(b)
			for n := 1; b.Loop(); n++ {
				e.edit(b, builder, n)
			}
			m.stop()
			changed, bytes := changedBy(builder)
			b.ReportMetric(float64(built)/float64(b.N), "built/op")
			b.ReportMetric(float64(changed), "resources/op")
			b.ReportMetric(float64(bytes), "bytes/op")
		})
	}
}

// changedBy are the resources that the last batch changed in any class, each once for each of its versions.
func changedBy(builder *Builder) (changed, bytes int) {
	seen := map[*view.Resource]bool{}
	for _, id := range builder.Log().At(builder.World().Rev).Names() {
		for _, cs := range builder.classes {
			if r := cs.class.Head().Views[id.Type].Get(id.Name); r != nil && !seen[r] {
				seen[r] = true
				bytes += len(r.Wire)
			}
		}
	}
	return len(seen), bytes
}

// BenchmarkJoin is what one class more costs, of a caller that receives all services, as others do.
func BenchmarkJoin(b *testing.B) {
	builder := crowd(b, 1)
	m := start(b)
	for b.Loop() {
		builder.Join(callerOf(1))
		builder.Drop(callerOf(1))
	}
	m.stop()
}
