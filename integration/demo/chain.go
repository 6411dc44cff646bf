package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
)

// hop is a service of the chain: several hosts, which call the next hop through the Envoy beside them.
type hop struct {
	name  string
	next  string // "" for the last
	hosts []*harness.Host
	out   atomic.Pointer[harness.Client] // through the Envoy beside this service; nil until it runs
}

// chainNames are the services in calling order. Edge has no hosts: the load loop is its app.
var chainNames = []string{"edge", "orders", "payments", "billing", "email"}

const hostsPerService = 4

// startChain starts the hosts of every service behind edge.
func startChain() ([]*hop, error) {
	var hops []*hop
	for i, name := range chainNames {
		h := &hop{name: name}
		if i+1 < len(chainNames) {
			h.next = chainNames[i+1]
		}
		hops = append(hops, h)
		if name == "edge" {
			continue
		}
		for range hostsPerService {
			host, err := harness.StartHost(0, http.HandlerFunc(h.serve))
			if err != nil {
				return hops, err
			}
			h.hosts = append(h.hosts, host)
		}
	}
	return hops, nil
}

// workTime is what a host does itself, before it calls the next one.
const workTime = 2 * time.Millisecond

// serve answers one call. How far a request goes is in its path: /3 crosses three more hops. A failed dependency is reported as 500,
// never as 502-504: those say that this very host is at fault, and hops above would retry and eject it for another's failure.
func (h *hop) serve(w http.ResponseWriter, r *http.Request) {
	select {
	case <-time.After(workTime):
	case <-r.Context().Done():
		return
	}
	var depth int
	if _, err := fmt.Sscanf(r.URL.Path, "/%d", &depth); err != nil || depth <= 0 || h.next == "" {
		fmt.Fprintln(w, h.name)
		return
	}
	if status := h.call(r.Context(), depth-1); status != http.StatusOK {
		http.Error(w, fmt.Sprintf("%s: %s answered %d", h.name, h.next, status), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, h.name)
}

// call sends one request to the next hop and returns the status, 0 for no answer.
func (h *hop) call(ctx context.Context, depth int) int {
	out := h.out.Load()
	if out == nil {
		return 0
	}
	return out.GetContext(ctx, h.next, fmt.Sprintf("/%d", depth)).Status
}

// endpointYAML is the body that registers a host.
func endpointYAML(host *harness.Host) string {
	ip, port, _ := strings.Cut(host.Address, ":")
	return fmt.Sprintf("{address: %s, port: %s}", ip, port)
}

// startSidecar runs the proxy of one caller, an Envoy or an agent, and returns it with the address that the caller's app calls.
func (d *demo) startSidecar(ctx context.Context, kind, service string) (*harness.Process, string, error) {
	if kind == proxyAgent {
		a, err := harness.StartAgent(ctx, harness.AgentOptions{
			Binary: d.agent, XDS: d.cp.XDS, Namespace: "shop", Service: service, StateDir: filepath.Join(d.dir, service),
		})
		if err != nil {
			return nil, "", err
		}
		return a.Process, a.Outbound, nil
	}
	ports, err := harness.FreePorts(2)
	if err != nil {
		return nil, "", err
	}
	admin, outbound := harness.Loopback(ports[0]), harness.Loopback(ports[1])
	text, err := bootstrap.Envoy(bootstrap.Options{
		XDS: []string{d.cp.XDS}, Namespace: "shop", Service: service, NodeID: service + "-1", Admin: admin, Outbound: outbound,
	})
	if err != nil {
		return nil, "", err
	}
	e, err := harness.StartEnvoy(ctx, d.dir, text, admin)
	if err != nil {
		return nil, "", err
	}
	return e.Process, outbound, e.WaitReady(ctx)
}

// printAcked waits until every Envoy holds the policies that concern it, and says who does.
func (d *demo) printAcked(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, policy := range []string{"every-hop", "edge-to-orders", "orders-to-payments", "payments-to-billing", "billing-to-email"} {
		var programmed api.Condition
		err := harness.Poll(ctx, func() (err error) {
			programmed, err = d.programmed(policy)
			return err
		})
		if err != nil {
			return err
		}
		fmt.Printf("  %-20s %s\n", policy, programmed.Message)
	}
	return nil
}

// programmed is the policy's condition Programmed, or an error while it is not true.
func (d *demo) programmed(policy string) (api.Condition, error) {
	_, answer, err := d.cp.Do(http.MethodGet, api.StatusPath("shop", policy), "")
	if err != nil {
		return api.Condition{}, err
	}
	var doc api.StatusResponse
	if err := json.Unmarshal([]byte(answer), &doc); err != nil {
		return api.Condition{}, err
	}
	for _, c := range doc.Conditions {
		if c.Type == api.Programmed && c.Status == api.True {
			return c, nil
		}
	}
	return api.Condition{}, fmt.Errorf("policy %s is not programmed: %s", policy, answer)
}

func stopChain(hops []*hop) {
	for _, h := range hops {
		for _, host := range h.hosts {
			host.Close()
		}
	}
}
