package integration_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/internal/testkit/pki"
	"github.com/breakwater-mesh/breakwater/internal/testkit/ports"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Whatever the compiler's goldens hold, the real Envoy takes.
func TestEnvoyAcceptsEveryGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../pkg/envoy/testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	p := startProxy(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			resources := goldenResources(t, file)
			p.put(t, resources...)
			p.settled(t)
			if t.Failed() {
				return
			}
			dump, err := p.ConfigDump()
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range resources {
				// The dump has a version for each cluster and each route configuration, not for the others.
				if (r.Type == view.CDS || r.Type == view.RDS) && !strings.Contains(string(dump), r.Version) {
					t.Errorf("%s has no version %s in Envoy's own dump", r.ID(), r.Version)
				}
			}
		})
	}
}

// tlsFolder is where the goldens have their certificates.
const tlsFolder = "/etc/breakwater/"

// tlsFiles is a folder with the files of tlsFolder.
func tlsFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	authority := pki.NewAuthority(t)
	pair := authority.Issue(t, "payments")
	for name, text := range map[string]string{"ca.pem": authority.PEM, "cert.pem": pair.Chain, "key.pem": pair.Key} {
		pki.Write(t, dir, name, text)
	}
	return dir + "/"
}

// goldenResources are the resources of a golden, as it is written, but for where files are.
func goldenResources(t *testing.T, file string) []*view.Resource {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var resources []*view.Resource
	var name string
	var keys []envoy.RuntimeKey
	files := strings.NewReplacer()
	if bytes.Contains(txtar.Format(archive), []byte(tlsFolder)) {
		files = strings.NewReplacer(tlsFolder, tlsFiles(t))
	}
	read := func(data []byte, kind view.Type, m proto.Message) {
		data = []byte(files.Replace(string(data)))
		if err := protojson.Unmarshal(data, m); err != nil {
			t.Fatal(err)
		}
		wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		resources = append(resources, view.New(kind, name, wire, nil))
	}
	for _, f := range archive.Files {
		switch f.Name {
		case "limits":
			for line := range strings.Lines(string(f.Data)) {
				var k envoy.RuntimeKey
				if _, err := fmt.Sscanf(line, "%s = %d", &k.Key, &k.Value); err != nil {
					t.Fatal(err)
				}
				keys = append(keys, k)
			}
		case "cluster.json":
			var c clusterv3.Cluster
			if err := protojson.Unmarshal(f.Data, &c); err != nil {
				t.Fatal(err)
			}
			name = c.Name
			read(f.Data, view.CDS, &c)
		case "route.json":
			read(f.Data, view.RDS, new(routev3.RouteConfiguration))
		case "assignment.json":
			read(f.Data, view.EDS, new(endpointv3.ClusterLoadAssignment))
		}
		for suffix, kind := range map[string]view.Type{"-CDS.json": view.CDS, "-LDS.json": view.LDS, "-RDS.json": view.RDS} {
			if of, ok := strings.CutSuffix(f.Name, suffix); ok && strings.Contains(of, "~fault") {
				service := name
				name = of
				read(f.Data, kind, map[view.Type]proto.Message{view.CDS: new(clusterv3.Cluster), view.LDS: new(listenerv3.Listener), view.RDS: new(routev3.RouteConfiguration)}[kind])
				name = service
			}
		}
	}
	ns, service, _ := strings.Cut(name, "/")
	return append(resources,
		envoy.Scope(service+"."+ns, manifest.Key{Namespace: ns, Name: service}),
		must(envoy.Layer(envoy.LayerOf(name), keys))(t))
}

// sections reads an effective policy from what an author would write, with the defaults that merging fills in.
func sections(t *testing.T, protocol catalog.Protocol, s policy.Sections) policy.Sections {
	t.Helper()
	p := &policy.Policy{Metadata: manifest.Meta{Namespace: "shop", Name: "p"}, Spec: policy.Spec{To: policy.Target{Service: "payments"}, Sections: s}}
	if faults := policy.Validate(p); len(faults) > 0 {
		t.Fatal(faults)
	}
	svc := policy.Service{Key: manifest.Key{Namespace: "shop", Name: "payments"}, Protocol: string(protocol)}
	eff, problems := policy.Merge(svc, []*policy.Compiled{policy.Compile(p)})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return eff.Sections
}

