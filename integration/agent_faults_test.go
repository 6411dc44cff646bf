package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/internal/testkit/etcdcluster"
	"github.com/breakwater-mesh/breakwater/internal/testkit/wire"
)

// long reports whether the long versions are asked for: make test-long.
func long() bool { return os.Getenv("BREAKWATER_LONG") == "1" }

// choose is the figure of make test, or the one of make test-long.
func choose[T any](short, full T) T {
	if long() {
		return full
	}
	return short
}

// traffic calls host a hundred times a second until the returned function is called, which tells what became of it.
func (l *local) traffic(host string) (stop func() harness.Summary) {
	ctx, cancel := context.WithCancel(context.Background())
	var results harness.Results
	done := make(chan struct{})
	go func() {
		defer close(done)
		harness.Load(ctx, 100, 20, &results, func() harness.Call { return l.Get(host, "/") })
	}()
	return func() harness.Summary {
		cancel()
		<-done
		return results.Take()
	}
}

// unharmed checks that there was traffic, and that every call of it succeeded.
func unharmed(t *testing.T, s harness.Summary) {
	t.Helper()
	if s.Calls < 10 || s.Succeeded != s.Calls {
		t.Errorf("%d of %d calls succeeded (%v), want all, and at least 10", s.Succeeded, s.Calls, s.Failures)
	}
}

// resident is the agent's memory in MiB.
func (l *local) resident() float64 {
	l.t.Helper()
	n, err := harness.Resident(l.Pid())
	if err != nil {
		l.t.Fatal(err)
	}
	return float64(n) / (1 << 20)
}

// learns waits until the agent calls a host that its control plane has just been told of.
func (l *local) learns(m *mesh, service string) {
	l.t.Helper()
	host := m.addHost(service)
	eventually(l.t, func() error { return m.cp.Apply(m.manifest(service)) })
	eventually(l.t, func() error {
		if l.Get(service, "/"); host.Requests() == 0 {
			return fmt.Errorf("the new host of %s has no request yet", service)
		}
		return nil
	})
}

// saved waits until the agent keeps n versions of its configuration, and returns their files, the newest first.
func (l *local) saved(n int) []string {
	l.t.Helper()
	files := []string{filepath.Join(l.StateDir, "config.lkg")}
	for i := 1; i < n; i++ {
		files = append(files, fmt.Sprintf("%s.%d", files[0], i))
	}
	eventually(l.t, func() error {
		for _, f := range files {
			if _, err := os.Stat(f); err != nil {
				return err
			}
		}
		return nil
	})
	return files
}

