package engine

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// policies makes a call through ten hosts with outlier detection, limits and a retry policy.
func policies(tb testing.TB) *Call {
	e := New(Options{NewPool: func(*Host) io.Closer { return io.NopCloser(nil) }, Rand: rand.Uint64})
	tb.Cleanup(e.Close)
	cluster := &dataplane.Cluster{Name: "shop/payments", Balancing: resilience.Balancing{Algorithm: resilience.LeastRequest}}
	cluster.Outlier = &resilience.Outlier{
		Consecutive5xx: resilience.Consecutive{Threshold: 5, Enforcing: 100}, Interval: time.Hour, MaxEjectionPercent: 100,
	}
	for i := range cluster.Thresholds {
		cluster.Thresholds[i] = resilience.Thresholds{MaxPendingRequests: 1024, MaxRequests: 1024, MaxRetries: 3, MaxConnectionPools: resilience.Unlimited}
	}
	for i := range 10 {
		cluster.Hosts = append(cluster.Hosts, dataplane.Host{Address: netip.AddrPortFrom(netip.IPv6Loopback(), uint16(i+1)), Weight: 1})
	}
	route := &dataplane.Route{Path: dataplane.PathMatch{Prefix: "/"}, Cluster: cluster.Name, Retry: &resilience.Retry{On: resilience.On5xx, NumRetries: 2}}
	hosts := []*dataplane.VirtualHost{{Domains: []string{"*"}, Routes: []*dataplane.Route{route}}}
	e.SetTable(&dataplane.Table{Clusters: map[string]*dataplane.Cluster{cluster.Name: cluster}})
	listener := &dataplane.HTTP{SuppressEnvoy: true, Routes: &dataplane.RouteConfig{Hosts: hosts}}
	return e.Begin(context.Background(), listener, &Request{Method: "GET", Authority: "payments", Path: "/", Header: http.Header{}})
}

// attemptOnce is what the policies do for one attempt that succeeds: they choose a host, admit, and record.
func (c *Call) attemptOnce(res Result) bool {
	c.tried = resilience.Tried{}
	a := c.prepare(1)
	if a == nil || !a.Admit() {
		return false
	}
	c.charge(a, res, nil)
	c.endAttempt(a)
	return true
}

func TestPoliciesAllocateNothing(t *testing.T) {
	c, res := policies(t), Result{Status: 200, Header: http.Header{}}
	if n := testing.AllocsPerRun(100, func() { c.attemptOnce(res) }); n != 0 {
		t.Errorf("%v allocations for an attempt, want 0", n)
	}
}

// BenchmarkPickAdmitRecord is the cost of the policies alone: what a request costs beside its transport. On a busy machine only the
// CPU time says something.
func BenchmarkPickAdmitRecord(b *testing.B) {
	c, res := policies(b), Result{Status: 200, Header: http.Header{}}
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		if !c.attemptOnce(res) {
			b.Fatal("refused")
		}
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// TestFiltersThatAreOffAllocateNothing: a listener has its filters installed for all routes, and most routes say nothing of them.
func TestFiltersThatAreOffAllocateNothing(t *testing.T) {
	c := policies(t)
	c.http.Filters = []dataplane.HTTPFilter{
		{Name: "limit", Filter: &dataplane.RateLimit{}}, {Name: "fault", Filter: &dataplane.FaultInjection{}},
		{Name: "ac", Disabled: true, Filter: &dataplane.AdaptiveConcurrency{}}, {Name: "custom", Filter: &dataplane.CustomResponse{}},
		{Name: "m", Filter: &dataplane.HeaderMutation{}},
	}
	if n := testing.AllocsPerRun(100, func() { c.filter(context.Background()) }); n != 0 || c.steps != nil {
		t.Errorf("%v allocations, %d steps, want none", n, len(c.steps))
	}
}