func count(n uint32) *manifest.Count { return new(manifest.Count(n)) }

func millis(n int) *manifest.Duration { return new(manifest.Duration(fmt.Sprintf("%dms", n))) }

// stat is one of Envoy's counters or gauges for shop/payments.
func (p *proxy) stat(t *testing.T, name string) int64 {
	t.Helper()
	return must(p.Stat("cluster.shop/payments." + name))(t)
}

func (p *proxy) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := harness.Poll(ctx, func() error {
		if !ok() {
			return fmt.Errorf("not yet: %s", what)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// Runtime keys reach a cluster whose name has a slash, cut off at the number written, and change in place.
func TestEnvoyRuntimeLimitsActInPlace(t *testing.T) {
	t.Parallel()
	host := startHost(t, nil)
	svc := service("payments", catalog.HTTP)
	limits := func(n uint32) []*view.Resource {
		s := sections(t, catalog.HTTP, policy.Sections{Limits: &policy.Limits{
			MaxRequests: count(n), MaxPendingRequests: count(1000), MaxConnections: count(2000), MaxConnectionPools: count(50),
		}})
		return compiled(t, svc, s, host.Address)
	}
	p := startProxy(t, limits(3)...)
	client := harness.NewClient(p.outbound, 30*time.Second)
	if c := client.Get("payments.shop", "/"); c.Status != 200 {
		t.Fatalf("first call: %+v", c)
	}
	for name, want := range map[string]int64{"remaining_rq": 3, "remaining_pending": 1000, "remaining_cx_pools": 49, "remaining_cx": 1999} {
		if got := p.stat(t, "circuit_breakers.default."+name); got != want {
			t.Errorf("%s = %d, want %d", name, got, want)
		}
	}

	host.Set(harness.Behaviour{Hang: true})
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	hang := func(n int) {
		for range n {
			go client.GetContext(ctx, "payments.shop", "/")
		}
	}
	hang(3)
	p.eventually(t, "3 calls under way", func() bool { return host.Active() == 3 })
	refusal := client.Get("payments.shop", "/")
	if refusal.Status != 503 || !strings.Contains(refusal.Body, "overflow") {
		t.Errorf("call 4 of 3: %+v, want 503 overflow", refusal)
	}
	if got := p.stat(t, "upstream_rq_active_overflow"); got != 1 {
		t.Errorf("upstream_rq_active_overflow = %d, want 1", got)
	}

	connections := host.Connections()
	updates := must(p.Stat("cluster_manager.cluster_updated"))(t) + must(p.Stat("cluster_manager.cluster_modified"))(t)
	p.put(t, limits(5)...)
	p.settled(t)
	hang(2)
	p.eventually(t, "5 calls under way", func() bool { return host.Active() == 5 })
	if c := client.Get("payments.shop", "/"); c.Status != 503 {
		t.Errorf("call 6 of 5: %+v, want 503", c)
	}
	p.put(t, limits(1)...)
	p.settled(t)
	if host.Active() != 5 {
		t.Errorf("%d calls are under way after the limit went down, want all 5", host.Active())
	}
	if c := client.Get("payments.shop", "/"); c.Status != 503 {
		t.Errorf("call 6 of 1: %+v, want 503", c)
	}
	if now := must(p.Stat("cluster_manager.cluster_updated"))(t) + must(p.Stat("cluster_manager.cluster_modified"))(t); now != updates {
		t.Errorf("the cluster was built anew %d times", now-updates)
	}
	if opened := host.Connections() - connections; opened != 2 {
		t.Errorf("%d connections were opened, want the 2 of the 2 calls more", opened)
	}
}

// Runtime keys of a retry budget act: under a budget Envoy reports no remaining retries.
func TestEnvoyRuntimeBudget(t *testing.T) {
	t.Parallel()
	host := startHost(t, nil)
	svc := service("payments", catalog.HTTP)
	p := startProxy(t, compiled(t, svc, policy.Sections{}, host.Address)...)
	client := harness.NewClient(p.outbound, 10*time.Second)
	client.Get("payments.shop", "/")
	if got := p.stat(t, "circuit_breakers.default.remaining_retries"); got == 0 {
		t.Fatal("no retries remain though there is no budget")
	}
	s := sections(t, catalog.HTTP, policy.Sections{Retry: &policy.Retry{
		NumRetries: new(uint32(1)), RetryOn: []string{"5xx"}, Budget: &policy.Budget{Percent: new(uint32(0)), MinConcurrent: new(uint32(0))},
	}})
	p.put(t, compiled(t, svc, s, host.Address)...)
	p.settled(t)
	host.Set(harness.Behaviour{Status: 503})
	client.Get("payments.shop", "/")
	if got := p.stat(t, "upstream_rq_retry_overflow"); got != 1 {
		t.Errorf("upstream_rq_retry_overflow = %d under a budget of nothing, want 1", got)
	}
	if got := p.stat(t, "upstream_rq_retry"); got != 0 {
		t.Errorf("upstream_rq_retry = %d under a budget of nothing, want 0", got)
	}
}

// A try is bounded in time where there are no retries, and not repeated.
func TestEnvoyPerTryWithoutRetry(t *testing.T) {
	t.Parallel()
	host := startHost(t, nil)
	host.Set(harness.Behaviour{Hang: true})
	s := sections(t, catalog.HTTP, policy.Sections{Timeout: &policy.Timeout{PerTry: millis(150)}})
	p := startProxy(t, compiled(t, service("payments", catalog.HTTP), s, host.Address)...)
	c := harness.NewClient(p.outbound, 10*time.Second).Get("payments.shop", "/")
	if c.Status != 504 || c.Elapsed > 2*time.Second {
		t.Errorf("a hanging call: %+v, want 504 after 150 ms", c)
	}
	if got := host.Requests(); got != 1 {
		t.Errorf("the host saw %d requests, want 1", got)
	}
	for name, want := range map[string]int64{"upstream_rq_retry": 0, "upstream_rq_retry_limit_exceeded": 0, "upstream_rq_per_try_timeout": 1} {
		if got := p.stat(t, name); got != want {
			t.Errorf("%s = %d, want %d", name, got, want)
		}
	}
}

// Only methods that may be sent twice are, once a host may have seen them; what never reached a host is retried for all.
func TestEnvoyMethodGuard(t *testing.T) {
	t.Parallel()
	host := startHost(t, nil)
	svc := service("payments", catalog.HTTP)
	s := sections(t, catalog.HTTP, policy.Sections{
		Timeout: &policy.Timeout{PerTry: millis(300)},
		Retry: &policy.Retry{
			NumRetries: new(uint32(2)), RetryOn: []string{"5xx", "reset-before-request"},
			BackOff: &policy.BackOff{Base: millis(1), Max: millis(2)},
		},
	})
	p := startProxy(t, compiled(t, svc, s, host.Address)...)
	client := harness.NewClient(p.outbound, 10*time.Second)
	for _, tt := range []struct {
		method string
		harness.Behaviour
		status, tries int
	}{
		{"GET", harness.Behaviour{Status: 503}, 503, 3},
		{"PUT", harness.Behaviour{Status: 503}, 503, 3},
		{"DELETE", harness.Behaviour{Status: 500}, 500, 3},
		{"POST", harness.Behaviour{Status: 503}, 503, 1},
		{"PATCH", harness.Behaviour{Status: 503}, 503, 1},
		{"GET", harness.Behaviour{Reset: true}, 503, 3},
		{"POST", harness.Behaviour{Reset: true}, 503, 1},
		{"GET", harness.Behaviour{Hang: true}, 504, 3},
		{"POST", harness.Behaviour{Hang: true}, 504, 1},
	} {
		host.Set(tt.Behaviour)
		before := host.Requests()
		c := client.Send(t.Context(), tt.method, "payments.shop", "/", nil)
		if tries := int(host.Requests() - before); c.Status != tt.status || tries != tt.tries {
			t.Errorf("%s of %+v: %d after %d tries, want %d after %d", tt.method, tt.Behaviour, c.Status, tries, tt.status, tt.tries)
		}
	}

	// A host that refuses connections beside a good one: every POST arrives, some after a retry.
	host.Set(harness.Behaviour{})
	s.Timeout = nil
	p.put(t, compiled(t, svc, s, host.Address, ports.Closed())...)
	p.settled(t)
	retried := p.stat(t, "upstream_rq_retry")
	for range 6 {
		if c := client.Send(t.Context(), "POST", "payments.shop", "/", nil); c.Status != 200 {
			t.Errorf("POST past a host that refuses connections: %+v", c)
		}
	}
	if p.stat(t, "upstream_rq_retry") == retried {
		t.Error("no POST was retried: the dead host was never picked")
	}
}

// The application can't steer Envoy with headers, and the service doesn't see them.
func TestEnvoyIgnoresSteeringHeaders(t *testing.T) {
	t.Parallel()
	seen := make(chan http.Header, 8)
	host := startHost(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header
		time.Sleep(50 * time.Millisecond) // longer than the timeout asked for
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	p := startProxy(t, compiled(t, service("payments", catalog.HTTP), policy.Sections{}, host.Address)...)
	header := http.Header{"X-Forwarded-For": {"127.0.0.1"}}
	for _, h := range []string{
		"Retry-On: 5xx", "Retry-Grpc-On: internal", "Max-Retries: 3", "Upstream-Rq-Timeout-Ms: 5", "Upstream-Rq-Per-Try-Timeout-Ms: 5", "Internal: true",
		"Expected-Rq-Timeout-Ms: 5", "Retriable-Status-Codes: 503", "Original-Path: /x", "External-Address: 1.2.3.4", "Decorator-Operation: x",
		"Upstream-Alt-Stat-Name: x", "Hedge-On-Per-Try-Timeout: true", "Force-Trace: true", "Attempt-Count: 9", "Own-Invention: 1",
	} {
		name, value, _ := strings.Cut(h, ": ")
		header.Set("X-Envoy-"+name, value)
	}
	c := harness.NewClient(p.outbound, 10*time.Second).Send(t.Context(), "GET", "payments.shop", "/", header)
	if c.Status != 503 || host.Requests() != 1 {
		t.Errorf("%d after %d tries, want 503 after 1", c.Status, host.Requests())
	}
	for name := range c.Header {
		if strings.HasPrefix(name, "X-Envoy-") {
			t.Errorf("the application sees %s", name)
		}
	}
	got := <-seen
	if got.Get("X-Forwarded-For") != "127.0.0.1" {
		t.Errorf("X-Forwarded-For = %q, want what the application sent", got.Get("X-Forwarded-For"))
	}
	for name := range got {
		if strings.HasPrefix(name, "X-Envoy-") || strings.HasPrefix(name, "X-Breakwater-") {
			t.Errorf("the service sees %s", name)
		}
	}
}

// A proxy without runtime layers has its limits in the Cluster.
func TestEnvoyLimitsInCluster(t *testing.T) {
	t.Parallel()
	host := startHost(t, nil)
	svc := service("payments", catalog.HTTP)
	s := sections(t, catalog.HTTP, policy.Sections{Limits: &policy.Limits{MaxRequests: count(2)}})
	c, err := envoy.Service(envoy.Target{Profile: "sidecar", Version: "1.40"}, svc, &policy.Effective{Sections: s})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Limits) > 0 {
		t.Errorf("runtime keys %v for a proxy without layers", c.Limits)
	}
	resources := slices.DeleteFunc(compiled(t, svc, s, host.Address), func(r *view.Resource) bool { return r.Type == view.CDS || r.Type == view.RTDS })
	p := startProxy(t, append(resources, c.Cluster)...)
	harness.NewClient(p.outbound, time.Second).Get("payments.shop", "/")
	if got := p.stat(t, "circuit_breakers.default.remaining_rq"); got != 2 {
		t.Errorf("remaining_rq = %d, want 2", got)
	}
}

// What a route holds beside the plain retry, each field on its own.
func TestEnvoyRouteFields(t *testing.T) {
	t.Parallel()
	host := startHost(t, nil)
	svc := service("payments", catalog.HTTP)
	p := startProxy(t, compiled(t, svc, policy.Sections{}, host.Address)...)
	client := harness.NewClient(p.outbound, 10*time.Second)
	retry := func(on ...string) *policy.Retry {
		return &policy.Retry{NumRetries: new(uint32(2)), RetryOn: on, BackOff: &policy.BackOff{Base: millis(1), Max: millis(2)}}
	}
	with := func(r *policy.Retry, change func(*policy.Retry)) policy.Sections {
		change(r)
		return policy.Sections{Retry: r}
	}
	hang := harness.Behaviour{Hang: true}
	for name, tt := range map[string]struct {
		sections policy.Sections
		harness.Behaviour
		status, tries int
	}{
		"status code listed":     {with(retry("retriable-status-codes"), func(r *policy.Retry) { r.RetriableStatusCodes = []uint32{418} }), harness.Behaviour{Status: 418}, 418, 3},
		"status code not listed": {with(retry("retriable-status-codes"), func(r *policy.Retry) { r.RetriableStatusCodes = []uint32{418} }), harness.Behaviour{Status: 503}, 503, 1},
		"header present": {with(retry("retriable-headers"), func(r *policy.Retry) {
			r.RetriableHeaders = []policy.HeaderMatch{{Name: "content-length", Present: new(true)}}
		}), harness.Behaviour{Status: 400}, 400, 3},
		"header of that value": {with(retry("retriable-headers"), func(r *policy.Retry) {
			r.RetriableHeaders = []policy.HeaderMatch{{Name: "content-length", Exact: new("0")}}
		}), harness.Behaviour{Status: 400}, 400, 3},
		"header of other value": {with(retry("retriable-headers"), func(r *policy.Retry) {
			r.RetriableHeaders = []policy.HeaderMatch{{Name: "content-length", Exact: new("1")}}
		}), harness.Behaviour{Status: 400}, 400, 1},
		"previous priorities": {with(retry("5xx"), func(r *policy.Retry) { r.AvoidPreviousPriorities = new(true) }), harness.Behaviour{Status: 503}, 503, 3},
		"one host, avoided":   {with(retry("5xx"), func(r *policy.Retry) { r.AvoidPreviousHosts = new(true) }), harness.Behaviour{Status: 503}, 503, 3},
		"methods listed":      {with(retry("5xx"), func(r *policy.Retry) { r.Methods = &policy.Methods{List: []string{"GET", "POST"}} }), harness.Behaviour{Status: 503}, 503, 3},
		"methods, no GET":     {with(retry("5xx"), func(r *policy.Retry) { r.Methods = &policy.Methods{List: []string{"PUT"}} }), harness.Behaviour{Status: 503}, 503, 1},
		"request timeout":     {policy.Sections{Timeout: &policy.Timeout{Request: millis(150)}}, hang, 504, 1},
		"idle try":            {policy.Sections{Timeout: &policy.Timeout{PerTryIdle: millis(150)}}, hang, 504, 1},
		"stream":              {policy.Sections{Timeout: &policy.Timeout{MaxStream: millis(150)}}, hang, 504, 1},
		"request over tries":  {policy.Sections{Timeout: &policy.Timeout{Request: millis(400), PerTry: millis(300)}, Retry: retry("gateway-error")}, hang, 504, 2},
	} {
		t.Run(name, func(t *testing.T) {
			p.put(t, compiled(t, svc, sections(t, catalog.HTTP, tt.sections), host.Address)...)
			p.settled(t)
			host.Set(tt.Behaviour)
			before := host.Requests()
			c := client.Get("payments.shop", "/")
			if tries := int(host.Requests() - before); c.Status != tt.status || tries != tt.tries || c.Elapsed > 3*time.Second {
				t.Errorf("%d after %d tries and %v, want %d after %d", c.Status, tries, c.Elapsed, tt.status, tt.tries)
			}
		})
	}
}

// A request larger than the buffer is sent once.
func TestEnvoyRetryBuffer(t *testing.T) {
	t.Parallel()
	host := startHost(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	s := sections(t, catalog.HTTP, policy.Sections{Retry: &policy.Retry{
		NumRetries: new(uint32(2)), RetryOn: []string{"5xx"}, BufferBytes: new(uint32(10_000)), BackOff: &policy.BackOff{Base: millis(1), Max: millis(2)},
	}})
	p := startProxy(t, compiled(t, service("payments", catalog.HTTP), s, host.Address)...)
	for size, want := range map[int]int{9_000: 3, 20_000: 1} {
		before := host.Requests()
		_, answer := exchange(t, p.outbound, fmt.Sprintf("PUT / HTTP/1.1\r\nHost: payments.shop\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size)))
		if tries := int(host.Requests() - before); tries != want {
			t.Errorf("%d bytes: %s after %d tries, want %d", size, answer.Line, tries, want)
		}
	}
}

// Only the detectors that a policy names eject; and with the panic threshold at 0 an ejected service is cut off.
func TestEnvoyAbsentDetectorsAreOff(t *testing.T) {
	t.Parallel()
	host := startHost(t, nil)
	s := sections(t, catalog.HTTP, policy.Sections{
		OutlierDetection: &policy.OutlierDetection{ConsecutiveGatewayFailure: new(uint32(3)), MaxEjectionPercent: new(uint32(100))},
		LoadBalancing:    &policy.LoadBalancing{PanicThreshold: new(uint32(0))},
	})
	p := startProxy(t, compiled(t, service("payments", catalog.HTTP), s, host.Address)...)
	client := harness.NewClient(p.outbound, 10*time.Second)
	host.Set(harness.Behaviour{Status: 500})
	for range 10 {
		client.Get("payments.shop", "/")
	}
	for _, name := range []string{"ejections_enforced_total", "ejections_detected_consecutive_5xx"} {
		if got := p.stat(t, "outlier_detection."+name); got != 0 {
			t.Errorf("%s = %d after 500s alone, want 0", name, got)
		}
	}
	host.Set(harness.Behaviour{Status: 503})
	for range 3 {
		client.Get("payments.shop", "/")
	}
	p.eventually(t, "an ejection", func() bool { return p.stat(t, "outlier_detection.ejections_enforced_consecutive_gateway_failure") == 1 })
	before := host.Requests()
	if c := client.Get("payments.shop", "/"); c.Status != 503 || !strings.Contains(c.Body, "no healthy upstream") || host.Requests() != before {
		t.Errorf("with its only host ejected: %+v", c)
	}
}

// An endpoint's health and weight reach Envoy.
func TestEnvoyEndpointHealth(t *testing.T) {
	t.Parallel()
	good, draining, unhealthy := startHost(t, nil), startHost(t, nil), startHost(t, nil)
	svc := service("payments", catalog.HTTP)
	p := startProxy(t, compiled(t, svc, policy.Sections{}, good.Address, draining.Address, unhealthy.Address)...)
	client := harness.NewClient(p.outbound, 10*time.Second)
	for range 6 {
		client.Get("payments.shop", "/")
	}
	for _, h := range []*harness.Host{good, draining, unhealthy} {
		if h.Requests() != 2 {
			t.Errorf("a host got %d of 6 calls, want 2", h.Requests())
		}
	}
	for i, h := range []*harness.Host{good, draining, unhealthy} {
		a := netip.MustParseAddrPort(h.Address)
		spec := catalog.EndpointSpec{Address: a.Addr().String(), Port: new(uint32(a.Port())), Health: []catalog.Health{catalog.Healthy, catalog.Draining, catalog.Unhealthy}[i]}
		svc.Spec.Endpoints = append(svc.Spec.Endpoints, spec)
	}
	p.put(t, must(envoy.Assignment(svc, nil))(t))
	p.settled(t)
	for range 6 {
		client.Get("payments.shop", "/")
	}
	if good.Requests() != 8 || draining.Requests() != 2 || unhealthy.Requests() != 2 {
		t.Errorf("healthy, draining, unhealthy got %d, %d, %d calls; want 8, 2, 2", good.Requests(), draining.Requests(), unhealthy.Requests())
	}
}
