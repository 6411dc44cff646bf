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
	"github.com/breakwater-mesh/breakwater/internal/testkit/etcdcluster"
	"github.com/breakwater-mesh/breakwater/pkg/api"
)

// shortLease is the shortest that the API takes.
const shortLease = api.MinLease

// instance is an application of shop/payments and the agent that registers it.
type instance struct {
	*harness.Agent
	host *harness.Host
	id   string
}

// instance starts an application and its agent, and waits until it is registered.
func (m *mesh) instance(id string) *instance {
	m.t.Helper()
	path, err := agentBinary()
	if err != nil {
		m.t.Fatal(err)
	}
	host, err := harness.StartHost(0, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(host.Close)
	a, err := harness.StartAgent(within(m.t, patience), harness.AgentOptions{
		Binary: path, XDS: m.cp.XDS, Namespace: "shop", Service: "payments", StateDir: filepath.Join(m.t.TempDir(), "state"),
		Extra: []string{"--node-id", id, "--advertise", host.Address, "--advertise-lease", shortLease.String(), "--advertise-interval", "200ms", "--api", "http://" + m.cp.API},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	i := &instance{Agent: a, host: host, id: id}
	m.t.Cleanup(func() {
		a.Kill()
		if m.t.Failed() {
			m.t.Logf("agent of %s said:\n%s", id, lastLines(a.Log(), 30))
		}
	})
	m.stands(id, api.StateLive)
	return i
}

// renews waits until an agent has renewed its endpoint n times more.
func (i *instance) renews(t *testing.T, n int) {
	t.Helper()
	last := ""
	for range n + 1 {
		eventually(t, func() error {
			text, err := i.Page("/registration")
			if err != nil {
				return err
			}
			var s struct{ Renewed string }
			if err := json.Unmarshal([]byte(text), &s); err != nil || s.Renewed == last {
				return fmt.Errorf("no renewal since %s, %v", last, err)
			}
			last = s.Renewed
			return nil
		})
	}
}

// endpoint is an endpoint of shop/payments as the API answers it; its state is "gone" where there is none.
func (m *mesh) endpoint(id string) (e api.Endpoint, err error) {
	status, answer, err := m.cp.Do(http.MethodGet, api.EndpointPath("shop", "payments", id), "")
	if status == http.StatusNotFound {
		return api.Endpoint{State: "gone"}, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(answer), &e)
	}
	return e, err
}

// stands waits until an endpoint is in a state.
func (m *mesh) stands(id, state string) {
	m.t.Helper()
	eventually(m.t, func() error {
		if e, err := m.endpoint(id); err != nil || e.State != state {
			return fmt.Errorf("endpoint %s is %q, %v; want %q", id, e.State, err, state)
		}
		return nil
	})
}

// caller is the proxy beside a caller: an Envoy or an agent.
type caller interface {
	Get(host, path string) harness.Call
	GetContext(ctx context.Context, host, path string) harness.Call
	Send(ctx context.Context, method, host, path string, header http.Header) harness.Call
	stat(name string) int64
}

// callers are a real Envoy and an agent that call payments all the time.
func (m *mesh) callers() (list []caller, load func() (stop func() harness.Summary)) {
	m.t.Helper()
	m.apply("apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: payments}\nspec: {protocol: http, dependsOn: []}\n")
	m.apply(m.manifest("orders"))
	list = []caller{m.envoy("orders"), m.agent("orders")}
	return list, func() func() harness.Summary {
		ctx, cancel := context.WithCancel(context.Background())
		var results harness.Results
		var group sync.WaitGroup
		for _, c := range list {
			group.Go(func() {
				harness.Load(ctx, 50, 10, &results, func() harness.Call { return c.Get("payments", "/") })
			})
		}
		return func() harness.Summary {
			cancel()
			group.Wait()
			return results.Take()
		}
	}
}

// allReach waits until every caller has reached every instance.
func (m *mesh) allReach(callers []caller, instances ...*instance) {
	m.t.Helper()
	for n, c := range callers {
		for _, i := range instances {
			before := i.host.Requests()
			eventually(m.t, func() error {
				if call := c.Get("payments", "/"); i.host.Requests() == before {
					return fmt.Errorf("caller %d does not reach %s: %d %v", n, i.id, call.Status, call.Err)
				}
				return nil
			})
		}
	}
}

// left waits until nobody calls an instance any more.
func (m *mesh) left(callers []caller, i *instance) {
	m.t.Helper()
	eventually(m.t, func() error {
		before := i.host.Requests()
		for _, c := range callers {
			for range 10 {
				c.Get("payments", "/")
			}
		}
		if n := i.host.Requests() - before; n > 0 {
			return fmt.Errorf("%s still got %d requests", i.id, n)
		}
		return nil
	})
}

func wantNoFailures(t *testing.T, s harness.Summary, while string) {
	t.Helper()
	if s.Succeeded != s.Calls || s.Calls == 0 {
		t.Errorf("%d of %d requests succeeded while %s (%v), want all", s.Succeeded, s.Calls, while, s.Failures)
	}
}

func TestAgentsRegisterTheirApplications(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	callers, load := m.callers()
	first, second := m.instance("payments-1"), m.instance("payments-2")
	m.allReach(callers, first, second)
	if state, err := first.Page("/registration"); err != nil || !strings.Contains(state, `"registered": true`) {
		t.Errorf("registration on the admin port: %s, %v", state, err)
	}

	stop := load()
	if err := second.Stop(patience); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	if e, err := m.endpoint("payments-2"); err != nil || e.State != "gone" {
		t.Errorf("after SIGTERM the endpoint is %q, %v; want it gone", e.State, err)
	}
	before := second.host.Requests()
	second.host.Close() // the application ends after its agent
	m.left(callers, second)
	if n := second.host.Requests() - before; n > 0 {
		t.Errorf("%d requests came after the agent had ended, want none", n)
	}
	wantNoFailures(t, stop(), "an agent drained")

	third := m.instance("payments-3")
	m.allReach(callers, first, third)
	stop = load()
	revision := m.revision()
	third.renews(t, 2)
	if now := m.revision(); now != revision {
		t.Errorf("renewals moved the store from revision %d to %d", revision, now)
	}
	third.Kill()
	killed := time.Now()
	m.stands("payments-3", api.StateStale)
	if took := time.Since(killed); took < shortLease/2 {
		t.Errorf("stale %v after the agent's death: the lease of %v can't have run out", took, shortLease)
	}
	m.left(callers, third)
	wantNoFailures(t, stop(), "an agent died")
	if err := third.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	m.allReach(callers, first, third)
}

func TestApplicationThatDiesIsTakenOut(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	callers, _ := m.callers()
	first, second := m.instance("payments-1"), m.instance("payments-2")
	m.allReach(callers, first, second)
	second.host.Close()
	m.stands("payments-2", "gone")
	for _, c := range callers {
		eventually(t, func() error { // none but the first is left
			for range 10 {
				if call := c.Get("payments", "/"); call.Status != http.StatusOK {
					return fmt.Errorf("status %d %v", call.Status, call.Err)
				}
			}
			return nil
		})
	}
}

func TestAllAgentsAtOnceLoseNothing(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	callers, load := m.callers()
	instances := []*instance{m.instance("payments-1"), m.instance("payments-2"), m.instance("payments-3")}
	m.allReach(callers, instances...)
	stop := load()
	for _, i := range instances {
		i.Kill()
	}
	for _, i := range instances {
		m.stands(i.id, api.StateProtected)
	}
	m.allReach(callers, instances...)
	wantNoFailures(t, stop(), "all agents died")

	// Marks outlive the control plane.
	m.cp.Kill()
	if err := m.cp.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	for _, i := range instances {
		m.stands(i.id, api.StateProtected)
	}
	m.allReach(callers, instances...)
}

func TestControlPlaneRestartedLosesNoEndpoint(t *testing.T) {
	t.Parallel()
	restarted(t, newMesh(t), shortLease)
}

// TestControlPlaneAwayBesideEtcdSurvives: etcd's clock goes on while there is nobody to renew with, and lets every lease run out: after one
// as after three.
func TestControlPlaneAwayBesideEtcdSurvives(t *testing.T) {
	t.Parallel()
	cluster := etcdcluster.Start(t, 1)
	restarted(t, newMesh(t, "--etcd-endpoints", strings.Join(cluster.Endpoints(), ",")), choose(shortLease+shortLease/2, 3*shortLease))
}

// restarted kills the control plane, and one of four agents, and starts it again after a while. No other endpoint may be lost.
func restarted(t *testing.T, m *mesh, away time.Duration) {
	t.Helper()
	callers, load := m.callers()
	instances := []*instance{m.instance("payments-1"), m.instance("payments-2"), m.instance("payments-3"), m.instance("payments-4")}
	m.allReach(callers, instances...)
	stop := load()
	m.cp.Kill()
	instances[3].Kill() // while nobody hears of it
	time.Sleep(away)
	if err := m.cp.Start(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	seen := map[string]bool{}
	eventually(t, func() error {
		e, err := m.endpoint("payments-4")
		if err != nil {
			return err
		}
		seen[e.State] = true
		if e.State != api.StateStale {
			return fmt.Errorf("payments-4 is %s", e.State)
		}
		return nil
	})
	if took := time.Since(back); took < 2*shortLease-time.Second || !seen[api.StateUnheard] {
		t.Errorf("stale %v after the control plane's return, by way of %v; want it unheard for two leases", took, seen)
	}
	for _, i := range instances[:3] {
		m.stands(i.id, api.StateLive)
	}
	m.left(callers, instances[3])
	m.allReach(callers, instances[:3]...)
	wantNoFailures(t, stop(), "the control plane was away")
}

func TestEtcdRestartedLosesNoEndpoint(t *testing.T) {
	t.Parallel()
	cluster := etcdcluster.Start(t, 1)
	m := newMesh(t, "--etcd-endpoints", strings.Join(cluster.Endpoints(), ","))
	callers, load := m.callers()
	first, second := m.instance("payments-1"), m.instance("payments-2")
	m.allReach(callers, first, second)
	stop := load()
	cluster.Kill(0)
	time.Sleep(2 * shortLease)
	cluster.Restart(0)
	m.stands("payments-1", api.StateLive)
	for _, i := range []*instance{first, second} {
		eventually(t, func() error { // it tells the control plane again
			if state, err := i.Page("/registration"); err != nil || !strings.Contains(state, `"registered": true`) || strings.Contains(state, `"error"`) {
				return fmt.Errorf("registration %s, %v", state, err)
			}
			return nil
		})
		m.stands(i.id, api.StateLive)
	}
	m.allReach(callers, first, second)
	wantNoFailures(t, stop(), "etcd was away")
}
