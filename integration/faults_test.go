package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/internal/testkit/etcdcluster"
	"github.com/breakwater-mesh/breakwater/pkg/api"
)

func TestControlPlaneKilledAndRestarted(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	hosts := m.service("payments", 3)
	m.service("orders", 0)
	orders := m.envoy("orders")
	m.apply(policyFor("eject", "payments", outlier), policyFor("limit", "payments", "limits: {maxRequests: 50}", "timeout: {request: 5s}"))
	m.programmed("limit")
	m.eject(orders, hosts[0])
	before, err := orders.ConfigOf("shop/payments")
	if err != nil {
		t.Fatal(err)
	}
	opened := connections(hosts)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var results harness.Results
	done := make(chan struct{})
	go func() {
		defer close(done)
		harness.Load(ctx, 100, 10, &results, func() harness.Call { return orders.Get("payments", "/") })
	}()
	m.cp.Kill()
	eventually(t, func() error {
		if n, err := orders.Stat("control_plane.connected_state"); err != nil || n != 0 {
			return fmt.Errorf("connected_state = %d, %v; want 0", n, err)
		}
		return nil
	})
	eventually(t, func() error {
		if n := results.Len(); n < 100 {
			return fmt.Errorf("%d requests without a control plane, want 100", n)
		}
		return nil
	})
	if err := m.cp.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	orders.eventuallyStat("control_plane.connected_state", 1)
	m.programmed("limit") // the proxy is booked as holding everything again
	cancel()
	<-done

	if s := results.Take(); s.Succeeded != s.Calls || s.Calls < 20 {
		t.Errorf("%d of %d requests succeeded while the control plane was away (%v), want all of at least 20", s.Succeeded, s.Calls, s.Failures)
	}
	if sent := m.metric("breakwater_xds_resources_sent_total"); sent != 0 {
		t.Errorf("the restarted control plane sent %v resources, want 0: nothing had changed", sent)
	}
	if after, err := orders.ConfigOf("shop/payments"); err != nil || after != before {
		t.Errorf("configuration after the restart (%v):\n%s\nbefore:\n%s", err, after, before)
	}
	if got := orders.stat(ejected); got != 1 {
		t.Errorf("%s = %d after the restart, want 1", ejected, got)
	}
	if got := connections(hosts); got > opened+10 {
		t.Errorf("the restart opened %d connections", got-opened)
	}
	m.apply(policyFor("limit", "payments", "limits: {maxRequests: 60}"))
	m.programmed("limit")
}

// metric is the sum of all series of a metric of the control plane.
func (m *mesh) metric(name string) float64 {
	m.t.Helper()
	resp, err := http.Get("http://" + m.cp.Admin + "/metrics")
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		m.t.Fatal(err)
	}
	var sum float64
	for line := range strings.Lines(text.String()) {
		series, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseFloat(value, 64); ok && err == nil && (series == name || strings.HasPrefix(series, name+"{")) {
			sum += n
		}
	}
	return sum
}

func TestExternalEtcdKilledAndRestarted(t *testing.T) {
	t.Parallel()
	cluster := etcdcluster.Start(t, 1)
	m := newMesh(t, "--etcd-endpoints", strings.Join(cluster.Endpoints(), ","))
	m.service("payments", 1)
	m.service("orders", 0)
	orders := m.envoy("orders")
	m.apply(policyFor("bound", "payments", "timeout: {request: 5s}"))
	m.programmed("bound")

	cluster.Kill(0)
	begun := time.Now()
	resp, err := http.Post("http://"+m.cp.API+"/api/v1/apply", "application/yaml", strings.NewReader(policyFor("bound", "payments", "timeout: {request: 4s}")))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("write without etcd = %s, Retry-After %q; want 503 and when to come back", resp.Status, resp.Header.Get("Retry-After"))
	}
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("the refusal took %v", took)
	}
	if _, answer, err := m.cp.Do(http.MethodGet, "/api/v1/namespaces/shop/policies/bound", ""); err != nil || !strings.Contains(answer, `"5s"`) {
		t.Errorf("read without etcd = %s, %v; want the policy", answer, err)
	}
	orders.want("payments", http.StatusOK)
	late := m.envoy("orders") // a new proxy is served from what was last read
	late.want("payments", http.StatusOK)

	cluster.Restart(0)
	eventually(t, func() error {
		return m.cp.Apply(policyFor("bound", "payments", "timeout: {request: 3s}"))
	})
	m.programmed("bound")
}

