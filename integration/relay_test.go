package integration_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
)

// relayed is an Envoy that gets its configuration from the relay of an agent beside it.
type relayed struct {
	*sidecar
	agent *harness.Agent
	relay string // host:port
	text  []byte // the Envoy's bootstrap

	arguments []string // of Envoy, further ones
}

// relayOptions run the agent as a relay alone.
func (m *mesh) relayOptions(binary, service, relay string) harness.AgentOptions {
	return harness.AgentOptions{
		Binary: binary, XDS: m.cp.XDS, Namespace: "shop", Service: service, StateDir: filepath.Join(m.t.TempDir(), "state"),
		Extra: []string{"--listen-outbound", "none", "--relay", relay},
	}
}

// relayed starts an agent that only relays, and the Envoy of shop/service behind it.
func (m *mesh) relayed(service string, more ...func(*launch)) *relayed {
	m.t.Helper()
	needEnvoy(m.t)
	path, err := agentBinary()
	if err != nil {
		m.t.Fatal(err)
	}
	ports, err := harness.FreePorts(3)
	if err != nil {
		m.t.Fatal(err)
	}
	r := &relayed{relay: harness.Loopback(ports[0])}
	admin, outbound := harness.Loopback(ports[1]), harness.Loopback(ports[2])
	if r.agent, err = harness.StartAgent(within(m.t, patience), m.relayOptions(path, service, r.relay)); err != nil {
		m.t.Fatal(err)
	}
	l := launch{Options: bootstrap.Options{
		XDS: []string{r.relay}, Namespace: "shop", Service: service, NodeID: service + "-envoy", Admin: admin, Outbound: outbound,
	}}
	for _, change := range more {
		change(&l)
	}
	r.arguments = l.arguments
	r.text, err = bootstrap.Envoy(l.Options)
	if err != nil {
		m.t.Fatal(err)
	}
	r.sidecar = &sidecar{Envoy: &harness.Envoy{Admin: admin, Outbound: outbound}, Client: harness.NewClient(outbound, 30*time.Second), t: m.t}
	r.startEnvoy()
	m.t.Cleanup(func() {
		r.Envoy.Kill()
		r.agent.Kill()
		if m.t.Failed() {
			m.t.Logf("envoy said:\n%s\nagent said:\n%s", lastLines(r.Envoy.Log(), 40), lastLines(r.agent.Log(), 60))
		}
	})
	return r
}

// startEnvoy starts the Envoy (again) and waits until it serves.
func (r *relayed) startEnvoy() {
	r.t.Helper()
	e, err := harness.StartEnvoy(within(r.t, patience), r.t.TempDir(), r.text, r.Admin, r.arguments...)
	if err != nil {
		r.t.Fatal(err)
	}
	e.Outbound = r.Outbound
	r.Envoy = e
	if err := e.WaitReady(within(r.t, patience)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *relayed) eventuallyRelay(stat string, want int64) {
	r.t.Helper()
	eventually(r.t, func() error {
		if got, err := r.agent.Stat(stat); err != nil || got != want {
			return fmt.Errorf("%s = %d, %v; want %d", stat, got, err, want)
		}
		return nil
	})
}

// TestEnvoyBehindTheRelay loses the control plane, then restarts the Envoy, then the agent too, then all comes back.
func TestEnvoyBehindTheRelay(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.service("payments", 2)
	m.service("billing", 1)
	m.service("orders", 0)
	m.apply(policyFor("limit", "payments", "limits: {maxRequests: 50}", "timeout: {request: 5s}"))
	orders := m.relayed("orders")
	orders.reaches("payments", 200)
	m.programmed("limit") // through the relay the control plane sees the Envoy's own answers
	if _, answer, err := m.cp.Do(http.MethodGet, "/api/v1/proxies", ""); err != nil || !strings.Contains(answer, "orders-envoy") {
		t.Errorf("proxies: %v %s", err, answer)
	}
	before, err := orders.ConfigOf("shop/payments")
	if err != nil {
		t.Fatal(err)
	}
	orders.eventuallyRelay("relay.streams_passing", 1)

	m.cp.Kill()
	orders.eventuallyRelay("relay.streams_from_memory", 1)
	orders.want("payments", 200)
	if n := orders.stat("control_plane.connected_state"); n != 1 {
		t.Errorf("the loss of the control plane reached the Envoy: connected_state %d", n)
	}

	orders.Envoy.Kill()
	begun := time.Now()
	orders.startEnvoy()
	orders.want("payments", 200)
	orders.want("billing", 200)
	t.Logf("without a control plane Envoy served %v after its start", time.Since(begun).Round(time.Millisecond))
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("Envoy served %v after its start", took)
	}
	if after, err := orders.ConfigOf("shop/payments"); err != nil || after != before {
		t.Errorf("from memory (%v):\n%s\nbefore:\n%s", err, after, before)
	}

	orders.eventuallyRelay("relay.unsaved_nodes", 0)
	orders.agent.Kill()
	orders.Envoy.Kill()
	if err := orders.agent.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	begun = time.Now()
	orders.startEnvoy()
	orders.want("payments", 200)
	t.Logf("with the agent restarted too Envoy served %v after its start", time.Since(begun).Round(time.Millisecond))
	if after, err := orders.ConfigOf("shop/payments"); err != nil || after != before {
		t.Errorf("from disk (%v):\n%s\nbefore:\n%s", err, after, before)
	}

	if err := m.cp.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	orders.eventuallyRelay("relay.streams_passing", 1)
	m.programmed("limit")
	if sent := m.metric("breakwater_xds_resources_sent_total"); sent != 0 {
		t.Errorf("the control plane sent %v resources on its return, want 0: nothing had changed", sent)
	}
	third := m.addHost("payments")
	m.apply(m.manifest("payments"), policyFor("limit", "payments", "limits: {maxRequests: 60}"))
	eventually(t, func() error {
		if orders.Get("payments", "/"); third.Requests() == 0 {
			return fmt.Errorf("the edit has not come")
		}
		return nil
	})
	m.programmed("limit")
}
