package integration_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/breakwater-mesh/breakwater/internal/testkit/etcdcluster"
	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/client"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// crew is control planes over one etcd.
type crew struct {
	t      *testing.T
	planes []*mesh
	apis   []*client.Client
	ids    []string
}

func newCrew(t *testing.T, n int) *crew {
	t.Helper()
	cluster := etcdcluster.Start(t, 1)
	c := &crew{t: t, planes: make([]*mesh, n)}
	for i := range n {
		c.planes[i] = newMesh(t, "--etcd-endpoints", strings.Join(cluster.Endpoints(), ","), "--replica-lease", "2s")
		api, err := client.New("http://" + c.planes[i].cp.API)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(api.Close)
		c.apis = append(c.apis, api)
		list, err := api.Replicas(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.ids = append(c.ids, list.Self)
	}
	for i := range n {
		eventually(t, func() error {
			list, err := c.apis[i].Replicas(t.Context())
			if err == nil && len(list.Items) != n {
				return fmt.Errorf("replica %d knows %d replicas, want %d", i, len(list.Items), n)
			}
			return err
		})
	}
	return c
}

// delivery is how far a revision has come, as replica i says.
func (c *crew) delivery(i int, q api.DeliveryQuery) *api.Delivery {
	c.t.Helper()
	d, err := c.apis[i].Delivery(c.t.Context(), q)
	if err != nil {
		c.t.Fatal(err)
	}
	return d
}

// says wants every replica to know these proxies, each as "ID at N", and no others.
func (c *crew) says(want ...string) {
	c.t.Helper()
	for i, of := range c.apis {
		eventually(c.t, func() error {
			list, err := of.Proxies(c.t.Context())
			if err != nil {
				return err
			}
			var got []string
			for _, p := range list.Items {
				got = append(got, fmt.Sprintf("%s at %d", p.ID, slices.Index(c.ids, p.Replica)))
			}
			if !slices.Equal(got, want) || len(list.Unreachable) > 0 {
				return fmt.Errorf("replica %d knows %q, want %q; unreachable %v", i, got, want, list.Unreachable)
			}
			return nil
		})
	}
}

// edit gives calls to payments another timeout, through replica i, and returns the revision.
func (c *crew) edit(i, seconds int) int64 {
	c.t.Helper()
	result, err := c.apis[i].Apply(c.t.Context(), []byte(policyFor("p", "payments", fmt.Sprintf("timeout: {request: %ds}", seconds))), client.ApplyOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return result.Revision
}

// traveller is a proxy that accepts everything, or waits with that, and takes what it holds along to another replica.
type traveller struct {
	id   string
	stop func()

	mu       sync.Mutex
	stream   discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	versions map[view.ID]string
	received []string // resources, since the stream was opened
	holding  bool
	unacked  []*discoveryv3.DeltaDiscoveryResponse
}

// traveller opens a stream to replica i for one that holds these versions.
func (c *crew) traveller(i int, id string, versions map[view.ID]string) *traveller {
	c.t.Helper()
	conn, err := grpc.NewClient(c.planes[i].cp.XDS, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	p := &traveller{id: id, stream: stream, versions: maps.Clone(versions)}
	if p.versions == nil {
		p.versions = map[view.ID]string{}
	}
	if err := p.subscribe(sidecarNode(id, "orders", "127.0.0.1:1")); err != nil {
		c.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			r, err := stream.Recv()
			if err != nil {
				return
			}
			p.take(r)
		}
	}()
	p.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		_ = conn.Close()
	})
	c.t.Cleanup(p.stop)
	return p
}

func (p *traveller) subscribe(node *corev3.Node) error {
	services := []string{"shop/orders", "shop/payments"}
	var layers []string
	for i := range 8 {
		layers = append(layers, fmt.Sprintf("limits-%d", i))
	}
	var errs []error
	for _, s := range []struct {
		of    view.Type
		names []string
	}{{view.RTDS, layers}, {view.CDS, nil}, {view.EDS, services}, {view.LDS, nil}, {view.SRDS, nil}, {view.RDS, services}} {
		r := &discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: s.of.URL(), ResourceNamesSubscribe: s.names, InitialResourceVersions: map[string]string{}}
		for id, version := range p.versions {
			if id.Type == s.of {
				r.InitialResourceVersions[id.Name] = version
			}
		}
		errs = append(errs, p.stream.Send(r))
	}
	return errors.Join(errs...)
}

