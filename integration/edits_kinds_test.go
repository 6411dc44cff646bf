package integration_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

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
	case n < 72:
		e.moveAlias()
	case n < 78:
		e.moveBackend()
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
	for _, i := range e.rng.Perm(12)[:n] {
		name := fmt.Sprintf("p%d", i)
		e.policies[name] = e.policy(name, i)
		documents = append(documents, e.policies[name])
	}
	e.note("policy: " + strings.ReplaceAll(strings.Join(documents, ""), "\n", " "))
	if err := e.cp.Apply(strings.Join(documents, "---\n")); err != nil {
		e.t.Errorf("%v in\n%s", err, strings.Join(documents, "---\n"))
	}
}

// policy is a random policy of any kind that never fails a call to a healthy host. Precedence keeps two of them from being in conflict.
func (e *editor) policy(name string, precedence int) string {
	to := e.existing()
	if e.rng.IntN(4) == 0 {
		to = `"*"`
	}
	sections := e.sections(to)
	var picked []int
	for range 1 + e.rng.IntN(3) {
		if i := e.rng.IntN(len(sections)); allowed(to, i) && !left(sections[i]) && !slices.Contains(picked, i) && !slices.ContainsFunc(picked, func(j int) bool { return clash(i, j) }) {
			picked = append(picked, i)
		}
	}
	if len(picked) == 0 {
		picked = []int{0}
	}
	lines := []string{fmt.Sprintf("precedence: %d", precedence)}
	if e.rng.IntN(3) == 0 {
		lines = append(lines, "from: {service: orders}")
	}
	for _, i := range picked {
		lines = append(lines, sections[i])
	}
	return policyFor(name, to, lines...)
}

// allowed reports whether section i may be drawn for a service. A circuit breaker takes no panic, and where health is checked that would
// fail the calls of a service whose endpoints are all replaced until they are checked: no service has both.
func allowed(to string, i int) bool {
	breaks := slices.Contains(permanent[:3], to)
	switch i {
	case 6:
		return breaks
	case 8, 9:
		return !breaks && to != `"*"`
	}
	return true
}

// left reports whether a section is left out: BREAKWATER_WITHOUT names such that do something, split by commas, to find out which of them
// has a part in a failure.
func left(section string) bool {
	return slices.ContainsFunc(strings.Split(os.Getenv("BREAKWATER_WITHOUT"), ","), func(word string) bool { return word != "" && strings.Contains(section, word) })
}

// clash reports whether one policy can't have both sections.
func clash(i, j int) bool {
	pairs := [][2]int{{1, 2}, {3, 4}, {5, 6}, {8, 9}, {10, 11}, {0, 13}, {1, 13}, {2, 13}, {15, 16}}
	return slices.Contains(pairs, [2]int{min(i, j), max(i, j)})
}

// sections are lines of spec, one of which is drawn for each kind of section. What stands in for an answer says 599, so that it hides no call
// that was lost, and where health is checked some host is always asked: of a service that moves all are new at once.
func (e *editor) sections(to string) []string {
	n := func(from, to int) int { return from + e.rng.IntN(to-from+1) }
	other := slices.DeleteFunc(slices.Clone(permanent), func(name string) bool { return name == to })
	return []string{
		fmt.Sprintf("timeout: {request: %ds, perTry: %ds, connect: %ds, connectionIdle: %dm}", n(10, 15), n(5, 9), n(2, 5), n(1, 9)),
		fmt.Sprintf("retry: {numRetries: %d, retryOn: [refused-stream], backOff: {base: %dms, max: 500ms}, budget: {percent: %d, minConcurrent: %d}}", n(1, 4), n(5, 100), n(10, 90), n(1, 9)),
		fmt.Sprintf("retry: {numRetries: %d, methods: safe, avoidPreviousHosts: true, hostSelectionAttempts: %d}", n(1, 4), n(1, 5)),
		fmt.Sprintf("limits: {maxConnections: %d, maxPendingRequests: %d, maxRequests: %d, maxRetries: %d}", n(500, 900), n(500, 900), n(500, 900), n(1, 9)),
		fmt.Sprintf("bulkhead: {maxConcurrent: %d}", n(500, 900)),
		fmt.Sprintf("outlierDetection: {consecutive5xx: %d, interval: %ds, baseEjectionTime: %ds, maxEjectionTime: 60s, maxEjectionPercent: %d}", n(2, 9), n(1, 9), n(1, 30), n(10, 100)),
		fmt.Sprintf("circuitBreaker: {failureThreshold: %d, recoveryTimeout: %ds}", n(2, 9), n(1, 30)),
		fmt.Sprintf("loadBalancing: {algorithm: %s, panicThreshold: %d}", e.some([]string{"round-robin", "least-request", "random"}), n(1, 60)),
		fmt.Sprintf("healthCheck: {http: {path: /healthz}, interval: %ds, timeout: 10s}", n(1, 9)),
		fmt.Sprintf("healthCheck: {tcp: {}, interval: %ds, timeout: 10s}", n(1, 9)),
		fmt.Sprintf("failureCriteria: {http: {statuses: [5xx], exceptStatuses: [%d]}}\n  admissionControl: {aggression: %d}", n(505, 511), n(1, 3)),
		fmt.Sprintf("admissionControl: {successRatePercent: %d, window: %ds}", n(10, 90), n(10, 60)),
		fmt.Sprintf("adaptiveConcurrency: {maxConcurrency: %d, minLatency: {concurrency: %d}}", n(500, 900), n(200, 400)),
		fmt.Sprintf("hedge: {onPerTryTimeout: true}\n  timeout: {perTry: %ds}\n  retry: {numRetries: 1, retryOn: [refused-stream]}", n(5, 9)),
		fmt.Sprintf("rateLimit: {requests: %d, interval: 1s}", n(100_000, 900_000)),
		fmt.Sprintf("fallback: {service: %s}", e.some(other)),
		fmt.Sprintf("fallback: {response: {status: 599, body: '%d'}}", n(1, 1000)),
		"errorMapping: {gateway: true}",
		fmt.Sprintf("fault: {delay: {duration: %dms, percent: %d}}\n  expiresAt: 2099-01-01T00:00:00Z", n(1, 20), n(1, 100)),
	}
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
	if len(s.api) == 0 {
		return
	}
	id := e.some(slices.Sorted(maps.Keys(s.api)))
	address := s.api[id]
	e.note("unendpoint: " + name + " " + address)
	if _, _, err := e.cp.Do(http.MethodDelete, api.EndpointPath("shop", name, id), ""); err != nil {
		e.t.Error(err)
	}
	delete(s.api, id)
	e.spare[address] = e.hostOf[address]
}

// retire closes the hosts that Envoy does not know any more, after the calls that it sent to them.
func (e *editor) retire() {
	if len(e.spare) < 5 || e.away {
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
