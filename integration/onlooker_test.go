package integration_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// onlooker is a proxy that takes everything, and watches that nothing older or empty comes to it. A service's routes tell the number of the
// write they are from.
type onlooker struct {
	observer
	conn *grpc.ClientConn
	done chan struct{}

	mu     sync.Mutex
	number map[string]int // by service: what its routes say
	back   bool           // the numbers may go back
	leaves string         // the service that may be taken away
	faults []string
}

// onlooker connects one to the mesh's control plane, under a node id of its own, and waits until it holds the services.
func (m *mesh) onlooker(id string, services ...string) *onlooker {
	m.t.Helper()
	conn, err := grpc.NewClient(m.cp.XDS, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	c := &onlooker{
		observer: observer{stream: stream, got: held{}, missing: map[string]bool{}, node: sidecarNode(id, "orders", "127.0.0.1:1")},
		conn:     conn, done: make(chan struct{}), number: map[string]int{},
	}
	if err := errors.Join(c.ask(view.CDS), c.ask(view.LDS), c.ask(view.SRDS)); err != nil {
		m.t.Fatal(err)
	}
	go c.run(ctx)
	m.t.Cleanup(func() {
		cancel()
		<-c.done
		_ = conn.Close()
	})
	eventually(m.t, func() error {
		for _, service := range services {
			if _, err := c.holds(service); err != nil {
				return err
			}
		}
		return nil
	})
	return c
}

func (c *onlooker) run(ctx context.Context) {
	defer close(c.done)
	for {
		r, err := c.stream.Recv()
		if err == nil {
			c.check(r)
			err = c.take(r)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.fault("its stream ended: %v", err)
			return
		}
	}
}

func (c *onlooker) fault(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

// check looks at a response before it is taken.
func (c *onlooker) check(r *discoveryv3.DeltaDiscoveryResponse) {
	c.gone(r)
	t, _ := view.FromURL(r.GetTypeUrl())
	for _, resource := range r.GetResources() {
		id := view.ID{Type: t, Name: resource.GetName()}
		switch t {
		case view.EDS:
			var a endpointv3.ClusterLoadAssignment
			if err := resource.GetResource().UnmarshalTo(&a); err != nil || len(a.GetEndpoints()) == 0 && c.got[id.String()] != "" {
				c.fault("%s has no endpoints any more, %v", resource.GetName(), err)
			}
		case view.RDS:
			var routes routev3.RouteConfiguration
			if err := resource.GetResource().UnmarshalTo(&routes); err != nil {
				c.fault("%s: %v", resource.GetName(), err)
			}
			c.note(resource.GetName(), numberOf(&routes))
		}
	}
}

// gone books what is taken away.
func (c *onlooker) gone(r *discoveryv3.DeltaDiscoveryResponse) {
	c.mu.Lock()
	leaves := c.leaves
	c.mu.Unlock()
	for _, name := range r.GetRemovedResources() {
		if leaves == "" || !strings.Contains(name, leaves) {
			c.fault("%s took away %s", r.GetTypeUrl(), name)
		}
		c.mu.Lock()
		delete(c.number, name)
		c.mu.Unlock()
	}
}

// leave allows the onlooker to lose a service.
func (c *onlooker) leave(service string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaves = service
}

// note books what a service's routes say.
func (c *onlooker) note(name string, n int) {
	c.mu.Lock()
	before, had := c.number[name]
	c.number[name] = n
	legal := c.back
	c.mu.Unlock()
	if had && n < before && !legal {
		c.fault("%s went back from %d to %d", name, before, n)
	}
}

// numberOf is the timeout of the first route, in milliseconds over a second.
func numberOf(routes *routev3.RouteConfiguration) int {
	for _, host := range routes.GetVirtualHosts() {
		for _, r := range host.GetRoutes() {
			return int(r.GetRoute().GetTimeout().AsDuration()/time.Millisecond) - 1000
		}
	}
	return -1
}

// holds is the number that the onlooker has of a service.
func (c *onlooker) holds(service string) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.number["shop/"+service]
	if !ok {
		return 0, fmt.Errorf("%s holds nothing of %s", c.node.GetId(), service)
	}
	return n, nil
}

// allowBack lets the numbers go back from now on, or no more.
func (c *onlooker) allowBack(may bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.back = may
}

// unharmed reports what the onlooker saw that it should not have, once.
func (c *onlooker) unharmed(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.faults[:min(len(c.faults), 10)] {
		t.Errorf("onlooker %s: %s", c.node.GetId(), f)
	}
	c.faults = slices.Clip(c.faults[:0])
}