// TestSurvivesKill writes policies one by one, kills the control plane with SIGKILL while it writes, and looks for every write
// that was acked. BREAKWATER_LONG=1 does it 100 times.
func TestSurvivesKill(t *testing.T) {
	t.Parallel()
	times := 20
	if os.Getenv("BREAKWATER_LONG") == "1" {
		times = 100
	}
	m := newMesh(t)
	m.service("payments", 0)
	held := 0 // what the policy held after the last kill
	for round := range times {
		var acked atomic.Int64
		acked.Store(int64(held))
		done := make(chan struct{})
		go func() {
			defer close(done)
			for next := held + 1; m.cp.Apply(numbered(next)) == nil; next++ { // until it is killed
				acked.Store(int64(next))
			}
		}()
		eventually(t, func() error {
			if acked.Load() == int64(held) {
				return errors.New("nothing was written yet")
			}
			return nil
		})
		time.Sleep(time.Duration(round%10) * 3 * time.Millisecond) // the kill must fall anywhere between and within writes
		m.cp.Kill()
		<-done
		if err := m.cp.Start(within(t, patience)); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		last := int(acked.Load())
		held = m.number()
		if held != last && held != last+1 { // the write that was cut off may have happened
			t.Fatalf("round %d: after the kill the policy holds write %d, the last acked was %d", round, held, last)
		}
	}
	t.Logf("%d writes over %d kills, no acked one lost", held, times)
}

func numbered(n int) string {
	return policyFor("count", "payments", fmt.Sprintf("limits: {maxRequests: %d}", n))
}

// number is the number of the last write that the policy holds.
func (m *mesh) number() int {
	m.t.Helper()
	_, answer, err := m.cp.Do(http.MethodGet, "/api/v1/namespaces/shop/policies/count", "")
	if err != nil {
		m.t.Fatal(err)
	}
	var doc api.PolicyResponse
	if err := json.Unmarshal([]byte(answer), &doc); err != nil {
		m.t.Fatal(err)
	}
	return int(*doc.Spec.Limits.MaxRequests)
}

func TestStartFailsClearly(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	m := newMesh(t)
	occupied := t.TempDir() + "/file"
	if err := os.WriteFile(occupied, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"busy API port":       {[]string{"--listen-api", m.cp.API}, "--listen-api " + m.cp.API + ": address already in use"},
		"busy xDS port":       {[]string{"--listen-xds", m.cp.XDS}, "--listen-xds " + m.cp.XDS + ": address already in use"},
		"unwritable data dir": {[]string{"--data-dir", occupied + "/data"}, "--data-dir"},
		"data dir in use":     {[]string{"--data-dir", m.cp.DataDir}, "--data-dir"},
		"unreachable etcd":    {[]string{"--etcd-endpoints", "http://127.0.0.1:1"}, "--etcd-endpoints"},
		"beyond loopback":     {[]string{"--listen-api", "0.0.0.0:0"}, "--insecure-listen"},
		"unknown flag":        {[]string{"--listen-http", ":80"}, "--listen-http"},
		"unknown log level":   {[]string{"--log-level", "loud"}, "loud"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir() + "/data"
			args := append([]string{"serve", "--data-dir", dir, "--listen-xds", "127.0.0.1:0", "--listen-api", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0"}, tt.args...)
			out, err := harness.Run(30*time.Second, path, args...)
			if err == nil {
				t.Fatalf("exit code 0, want another; it wrote:\n%s", out)
			}
			last := lastLines(out, 1)
			if !strings.Contains(last, tt.want) {
				t.Errorf("last line is %q, want it to name %q; all:\n%s", last, tt.want, out)
			}
			if strings.Contains(tt.want, "listen") {
				if _, err := os.Stat(dir); !os.IsNotExist(err) {
					t.Errorf("%s was left behind", dir)
				}
			}
		})
	}
}

func TestSIGTERMDrainsAndClosesCleanly(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.service("payments", 1)
	m.service("orders", 0)
	orders := m.envoy("orders")
	begun := time.Now()
	if err := m.cp.Stop(15 * time.Second); err != nil {
		t.Errorf("exit after SIGTERM: %v\n%s", err, lastLines(m.cp.Log(), 30))
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("the stop took %v", took)
	}
	for line := range strings.Lines(m.cp.Log()) {
		busy := strings.Contains(line, "breakwater.etcd: ") && strings.Contains(line, "took too long") // the machine, not the program
		if !busy && (strings.Contains(line, "[ERROR]") || strings.Contains(line, "[WARN]")) {
			t.Errorf("an orderly life logged %s", line)
		}
	}
	orders.want("payments", http.StatusOK)
}

func TestSecondSidecarOnAPortIsRejectedAndSaysSo(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.service("payments", 1)
	m.service("orders", 0)
	orders := m.envoy("orders")
	m.startEnvoy("orders", "orders-2", orders.Outbound)
	eventually(t, func() error {
		_, answer, err := m.cp.Do(http.MethodGet, "/api/v1/proxies/orders-2", "")
		if err == nil && !strings.Contains(answer, "cannot bind") {
			err = fmt.Errorf("no word of the port: %s", answer)
		}
		return err
	})
	orders.want("payments", http.StatusOK)
}
