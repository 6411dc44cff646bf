package integration_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// notes is a host that keeps the headers of the calls it got. It answers 503, late, as often as it is told to.
type notes struct {
	mu    sync.Mutex
	got   []http.Header
	fails int
}

func (n *notes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	n.got = append(n.got, r.Header.Clone())
	failing := n.fails > 0
	n.fails--
	n.mu.Unlock()
	if failing {
		time.Sleep(200 * time.Millisecond) // part of the call's time
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	w.Header().Set("Trailer:Grpc-Status", "0")
	w.WriteHeader(http.StatusOK)
}

// all is what was noted since it was last asked, call by call; the next calls are failed so often.
func (n *notes) all(fails int) []http.Header {
	n.mu.Lock()
	defer n.mu.Unlock()
	got := n.got
	n.got, n.fails = nil, fails
	return got
}

// take is the header of the only call since it was last asked; nil where there was none.
func (n *notes) take() http.Header {
	if got := n.all(0); len(got) > 0 {
		return got[0]
	}
	return nil
}

// served starts a service whose only host is handler.
func (m *mesh) served(name, protocol string, handler http.Handler) {
	m.t.Helper()
	host, err := harness.StartHost(0, handler)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(host.Close)
	m.hosts[name] = []*harness.Host{host}
	m.apply(strings.Replace(m.manifest(name), "protocol: http\n", "protocol: "+protocol+"\n", 1))
}

// Where callers are outside nobody but us says how long a call may take; beside an application the caller's word counts.
func TestDeadlinesFromOutsideCountForNothingAtTheEdge(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	got := &notes{}
	m.served("payments", "http", got)
	m.service("orders", 0)
	m.apply(policyFor("deadline", "payments", "timeout: {request: 1s, deadline: {keepPercent: 90}}"))
	ports, err := harness.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	edge := m.startEnvoy("orders", "edge-1", harness.Loopback(ports[0]), func(l *launch) { l.Edge = true })
	proxies := map[string]struct {
		*harness.Client
		want int
	}{
		"an Envoy at the edge": {edge.Client, 1000}, "an agent at the edge": {m.agentWith(harness.AgentOptions{Extra: []string{"--edge", "--node-id", "edge-2"}}).Client, 1000},
		"an Envoy": {m.envoy("orders").Client, 270}, "an agent": {m.agentWith(harness.AgentOptions{Extra: []string{"--node-id", "inner-2"}}).Client, 270},
	}
	m.programmed("deadline")
	for name, p := range proxies {
		soon := strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)
		call := p.Send(t.Context(), http.MethodGet, "payments", "/", http.Header{"X-Breakwater-Budget-Ms": {"300"}, "X-Breakwater-Deadline-Ms": {soon}})
		if budget := got.take().Get("X-Breakwater-Budget-Ms"); call.Status != http.StatusOK || budget != strconv.Itoa(p.want) {
			t.Errorf("%s: answered %d with a budget of %q, want 200 with %d", name, call.Status, budget, p.want)
		}
	}
}

