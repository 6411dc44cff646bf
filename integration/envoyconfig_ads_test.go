package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// plane serves whatever it is given over delta ADS, to one Envoy, and remembers what that refused. It stands in for the real server
// where only the resources are under test.
type plane struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	address string

	mu        sync.Mutex
	resources map[view.ID]*view.Resource
	stream    *planeStream
	refused   []string
}

// planeStream is guarded by the plane's mu.
type planeStream struct {
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	wildcard    map[view.Type]bool
	names       map[view.ID]bool
	sent        map[view.ID]string // version
	outstanding map[string]view.Type
	nonce       int
}

func startPlane(t *testing.T) *plane {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{address: l.Addr().String(), resources: map[view.ID]*view.Resource{}}
	for layer := range envoy.Layers {
		p.resources[view.ID{Type: view.RTDS, Name: envoy.LayerName(layer)}] = must(envoy.Layer(layer, nil))(t)
	}
	server := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, p)
	go func() { _ = server.Serve(l) }() // ends with Stop
	t.Cleanup(server.Stop)
	return p
}

// DeltaAggregatedResources serves one stream; a second Envoy would be a mistake of the test.
func (p *plane) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	st := &planeStream{s, map[view.Type]bool{}, map[view.ID]bool{}, map[view.ID]string{}, map[string]view.Type{}, 0}
	for {
		req, err := s.Recv()
		if err != nil {
			return err
		}
		if err := p.receive(st, req); err != nil {
			return err
		}
	}
}

func (p *plane) receive(st *planeStream, req *discoveryv3.DeltaDiscoveryRequest) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stream = st
	kind, ok := view.FromURL(req.TypeUrl)
	if !ok {
		return fmt.Errorf("asked for %s", req.TypeUrl)
	}
	delete(st.outstanding, req.ResponseNonce)
	if req.ErrorDetail != nil {
		p.refused = append(p.refused, kind.String()+": "+req.ErrorDetail.Message)
	}
	if req.ResponseNonce == "" && len(req.ResourceNamesSubscribe) == 0 {
		st.wildcard[kind] = true
	}
	for _, name := range req.ResourceNamesUnsubscribe {
		delete(st.names, view.ID{Type: kind, Name: name})
		delete(st.sent, view.ID{Type: kind, Name: name})
	}
	for _, name := range req.ResourceNamesSubscribe {
		id := view.ID{Type: kind, Name: name}
		st.names[id] = true
		delete(st.sent, id)
	}
	// A wildcard is answered though there is nothing: Envoy waits to hear so.
	return p.send(kind, req.ResponseNonce == "" && st.wildcard[kind])
}

// send sends what of a type the stream wants and doesn't hold; nothing at all only where it must answer.
func (p *plane) send(kind view.Type, answer bool) error {
	st := p.stream
	resp := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: kind.URL()}
	for id, r := range p.resources {
		if id.Type != kind || !st.wildcard[kind] && !st.names[id] || st.sent[id] == r.Version {
			continue
		}
		body := new(anypb.Any)
		if err := proto.Unmarshal(r.Any(), body); err != nil {
			return err
		}
		resp.Resources = append(resp.Resources, &discoveryv3.Resource{Name: r.Name, Version: r.Version, Resource: body})
		st.sent[id] = r.Version
	}
	if len(resp.Resources) == 0 && !answer {
		return nil
	}
	slices.SortFunc(resp.Resources, func(a, b *discoveryv3.Resource) int { return slices.Compare([]byte(a.Name), []byte(b.Name)) })
	st.nonce++
	resp.Nonce = fmt.Sprint(st.nonce)
	resp.ControlPlane = &corev3.ControlPlane{Identifier: "test"}
	st.outstanding[resp.Nonce] = kind
	return st.Send(resp)
}

// put replaces resources and sends what changed. A changed cluster is followed by its assignment: Envoy waits for one.
func (p *plane) put(t *testing.T, resources ...*view.Resource) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range resources {
		if old := p.resources[r.ID()]; p.stream != nil && r.Type == view.CDS && (old == nil || old.Version != r.Version) {
			delete(p.stream.sent, view.ID{Type: view.EDS, Name: r.Name})
		}
		p.resources[r.ID()] = r
	}
	if p.stream == nil {
		return
	}
	for kind := range view.NumTypes {
		if err := p.send(kind, false); err != nil {
			t.Fatal(err)
		}
	}
}

// settled waits until Envoy has answered everything, and fails the test if it refused anything.
func (p *plane) settled(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	err := harness.Poll(ctx, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.stream == nil {
			return errors.New("no stream")
		}
		if n := len(p.stream.outstanding); n > 0 {
			return fmt.Errorf("%d answers are missing", n)
		}
		return nil
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		t.Error(err)
	}
	for _, text := range p.refused {
		t.Errorf("Envoy refused %s", text)
	}
	p.refused = nil
}

// proxy is a real Envoy, started with our bootstrap, that gets its resources from a plane.
type proxy struct {
	*harness.Envoy
	*plane
	outbound string
}

// startProxy starts an Envoy that serves resources and the listener.
func startProxy(t *testing.T, resources ...*view.Resource) *proxy {
	t.Helper()
	needEnvoy(t)
	p := startPlane(t)
	ports, err := harness.FreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	admin, outbound := harness.Loopback(ports[0]), harness.Loopback(ports[1])
	p.put(t, must(envoy.Listener(envoy.Target{}, outbound))(t))
	p.put(t, resources...)
	text, err := bootstrap.Envoy(bootstrap.Options{
		XDS: []string{p.address}, Namespace: "shop", Service: "orders", NodeID: "orders-1", Admin: admin, Outbound: outbound,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	e, err := harness.StartEnvoy(ctx, t.TempDir(), text, admin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Kill()
		if t.Failed() {
			t.Logf("envoy said:\n%s", e.Log())
		}
	})
	if err := e.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	p.settled(t)
	return &proxy{e, p, outbound}
}

// needEnvoy fails a test that has no Envoy to run; ALLOW_SKIP=1 skips it instead.
func needEnvoy(t *testing.T) {
	t.Helper()
	_, err := harness.EnvoyPath()
	switch {
	case err == nil:
	case os.Getenv("ALLOW_SKIP") == "1":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

// must unpacks a result that can't fail in this test.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
