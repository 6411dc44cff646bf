package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// started is a control plane over a store in memory.
type started struct {
	t   *testing.T
	kv  *store.Memory
	ls  listeners
	xds *grpc.ClientConn

	stop func() error // and wait
}

func start(t *testing.T, change func(*Config)) *started {
	t.Helper()
	c := Defaults()
	c.ListenXDS, c.ListenAPI, c.ListenAdmin = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	change(&c)
	s := &started{t: t, kv: store.NewMemory(store.Limits{})}
	s.kv.Fail(errors.New("no quorum"))
	var err error
	if s.ls, err = open(c); err != nil {
		t.Fatal(err)
	}
	if s.xds, err = grpc.NewClient(s.ls.xds.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, c, hclog.NewNullLogger(), s.ls, openedStore{kv: s.kv, close: func() error { return nil }})
	}()
	s.stop = func() error { cancel(); err := <-done; done <- err; return err }
	t.Cleanup(func() { _ = s.stop(); _ = s.xds.Close(); s.ls.close() })
	return s
}

// get is what a port answers, 0 where it does not within a moment.
func (s *started) get(address, path string) (code int, body string) {
	client := http.Client{Timeout: 300 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

func (s *started) readyz() (int, string) { return s.get(s.ls.admin.Addr().String(), "/readyz") }

func (s *started) health() healthpb.HealthCheckResponse_ServingStatus {
	s.t.Helper()
	answer, err := healthpb.NewHealthClient(s.xds).Check(s.t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.Status
}

// connect opens a proxy's stream and returns it with the error of its first answer.
func (s *started) connect() (grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse], error) {
	s.t.Helper()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(s.xds).DeltaAggregatedResources(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	node := &corev3.Node{Id: "orders-1", Cluster: "orders.shop", UserAgentName: "envoy"}
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: view.CDS.URL()}); err != nil && err != io.EOF {
		s.t.Fatal(err)
	}
	_, err = stream.Recv()
	return stream, err
}

func TestNothingIsServedBeforeTheStoreIsRead(t *testing.T) {
	s := start(t, func(*Config) {})
	begun := time.Now()
	if _, err := s.connect(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "not ready") {
		t.Errorf("a stream before the store was read ended with %v, want Unavailable: not ready", err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it was told so after %v", took)
	}
	if code, body := s.readyz(); code != http.StatusServiceUnavailable || !strings.Contains(body, "no quorum") {
		t.Errorf("/readyz = %d %q, want 503 with the reason", code, body)
	}
	if got := s.health(); got != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health = %v, want NOT_SERVING", got)
	}
	if code, body := s.get(s.ls.api.Addr().String(), "/api/v1/policies"); code != 0 {
		t.Errorf("the API answers %d %q", code, body)
	}

	s.kv.Fail(nil)
	s.eventually("ready", func() bool { code, _ := s.readyz(); return code == http.StatusOK })
	if _, err := s.connect(); err != nil {
		t.Errorf("a stream when ready: %v", err)
	}
	s.eventually("serving", func() bool { return s.health() == healthpb.HealthCheckResponse_SERVING })
	s.eventually("answered by the API", func() bool {
		code, _ := s.get(s.ls.api.Addr().String(), "/api/v1/policies")
		return code == http.StatusOK
	})

	// What is served while the store can't be heard says so.
	s.apply(`{apiVersion: breakwater/v1alpha1, kind: Policy, metadata: {name: slow, namespace: shop}, spec: {to: {service: "*"}, timeout: {request: 2s}}}`)
	stale := func() (proxies, status, delivery *time.Time) {
		list := answer[api.ProxyList](s, "/api/v1/proxies")
		if len(list.Items) > 0 {
			proxies = list.Items[0].Stale
		}
		if of := answer[api.StatusResponse](s, "/api/v1/namespaces/shop/policies/slow/status"); of.Delivery != nil {
			status = of.Delivery.Stale
		}
		return proxies, status, answer[api.Delivery](s, "/api/v1/delivery?revision=1").Stale
	}
	if proxies, status, delivery := stale(); proxies != nil || status != nil || delivery != nil {
		t.Errorf("with the store there, stale are proxies: %v, a status: %v, a delivery: %v", proxies, status, delivery)
	}
	s.kv.Fail(errors.New("gone"))
	s.eventually("marked as stale", func() bool {
		code, ready := s.readyz()
		proxies, status, delivery := stale()
		return code == http.StatusOK && strings.HasPrefix(ready, "ready: stale") && proxies != nil && status != nil && delivery != nil
	})
}

// answer is what the API answers to a GET, empty where it does not.
func answer[T any](s *started, path string) (v T) {
	if _, body := s.get(s.ls.api.Addr().String(), path); json.Unmarshal([]byte(body), &v) != nil {
		var none T
		return none
	}
	return v
}

// apply writes documents by the API.
func (s *started) apply(documents string) {
	s.t.Helper()
	resp, err := http.Post("http://"+s.ls.api.Addr().String()+"/api/v1/apply", "application/yaml", strings.NewReader(documents))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		s.t.Fatalf("apply: %d %s", resp.StatusCode, text)
	}
}

func (s *started) eventually(what string, f func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("it is not %s", what)
		}
	}
}

func TestAStopWithOtherReplicasDrains(t *testing.T) {
	const drain = time.Second
	s := start(t, func(c *Config) { c.EtcdEndpoints, c.DrainTime = []string{"elsewhere:2379"}, drain })
	s.kv.Fail(nil)
	s.eventually("ready", func() bool { code, _ := s.readyz(); return code == http.StatusOK })
	stream, err := s.connect()
	if err != nil {
		t.Fatal(err)
	}
	begun, stopped := time.Now(), make(chan error, 1)
	go func() { stopped <- s.stop() }()
	s.eventually("not ready any more", func() bool { code, _ := s.readyz(); return code == http.StatusServiceUnavailable })
	if code, body := s.get(s.ls.api.Addr().String(), "/api/v1/policies"); code != http.StatusOK && time.Since(begun) < drain {
		t.Errorf("during the drain the API answers %d %q", code, body)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v, want Unavailable", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took < drain || took > drain+5*time.Second {
		t.Errorf("the stop took %v, want %v and a little more", took, drain)
	}
}
