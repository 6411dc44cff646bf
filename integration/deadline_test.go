package integration_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// calledAs names the call that a chain makes, so that several go on at once.
const calledAs = "X-Called-As"

// link is one service of a chain: it notes the budget that each call came with, and calls the next through the proxy beside it.
type link struct {
	next    string
	proxies map[string]*harness.Client // by the kinds of proxies in the chain

	mu      sync.Mutex
	budgets map[string]int // by call
}

func (l *link) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	budget, _ := strconv.Atoi(r.Header.Get("x-breakwater-budget-ms"))
	l.mu.Lock()
	l.budgets[r.Header.Get(calledAs)] = budget
	l.mu.Unlock()
	if l.next == "" {
		<-r.Context().Done() // the last one hangs
		return
	}
	forward := http.Header{}
	for _, name := range []string{"x-breakwater-budget-ms", "x-breakwater-deadline-ms", calledAs, "x-chain"} {
		forward.Set(name, r.Header.Get(name))
	}
	call := l.proxies[r.Header.Get("x-chain")].Send(r.Context(), http.MethodGet, l.next, "/", forward)
	if call.Err != nil {
		return // the caller has gone away
	}
	w.WriteHeader(call.Status)
	_, _ = io.WriteString(w, call.Body)
}

func (l *link) got(call string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.budgets[call]
}

// Three hops share one deadline, each with 90 % of what is left, whichever proxies stand between them; the innermost is the first to give up.
func TestChainSharesOneDeadline(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	links := []*link{{next: "billing"}, {next: "email"}, {}}
	for i, name := range []string{"payments", "billing", "email"} {
		links[i].proxies, links[i].budgets = map[string]*harness.Client{}, map[string]int{}
		host, err := harness.StartHost(0, links[i])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(host.Close)
		m.hosts[name] = []*harness.Host{host}
		m.apply(m.manifest(name))
	}
	m.service("orders", 0)
	m.apply(policyFor("deadline", `"*"`, "timeout: {request: 500ms, deadline: {keepPercent: 90}}"))
	var envoys, agents []*harness.Client
	for _, caller := range []string{"orders", "payments", "billing"} {
		envoys, agents = append(envoys, m.envoy(caller).Client), append(agents, m.agent(caller).Client)
	}
	m.programmed("deadline")
	chains := map[string][]*harness.Client{
		"three Envoys": envoys, "three agents": agents,
		"Envoy, agent, Envoy": {envoys[0], agents[1], envoys[2]}, "agent, Envoy, agent": {agents[0], envoys[1], agents[2]},
	}
	for name, proxies := range chains {
		links[0].proxies[name], links[1].proxies[name] = proxies[1], proxies[2]
	}
	var group sync.WaitGroup
	for name, proxies := range chains {
		c := chain{name: name, first: proxies[0], links: links}
		group.Go(func() { c.until(t, "", c.inTime) })
		if name != "three Envoys" && name != "three agents" {
			continue
		}
		// What the application brings along counts at most as request does, and never as no limit.
		for value, most := range map[string]int{"300": 270, "junk": 500, "99999999999999999999": 500} {
			group.Go(func() {
				c.until(t, value, func(call harness.Call) error {
					if got := links[0].got(name + value); call.Status != http.StatusGatewayTimeout || got != most || call.Elapsed > 3*time.Second {
						return fmt.Errorf("%d after %v with %d ms, want 504 with %d ms", call.Status, call.Elapsed, got, most)
					}
					return nil
				})
			})
		}
		for _, value := range []string{"0", "-5", "3"} {
			group.Go(func() {
				call := c.call(t, value)
				if call.Status != http.StatusGatewayTimeout || call.Header.Get("x-breakwater-reason") != "deadline" {
					t.Errorf("%s, budget %q: %d %v, want 504 for the deadline", name, value, call.Status, call.Header)
				}
			})
		}
	}
	group.Wait()
}

// chain is the same three services by way of proxies of some kinds.
type chain struct {
	name  string
	first *harness.Client
	links []*link
}

// call is one call of the chain, which brings a budget along unless that is "".
func (c chain) call(t *testing.T, budget string) harness.Call {
	header := http.Header{calledAs: {c.name + budget}, "X-Chain": {c.name}}
	if budget != "" {
		header.Set("x-breakwater-budget-ms", budget)
	}
	return c.first.Send(t.Context(), http.MethodGet, "payments", "/", header)
}

// until calls again, as a busy machine may take some of the time, until a call went as it should.
func (c chain) until(t *testing.T, budget string, right func(harness.Call) error) {
	if err := harness.Poll(within(t, patience), func() error { return right(c.call(t, budget)) }); err != nil {
		t.Errorf("%s, budget %q: %v", c.name, budget, err)
	}
}

// inTime looks at the budgets along the chain, and at who was the first to give up: the innermost, after 81 % of the time.
func (c chain) inTime(call harness.Call) error {
	first, second, third := c.links[0].got(c.name), c.links[1].got(c.name), c.links[2].got(c.name)
	slack := func(got, want int) bool { return got <= want && got > want-100 }
	if call.Status != http.StatusGatewayTimeout || first != 500 || !slack(second, 450) || !slack(third, second*9/10) {
		return fmt.Errorf("%d with budgets of %d, %d, %d ms; want 504 with 500, 450, 405 less what has passed", call.Status, first, second, third)
	}
	if call.Elapsed > 490*time.Millisecond {
		return fmt.Errorf("answered after %v, want it before the first hop gives up", call.Elapsed)
	}
	return nil
}
