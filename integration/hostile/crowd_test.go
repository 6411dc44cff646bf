package hostile

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// beside runs f while a canary looks, and checks what the canary saw.
func beside(t *testing.T, cp *harness.ControlPlane, f func(ctx context.Context)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c, err := hatch(ctx, cp, serviceNames(services))
	if err != nil {
		t.Fatal(err)
	}
	busy, idle := context.WithCancel(ctx)
	go func() { defer idle(); f(ctx) }()
	took, err := c.watch(busy, 20*time.Millisecond)
	<-busy.Done()
	if err != nil {
		t.Fatal(err)
	}
	most := p99(took)
	t.Logf("%d edits, from write to answer p50 %v, p99 %v", len(took), took[len(took)/2].Round(time.Millisecond), most.Round(time.Millisecond))
	if most > canaryMost {
		t.Errorf("from write to answer p99 %v, want %v at most", most, canaryMost)
	}
}

// load takes everything as an Envoy does, answers it, and returns once each type is there.
func load(ctx context.Context, a *attacker, node string) error {
	return a.stream(ctx, func(s deltaStream) error {
		missing := map[string]int{}
		for _, q := range everything(serviceNames(services)) {
			q.Node = nodeOf(node, "orders.shop")
			if err := s.Send(q); err != nil {
				return err
			}
			missing[q.TypeUrl] = 1
		}
		missing[view.CDS.URL()], missing[view.EDS.URL()], missing[view.RDS.URL()] = services, services, services
		for {
			m, err := s.Recv()
			if err != nil {
				return err
			}
			if err := s.Send(&deltaAsk{TypeUrl: m.TypeUrl, ResponseNonce: m.Nonce}); err != nil {
				return err
			}
			if missing[m.TypeUrl] -= len(m.Resources); missing[m.TypeUrl] <= 0 {
				delete(missing, m.TypeUrl)
			}
			if len(missing) == 0 {
				return nil
			}
		}
	})
}

// TestSurvivesAStorm has many proxies come at once.
func TestSurvivesAStorm(t *testing.T) {
	clients := 200
	if long {
		clients = 2000
	}
	cp := start(t)
	beside(t, cp, func(ctx context.Context) {
		var wg sync.WaitGroup
		defer wg.Wait()
		for i := range clients {
			wg.Go(func() {
				if err := load(ctx, &attacker{server: cp.XDS, source: "127.0.8.1"}, fmt.Sprint("storm-", i)); err != nil {
					t.Errorf("client %d: %v", i, err)
				}
			})
		}
	})
}

// TestSurvivesOpeningAndClosing opens and closes streams, after which nothing of them is held. BREAKWATER_LONG=1: 100,000 of them.
func TestSurvivesOpeningAndClosing(t *testing.T) {
	streams := 1000
	if long {
		streams = 100_000
	}
	cp := start(t)
	open := func(ctx context.Context, n int) error {
		conn, err := (&attacker{server: cp.XDS, source: "127.0.8.2"}).connect()
		if err != nil {
			return err
		}
		defer conn.Close()
		for i := range n {
			inner, cancel := context.WithCancel(ctx)
			s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(inner)
			if err == nil {
				err = s.Send(&deltaAsk{Node: nodeOf(fmt.Sprintf("churn-%p-%d", conn, i), "orders.shop"), TypeUrl: view.LDS.URL()})
			}
			if err == nil {
				_, err = s.Recv()
			}
			cancel()
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := open(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	before, err := look(cp)
	if err != nil {
		t.Fatal(err)
	}
	beside(t, cp, func(ctx context.Context) {
		var wg sync.WaitGroup
		defer wg.Wait()
		for range 20 {
			wg.Go(func() {
				if err := open(ctx, streams/20); err != nil {
					t.Error(err)
				}
			})
		}
	})
	settled(t, cp, before)
}

// TestSurvivesItsMemoryLimit fills the memory with what streams hold: then new ones are refused, and the canary stays current.
func TestSurvivesItsMemoryLimit(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "96MiB")
	cp := start(t)
	beside(t, cp, func(ctx context.Context) {
		inner, cancel := context.WithCancel(ctx)
		defer cancel()
		for i := range 200 {
			if err := fill(inner, cp, i); errors.Is(err, errRefused) {
				return
			} else if err != nil {
				t.Error(err)
				return
			}
		}
		t.Error("200 streams with 10,000 names each were taken within 96 MiB")
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := harness.Poll(ctx, func() error { // when they are gone there is room again
		_, err := look(cp)
		return errors.Join(err, load(ctx, &attacker{server: cp.XDS, source: "127.0.8.4"}, "honest"))
	}); err != nil {
		t.Error(err)
	}
}

// fill opens a stream with as many names as it may have, which stays open until ctx ends.
func fill(ctx context.Context, cp *harness.ControlPlane, i int) error {
	a := &attacker{server: cp.XDS, source: "127.0.8.3"}
	conn, err := a.connect()
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	for _, q := range []*deltaAsk{
		{TypeUrl: view.RDS.URL(), ResourceNamesSubscribe: invented(i*10_000, 9_999)}, {TypeUrl: view.LDS.URL()},
	} {
		q.Node = nodeOf(fmt.Sprint("fill-", i), "orders.shop")
		if err := s.Send(q); err != nil {
			break // Recv says why
		}
	}
	_, err = s.Recv()
	if status.Code(err) == codes.ResourceExhausted {
		return errRefused
	}
	return err
}