// Each attempt of the agent tells the next hop what is left for it; Envoy says of each what the call had when it came. The time at which the
// call ends is the same for all, but where the time of a try ends one sooner.
func TestAttemptsShareTheDeadline(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	got := &notes{}
	m.served("payments", "http", got)
	m.service("orders", 0)
	envoy, agent := m.envoy("orders").Client, m.agent("orders").Client
	const again = "retry: {numRetries: 2, retryOn: [gateway-error], backOff: {base: 1ms, max: 2ms}}"
	for _, tt := range []struct {
		timeout, name string
		proxy         *harness.Client
		budgets       [3]int64 // with what the attempts before one have used, which a busy machine makes more
		used, ends    int64    // by each of them; and the time between the deadlines of two, likewise
	}{
		{"request: 5s", "envoy", envoy, [3]int64{5000, 5000, 5000}, 0, 0},
		{"request: 5s", "agent", agent, [3]int64{5000, 4800, 4600}, 500, 0},
		{"request: 5s, perTry: 2s", "agent", agent, [3]int64{2000, 2000, 2000}, 0, 200},
	} {
		m.apply(policyFor("deadline", "payments", "timeout: {"+tt.timeout+", deadline: {keepPercent: 90}}", again))
		m.programmed("deadline")
		got.all(2)
		if call := tt.proxy.Get("payments", "/"); call.Status != http.StatusOK {
			t.Fatalf("%s: answered %d, want 200 of the third attempt", tt.name, call.Status)
		}
		attempts := got.all(0)
		if len(attempts) != 3 {
			t.Fatalf("%s: %d attempts, want 3", tt.name, len(attempts))
		}
		var ends [3]int64
		for i, h := range attempts {
			budget, _ := strconv.ParseInt(h.Get("X-Breakwater-Budget-Ms"), 10, 64)
			ends[i], _ = strconv.ParseInt(h.Get("X-Breakwater-Deadline-Ms"), 10, 64)
			if want := tt.budgets[i]; budget > want || budget < want-int64(i)*tt.used {
				t.Errorf("%s, %s: attempt %d has %d ms, want %d or, with what has passed, little less", tt.name, tt.timeout, i+1, budget, want)
			}
			if i > 0 && (tt.ends == 0) != (ends[i] == ends[0]) || i > 0 && ends[i]-ends[i-1] < tt.ends {
				t.Errorf("%s, %s: attempt %d ends at %d, and the one before it at %d; want %d ms between them or little more", tt.name, tt.timeout, i+1, ends[i], ends[i-1], tt.ends)
			}
		}
	}
}

// Of a gRPC call the budget is what grpc-timeout says, in any unit, and never more than the policy's time, whatever a caller sends.
func TestGRPCDeadlineIsClamped(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	got := &notes{}
	m.served("payments", "grpc", got)
	m.service("orders", 0)
	m.apply(policyFor("deadline", "payments", "timeout: {request: 1s, deadline: {keepPercent: 90, minimum: 5ms}}"))
	proxies := map[string]string{"envoy": m.envoy("orders").Outbound, "agent": m.agent("orders").Outbound}
	m.programmed("deadline")
	const expired = 0
	for name, outbound := range proxies {
		transport := h2c()
		defer transport.CloseIdleConnections()
		for _, tt := range []struct {
			header, value string
			want          int // milliseconds; expired: it is not sent
		}{
			{"", "", 1000}, {"Grpc-Timeout", "500m", 450}, {"Grpc-Timeout", "1S", 900}, {"Grpc-Timeout", "900000u", 810}, {"Grpc-Timeout", "600000000n", 540},
			{"Grpc-Timeout", "5M", 1000}, {"Grpc-Timeout", "99999999H", 1000}, {"Grpc-Timeout", "99999999999999999999H", 1000},
			{"Grpc-Timeout", "junk", 1000}, {"Grpc-Timeout", "500", 450}, {"Grpc-Timeout", "m", 1000}, {"Grpc-Timeout", "5 0m", 1000},
			{"Grpc-Timeout", "0m", expired}, {"Grpc-Timeout", "0S", expired}, {"Grpc-Timeout", "-5S", expired}, {"Grpc-Timeout", "3m", expired},
			{"X-Breakwater-Budget-Ms", "300", 270}, {"X-Breakwater-Budget-Ms", "junk", 1000}, {"X-Breakwater-Budget-Ms", "0", expired},
			{"X-Breakwater-Budget-Ms", "99999999999999999999", 1000}, {"X-Breakwater-Deadline-Ms", "1", expired}, {"X-Breakwater-Deadline-Ms", "99999999999999", 1000},
		} {
			status, err := grpcCall(t, transport, outbound, "payments", map[string]string{tt.header: tt.value})
			header := got.take()
			budget, timeout := header.Get("X-Breakwater-Budget-Ms"), header.Get("Grpc-Timeout")
			switch {
			case err != nil:
				t.Errorf("%s, %s %q: %v", name, tt.header, tt.value, err)
			case tt.want == expired && (status != "4" || header != nil):
				t.Errorf("%s, %s %q: status %s, and the host got %q; want 4, DEADLINE_EXCEEDED, and nothing", name, tt.header, tt.value, status, budget)
			case tt.want != expired && (status != "0" || budget != strconv.Itoa(tt.want) || timeout != budget+"m"):
				t.Errorf("%s, %s %q: status %s with a budget of %q and %q, want 0 with %d in both", name, tt.header, tt.value, status, budget, timeout, tt.want)
			}
		}
	}
}

