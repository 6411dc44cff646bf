package integration_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
)

// ownersListener is what the owner of a brownfield Envoy has in its file: a listener whose routes name our clusters, and are never
// touched.
const ownersListener = `  listeners:
  - name: owner
    address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: owner
          route_config:
            validate_clusters: false # they arrive later
            virtual_hosts: [%s]
          http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
`

// ownersHost is a virtual host of the owner's.
const ownersHost = `{name: "%[1]s", domains: ["%[1]s"], routes: [{match: {prefix: /}, route: {cluster: "%[2]s", timeout: 10s}}]}`

// brownfield starts an Envoy of shop/service with a listener and a route of its owner's, which leads to the cluster of shop/payments.
func (m *mesh) brownfield(service string) *sidecar {
	return m.brownfieldTo(service, []string{"shop/payments"})
}

// brownfieldTo is brownfield with routes to any clusters: the first takes all calls, but those for a host called as another one.
func (m *mesh) brownfieldTo(service string, clusters []string, more ...func(*launch)) *sidecar {
	m.t.Helper()
	routes := fmt.Sprintf(ownersHost, "*", clusters[0])
	for _, name := range clusters[1:] {
		routes += ", " + fmt.Sprintf(ownersHost, name, name)
	}
	needEnvoy(m.t)
	ports, err := harness.FreePorts(2)
	if err != nil {
		m.t.Fatal(err)
	}
	admin, outbound := harness.Loopback(ports[0]), harness.Loopback(ports[1])
	l := launch{Options: bootstrap.Options{
		XDS: []string{m.cp.XDS}, Namespace: "shop", Service: service, NodeID: service + "-1", Admin: admin, Profile: "clusters-only",
	}}
	for _, change := range more {
		change(&l)
	}
	text, err := bootstrap.Envoy(l.Options)
	if err != nil {
		m.t.Fatal(err)
	}
	e, err := harness.StartEnvoy(within(m.t, patience), m.t.TempDir(), append(text, fmt.Sprintf(ownersListener, ports[1], routes)...), admin, l.arguments...)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		e.Kill()
		if m.t.Failed() {
			m.t.Logf("envoy said:\n%s", lastLines(e.Log(), 40))
		}
	})
	if err := e.WaitReady(within(m.t, patience)); err != nil {
		m.t.Fatal(err)
	}
	e.Outbound = outbound
	return &sidecar{Envoy: e, Client: harness.NewClient(outbound, 30*time.Second), t: m.t}
}

// An Envoy that has routes of its own gets clusters alone, and with them retries, a time for each try, limits and ejection.
func TestBrownfieldEnvoyTakesClustersAlone(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	hosts := m.service("payments", 2)
	m.service("orders", 0)
	orders := m.brownfield("orders")
	orders.reaches("payments", http.StatusOK)
	hosts[0].Set(harness.Behaviour{Status: http.StatusServiceUnavailable})
	if ok := succeeded(orders, 20); ok != 10 {
		t.Errorf("without a policy %d of 20 calls succeed, want the 10 of the good host", ok)
	}

	// A policy for every service replaces nothing of the owner's routes; one that names the service does.
	const again = "retry: {numRetries: 3, retryOn: [5xx], backOff: {base: 1ms, max: 2ms}}"
	m.apply(policyFor("everywhere", `"*"`, again, "limits: {maxRequests: 400}"))
	eventually(t, func() error {
		if got, err := orders.Runtime("circuit_breakers.shop/payments.default.max_requests"); err != nil || got != "400" {
			return fmt.Errorf("the limit is %s, %v", got, err)
		}
		return nil
	})
	if ok := succeeded(orders, 20); ok != 10 {
		t.Errorf("under a policy that names no service %d of 20 calls succeed, want 10", ok)
	}
	m.apply(policyFor("named", "payments", again))
	eventually(t, func() error {
		if ok := succeeded(orders, 20); ok != 20 {
			return fmt.Errorf("%d of 20 calls succeed under retries", ok)
		}
		return nil
	})

	// The time of a try rides too: a host that hangs is given up.
	hosts[0].Set(harness.Behaviour{Delay: 5 * time.Second})
	m.apply(policyFor("named", "payments", again, "timeout: {perTry: 100ms}"))
	eventually(t, func() error {
		start := time.Now()
		ok := succeeded(orders, 4)
		if took := time.Since(start); ok != 4 || took > 3*time.Second {
			return fmt.Errorf("%d of 4 calls succeed, in %s", ok, took)
		}
		return nil
	})

	hosts[0].Set(harness.Behaviour{Status: http.StatusServiceUnavailable})
	m.apply(policyFor("named", "payments", outlier))
	m.eject(orders, hosts[0])
	if r := m.rejections(); len(r) > 0 {
		t.Errorf("Envoy rejects %v", r)
	}
}

// The owner's routes keep the name that they have for the cluster: hosts, limits and ejections are there by that name.
func TestBrownfieldEnvoyKeepsTheNameInItsRoutes(t *testing.T) {
	t.Parallel()
	const name = "pay.legacy:8080"
	m := newMesh(t)
	hosts := m.service("payments", 2, "clusterName: "+name)
	m.service("orders", 0)
	orders := m.brownfieldTo("orders", []string{name})
	orders.reaches("payments", http.StatusOK)

	m.apply(policyFor("named", "payments", "limits: {maxRequests: 400}", outlier))
	m.programmed("named")
	if got, err := orders.Runtime("circuit_breakers." + name + ".default.max_requests"); err != nil || got != "400" {
		t.Errorf("the limit is %q, %v; want 400", got, err)
	}
	third := m.addHost("payments")
	m.apply(m.manifest("payments", "clusterName: "+name))
	eventually(t, func() error {
		if orders.Get("payments", "/"); third.Requests() == 0 {
			return fmt.Errorf("the new endpoint is not reached")
		}
		return nil
	})
	hosts[0].Set(harness.Behaviour{Status: http.StatusServiceUnavailable})
	eventually(t, func() error {
		orders.Get("payments", "/")
		if health, err := orders.HostHealth(name); err != nil || health[hosts[0].Address] != "/failed_outlier_check" {
			return fmt.Errorf("health of the bad host %v, %v", health, err)
		}
		return nil
	})

	// Without the name the cluster has our own; with it, it is back.
	m.apply(m.manifest("payments"))
	orders.reaches("payments", http.StatusServiceUnavailable)
	m.programmed("named")
	m.apply(m.manifest("payments", "clusterName: "+name))
	orders.reaches("payments", http.StatusOK)
	m.programmed("named")
	if r := m.rejections(); len(r) > 0 {
		t.Errorf("Envoy rejects %v", r)
	}
}

// A cluster of DNS may have the owner's name, too.
func TestBrownfieldEnvoyFindsHostsByDNS(t *testing.T) {
	t.Parallel()
	b := newByName(t, 2)
	b.apply(b.service+"  clusterName: pay.legacy\n", b.manifest("orders"))
	b.callers["Envoy"] = b.brownfieldTo("orders", []string{"pay.legacy"})
	b.reach(0, 1)
	b.says(1)
	b.reach(1)
}