func (p *traveller) take(r *discoveryv3.DeltaDiscoveryResponse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of, _ := view.FromURL(r.GetTypeUrl())
	for _, one := range r.GetResources() {
		id := view.ID{Type: of, Name: one.GetName()}
		p.versions[id] = one.GetVersion()
		p.received = append(p.received, id.String())
	}
	if p.unacked = append(p.unacked, r); !p.holding {
		p.ack()
	}
}

// ack accepts what is not answered. mu is held.
func (p *traveller) ack() {
	for _, r := range p.unacked {
		_ = p.stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}) // a stream that has ended says so to Recv
	}
	p.unacked = nil
}

// hold keeps the proxy from accepting anything, or ends that.
func (p *traveller) hold(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holding = on; !on {
		p.ack()
	}
}

func (p *traveller) state() (versions map[view.ID]string, received []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.versions), slices.Clone(p.received)
}

// Any replica answers for the proxies of all; a proxy that moves is counted once and is sent nothing that it has; no wait ends with "done" while a
// replica is dead and nobody knows whether its proxies are.
func TestReplicasAnswerForAll(t *testing.T) {
	t.Parallel()
	c := newCrew(t, 3)
	c.planes[0].service("payments", 1)
	c.planes[0].apply(c.planes[0].manifest("orders"))
	first := c.edit(2, 2)
	var list []*traveller
	for i, id := range []string{"o0", "o1", "o2"} {
		list = append(list, c.traveller(i, id, nil))
	}
	c.says("o0 at 0", "o1 at 1", "o2 at 2")
	for i := range c.planes {
		if d := c.delivery(i, api.DeliveryQuery{Revision: first, Wait: patience, MinAcked: 3}); d.State != "acked" || d.Concerned != 3 {
			t.Errorf("replica %d says %+v, want 3 acked", i, d)
		}
	}
	same, _ := list[0].state()
	for i, p := range list {
		if got, _ := p.state(); !maps.Equal(got, same) || len(got) < 12 {
			t.Errorf("replica %d serves %v, replica 0 %v", i, got, same)
		}
	}

	list[1].hold(true)
	held := c.edit(1, 3)
	if d := c.delivery(0, api.DeliveryQuery{Revision: held, Wait: 300 * time.Millisecond}); d.State != "pending" || !strings.Contains(d.Message, "waiting for o1") {
		t.Errorf("o1 holds back: %+v", d)
	}
	list[1].hold(false)
	if d := c.delivery(2, api.DeliveryQuery{Revision: held, Wait: patience}); d.State != "acked" || d.Acked != 3 {
		t.Errorf("o1 has it: %+v", d)
	}

	versions, _ := list[0].state()
	moved := c.traveller(1, "o0", versions) // the old stream is still there
	c.says("o0 at 1", "o1 at 1", "o2 at 2")
	second := c.edit(0, 4)
	if d := c.delivery(2, api.DeliveryQuery{Revision: second, Wait: patience}); d.State != "acked" || d.Acked != 3 || d.Offline != 0 {
		t.Errorf("with o0 moved: %+v", d)
	}
	if _, got := moved.state(); !slices.Equal(got, []string{"RDS shop/payments"}) {
		t.Errorf("o0 was sent %q after its move, want what the edit changed alone", got)
	}
	list[0].stop()
	c.says("o0 at 1", "o1 at 1", "o2 at 2")
	if d := c.delivery(0, api.DeliveryQuery{Revision: second, All: true}); d.Acked != 3 || d.Offline != 0 {
		t.Errorf("o0 is offline at replica 0 and connected at 1: %+v", d)
	}

	c.planes[1].cp.Kill()
	d := c.delivery(0, api.DeliveryQuery{Revision: second, Wait: 200 * time.Millisecond})
	if d.State != "pending" || len(d.Unreachable) != 1 || d.Unreachable[0].Replica != c.ids[1] || d.Unreachable[0].Reason != "connection refused" {
		t.Errorf("replica 1 is dead: %+v", d)
	}
	d = c.delivery(2, api.DeliveryQuery{Revision: second, Wait: patience})
	if d.State != "acked" || len(d.Unreachable) != 0 || d.Acked != 1 {
		t.Errorf("replica 1 is gone: %+v", d)
	}
}