// TestAgentSurvivesAFlappingControlPlane cuts every stream ten times a second.
func TestAgentSurvivesAFlappingControlPlane(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.service("payments", 2)
	m.apply(m.manifest("orders"))
	way, err := wire.Start(m.cp.XDS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(way.Close)
	a := m.agentWith(harness.AgentOptions{XDS: way.Address})
	a.reaches("payments", 200)
	before, dials := a.resident(), way.Dials()

	stop := a.traffic("payments")
	flapping := choose(2*time.Second, 30*time.Second)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(flapping); time.Now().Before(end); <-tick.C {
		way.Cut()
	}
	dials = way.Dials() - dials
	host := m.addHost("payments")
	m.apply(m.manifest("payments"))
	calm := within(t, patience+30*time.Second) // the longest wait of an agent that heard nothing
	if err := harness.Poll(calm, func() error {
		if a.Get("payments", "/"); host.Requests() == 0 {
			return errors.New("the new host has no request yet")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	unharmed(t, stop())
	// A wait is up to half a second, and twice as long where the server said nothing: far from ten a second.
	if most := int64(flapping.Seconds()*6) + 2; dials < 1 || dials > most {
		t.Errorf("%d connections to the control plane in %v, want at least 1 and at most %d", dials, flapping, most)
	}
	if grown := a.resident() - before; grown > 30 {
		t.Errorf("the agent grew by %.0f MiB", grown)
	}
}

func TestAgentSurvivesEtcd(t *testing.T) {
	t.Parallel()
	cluster := etcdcluster.Start(t, 1)
	m := newMesh(t, "--etcd-endpoints", strings.Join(cluster.Endpoints(), ","))
	m.service("payments", 2)
	m.apply(m.manifest("orders"))
	a := m.agent("orders")
	a.reaches("payments", 200)
	a.saved(1)
	stop := a.traffic("payments")
	cluster.Kill(0)
	m.cp.Kill()
	time.Sleep(300 * time.Millisecond) // under load, with neither
	unharmed(t, stop())

	a.Kill()
	if err := a.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	stop = a.traffic("payments")
	cluster.Restart(0)
	cluster.WaitHealthy() // a control plane waits 5 s for its store, and would be started again
	if err := m.cp.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	a.learns(m, "payments")
	unharmed(t, stop())
}

// TestAgentSurvivesADamagedFile damages the newest file: the one before it is used, and nothing crashes. That each byte is seen
// to is pkg/xdsclient's to show.
func TestAgentSurvivesADamagedFile(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.service("payments", 1)
	m.apply(m.manifest("orders"))
	a := m.agent("orders")
	a.reaches("payments", 200)
	a.saved(1)
	a.learns(m, "payments") // a second version
	files := a.saved(2)
	m.cp.Kill()
	a.Kill()
	sound, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	damaged := [][]byte{nil, sound[:1], sound[:len(sound)/2], sound[:len(sound)-1], bytes.Repeat([]byte{0}, len(sound))}
	for i := range choose(5, 60) {
		flipped := bytes.Clone(sound)
		flipped[i*(len(sound)-1)/choose(4, 59)] ^= 0xff
		damaged = append(damaged, flipped)
	}
	before, err := os.ReadFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	for i, content := range damaged {
		dir := t.TempDir()
		for name, content := range map[string][]byte{files[0]: content, files[1]: before} {
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		restarted := m.agentWith(harness.AgentOptions{StateDir: dir, Outbound: a.Outbound})
		if call := restarted.Get("payments", "/"); call.Status != 200 {
			t.Errorf("damage %d: %d %v, want 200", i, call.Status, call.Err)
		}
		restarted.Kill()
	}
}

func TestAgentGoesRoundABlackHole(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.service("payments", 2)
	hole, err := harness.StartBlackHole()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hole.Close)
	m.hosts["payments"] = append(m.hosts["payments"], &harness.Host{Address: hole.Address})
	m.apply(m.manifest("orders"), m.manifest("payments"), policyFor("hole", "payments", "timeout: {request: 10s, connect: 200ms}",
		"retry: {numRetries: 2, retryOn: [connect-failure], backOff: {base: 1ms, max: 5ms}, budget: {percent: 100, minConcurrent: 20}}",
		"outlierDetection: {consecutive5xx: 3, interval: 1s, baseEjectionTime: 30s, maxEjectionPercent: 50, alwaysEjectOneHost: true}"))
	a := m.agent("orders")
	m.programmed("hole")
	stop := a.traffic("payments")
	eventually(t, func() error {
		if n := a.stat("cluster.shop/payments.outlier_detection.ejections_active"); n != 1 {
			return fmt.Errorf("%d hosts are ejected, want 1", n)
		}
		return nil
	})
	unharmed(t, stop())
	if n := a.stat("cluster.shop/payments.upstream_cx_connect_timeout"); n < 1 {
		t.Errorf("%d connect timeouts, want at least one", n)
	}
	if call := a.Get("payments", "/"); call.Status != 200 || call.Elapsed > 3*time.Second {
		t.Errorf("with the hole ejected: %d after %v, want 200 at once", call.Status, call.Elapsed)
	}
}

// TestAgentFindsAnotherControlPlane has a server first whose name does not resolve.
func TestAgentFindsAnotherControlPlane(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.service("payments", 1)
	m.apply(m.manifest("orders"))
	a := m.agentWith(harness.AgentOptions{XDS: "breakwater.invalid:18000," + m.cp.XDS})
	a.reaches("payments", 200)
	a.learns(m, "payments")
	a.saved(1)
	a.Kill()
	alone := m.agentWith(harness.AgentOptions{XDS: "breakwater.invalid:18000", StateDir: a.StateDir, Outbound: a.Outbound})
	if call := alone.Get("payments", "/"); call.Status != 200 {
		t.Errorf("with no name that resolves: %d %v, want 200 from the file", call.Status, call.Err)
	}
}

// TestAgentSurvivesEdits edits and calls, and looks at the memory.
func TestAgentSurvivesEdits(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.service("payments", 2)
	m.apply(m.manifest("orders"))
	a := m.agent("orders")
	a.reaches("payments", 200)
	round := func(edits, calls int) {
		for i := range edits {
			m.apply(policyFor("edited", "payments", fmt.Sprintf("timeout: {request: %dms}", 5000+i),
				fmt.Sprintf("outlierDetection: {consecutive5xx: %d}", i%50+5), fmt.Sprintf("limits: {maxRequests: %d}", i+100)))
			for range calls / edits {
				if call := a.Get("payments", "/"); call.Status != http.StatusOK {
					t.Fatalf("edit %d: %d %v", i, call.Status, call.Err)
				}
			}
		}
		m.programmed("edited")
	}
	edits, calls := choose(60, 2000), choose(4000, 200_000)
	round(edits/2, calls/2) // what is made once
	before := a.resident()
	round(edits, calls)
	if grown := a.resident() - before; grown > 15 {
		t.Errorf("%d edits and %d calls made the agent grow by %.0f MiB to %.0f", edits, calls, grown, a.resident())
	}
}
