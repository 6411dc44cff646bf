package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
)

// TestRandomEditsUnderTraffic edits everything that can be edited while requests go through one Envoy, and kills the control plane
// at times. No request may be lost, and now and then, and in the end, Envoy must hold what the control plane wants and nothing else.
// BREAKWATER_SEED repeats a run, as far as edits go; BREAKWATER_LONG=1 makes 10,000 edits.
func TestRandomEditsUnderTraffic(t *testing.T) {
	t.Parallel()
	edits, stages, pause := 300, 3, 60*time.Millisecond
	if os.Getenv("BREAKWATER_LONG") == "1" {
		edits, stages = 10_000, 20
	}
	if n, err := strconv.Atoi(os.Getenv("BREAKWATER_EDITS")); err == nil {
		edits = n
	}
	e := newEditor(t)
	stop := e.load(200)
	for step := range edits {
		if stage := max(edits/stages, 1); step > 0 && step%stage == 0 {
			if step/stage%2 == 0 {
				e.checkpoint()
			}
			e.restart()
		}
		e.step()
		if e.rng.IntN(3) > 0 { // some edits meet the push of the last one under way, some do not
			time.Sleep(time.Duration(e.rng.Int64N(int64(2 * pause))))
		}
		if t.Failed() {
			break
		}
	}
	e.finish()
	stop()
	e.judge()
}

// TestEnvoyRestartsAmidEdits kills Envoy and starts it again while edits go on: it must be ready in far less than the 15 s after which
// it gives up waiting for a resource, answer everything, and hold what the control plane wants.
func TestEnvoyRestartsAmidEdits(t *testing.T) {
	t.Parallel()
	e := newEditor(t)
	stop := e.load(100)
	for range 15 {
		e.reboot()
		for range 15 {
			e.step()
		}
	}
	e.finish()
	stop()
	e.judge()
}

// editor knows what it has written, and which hosts must therefore be answered.
type editor struct {
	*mesh
	rng    *rand.Rand
	orders *sidecar

	town     town
	policies map[string]string        // name -> manifest
	spare    map[string]*harness.Host // address -> a host without an endpoint, which Envoy may still use
	hostOf   map[string]*harness.Host // by address
	trail    []string                 // what was done last, for the message of a failed run
	counts   map[string]int
	away     bool   // Envoy is starting
	said     string // log of the control planes that are gone

	targets map[string]*target // by host
	asserts atomic.Int64
	watches sync.WaitGroup
}

func newEditor(t *testing.T) *editor {
	seed := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("BREAKWATER_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("BREAKWATER_SEED=%d", seed)
	e := &editor{
		mesh: newMesh(t), rng: rand.New(rand.NewPCG(seed, 1)),
		town:     town{services: map[string]dweller{}, owner: map[string]string{}},
		policies: map[string]string{}, spare: map[string]*harness.Host{}, hostOf: map[string]*harness.Host{}, counts: map[string]int{}, targets: map[string]*target{},
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("last edits:\n%s", strings.Join(e.trail[max(0, len(e.trail)-25):], "\n"))
		}
	})
	for _, name := range permanent {
		e.town.services[name] = e.fresh(2 + e.rng.IntN(2))
	}
	for i, alias := range hostNames {
		e.town.owner[alias] = permanent[i]
	}
	documents := []string{e.ordersManifest(e.town)}
	for _, name := range permanent {
		documents = append(documents, e.serviceManifest(e.town, name))
	}
	e.apply(documents...)
	e.orders = e.envoy("orders")
	for host := range e.town.reachable() {
		e.orders.reaches(host, http.StatusOK)
		e.targets[host] = &target{host: host, asserted: true}
	}
	for _, name := range passing {
		for _, host := range []string{name, name + ".shop"} {
			e.targets[host] = &target{host: host}
		}
	}
	return e
}

