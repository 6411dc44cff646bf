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
	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
)

// notes is a host that keeps the header of the last call it got.
type notes struct {
	mu   sync.Mutex
	last http.Header
}

func (n *notes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	n.last = r.Header.Clone()
	n.mu.Unlock()
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	w.Header().Set("Trailer:Grpc-Status", "0")
	w.WriteHeader(http.StatusOK)
}

// take is what was noted since the last take.
func (n *notes) take() http.Header {
	n.mu.Lock()
	defer n.mu.Unlock()
	last := n.last
	n.last = nil
	return last
}

// noting starts a service whose only host notes.
func (m *mesh) noting(name, protocol string) *notes {
	m.t.Helper()
	n := &notes{}
	host, err := harness.StartHost(0, n)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(host.Close)
	m.hosts[name] = []*harness.Host{host}
	m.apply(strings.Replace(m.manifest(name), "protocol: http\n", "protocol: "+protocol+"\n", 1))
	return n
}

// Where callers are outside nobody but us says how long a call may take; beside an application the caller's word counts.
func TestDeadlinesFromOutsideCountForNothingAtTheEdge(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	got := m.noting("payments", "http")
	m.service("orders", 0)
	m.apply(policyFor("deadline", "payments", "timeout: {request: 1s, deadline: {keepPercent: 90}}"))
	ports, err := harness.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	edge := m.startEnvoy("orders", "edge-1", harness.Loopback(ports[0]), func(o *bootstrap.Options) { o.Edge = true })
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

// Of a gRPC call the budget is what grpc-timeout says, in any unit, and never more than the policy's time, whatever a caller sends.
func TestGRPCDeadlineIsClamped(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	got := m.noting("payments", "grpc")
	m.service("orders", 0)
	m.apply(policyFor("deadline", "payments", "timeout: {request: 1s, deadline: {keepPercent: 90, minimum: 5ms}}"))
	proxies := map[string]string{"envoy": m.envoy("orders").Outbound, "agent": m.agent("orders").Outbound}
	m.programmed("deadline")
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	const expired = 0
	for name, outbound := range proxies {
		transport := &http.Transport{Protocols: protocols}
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
			status, err := grpcCall(t, transport, outbound, tt.header, tt.value)
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

// grpcCall sends a call without a message, and returns its grpc-status.
func grpcCall(t *testing.T, transport *http.Transport, outbound, header, value string) (string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+outbound+"/a.B/C", http.NoBody)
	if err != nil {
		return "", err
	}
	r.Host = "payments"
	r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	if header != "" {
		r.Header.Set(header, value)
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
