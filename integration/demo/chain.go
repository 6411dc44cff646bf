package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
)

const hostsPerService = 4

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
	_, answer, err := d.cp.Do(http.MethodGet, api.StatusPath(api.Policies, "shop", policy), "")
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
