package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/internal/testkit/program"
	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
)

// patience is how long a test waits for what should take milliseconds: long enough for a loaded machine, short enough to end.
const patience = 20 * time.Second

// binary is the control plane, built once.
var binary = sync.OnceValues(func() (string, error) { return program.Build("./cmd/controlplane") })

// mesh is a control plane, upstream hosts and the Envoys of some callers.
type mesh struct {
	t     *testing.T
	cp    *harness.ControlPlane
	hosts map[string][]*harness.Host // by service
}

// newMesh starts a control plane with an embedded etcd, or with the arguments given.
func newMesh(t *testing.T, extra ...string) *mesh {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cp, err := harness.StartControlPlane(within(t, patience), path, filepath.Join(t.TempDir(), "data"), extra...)
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{t: t, cp: cp, hosts: map[string][]*harness.Host{}}
	t.Cleanup(func() {
		cp.Kill()
		if t.Failed() {
			t.Logf("control plane said:\n%s", lastLines(cp.Log(), 60))
		}
	})
	return m
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// service creates shop/name with n hosts, all reachable, and returns them.
func (m *mesh) service(name string, n int, extra ...string) []*harness.Host {
	m.t.Helper()
	for range n {
		m.addHost(name)
	}
	m.apply(m.manifest(name, extra...))
	return m.hosts[name]
}

// addHost starts one more host of a service, which the catalogue does not know yet.
func (m *mesh) addHost(name string) *harness.Host {
	m.t.Helper()
	host, err := harness.StartHost(0, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(host.Close)
	m.hosts[name] = append(m.hosts[name], host)
	return host
}

// manifest is the Service manifest of shop/name with its present hosts; extra are further lines of its spec.
func (m *mesh) manifest(name string, extra ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: %s}\nspec:\n  protocol: http\n", name)
	for _, line := range extra {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	if len(m.hosts[name]) > 0 {
		b.WriteString("  endpoints:\n")
	}
	for i, host := range m.hosts[name] {
		ip, port, _ := strings.Cut(host.Address, ":")
		fmt.Fprintf(&b, "  - {address: %s, port: %s, labels: {host: h%d}}\n", ip, port, i)
	}
	return b.String()
}

// policy is a Policy manifest for shop/to; spec are the lines of its sections.
func policyFor(name, to string, spec ...string) string {
	return fmt.Sprintf("apiVersion: breakwater/v1alpha1\nkind: Policy\nmetadata: {namespace: shop, name: %s}\nspec:\n  to: {service: %s}\n  %s\n",
		name, to, strings.Join(spec, "\n  "))
}

func (m *mesh) apply(documents ...string) {
	m.t.Helper()
	if err := m.cp.Apply(strings.Join(documents, "---\n")); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mesh) remove(kind, name string) {
	m.t.Helper()
	if _, _, err := m.cp.Do(http.MethodDelete, "/api/v1/namespaces/shop/"+kind+"/"+name+"?wide=true", ""); err != nil {
		m.t.Fatal(err)
	}
}

// sidecar is the Envoy beside one caller.
type sidecar struct {
	*harness.Envoy
	*harness.Client
	t *testing.T
}

// launch is how an Envoy is started.
type launch struct {
	bootstrap.Options
	arguments []string // further ones, of Envoy
}

// envoy starts the sidecar of shop/service and waits until it serves.
func (m *mesh) envoy(service string, more ...func(*launch)) *sidecar {
	m.t.Helper()
	needEnvoy(m.t)
	ports, err := harness.FreePorts(1)
	if err != nil {
		m.t.Fatal(err)
	}
	s := m.startEnvoy(service, service+"-1", harness.Loopback(ports[0]), more...)
	if err := s.WaitReady(within(m.t, patience)); err != nil {
		m.t.Fatal(err)
	}
	return s
}

// startEnvoy starts a sidecar of shop/service that listens on outbound, and does not wait for it.
func (m *mesh) startEnvoy(service, id, outbound string, more ...func(*launch)) *sidecar {
	m.t.Helper()
	ports, err := harness.FreePorts(1)
	if err != nil {
		m.t.Fatal(err)
	}
	admin := harness.Loopback(ports[0])
	l := launch{Options: bootstrap.Options{XDS: []string{m.cp.XDS}, Namespace: "shop", Service: service, NodeID: id, Admin: admin, Outbound: outbound}}
	for _, change := range more {
		change(&l)
	}
	text, err := bootstrap.Envoy(l.Options)
	if err != nil {
		m.t.Fatal(err)
	}
	e, err := harness.StartEnvoy(within(m.t, patience), m.t.TempDir(), text, admin, l.arguments...)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		e.Kill()
		if m.t.Failed() {
			m.t.Logf("envoy of %s said:\n%s", service, lastLines(e.Log(), 40))
		}
	})
	if err := e.WaitReady(within(m.t, patience)); err != nil {
		m.t.Fatal(err)
	}
	e.Outbound = outbound
	return &sidecar{Envoy: e, Client: harness.NewClient(outbound, 30*time.Second), t: m.t}
}

// eventually polls f until it returns nil.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	if err := harness.Poll(within(t, patience), f); err != nil {
		t.Fatal(err)
	}
}

// stat is one of Envoy's counters or gauges.
func (s *sidecar) stat(name string) int64 {
	s.t.Helper()
	n, err := s.Stat(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// want sends one GET and checks the status.
func (s *sidecar) want(host string, status int) harness.Call {
	s.t.Helper()
	call := s.Get(host, "/")
	if call.Err != nil || call.Status != status {
		s.t.Fatalf("GET %s = %d, %v; want %d", host, call.Status, call.Err, status)
	}
	return call
}

// reaches waits until a GET of host is answered with status.
func (s *sidecar) reaches(host string, status int) {
	s.t.Helper()
	eventually(s.t, func() error {
		if call := s.Get(host, "/"); call.Status != status {
			return fmt.Errorf("GET %s = %d, %v; want %d", host, call.Status, call.Err, status)
		}
		return nil
	})
}

// eventuallyStat waits until a counter or gauge has the value.
func (s *sidecar) eventuallyStat(name string, want int64) {
	s.t.Helper()
	eventually(s.t, func() error {
		if got, err := s.Stat(name); err != nil || got != want {
			return fmt.Errorf("%s = %d, %v; want %d", name, got, err, want)
		}
		return nil
	})
}

// programmed waits until every proxy that a policy concerns has acked what it says.
func (m *mesh) programmed(policy string) {
	m.t.Helper()
	m.delivered(api.Policies, policy)
}

// delivered is programmed for the objects of a plural.
func (m *mesh) delivered(plural, name string) {
	m.t.Helper()
	eventually(m.t, func() error { return m.cp.Programmed(plural, name) })
}

// revision is the revision of the catalogue as the API answers it.
func (m *mesh) revision() int64 {
	m.t.Helper()
	_, answer, err := m.cp.Do(http.MethodGet, "/api/v1/policies", "")
	if err != nil {
		m.t.Fatal(err)
	}
	var doc struct {
		Revision int64 `json:"revision"`
	}
	if err := json.Unmarshal([]byte(answer), &doc); err != nil {
		m.t.Fatal(err)
	}
	return doc.Revision
}
