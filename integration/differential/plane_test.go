package differential_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	cachetypes "github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// plane is an xDS server that is not ours, for one proxy: go-control-plane's, over delta ADS.
type plane struct {
	address string
	caches  map[string]*cachev3.LinearCache
	grpc    *grpc.Server
	cancel  context.CancelFunc

	mu    sync.Mutex
	nacks []string
}

func startPlane(all built) (*plane, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &plane{address: l.Addr().String(), caches: map[string]*cachev3.LinearCache{}, cancel: cancel}
	// As often as the agent asks whether the server is there.
	p.grpc = grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}))
	mux := &cachev3.MuxCache{
		Caches:        map[string]cachev3.Cache{},
		Classify:      func(r *cachev3.Request) string { return r.GetTypeUrl() },
		ClassifyDelta: func(r *cachev3.DeltaRequest) string { return r.GetTypeUrl() },
	}
	for _, url := range []string{resourcev3.ListenerType, resourcev3.RouteType, resourcev3.ScopedRouteType, resourcev3.ClusterType, resourcev3.EndpointType, resourcev3.RuntimeType} {
		items := map[string]cachetypes.Resource{}
		for name, m := range all[url] {
			items[name] = m
		}
		p.caches[url] = cachev3.NewLinearCache(url, cachev3.WithInitialResources(items))
		mux.Caches[url] = p.caches[url]
	}
	server := serverv3.NewServer(ctx, mux, serverv3.CallbackFuncs{StreamDeltaRequestFunc: p.heard})
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(p.grpc, server)
	go func() { _ = p.grpc.Serve(l) }() // ends with stop
	return p, nil
}

// heard notes what a proxy refuses.
func (p *plane) heard(_ int64, r *discoveryv3.DeltaDiscoveryRequest) error {
	if r.GetErrorDetail() != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.nacks = append(p.nacks, r.GetTypeUrl()+": "+r.GetErrorDetail().GetMessage())
	}
	return nil
}

// refused is what the proxy has refused, nil where nothing.
func (p *plane) refused() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.nacks) == 0 {
		return nil
	}
	return fmt.Errorf("resources were refused: %s", strings.Join(p.nacks, "\n"))
}

func (p *plane) stop() {
	p.cancel()
	p.grpc.Stop()
}