// change takes the hosts that next makes unreachable out of the load, writes, and puts into the load what is reachable now. Hosts
// that are reachable before and after stay in it all the while, whoever owns them.
func (e *editor) change(what string, next town, write func() error, reborn ...string) {
	e.t.Helper()
	before, after := e.town.reachable(), next.reachable()
	for host := range before {
		if !after[host] || slices.Contains(reborn, host) {
			e.targets[host].withdraw()
		}
	}
	written := make(chan struct{})
	for alias, owner := range next.owner {
		if before[alias] && after[alias] && e.town.owner[alias] != owner {
			e.watch(alias, written)
		}
	}
	for name, s := range next.services {
		if was, ok := e.town.services[name]; ok && before[name] && after[name] && was.backend != s.backend {
			e.watch(name, written)
		}
	}
	e.note(what)
	err := write()
	close(written)
	if err != nil {
		e.t.Errorf("%s: %v", what, err)
		return
	}
	e.town = next
	for host := range after {
		if !before[host] || slices.Contains(reborn, host) {
			e.settle(host)
		}
	}
}

// watch calls a host that moves as fast as it answers, until the move has been delivered or a second after it was written: what goes
// wrong in a move does so for a few milliseconds.
func (e *editor) watch(host string, written <-chan struct{}) {
	over := make(chan struct{})
	e.watches.Go(func() {
		defer close(over)
		<-written
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = harness.Poll(ctx, e.arrived) // its end is what counts
	})
	for range 2 {
		e.watches.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
					e.call(e.targets[host])
				}
			}
		})
	}
}

func (e *editor) note(what string) {
	kind, _, _ := strings.Cut(what, ":")
	e.counts[kind]++
	e.trail = append(e.trail, time.Now().Format("05.000 ")+what)
}

// writes applies the manifests of some services as they are in c, and deletes others.
func (e *editor) writes(c town, put []string, remove ...string) func() error {
	var documents []string
	for _, name := range put {
		if name == "orders" {
			documents = append(documents, e.ordersManifest(c))
		} else {
			documents = append(documents, e.serviceManifest(c, name))
		}
	}
	q := url.Values{"force": {"true"}, "wide": {"true"}, "allowShrink": {"true"}}
	for _, name := range remove {
		q.Add("delete", api.DeleteRef("Service", "shop", name))
	}
	return func() error {
		_, _, err := e.cp.Do(http.MethodPost, api.ApplyPath+"?"+q.Encode(), strings.Join(documents, "---\n"))
		return err
	}
}

// target is a host that the load may call.
type target struct {
	host string

	mu       sync.RWMutex // held by calls for reading
	asserted bool         // guarded by mu
	birth    int          // guarded by mu; counts the withdrawals
}

// withdraw takes the target out of the load, once its calls under way are answered.
func (g *target) withdraw() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asserted = false
	g.birth++
}

// settled puts the target into the load where err is nil. It returns err, or nil where the target was withdrawn since birth.
func (g *target) settled(birth int, err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.birth != birth {
		return nil
	}
	g.asserted = err == nil
	return err
}

// settle puts a host into the load once Envoy has what the control plane wants at this moment, and answers.
func (e *editor) settle(host string) {
	g := e.targets[host]
	g.mu.RLock()
	birth := g.birth
	g.mu.RUnlock()
	ctx := within(e.t, patience)
	e.watches.Go(func() {
		err := harness.Poll(ctx, func() error {
			err := e.arrived()
			if err == nil {
				if call := e.orders.Get(host, "/"); call.Status != http.StatusOK {
					err = fmt.Errorf("GET %s = %d, %v; want 200", host, call.Status, call.Err)
				}
			}
			return g.settled(birth, err)
		})
		if err != nil && !e.t.Failed() {
			e.t.Errorf("%s is not reachable: %v\n%s", host, err, e.underWay())
		}
	})
}

// arrived returns nil where orders-1 has accepted all that it should have. What it should not have any more may still be there: a cluster that
// nothing names stays for a while, so that among edits there is hardly a moment without one.
func (e *editor) arrived() error {
	list, err := e.proxies()
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(list, func(p api.Proxy) bool { return p.ID == "orders-1" }); i < 0 || len(list[i].Types) < 6 {
		return errors.New("orders-1 has not asked for all types")
	}
	var diff api.ProxyConfig
	_, answer, err := e.cp.Do(http.MethodGet, api.ProxyDiffPath("orders-1"), "")
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(answer), &diff); err != nil {
		return err
	}
	for _, r := range diff.Resources {
		if r.Version != "" {
			return fmt.Errorf("%s %s has not arrived", r.Type, r.Name)
		}
	}
	return nil
}

