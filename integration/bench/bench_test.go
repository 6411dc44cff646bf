// Package bench measures the main job on the real parts: the control plane as a program, a real Envoy, loopback.
package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
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
	cp, _ := startMesh(b, 0)
	for _, e := range []edit{
		{"route", "timeout: {request: %dms}"},
		{"limit", "limits: {maxRequests: %d}"},
		{"cluster", "outlierDetection: {consecutive5xx: %d}"},
		{"route-and-limit", "timeout: {request: %[1]dms}\n  bulkhead: {maxConcurrent: %[1]d}"},
	} {
		b.Run(e.name, func(b *testing.B) { e.writeToAck(b, cp) })
	}
}

// BenchmarkLargeMesh is BenchmarkWriteToAck where the Envoy holds 1,000 services, for the edits that rebuild nothing. Beside it: the
// CPU time that an edit takes of the Envoy.
func BenchmarkLargeMesh(b *testing.B) {
	cp, envoy := startMesh(b, 1_000)
	for _, e := range []edit{
		{"limit", "limits: {maxRequests: %d}"},
		{"timeout", "timeout: {request: %dms}"},
		{"retry", "retry: {numRetries: 2, backOff: {base: %dms, max: 5s}}"},
	} {
		b.Run(e.name, func(b *testing.B) {
			idle := usage(b, envoy, func() { time.Sleep(2 * time.Second) }) / 2 // a second
			begun, edits := time.Now(), 0
			busy := usage(b, envoy, func() { edits = e.writeToAck(b, cp) })
			each := (busy - time.Duration(float64(idle)*time.Since(begun).Seconds())) / time.Duration(edits)
			b.ReportMetric(float64(each.Microseconds())/1000, "envoy-cpu-ms")
			if each > 2*time.Millisecond {
				b.Errorf("an edit takes %v of the Envoy, want below 2ms", each)
			}
		})
	}
}

// usage is the CPU time that a process takes while f runs.
func usage(b *testing.B, p *harness.Process, f func()) time.Duration {
	b.Helper()
	before, err := harness.CPUTime(p.Pid())
	if err != nil {
		b.Fatal(err)
	}
	f()
	after, err := harness.CPUTime(p.Pid())
	if err != nil {
		b.Fatal(err)
	}
	return after - before
}

// edit is what one policy changes again and again.
type edit struct{ name, section string }

// writeToAck makes edits until the bench has enough of them, and says how many they were.
func (e edit) writeToAck(b *testing.B, cp *harness.ControlPlane) int {
	var writes, acks, gets []time.Duration
	n := 1000
	for b.Loop() {
		n++
		begun := time.Now()
		apply(b, cp, fmt.Sprintf(policyText, fmt.Sprintf(e.section, n)))
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
	return len(acks)
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

const moreText = `apiVersion: breakwater/v1alpha1
kind: Service
metadata: {namespace: shop, name: more-%d}
spec: {protocol: http, endpoints: [{address: 127.0.0.1, port: 9}]}
---
`

// startMesh starts a control plane with one Envoy, the sidecar of shop/orders, and so many services more.
func startMesh(b *testing.B, more int) (*harness.ControlPlane, *harness.Process) {
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
	for first := 0; first < more; first += 250 {
		var text strings.Builder
		for i := first; i < min(first+250, more); i++ {
			fmt.Fprintf(&text, moreText, i)
		}
		apply(b, cp, text.String())
	}
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
	return cp, e.Process
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
