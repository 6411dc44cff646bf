package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/internal/testkit/program"
	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
)

// subject is a proxy under measurement.
type subject struct {
	name     string
	pid      int
	web, rpc string // where it takes HTTP/1.1 and gRPC

	fresh, loaded int64 // resident bytes before any load, and the most seen under it
	held          int64 // resident bytes by which idle connections made it larger
	added         []float64
	cost          map[string][]float64 // CPU us of a request, by workload
}

// mesh is all that runs: what must be ended is in ends, the last first.
type mesh struct {
	subjects []*subject
	direct   string // where the upstream itself takes HTTP/1.1
	ends     []func()
}

func (m *mesh) close() {
	for i := len(m.ends) - 1; i >= 0; i-- {
		m.ends[i]()
	}
}

// services are two on one host each, and who calls them.
const services = `apiVersion: breakwater/v1alpha1
kind: Service
metadata: {namespace: shop, name: web}
spec: {protocol: http, endpoints: [{address: 127.0.0.1, port: %s}]}
---
apiVersion: breakwater/v1alpha1
kind: Service
metadata: {namespace: shop, name: rpc}
spec: {protocol: grpc, endpoints: [{address: 127.0.0.1, port: %s}]}
---
apiVersion: breakwater/v1alpha1
kind: Service
metadata: {namespace: shop, name: orders}
spec: {protocol: http, dependsOn: [web, rpc]}
`

// policy has every mechanism that works on each request.
const policy = `apiVersion: breakwater/v1alpha1
kind: Policy
metadata: {namespace: shop, name: %[1]s}
spec:
  to: {service: %[1]s}
  timeout: {request: 5s, perTry: 2s, connect: 1s}
  retry: {numRetries: 2, retryOn: [connect-failure, refused-stream, gateway-error], backOff: {base: 25ms, max: 250ms}, budget: {percent: 20, minConcurrent: 3}}
  outlierDetection: {consecutive5xx: 5, consecutiveGatewayFailure: 5, successRate: {minimumHosts: 3}, interval: 1s, baseEjectionTime: 30s, maxEjectionPercent: 50}
  limits: {maxConnections: 4096, maxPendingRequests: 4096, maxRequests: 4096}
`

// start runs upstream and control plane on one core and the proxies on the other.
func (m *mesh) start(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "breakwater-bench-*")
	if err != nil {
		return err
	}
	m.ends = append(m.ends, func() { _ = os.RemoveAll(dir) })
	proxy, rest, err := cores()
	if err != nil {
		return err
	}
	var xds, web, rpc string
	err = onCore(rest, func() error {
		cmd, addresses, err := role("upstream")
		if err != nil {
			return err
		}
		m.ends = append(m.ends, func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		web, rpc = addresses[0], addresses[1]
		xds, err = m.controlPlane(ctx, dir, web, rpc)
		return err
	})
	if err != nil {
		return err
	}
	m.direct = web
	return onCore(proxy, func() error {
		for _, start := range []func(context.Context, string, string) error{m.envoy, m.agent} {
			if err := start(ctx, dir, xds); err != nil {
				return err
			}
		}
		return m.bare(web, rpc)
	})
}

func (m *mesh) controlPlane(ctx context.Context, dir, web, rpc string) (xds string, err error) {
	binary, err := program.Build("./cmd/controlplane")
	if err != nil {
		return "", err
	}
	cp, err := harness.StartControlPlane(ctx, binary, filepath.Join(dir, "data"), "--log-level", "warn")
	if err != nil {
		return "", err
	}
	m.ends = append(m.ends, cp.Kill)
	return cp.XDS, cp.Apply(documents(web, rpc))
}

func documents(web, rpc string) string {
	_, webPort, _ := net.SplitHostPort(web)
	_, rpcPort, _ := net.SplitHostPort(rpc)
	services := fmt.Sprintf(services, webPort, rpcPort)
	return services + "---\n" + fmt.Sprintf(policy, "web") + "---\n" + fmt.Sprintf(policy, "rpc")
}

func (m *mesh) envoy(ctx context.Context, dir, xds string) error {
	ports, err := harness.FreePorts(2)
	if err != nil {
		return err
	}
	admin, outbound := harness.Loopback(ports[0]), harness.Loopback(ports[1])
	text, err := bootstrap.Envoy(bootstrap.Options{
		XDS: []string{xds}, Namespace: "shop", Service: "orders", NodeID: "orders-envoy", Admin: admin, Outbound: outbound,
	})
	if err != nil {
		return err
	}
	e, err := harness.StartEnvoy(ctx, dir, text, admin)
	if err != nil {
		return err
	}
	m.ends = append(m.ends, e.Kill)
	m.subjects = append(m.subjects, &subject{name: "envoy", pid: e.Pid(), web: outbound, rpc: outbound})
	return e.WaitReady(ctx)
}

func (m *mesh) agent(ctx context.Context, dir, xds string) error {
	binary, err := program.Build("./cmd/agent")
	if err != nil {
		return err
	}
	a, err := harness.StartAgent(ctx, harness.AgentOptions{
		Binary: binary, XDS: xds, Namespace: "shop", Service: "orders", StateDir: filepath.Join(dir, "state"), Extra: []string{"--log-level", "warn"},
	})
	if err != nil {
		return err
	}
	m.ends = append(m.ends, a.Kill)
	m.subjects = append(m.subjects, &subject{name: "agent", pid: a.Pid(), web: a.Outbound, rpc: a.Outbound})
	return nil
}

func (m *mesh) bare(web, rpc string) error {
	cmd, addresses, err := role("bare", web, rpc)
	if err != nil {
		return err
	}
	m.ends = append(m.ends, func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	m.subjects = append(m.subjects, &subject{name: bareName, pid: cmd.Process.Pid, web: addresses[0], rpc: addresses[1]})
	return nil
}
