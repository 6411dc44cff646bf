// Package bench measures the main job on the real parts: the control plane as a program, a real Envoy, loopback.
package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/internal/testkit/program"
	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
)

// BenchmarkWriteToAck is the time from the answer to a policy write until the proxy's ACK stands in the policy's status, with one
// real Envoy connected. The status is asked without pause, so a figure is too large by at most one GET, which is reported beside it.
func BenchmarkWriteToAck(b *testing.B) {
	cp := startMesh(b)
	for _, edit := range []struct{ name, section string }{
		{"route", "timeout: {request: %dms}"},
		{"limit", "limits: {maxRequests: %d}"},
		{"cluster", "outlierDetection: {consecutive5xx: %d}"},
		{"route-and-limit", "timeout: {request: %[1]dms}\n  bulkhead: {maxConcurrent: %[1]d}"},
	} {
		b.Run(edit.name, func(b *testing.B) {
			var writes, acks, gets []time.Duration
			n := 1000
			for b.Loop() {
				n++
				begun := time.Now()
				apply(b, cp, fmt.Sprintf(policyText, fmt.Sprintf(edit.section, n)))
				written := time.Now()
				for done := false; !done; {
					asked := time.Now()
					done = programmed(b, cp)
					gets = append(gets, time.Since(asked))
				}
				writes, acks = append(writes, written.Sub(begun)), append(acks, time.Since(written))
			}
			report(b, "write-p50-ms", writes, 50)
			report(b, "ack-p50-ms", acks, 50)
			report(b, "ack-p99-ms", acks, 99)
			report(b, "get-p50-ms", gets, 50)
			if median := percentile(acks, 50); median > 10*time.Millisecond {
				b.Errorf("the median from write to ACK is %v, want below 10ms", median)
			}
		})
	}
}

func percentile(d []time.Duration, p int) time.Duration {
	slices.Sort(d)
	return d[(len(d)-1)*p/100]
}

func report(b *testing.B, unit string, d []time.Duration, p int) {
	b.ReportMetric(float64(percentile(d, p).Microseconds())/1000, unit)
}

const policyText = `apiVersion: breakwater/v1alpha1
kind: Policy
metadata: {namespace: shop, name: measured}
spec:
  to: {service: payments}
  %s
`

const services = `apiVersion: breakwater/v1alpha1
kind: Service
metadata: {namespace: shop, name: payments}
spec: {protocol: http, endpoints: [{address: 127.0.0.1, port: 9}]}
---
apiVersion: breakwater/v1alpha1
kind: Service
metadata: {namespace: shop, name: orders}
spec: {protocol: http, dependsOn: [payments]}
`

// startMesh starts a control plane with one Envoy, the sidecar of shop/orders.
func startMesh(b *testing.B) *harness.ControlPlane {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	b.Cleanup(cancel)
	binary, err := program.Build("./cmd/controlplane")
	if err != nil {
		b.Fatal(err)
	}
	cp, err := harness.StartControlPlane(ctx, binary, b.TempDir(), "--log-level", "warn")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(cp.Kill)
	apply(b, cp, services)
	ports, err := harness.FreePorts(2)
	if err != nil {
		b.Fatal(err)
	}
	admin := harness.Loopback(ports[0])
	text, err := bootstrap.Envoy(bootstrap.Options{
		XDS: []string{cp.XDS}, Namespace: "shop", Service: "orders", NodeID: "orders-1", Admin: admin, Outbound: harness.Loopback(ports[1]),
	})
	if err != nil {
		b.Fatal(err)
	}
	e, err := harness.StartEnvoy(ctx, b.TempDir(), text, admin)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(e.Kill)
	if err := e.WaitReady(ctx); err != nil {
		b.Fatal(err)
	}
	return cp
}

func apply(b *testing.B, cp *harness.ControlPlane, documents string) {
	b.Helper()
	if err := cp.Apply(documents); err != nil {
		b.Fatal(err)
	}
}

func programmed(b *testing.B, cp *harness.ControlPlane) bool {
	b.Helper()
	_, answer, err := cp.Do(http.MethodGet, api.StatusPath(api.Policies, "shop", "measured"), "")
	if err != nil {
		b.Fatal(err)
	}
	var doc api.StatusResponse
	if err := json.Unmarshal([]byte(answer), &doc); err != nil {
		b.Fatal(err)
	}
	return slices.ContainsFunc(doc.Conditions, func(c api.Condition) bool { return c.Type == api.Programmed && c.Status == api.True })
}
