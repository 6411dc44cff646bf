package integration_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/cli"
	"github.com/breakwater-mesh/breakwater/pkg/client"
)

// bwctl runs one command line and wants an exit code, and every text in what it notes. It returns the notes.
func (m *mesh) bwctl(code int, texts []string, args ...string) string {
	m.t.Helper()
	var out, notes bytes.Buffer
	env := cli.Env{Args: append([]string{"--server", "http://" + m.cp.API, "-n", "shop"}, args...), Out: &out, Err: &notes}
	if got := cli.Run(m.t.Context(), env); got != code {
		m.t.Fatalf("bwctl %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, out.String(), notes.String())
	}
	for _, text := range texts {
		if !strings.Contains(notes.String(), text) {
			m.t.Errorf("bwctl %s: %q is not in\n%s", strings.Join(args, " "), text, notes.String())
		}
	}
	return notes.String()
}

// file is a file with the documents.
func (m *mesh) file(documents ...string) string {
	m.t.Helper()
	name := filepath.Join(m.t.TempDir(), "manifests.yaml")
	if err := os.WriteFile(name, []byte(strings.Join(documents, "---\n")), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return name
}

// differs wants these resources, and no others, to be not yet as orders-1 should hold them.
func (m *mesh) differs(want ...string) {
	m.t.Helper()
	c, err := client.New("http://" + m.cp.API)
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	diff, err := c.ProxyConfig(m.t.Context(), "orders-1", true)
	if err != nil {
		m.t.Fatal(err)
	}
	var got []string
	for _, r := range diff.Resources {
		got = append(got, fmt.Sprintf("%s %s %s by %v", r.Type, r.Name, r.State, r.Policies))
		if len(r.Lines) == 0 || r.Version == "" || r.Version == r.Acked || (r.Rejected != nil) != (r.State == api.DeliveryRejected) {
			m.t.Errorf("%+v: want another version than was accepted, line by line", r)
		}
	}
	if !slices.Equal(got, want) {
		m.t.Errorf("the proxy differs in %q, want %q", got, want)
	}
	all, err := c.ProxyConfig(m.t.Context(), "orders-1", false)
	if err != nil {
		m.t.Fatal(err)
	}
	behind := 0
	for _, r := range all.Resources {
		switch {
		case r.State != api.DeliveryAcked:
			behind++
		case r.Version != r.Acked || r.Version == "" || len(r.Lines) > 0:
			m.t.Errorf("%+v is acked, and not the same", r)
		}
	}
	if behind != len(want) || len(all.Resources) < 15 {
		m.t.Errorf("of %d resources %d differ, want %d", len(all.Resources), behind, len(want))
	}
}

var atRevision = regexp.MustCompile(`at revision (\d+)`)

// A write that waits ends when a real Envoy has it, with what that Envoy said against it, or when it says nothing for too long.
func TestApplyWaitsForEnvoy(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.service("payments", 1)
	m.apply(m.manifest("orders"))
	policy := m.file(policyFor("p", "payments", "timeout: {request: 2s}", "limits: {maxRequests: 7}"))
	m.bwctl(0, []string{"warning: revision", "no connected proxy makes calls that it concerns"}, "apply", "-f", policy, "--wait")
	m.bwctl(7, []string{"--min-acked wants 1"}, "apply", "-f", policy, "--wait", "--min-acked", "1", "--timeout", "50ms")

	e := m.envoy("orders")
	e.reaches("payments", 200)
	for i, section := range []string{"timeout: {request: 3s}", "limits: {maxRequests: 8}", "outlierDetection: {consecutive5xx: 4}", "timeout: {request: 2s}"} {
		policy = m.file(policyFor("p", "payments", section))
		m.bwctl(0, []string{"acked by 1 of 1 connected proxies"}, "apply", "-f", policy, "--wait", "--timeout", "20s")
		if err := m.cp.Programmed("policies", "p"); err != nil {
			t.Errorf("edit %d: the wait is over: %v", i, err)
		}
	}
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	port := held.Addr().(*net.TCPAddr).Port
	clash := m.file(tcpService("db", speaker(t, "db"), port))
	m.bwctl(7, []string{"is rejected", "orders-1 rejected listener shop/db", fmt.Sprintf("cannot bind '127.0.0.1:%d'", port)}, "apply", "-f", clash, "--wait")
	m.differs("LDS shop/db rejected by []")
	m.bwctl(0, []string{"acked by 1 of 1"}, "delete", "service", "db", "--force", "--allow-shrink", "--wait")

	if err := e.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	policy = m.file(policyFor("p", "payments", "timeout: {request: 4s}"))
	late := m.bwctl(7, []string{"orders-1 (shop/orders) pending: RDS shop/payments", "is not delivered after 200ms: 0 acked; waiting for orders-1"},
		"apply", "-f", policy, "--wait", "--timeout", "200ms")
	m.differs("RDS shop/payments pending by [shop/p]")
	if err := e.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	m.bwctl(0, []string{"acked by 1 of 1"}, "wait", "--revision", atRevision.FindStringSubmatch(late)[1])
	m.bwctl(0, []string{"acked by 1 of 1"}, "delete", "policy", "p", "--wait")
	e.Kill()
	eventually(t, func() error {
		if p, err := m.proxies(); err != nil || len(p) > 0 {
			return fmt.Errorf("%d proxies are connected, %v; want none", len(p), err)
		}
		return nil
	})
	m.bwctl(0, []string{"no connected proxy", "not waited for, as offline: orders-1"}, "apply", "-f", policy, "--wait")
	m.bwctl(7, []string{"was not seen yet"}, "wait", "--revision", "999999", "--timeout", "50ms")
}