// underWay tells, for the message of a failed run, what orders-1 does not hold as it should and which clusters and listeners warm.
func (e *editor) underWay() string {
	_, text, err := e.cp.Do(http.MethodGet, api.ProxyDiffPath("orders-1"), "")
	if err != nil {
		return err.Error()
	}
	got, err := e.orders.holds()
	if err != nil {
		return err.Error()
	}
	for id := range got {
		if strings.HasPrefix(id, "warming") {
			text += "\nenvoy: " + id
		}
	}
	return text
}

// delivered returns nil where every proxy has accepted what the control plane has for it.
func (e *editor) delivered() error {
	list, err := e.proxies()
	if err != nil {
		return err
	}
	for _, p := range list {
		if len(p.Types) < 6 && p.ID == "orders-1" {
			return fmt.Errorf("proxy %s has asked for %d types, want 6", p.ID, len(p.Types))
		}
	}
	return accepted(list, 1)
}

// proxies are those that are connected.
func (m *mesh) proxies() ([]api.Proxy, error) {
	_, answer, err := m.cp.Do(http.MethodGet, api.ProxiesPath, "")
	if err != nil {
		return nil, err
	}
	var doc api.ProxyList
	err = json.Unmarshal([]byte(answer), &doc)
	return doc.Items, err
}

// accepted returns nil where there are n proxies, and each has accepted what the control plane has for it.
func accepted(list []api.Proxy, n int) error {
	if len(list) < n {
		return fmt.Errorf("%d proxies are connected, want %d", len(list), n)
	}
	for _, p := range list {
		for _, typ := range p.Types {
			if typ.Pending > 0 || len(typ.Rejected) > 0 {
				return fmt.Errorf("proxy %s: %s: %d pending, rejected: %v", p.ID, typ.Type, typ.Pending, typ.Rejected)
			}
		}
	}
	return nil
}

// load sends rate requests a second to the asserted targets until the function it returns is called.
func (e *editor) load(rate int) (stop func()) {
	all := slices.Collect(maps.Values(e.targets))
	slices.SortFunc(all, func(a, b *target) int { return strings.Compare(a.host, b.host) })
	ctx, cancel := context.WithCancel(context.Background())
	var results harness.Results
	done := make(chan struct{})
	var turn atomic.Int64
	go func() {
		defer close(done)
		harness.Load(ctx, rate, 50, &results, func() harness.Call { return e.call(all[int(turn.Add(1))%len(all)]) })
	}()
	stop = func() {
		e.watches.Wait()
		cancel()
		<-done
	}
	e.t.Cleanup(stop) // where the test ends early
	return stop
}

// call sends a request to g if it must be answered, and fails the test where it is not.
func (e *editor) call(g *target) harness.Call {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if !g.asserted {
		return harness.Call{Status: http.StatusOK}
	}
	begun := time.Now()
	call := e.orders.Get(g.host, "/")
	e.asserts.Add(1)
	if call.Status != http.StatusOK || call.Err != nil {
		e.t.Errorf("%s: GET %s = %d %q, %v; want 200", begun.Format("05.000"), g.host, call.Status, call.Body, call.Err)
	}
	return call
}

// restart kills the control plane right after an edit, whose push may be under way.
func (e *editor) restart() {
	e.note("kill: control plane")
	e.cp.Kill()
	e.said += e.cp.Log()
	if err := e.cp.Start(within(e.t, patience)); err != nil {
		e.t.Fatal(err)
	}
}

// reboot kills Envoy and starts it at the same addresses, while a few edits are made.
func (e *editor) reboot() {
	e.t.Helper()
	for _, g := range e.targets {
		g.withdraw()
	}
	e.note("reboot: envoy")
	e.orders.Kill()
	text, err := bootstrap.Envoy(bootstrap.Options{
		XDS: []string{e.cp.XDS}, Namespace: "shop", Service: "orders", NodeID: "orders-1", Admin: e.orders.Admin, Outbound: e.orders.Outbound,
	})
	if err != nil {
		e.t.Fatal(err)
	}
	started, dir, ctx := make(chan error, 1), e.t.TempDir(), within(e.t, patience)
	go func() {
		next, err := harness.StartEnvoy(ctx, dir, text, e.orders.Admin)
		if err == nil {
			e.t.Cleanup(next.Kill)
			err = next.WaitReady(ctx)
		}
		started <- err
	}()
	begun := time.Now()
	e.away = true
	for ready := false; !ready; {
		select {
		case err := <-started:
			if ready = true; err != nil {
				e.t.Fatal(err)
			}
		case <-time.After(2 * time.Millisecond): // edits go on
			e.step()
		}
	}
	e.away = false
	if took := time.Since(begun); took > 8*time.Second {
		e.t.Errorf("envoy was ready after %v, want far less than 15 s", took)
	}
	for host := range e.town.reachable() {
		e.settle(host)
	}
	e.settled()
}

