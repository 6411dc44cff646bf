package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/internal/testkit/etcdcluster"
	"github.com/breakwater-mesh/breakwater/pkg/api"
)

// holds is whether a proxy has its stream at this very replica.
func holds(cp *harness.ControlPlane, id string) (bool, error) {
	var replicas api.ReplicaList
	if err := ask(cp, api.ReplicasPath, &replicas); err != nil {
		return false, err
	}
	var list api.ProxyList
	if err := ask(cp, api.OfReplica("/api/v1/proxies", replicas.Self), &list); err != nil {
		return false, err
	}
	return slices.ContainsFunc(list.Items, func(p api.Proxy) bool { return p.ID == id }), nil
}

// ask reads what the API answers into body.
func ask(cp *harness.ControlPlane, path string, body any) error {
	_, answer, err := cp.Do(http.MethodGet, path, "")
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(answer), body)
}

// A replica that is stopped sends its proxies to the other one, which sends them nothing that they have, and no request is lost.
func TestADrainedReplicaHandsOver(t *testing.T) {
	t.Parallel()
	needEnvoy(t)
	cluster := etcdcluster.Start(t, 1)
	flags := []string{"--etcd-endpoints", strings.Join(cluster.Endpoints(), ","), "--drain-time", "3s"}
	m, other := newMesh(t, flags...), newMesh(t, flags...)
	m.service("payments", 1)
	m.service("orders", 0)
	m.service("web", 0)
	m.apply(policyFor("bound", "payments", "timeout: {request: 5s}"))

	orders := m.envoy("orders", func(l *launch) { l.XDS = []string{m.cp.XDS, other.cp.XDS} })
	old, next := m, other // Envoy begins with either
	if at, err := holds(other.cp, "orders-1"); err != nil {
		t.Fatal(err)
	} else if at {
		old, next = other, m
	}
	binary, err := agentBinary()
	if err != nil {
		t.Fatal(err)
	}
	web, err := harness.StartAgent(within(t, patience), harness.AgentOptions{
		Binary: binary, XDS: old.cp.XDS + "," + next.cp.XDS, Namespace: "shop", Service: "web", StateDir: filepath.Join(t.TempDir(), "state"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(web.Kill)
	caller := &local{Agent: web, Client: harness.NewClient(web.Outbound, 30*time.Second), t: t}
	orders.reaches("payments", http.StatusOK)
	caller.reaches("payments", http.StatusOK)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var results harness.Results
	done := make(chan struct{})
	for _, get := range []func(string, string) harness.Call{orders.Get, caller.Get} {
		go func() {
			defer func() { done <- struct{}{} }()
			harness.Load(ctx, 50, 10, &results, func() harness.Call { return get("payments", "/") })
		}()
	}
	if err := old.cp.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if resp, err := http.Get("http://" + old.cp.Admin + "/readyz"); err != nil || resp.Body.Close() != nil || resp.StatusCode != http.StatusServiceUnavailable {
			return fmt.Errorf("a replica that leaves is still ready: %v, %v", resp, err)
		}
		return nil
	})
	eventually(t, func() error {
		for _, id := range []string{"orders-1", "web-1"} {
			if at, err := holds(next.cp, id); err != nil || !at {
				return fmt.Errorf("%s has not come over, %v", id, err)
			}
		}
		return nil
	})
	// Its API goes on meanwhile, for those whose load balancer has not noticed.
	if at, err := holds(old.cp, "orders-1"); err != nil || at {
		t.Errorf("the replica that leaves has the proxy that came over: %v, %v", at, err)
	}
	if err := old.cp.Wait(patience); err != nil {
		t.Errorf("exit after SIGTERM: %v\n%s", err, lastLines(old.cp.Log(), 30))
	}
	if sent := next.metric("breakwater_xds_resources_sent_total"); sent != 0 {
		t.Errorf("the replica that took over sent %v resources, want 0: nothing had changed", sent)
	}
	next.apply(policyFor("bound", "payments", "timeout: {request: 4s}"))
	next.programmed("bound")
	cancel()
	<-done
	<-done
	if s := results.Take(); s.Succeeded != s.Calls || s.Calls < 20 {
		t.Errorf("%d of %d requests succeeded (%v), want all of at least 20", s.Succeeded, s.Calls, s.Failures)
	}
}
