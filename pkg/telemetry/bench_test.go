package telemetry

import (
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// BenchmarkPush is what the metrics of one push to one proxy cost, among pushes on every core.
func BenchmarkPush(b *testing.B) {
	m := NewMetrics()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.Sent(view.CDS, 1, 500)
			m.Acked(view.CDS, 3*time.Millisecond)
			m.CaughtUp(time.Millisecond, 3*time.Millisecond)
		}
	})
}
