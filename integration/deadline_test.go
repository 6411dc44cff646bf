package integration_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// link is one service of a chain: it notes the budget that it was called with and calls the next through the proxy beside it.
type link struct {
	next  string
	proxy atomic.Pointer[harness.Client]

	mu     sync.Mutex
	budget int
}

func (l *link) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	budget, _ := strconv.Atoi(r.Header.Get("x-breakwater-budget-ms"))
	l.mu.Lock()
	l.budget = budget
	l.mu.Unlock()
	if l.next == "" {
		<-r.Context().Done() // the last one hangs
		return
	}
	forward := http.Header{}
	for _, name := range []string{"x-breakwater-budget-ms", "x-breakwater-deadline-ms"} {
		forward.Set(name, r.Header.Get(name))
	}
	call := l.proxy.Load().Send(r.Context(), http.MethodGet, l.next, "/", forward)
	if call.Err != nil {
		return // the caller has gone away
	}
	w.WriteHeader(call.Status)
	_, _ = io.WriteString(w, call.Body)
}

func (l *link) got() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.budget
}

// Three hops share one deadline, each with 90 % of what is left, whichever proxies stand between them; the innermost is the first to give up.
func TestChainSharesOneDeadline(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	chain := []*link{{next: "billing"}, {next: "email"}, {}}
	for i, name := range []string{"payments", "billing", "email"} {
		host, err := harness.StartHost(0, chain[i])
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
	for name, proxies := range map[string][]*harness.Client{
		"three Envoys": envoys, "three agents": agents,
		"Envoy, agent, Envoy": {envoys[0], agents[1], envoys[2]}, "agent, Envoy, agent": {agents[0], envoys[1], agents[2]},
	} {
		chain[0].proxy.Store(proxies[1])
		chain[1].proxy.Store(proxies[2])
		eventually(t, func() error { return inTime(chain, proxies[0].Get("payments", "/"), name) })
		if proxies[0] != envoys[0] && name != "three agents" || name == "Envoy, agent, Envoy" {
			continue
		}
		// What the application brings along counts at most as request does, and never as no limit.
		for value, most := range map[string]int{"300": 270, "junk": 500, "99999999999999999999": 500} {
			eventually(t, func() error {
				call := proxies[0].Send(t.Context(), http.MethodGet, "payments", "/", http.Header{"X-Breakwater-Budget-Ms": {value}})
				if got := chain[0].got(); call.Status != http.StatusGatewayTimeout || got != most || call.Elapsed > 3*time.Second {
					return fmt.Errorf("%s, budget %q: %d after %v with %d ms, want 504 with %d ms", name, value, call.Status, call.Elapsed, got, most)
				}
				return nil
			})
		}
		for _, value := range []string{"0", "-5", "3"} {
			call := proxies[0].Send(t.Context(), http.MethodGet, "payments", "/", http.Header{"X-Breakwater-Budget-Ms": {value}})
			if call.Status != http.StatusGatewayTimeout || call.Header.Get("x-breakwater-reason") != "deadline" {
				t.Errorf("%s, budget %q: %d %v, want 504 for the deadline", name, value, call.Status, call.Header)
			}
		}
	}
}

// inTime looks at the budgets along the chain, and at who was the first to give up: the innermost, after 81 % of the time.
func inTime(chain []*link, call harness.Call, name string) error {
	first, second, third := chain[0].got(), chain[1].got(), chain[2].got()
	slack := func(got, want int) bool { return got <= want && got > want-100 }
	if call.Status != http.StatusGatewayTimeout || first != 500 || !slack(second, 450) || !slack(third, second*9/10) {
		return fmt.Errorf("%s: %d with budgets of %d, %d, %d ms; want 504 with 500, 450, 405 less what has passed", name, call.Status, first, second, third)
	}
	if call.Elapsed > 490*time.Millisecond {
		return fmt.Errorf("%s: answered after %v, want it before the first hop gives up", name, call.Elapsed)
	}
	return nil
}
