package xds

import (
	"math"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

const (
	nearLimit  = 0.85                   // of the memory limit
	lookAtMost = 100 * time.Millisecond // how often the runtime is asked
)

// headroom knows whether the process is near its memory limit, GOMEMLIMIT. Without a limit it never is.
type headroom struct {
	mu     sync.Mutex
	looked time.Time
	gone   bool
}

// near reports whether there is no room for more proxies.
func (h *headroom) near(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.looked) >= lookAtMost {
		used, limit := memory()
		h.looked, h.gone = now, float64(used) > nearLimit*float64(limit)
	}
	return h.gone
}

// memory is what the process can't do without, in bytes, and its limit. Of the heap it is what the last collection left: the rest may
// be garbage, which the collector takes before it lets the process come to its limit.
func memory() (used, limit uint64) {
	samples := []metrics.Sample{
		{Name: "/gc/gomemlimit:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(samples)
	bytes := func(i int) uint64 { return samples[i].Value.Uint64() }
	if limit = bytes(0); limit == math.MaxInt64 {
		return 0, limit
	}
	return bytes(1) + bytes(2) - bytes(3) - bytes(4) - bytes(5) - bytes(6), limit
}

// fewStrange is how many names that mean nothing a stream may add at once while memory is short.
const fewStrange = 100

// asksMuch reports whether more names than a few may be strange.
func asksMuch(q request) bool { return max(len(q.subscribe), len(q.wanted)) > fewStrange }

// strange is how many of the names that q asks for mean nothing: those cost the memory that a known name does not.
func strange(q request, head *view.View) (n int) {
	for _, names := range [][]string{q.subscribe, q.wanted} {
		for _, name := range names {
			if head.Get(name) == nil {
				n++
			}
		}
	}
	return n
}

func errCrowded() error {
	return refuse(outOfMemory, "the control plane is near its memory limit and takes no more: go elsewhere, or come back after a random wait")
}
