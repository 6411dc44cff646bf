package integration_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/internal/testkit/program"
)

// agentBinary is the agent, built once.
var agentBinary = sync.OnceValues(func() (string, error) { return program.Build("./cmd/agent") })

// local is the agent beside one caller.
type local struct {
	*harness.Agent
	*harness.Client
	t *testing.T
}

// agent starts the agent of shop/service and waits until it serves.
func (m *mesh) agent(service string) *local {
	m.t.Helper()
	path, err := agentBinary()
	if err != nil {
		m.t.Fatal(err)
	}
	a, err := harness.StartAgent(within(m.t, patience), harness.AgentOptions{
		Binary: path, XDS: m.cp.XDS, Namespace: "shop", Service: service, StateDir: filepath.Join(m.t.TempDir(), "state"),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		a.Kill()
		if m.t.Failed() {
			m.t.Logf("agent of %s said:\n%s", service, lastLines(a.Log(), 40))
		}
	})
	return &local{Agent: a, Client: harness.NewClient(a.Outbound, 30*time.Second), t: m.t}
}

func (l *local) reaches(host string, status int) {
	l.t.Helper()
	eventually(l.t, func() error {
		if call := l.Get(host, "/"); call.Status != status {
			return fmt.Errorf("GET %s = %d %q, %v; want %d", host, call.Status, call.Body, call.Err, status)
		}
		return nil
	})
}

func (l *local) stat(name string) int64 {
	l.t.Helper()
	n, err := l.Stat(name)
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

func TestAgentRoutesEjectsAndFollowsEndpoints(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	hosts := m.service("payments", 2)
	m.apply(m.manifest("orders"))
	m.apply(policyFor("breaker", "payments", "circuitBreaker: {failureThreshold: 5, recoveryTimeout: 30s}"))
	a := m.agent("orders")
	for _, name := range []string{"payments", "payments.shop", "payments.shop:8080"} {
		a.reaches(name, 200)
	}
	if call := a.Get("nobody", "/"); call.Status != 404 {
		t.Errorf("an unknown host: %d, want 404", call.Status)
	}

	hosts[0].Set(harness.Behaviour{Status: 503})
	before := hosts[0].Requests()
	failed := 0
	for range 40 {
		if call := a.Get("payments", "/"); call.Status != 200 {
			failed++
		}
	}
	if got := hosts[0].Requests() - before; failed != 5 || got != 5 {
		t.Errorf("%d of 40 calls failed and the bad host got %d, want 5 and 5", failed, got)
	}
	if n := a.stat("cluster.shop/payments.outlier_detection.ejections_active"); n != 1 {
		t.Errorf("%d ejections, want 1", n)
	}

	third := m.addHost("payments")
	m.apply(m.manifest("payments"))
	begun := time.Now()
	eventually(t, func() error {
		if a.Get("payments", "/"); third.Requests() == 0 {
			return fmt.Errorf("the new host has no request yet")
		}
		return nil
	})
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("the new host was used after %v, want it next to at once", took)
	}
	if n := a.stat("cluster.shop/payments.outlier_detection.ejections_active"); n != 1 {
		t.Errorf("with another endpoint %d ejections, want still 1", n)
	}
}

func TestAgentLimitsRetriesAndTimesOut(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	host := m.service("payments", 1)[0]
	m.apply(m.manifest("orders"))
	m.apply(policyFor("rules", "payments", "bulkhead: {maxConcurrent: 3}", "timeout: {request: 300ms}",
		"retry: {numRetries: 2, retryOn: [gateway-error], methods: idempotent, backOff: {base: 1ms, max: 2ms}}"))
	a := m.agent("orders")
	a.reaches("payments", 200)
	m.programmed("rules")

	host.Set(harness.Behaviour{Status: 503})
	before := host.Requests()
	a.Get("payments", "/")
	if n := host.Requests() - before; n != 3 {
		t.Errorf("a GET was tried %d times, want 3", n)
	}
	before = host.Requests()
	a.Send(within(t, patience), "POST", "payments", "/", nil)
	if n := host.Requests() - before; n != 1 {
		t.Errorf("a POST was tried %d times, want once", n)
	}

	host.Set(harness.Behaviour{Hang: true})
	call := a.Get("payments", "/")
	if call.Status != 504 || call.Elapsed < 290*time.Millisecond || call.Elapsed > 3*time.Second {
		t.Errorf("a hanging host: %d after %v, want 504 after 300 ms", call.Status, call.Elapsed)
	}

	m.apply(policyFor("rules", "payments", "bulkhead: {maxConcurrent: 3}"))
	m.programmed("rules")
	host.Set(harness.Behaviour{Delay: time.Second})
	var group sync.WaitGroup
	calls := make([]harness.Call, 8)
	for i := range calls {
		group.Go(func() { calls[i] = a.Get("payments", "/") })
	}
	group.Wait()
	byStatus := map[int]int{}
	for _, c := range calls {
		byStatus[c.Status]++
		if c.Status == 503 && !strings.HasSuffix(c.Body, "reset reason: overflow") {
			t.Errorf("body of a refusal: %q", c.Body)
		}
	}
	if byStatus[200] != 3 || byStatus[503] != 5 {
		t.Errorf("8 calls at once got %v, want three 200 and five 503", byStatus)
	}
}

func TestAgentOutlivesTheControlPlane(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.service("payments", 2)
	m.apply(m.manifest("orders"))
	a := m.agent("orders")
	a.reaches("payments", 200)
	saved(t, a) // before the power goes
	m.cp.Kill()
	for range 20 {
		if call := a.Get("payments", "/"); call.Status != 200 {
			t.Fatalf("without the control plane: %d %v", call.Status, call.Err)
		}
	}
	a.Kill()
	begun := time.Now()
	if err := a.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if call := a.Get("payments", "/"); call.Status != 200 {
		t.Errorf("restarted from disk: %d %v", call.Status, call.Err)
	}
	if took := time.Since(begun); took > 5*time.Second { // of a busy machine
		t.Errorf("serving after %v", took)
	}
	if page, err := a.Page("/status"); err != nil || !strings.Contains(page, `"source": "disk"`) || !strings.Contains(page, `"saved": "20`) {
		t.Errorf("the status does not say how old the configuration is: %v %s", err, page)
	}
	if err := m.cp.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	third := m.addHost("payments")
	m.apply(m.manifest("payments"))
	eventually(t, func() error {
		if a.Get("payments", "/"); third.Requests() == 0 {
			return fmt.Errorf("no news of the control plane that came back")
		}
		return nil
	})
}

func TestAgentDrains(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	host := m.service("payments", 1)[0]
	m.apply(m.manifest("orders"))
	a := m.agent("orders")
	a.reaches("payments", 200)
	host.Set(harness.Behaviour{Delay: 500 * time.Millisecond})
	done := make(chan harness.Call)
	go func() { done <- a.Get("payments", "/") }()
	eventually(t, func() error {
		if host.Active() == 0 {
			return fmt.Errorf("not under way yet")
		}
		return nil
	})
	if err := a.Stop(patience); err != nil {
		t.Errorf("stop: %v", err)
	}
	if call := <-done; call.Status != 200 {
		t.Errorf("the call under way got %d %v, want 200", call.Status, call.Err)
	}
}
