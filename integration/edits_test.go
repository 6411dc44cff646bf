package integration_test

import (
	"context"
	"encoding/json"
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
)

// TestRandomEditsUnderTraffic edits everything that can be edited while requests go through one Envoy, and kills the control plane
// twice. No request may be lost, and in the end Envoy must hold what the control plane wants and nothing else. BREAKWATER_SEED
// repeats a run, as far as edits go; BREAKWATER_LONG=1 makes 10,000 edits.
func TestRandomEditsUnderTraffic(t *testing.T) {
	edits, pause := 300, 40*time.Millisecond
	if os.Getenv("BREAKWATER_LONG") == "1" {
		edits = 10_000
	}
	if n, err := strconv.Atoi(os.Getenv("BREAKWATER_EDITS")); err == nil {
		edits = n
	}
	e := newEditor(t)
	stop := e.load(200)
	kills := map[int]bool{edits / 3: true, edits * 2 / 3: true}
	for step := range edits {
		if kills[step] {
			e.restart()
		}
		e.step()
		time.Sleep(time.Duration(e.rng.Int64N(int64(2 * pause)))) // the edits are a schedule: some meet the last one's push under way, some do not
		if t.Failed() {
			break
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
	streams  string // log of the control planes that are gone

	targets map[string]*target // by host
	asserts atomic.Int64
	watches sync.WaitGroup
}

// town is what exists, as far as it decides who is reachable.
type town struct {
	services map[string]dweller // by name in shop
	owner    map[string]string  // alias -> service
	depends  []string           // nil: orders depends on all
}

// dweller is a service of the town.
type dweller struct {
	static []string          // addresses
	api    map[string]string // id -> address
	label  int
}

func (c town) clone() town {
	next := town{services: map[string]dweller{}, owner: maps.Clone(c.owner), depends: slices.Clone(c.depends)}
	for name, s := range c.services {
		next.services[name] = dweller{slices.Clone(s.static), maps.Clone(s.api), s.label}
	}
	return next
}

// reachable are the hosts that orders must reach.
func (c town) reachable() map[string]bool {
	hosts := map[string]bool{}
	sees := func(name string) bool {
		_, exists := c.services[name]
		return exists && (c.depends == nil || slices.Contains(c.depends, name))
	}
	for name := range c.services {
		if sees(name) {
			hosts[name], hosts[name+".shop"] = true, true
		}
	}
	for alias, name := range c.owner {
		if sees(name) {
			hosts[alias] = true
		}
	}
	return hosts
}

var (
	permanent = []string{"payments", "billing", "email", "ledger", "search", "queue"}
	passing   = []string{"tmp-a", "tmp-b", "tmp-c", "tmp-d", "tmp-e"}
	hostNames = []string{"pay.example.com", "bill.example.com", "mail.example.com", "find.example.com"}
)

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

// fresh is a service of n hosts of its own.
func (e *editor) fresh(n int) dweller {
	s := dweller{api: map[string]string{}}
	for range n {
		s.static = append(s.static, e.upstream())
	}
	return s
}

func (e *editor) upstream() string {
	e.t.Helper()
	host := e.addHost("any")
	e.hostOf[host.Address] = host
	return host.Address
}

func (e *editor) serviceManifest(c town, name string) string {
	s := c.services[name]
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: %s, labels: {edit: v%d}}\nspec:\n  protocol: http\n  endpoints:\n", name, s.label)
	for _, address := range s.static {
		ip, port, _ := strings.Cut(address, ":")
		fmt.Fprintf(&b, "  - {address: %s, port: %s}\n", ip, port)
	}
	var hosts []string
	for alias, owner := range c.owner {
		if owner == name {
			hosts = append(hosts, alias)
		}
	}
	if slices.Sort(hosts); len(hosts) > 0 {
		fmt.Fprintf(&b, "  hosts: [%s]\n", strings.Join(hosts, ", "))
	}
	return b.String()
}

func (e *editor) ordersManifest(c town) string {
	text := "apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: orders}\nspec:\n  protocol: http\n"
	if c.depends != nil {
		text += "  dependsOn: [" + strings.Join(c.depends, ", ") + "]\n"
	}
	return text
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
		_ = harness.Poll(ctx, e.delivered) // its end is what counts
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
	q := url.Values{"force": {"true"}}
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

// withdraw takes the target out of the load and waits for its calls under way.
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
	go func() {
		err := harness.Poll(ctx, func() error {
			err := e.delivered()
			if err == nil {
				if call := e.orders.Get(host, "/"); call.Status != http.StatusOK {
					err = fmt.Errorf("GET %s = %d, %v; want 200", host, call.Status, call.Err)
				}
			}
			return g.settled(birth, err)
		})
		if err != nil && !e.t.Failed() {
			e.t.Errorf("%s is not reachable: %v", host, err)
		}
	}()
}

// delivered returns nil where every proxy has accepted what the control plane has for it.
func (e *editor) delivered() error {
	_, answer, err := e.cp.Do(http.MethodGet, api.ProxiesPath, "")
	if err != nil {
		return err
	}
	var doc api.ProxyList
	if err := json.Unmarshal([]byte(answer), &doc); err != nil {
		return err
	}
	if len(doc.Items) == 0 {
		return fmt.Errorf("no proxy is connected")
	}
	for _, p := range doc.Items {
		if len(p.Types) < 6 && p.ID == "orders-1" {
			return fmt.Errorf("proxy %s has asked for %d types, want 6", p.ID, len(p.Types))
		}
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
	return func() {
		e.watches.Wait()
		cancel()
		<-done
	}
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

// step makes one random edit.
func (e *editor) step() {
	e.retire()
	switch n := e.rng.IntN(100); {
	case n < 33:
		e.putPolicies(1)
	case n < 38:
		e.putPolicies(2 + e.rng.IntN(5))
	case n < 46:
		e.dropPolicy()
	case n < 54:
		e.addEndpoint()
	case n < 60:
		e.dropEndpoint()
	case n < 78:
		e.moveAlias()
	case n < 88:
		e.passService()
	case n < 97:
		e.changeDepends()
	default:
		e.relabel()
	}
}

func (e *editor) some(list []string) string { return list[e.rng.IntN(len(list))] }

// existing is a random service that exists.
func (e *editor) existing() string {
	return e.some(slices.Sorted(maps.Keys(e.town.services)))
}

func (e *editor) putPolicies(n int) {
	var documents []string
	for range n {
		i := e.rng.IntN(12)
		name := fmt.Sprintf("p%d", i)
		e.policies[name] = e.policy(name, i)
		if !slices.Contains(documents, e.policies[name]) && !slices.ContainsFunc(documents, func(d string) bool { return strings.Contains(d, "name: "+name+"}") }) {
			documents = append(documents, e.policies[name])
		}
	}
	e.note("policy: " + strings.ReplaceAll(strings.Join(documents, ""), "\n", " "))
	if err := e.cp.Apply(strings.Join(documents, "---\n")); err != nil {
		e.t.Errorf("%v in\n%s", err, strings.Join(documents, "---\n"))
	}
}

// policy is a random policy that never fails a call to a healthy host. Precedence keeps two of them from being in conflict.
func (e *editor) policy(name string, precedence int) string {
	n := func(from, to int) int { return from + e.rng.IntN(to-from+1) }
	sections := []string{
		fmt.Sprintf("timeout: {request: %ds, perTry: %ds, connect: %ds, connectionIdle: %dm}", n(10, 15), n(5, 9), n(2, 5), n(1, 9)),
		fmt.Sprintf("retry: {numRetries: %d, retryOn: [refused-stream], backOff: {base: %dms, max: 500ms}, budget: {percent: %d, minConcurrent: %d}}", n(1, 4), n(5, 100), n(10, 90), n(1, 9)),
		fmt.Sprintf("retry: {numRetries: %d, methods: safe, avoidPreviousHosts: true, hostSelectionAttempts: %d}", n(1, 4), n(1, 5)),
		fmt.Sprintf("limits: {maxConnections: %d, maxPendingRequests: %d, maxRequests: %d, maxRetries: %d}", n(500, 900), n(500, 900), n(500, 900), n(1, 9)),
		fmt.Sprintf("bulkhead: {maxConcurrent: %d}", n(500, 900)),
		fmt.Sprintf("outlierDetection: {consecutive5xx: %d, interval: %ds, baseEjectionTime: %ds, maxEjectionTime: 60s, maxEjectionPercent: %d}", n(2, 9), n(1, 9), n(1, 30), n(10, 100)),
		fmt.Sprintf("circuitBreaker: {failureThreshold: %d, recoveryTimeout: %ds}", n(2, 9), n(1, 30)),
		fmt.Sprintf("loadBalancing: {algorithm: %s, panicThreshold: %d}", e.some([]string{"round-robin", "least-request", "random"}), n(0, 60)),
	}
	clash := [][2]int{{1, 2}, {3, 4}, {5, 6}}
	var picked []int
	for range n(1, 3) {
		i := e.rng.IntN(len(sections))
		if !slices.Contains(picked, i) && !slices.ContainsFunc(clash, func(c [2]int) bool {
			return i == c[0] && slices.Contains(picked, c[1]) || i == c[1] && slices.Contains(picked, c[0])
		}) {
			picked = append(picked, i)
		}
	}
	lines := []string{fmt.Sprintf("precedence: %d", precedence)}
	if e.rng.IntN(3) == 0 {
		lines = append(lines, "from: {service: orders}")
	}
	for _, i := range picked {
		lines = append(lines, sections[i])
	}
	to := e.existing()
	if e.rng.IntN(4) == 0 {
		to = `"*"`
	}
	return policyFor(name, to, lines...)
}

func (e *editor) dropPolicy() {
	if len(e.policies) == 0 {
		return
	}
	name := e.some(slices.Sorted(maps.Keys(e.policies)))
	delete(e.policies, name)
	e.note("unpolicy: " + name)
	e.remove("policies", name)
}

func (e *editor) addEndpoint() {
	name := e.existing()
	s := e.town.services[name]
	if len(s.api) >= 4 {
		e.dropEndpoint()
		return
	}
	id, address := fmt.Sprintf("e%d", e.rng.IntN(1_000_000)), e.upstream()
	_, port, _ := strings.Cut(address, ":")
	e.note("endpoint: " + name + " " + address)
	if _, _, err := e.cp.Do(http.MethodPut, api.EndpointPath("shop", name, id), "{address: 127.0.0.1, port: "+port+"}"); err != nil {
		e.t.Error(err)
		return
	}
	s.api[id] = address
}

func (e *editor) dropEndpoint() {
	name := e.existing()
	s := e.town.services[name]
	for id, address := range s.api {
		e.note("unendpoint: " + name + " " + address)
		if _, _, err := e.cp.Do(http.MethodDelete, api.EndpointPath("shop", name, id), ""); err != nil {
			e.t.Error(err)
		}
		delete(s.api, id)
		e.spare[address] = e.hostOf[address]
		return
	}
}

// retire closes the hosts that Envoy does not know any more, after the calls that it sent to them.
func (e *editor) retire() {
	if len(e.spare) < 5 {
		return
	}
	got, err := e.orders.holds()
	if err != nil {
		e.t.Error(err)
		return
	}
	var used strings.Builder
	for _, hosts := range got {
		used.WriteString(hosts + " ")
	}
	for address, host := range e.spare {
		if host.Active() == 0 && !strings.Contains(used.String(), address+" ") {
			host.Close()
			delete(e.spare, address)
		}
	}
}

// moveAlias gives a host to another service, at times one that comes into being with it, while the old owner leaves the scene: that
// is where requests could be lost.
func (e *editor) moveAlias() {
	alias := e.some(hostNames)
	next, from := e.town.clone(), e.town.owner[alias]
	to := e.some(append(slices.Clone(permanent), e.absent()...))
	if to == from {
		return
	}
	put := []string{from, to}
	_, exists := next.services[to]
	if !exists {
		next.services[to] = e.fresh(1 + e.rng.IntN(2))
	}
	if next.depends != nil && !slices.Contains(next.depends, to) {
		next.depends = append(next.depends, to)
		put = append(put, "orders")
	}
	next.owner[alias] = to
	var gone []string
	if slices.Contains(passing, from) && e.rng.IntN(4) > 0 && !slices.Contains(slices.Collect(maps.Values(next.owner)), from) {
		gone, put = []string{from}, put[1:]
		delete(next.services, from)
	}
	e.change(fmt.Sprintf("alias: %s from %s to %s (existed: %v), deleted %v", alias, from, to, exists, gone), next, e.writes(next, put, gone...))
}

// absent are the passing services that do not exist.
func (e *editor) absent() []string {
	var names []string
	for _, name := range passing {
		if _, exists := e.town.services[name]; !exists {
			names = append(names, name)
		}
	}
	return names
}

// passService creates or deletes a service that comes and goes, or deletes it and creates it again at once.
func (e *editor) passService() {
	name := e.some(passing)
	next := e.town.clone()
	_, exists := next.services[name]
	switch {
	case !exists:
		next.services[name] = e.fresh(1 + e.rng.IntN(2))
		e.change("create: "+name, next, e.writes(next, []string{name}))
		return
	case slices.Contains(slices.Collect(maps.Values(next.owner)), name):
		return // a host that must be answered leads to it
	}
	delete(next.services, name)
	if e.rng.IntN(2) == 0 {
		e.change("delete: "+name, next, e.writes(next, nil, name))
		return
	}
	again := next.clone()
	again.services[name] = e.fresh(1 + e.rng.IntN(2))
	e.change("re-create: "+name, again, func() error {
		if err := e.writes(next, nil, name)(); err != nil {
			return err
		}
		time.Sleep(time.Duration(e.rng.IntN(6)) * time.Millisecond) // the deletion is under way, or not
		return e.writes(again, []string{name})()
	}, name, name+".shop")
}

// changeDepends changes what orders depends on, at times while a host moves.
func (e *editor) changeDepends() {
	next := e.town.clone()
	switch e.rng.IntN(3) {
	case 0:
		next.depends = nil
	case 1:
		next.depends = append(slices.Clone(permanent), passing...)
	case 2:
		next.depends = []string{}
		for _, name := range append(slices.Clone(permanent), passing...) {
			if e.rng.IntN(4) > 0 {
				next.depends = append(next.depends, name)
			}
		}
	}
	e.rng.Shuffle(len(next.depends), func(i, j int) { next.depends[i], next.depends[j] = next.depends[j], next.depends[i] })
	put := []string{"orders"}
	alias, to := e.some(hostNames), e.existing()
	if from := next.owner[alias]; e.rng.IntN(2) == 0 && from != to {
		next.owner[alias] = to
		put = append(put, from, to)
	}
	e.change(fmt.Sprintf("depends: %v, with %v", next.depends, put[1:]), next, e.writes(next, put))
}

// relabel changes a service without consequence for its calls.
func (e *editor) relabel() {
	next, name := e.town.clone(), e.existing()
	s := next.services[name]
	s.label++
	next.services[name] = s
	e.change("label: "+name, next, e.writes(next, []string{name}))
}

// restart kills the control plane right after an edit, whose push may be under way.
func (e *editor) restart() {
	e.note("kill: control plane")
	e.cp.Kill()
	e.streams += e.cp.Log()
	if err := e.cp.Start(within(e.t, patience)); err != nil {
		e.t.Fatal(err)
	}
}

// finish makes every policy concern orders, and waits until all is delivered.
func (e *editor) finish() {
	next := e.town.clone()
	next.depends = nil
	put := []string{"orders"}
	for _, name := range passing {
		if _, exists := next.services[name]; !exists {
			next.services[name] = e.fresh(1)
			put = append(put, name)
		}
	}
	e.change("finish: ", next, e.writes(next, put))
	eventually(e.t, func() error {
		for host := range next.reachable() {
			g := e.targets[host]
			g.mu.RLock()
			settled := g.asserted
			g.mu.RUnlock()
			if !settled {
				return fmt.Errorf("%s is not settled", host)
			}
		}
		return nil
	})
	for name := range e.policies {
		e.programmed(name)
	}
	eventually(e.t, e.delivered)
}

// judge compares what Envoy holds with what it should hold, before and after a restart that makes all of it anew.
func (e *editor) judge() {
	e.t.Logf("%d asserted requests, edits: %v", e.asserts.Load(), e.counts)
	e.converges(e.orders, "orders")
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
	for line := range strings.Lines(e.streams + e.cp.Log()) {
		if strings.Contains(line, "has not been answered for") || strings.Contains(line, "rejects") || strings.Contains(line, "[ERROR]") {
			e.t.Errorf("the control plane says: %s", line)
		}
	}
	if e.t.Failed() {
		e.t.Logf("last edits:\n%s", strings.Join(e.trail[max(0, len(e.trail)-25):], "\n"))
	}
}
