package hostile

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// canary is a proxy as it should be, and the time from each write to its answer.
type canary struct {
	cp     *harness.ControlPlane
	stream deltaStream
	edits  int

	mu    sync.Mutex
	acked int64 // the newest revision
	wake  chan struct{}
	err   error
}

// hatch connects a canary, which holds everything when it returns. It ends with ctx.
func hatch(ctx context.Context, cp *harness.ControlPlane, services []string) (*canary, error) {
	conn, err := grpc.NewClient(cp.XDS, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return nil, err
	}
	c := &canary{cp: cp, stream: s, wake: make(chan struct{}, 1)}
	for _, q := range everything(services) {
		if q.Node == nil && q.TypeUrl == view.RTDS.URL() {
			q.Node = nodeOf("canary", "orders.shop")
		}
		if err := s.Send(q); err != nil {
			return nil, err
		}
	}
	go c.follow()
	return c, nil
}

// everything is what an Envoy asks for, of those services.
func everything(services []string) []*deltaAsk {
	var layers []string
	for i := range 8 {
		layers = append(layers, fmt.Sprint("limits-", i))
	}
	return []*deltaAsk{
		{TypeUrl: view.RTDS.URL(), ResourceNamesSubscribe: layers}, {TypeUrl: view.CDS.URL()}, {TypeUrl: view.EDS.URL(), ResourceNamesSubscribe: services},
		{TypeUrl: view.LDS.URL()}, {TypeUrl: view.SRDS.URL()}, {TypeUrl: view.RDS.URL(), ResourceNamesSubscribe: services},
	}
}

// follow answers whatever comes.
func (c *canary) follow() {
	for {
		m, err := c.stream.Recv()
		if err == nil {
			err = c.stream.Send(&deltaAsk{TypeUrl: m.TypeUrl, ResponseNonce: m.Nonce})
		}
		c.mu.Lock()
		if err != nil {
			c.err = err
		} else if rev, bad := strconv.ParseInt(m.SystemVersionInfo, 10, 64); bad == nil {
			c.acked = max(c.acked, rev)
		}
		c.mu.Unlock()
		select {
		case c.wake <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// watch writes every so often until ctx ends, and returns how long it took each time until the canary had what was written.
func (c *canary) watch(ctx context.Context, every time.Duration) (took []time.Duration, err error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		began := time.Now()
		rev, err := c.write()
		if err != nil {
			return took, err
		}
		if err := c.has(rev); err != nil {
			return took, err
		}
		took = append(took, time.Since(began))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return took, nil
		}
	}
}

// write edits what the canary holds, and returns the edit's revision.
func (c *canary) write() (int64, error) {
	c.edits++
	_, body, err := c.cp.Do(http.MethodPost, "/api/v1/apply?wide=true", policy(time.Second+time.Duration(c.edits)*time.Millisecond))
	if err != nil {
		return 0, err
	}
	var r api.ApplyResult
	err = json.Unmarshal([]byte(body), &r)
	return r.Revision, err
}

func policy(timeout time.Duration) string {
	return fmt.Sprintf("apiVersion: breakwater/v1alpha1\nkind: Policy\nmetadata: {namespace: shop, name: edited}\nspec:\n  to: {service: s0}\n  timeout: {request: %dms}\n", timeout.Milliseconds())
}

// canaryPatience is how long the canary waits at most, far more than it may.
const canaryPatience = 15 * time.Second

func (c *canary) has(rev int64) error {
	deadline := time.NewTimer(canaryPatience)
	defer deadline.Stop()
	for {
		c.mu.Lock()
		acked, err := c.acked, c.err
		c.mu.Unlock()
		switch {
		case err != nil:
			return fmt.Errorf("the canary's stream ended: %w", err)
		case acked >= rev:
			return nil
		}
		select {
		case <-c.wake:
		case <-deadline.C:
			return fmt.Errorf("the canary has revision %d after %v, want %d", acked, canaryPatience, rev)
		}
	}
}

// p99 is the 99th percentile.
func p99(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[min(len(took)-1, len(took)*99/100)]
}