// h2c speaks HTTP/2 without TLS.
func h2c() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{Protocols: protocols}
}

// grpcCall sends a call without a message to service, with these headers beside those of gRPC, and returns its grpc-status. A header without
// a name is none.
func grpcCall(t *testing.T, transport *http.Transport, outbound, service string, header map[string]string) (string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+outbound+"/a.B/C", http.NoBody)
	if err != nil {
		return "", err
	}
	r.Host = service
	r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	for name, value := range header {
		if name != "" {
			r.Header.Set(name, value)
		}
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return "", fmt.Errorf("its body: %w", err)
	}
	if status := answer.Header.Get("Grpc-Status"); status != "" {
		return status, nil
	}
	return answer.Trailer.Get("Grpc-Status"), nil
}

// grpcLink is one gRPC service of a chain: it notes the time that each call came with, and calls the next as a gRPC program does, with that
// alone.
type grpcLink struct {
	t       *testing.T
	next    string
	proxies map[string]string // outbound, by the kinds of proxies in the chain
	via     *http.Transport

	mu      sync.Mutex
	budgets map[string]int // milliseconds, by kinds
}

func (l *grpcLink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	chain, timeout := r.Header.Get("X-Chain"), r.Header.Get("Grpc-Timeout")
	budget, _ := strconv.Atoi(strings.TrimSuffix(timeout, "m"))
	l.mu.Lock()
	l.budgets[chain] = budget
	l.mu.Unlock()
	if l.next == "" {
		<-r.Context().Done() // the last one hangs
		return
	}
	status, err := grpcCall(l.t, l.via, l.proxies[chain], l.next, map[string]string{"X-Chain": chain, "Grpc-Timeout": timeout})
	if err != nil {
		return // the caller has gone away
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Grpc-Status", status)
}

func (l *grpcLink) got(chain string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.budgets[chain]
}

// Three gRPC hops share one deadline by grpc-timeout alone, each with 90 % of what is left; the innermost is the first to give up.
func TestGRPCChainSharesOneDeadline(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	via := h2c()
	t.Cleanup(via.CloseIdleConnections)
	links := []*grpcLink{{next: "billing"}, {next: "email"}, {}}
	for i, name := range []string{"payments", "billing", "email"} {
		links[i].t, links[i].via, links[i].proxies, links[i].budgets = t, via, map[string]string{}, map[string]int{}
		m.served(name, "grpc", links[i])
	}
	m.service("orders", 0)
	m.apply(policyFor("deadline", `"*"`, "timeout: {request: 1s, deadline: {keepPercent: 90}}"))
	var envoys, agents []string
	for _, caller := range []string{"orders", "payments", "billing"} {
		envoys, agents = append(envoys, m.envoy(caller).Outbound), append(agents, m.agent(caller).Outbound)
	}
	m.programmed("deadline")
	for name, proxies := range map[string][]string{"three Envoys": envoys, "three agents": agents, "Envoy, agent, Envoy": {envoys[0], agents[1], envoys[2]}} {
		links[0].proxies[name], links[1].proxies[name] = proxies[1], proxies[2]
		eventually(t, func() error { // a busy machine may take some of the time
			begun := time.Now()
			status, err := grpcCall(t, via, proxies[0], "payments", map[string]string{"X-Chain": name})
			took := time.Since(begun)
			first, second, third := links[0].got(name), links[1].got(name), links[2].got(name)
			slack := func(got, want int) bool { return got <= want && got > want-150 }
			if err != nil || status != "4" || first != 1000 || !slack(second, 900) || !slack(third, second*9/10) || took > 980*time.Millisecond {
				return fmt.Errorf("%s: status %s, %v, after %v with %d, %d, %d ms; want 4 before 1 s, with 1000, 900, 810 less what has passed", name, status, err, took, first, second, third)
			}
			return nil
		})
	}
}