// settled waits until everything that is reachable is in the load.
func (e *editor) settled() {
	e.t.Helper()
	eventually(e.t, func() error {
		for host := range e.town.reachable() {
			g := e.targets[host]
			g.mu.RLock()
			asserted := g.asserted
			g.mu.RUnlock()
			if !asserted {
				return fmt.Errorf("%s is not settled", host)
			}
		}
		return nil
	})
}

// finish makes every policy concern orders and waits until all of them are delivered. Then it deletes the services that come and go,
// so that something must be gone in the end.
func (e *editor) finish() {
	next := e.town.clone()
	next.depends = nil
	put := []string{"orders"}
	for _, name := range e.absent() {
		next.services[name] = e.fresh(1)
		put = append(put, name)
	}
	e.change("finish: all services", next, e.writes(next, put))
	e.settled()
	for name := range e.policies {
		e.programmed(name)
	}
	last := e.town.clone()
	for i, alias := range hostNames {
		last.owner[alias] = permanent[i]
	}
	for _, name := range passing {
		delete(last.services, name)
	}
	e.change("finish: permanent services", last, e.writes(last, permanent, passing...))
	e.settled()
	eventually(e.t, e.delivered)
}

// checkpoint waits until nothing is under way, and compares what Envoy holds with the head and with what the control plane thinks it holds.
func (e *editor) checkpoint() {
	e.t.Helper()
	e.settled()
	eventually(e.t, e.delivered)
	e.converges(e.orders, "orders")
	eventually(e.t, e.booked)
}

// booked returns nil where the control plane sees no difference between what orders-1 should hold and holds, and Envoy says the same.
func (e *editor) booked() error {
	var diff, config api.ProxyConfig
	for path, doc := range map[string]*api.ProxyConfig{api.ProxyDiffPath("orders-1"): &diff, api.ProxyConfigPath("orders-1"): &config} {
		_, answer, err := e.cp.Do(http.MethodGet, path, "")
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(answer), doc); err != nil {
			return err
		}
	}
	if len(diff.Resources) > 0 {
		return fmt.Errorf("a difference is left: %+v", diff.Resources)
	}
	got, err := e.orders.holds()
	if err != nil {
		return err
	}
	compared := 0
	for _, r := range config.Resources {
		if id := r.Type + " " + r.Name; r.Type == "CDS" || r.Type == "RDS" {
			compared++
			if got[id] != r.Version || r.Acked != r.Version {
				return fmt.Errorf("%s: envoy has %q, the book %q, wanted is %q", id, got[id], r.Acked, r.Version)
			}
		}
	}
	if compared < 2*len(e.town.services) {
		return fmt.Errorf("only %d versions were compared", compared)
	}
	return nil
}

// judge compares what Envoy holds with what it should hold, before and after a restart that makes all of it anew.
func (e *editor) judge() {
	e.t.Logf("%d asserted requests, edits: %v", e.asserts.Load(), e.counts)
	e.checkpoint()
	if n := e.orders.stat("cluster_manager.warming_clusters"); n != 0 {
		e.t.Errorf("cluster_manager.warming_clusters = %d, want 0", n)
	}
	e.restart()
	e.orders.eventuallyStat("control_plane.connected_state", 1)
	eventually(e.t, e.delivered)
	if sent := e.metric("breakwater_xds_resources_sent_total"); sent != 0 {
		e.t.Errorf("a restart without an edit sent %v resources, want 0", sent)
	}
	e.converges(e.orders, "orders")
	for line := range strings.Lines(e.said + e.cp.Log()) {
		if strings.Contains(line, "has not been answered for") || strings.Contains(line, "rejects") || strings.Contains(line, "[ERROR]") {
			e.t.Errorf("the control plane says: %s", line)
		}
	}
}
