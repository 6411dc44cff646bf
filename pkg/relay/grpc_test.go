package relay

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/xds"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// grpcApp is a gRPC server for programs to call.
func grpcApp(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	healthpb.RegisterHealthServer(g, health.NewServer())
	var running sync.WaitGroup
	running.Go(func() { _ = g.Serve(lis) })
	t.Cleanup(func() { g.Stop(); running.Wait() })
	return lis.Addr().String()
}

// forGRPC makes a gRPC service the snapshot of a node.
func (w *world) forGRPC(t *testing.T, node, version, service, address string) {
	t.Helper()
	pack := func(m proto.Message) *anypb.Any {
		a, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	ads := &corev3.ConfigSource{ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
	host, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	endpoint := &endpointv3.Endpoint{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host.IP.String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(host.Port)}}}}}
	hcm := &hcmv3.HttpConnectionManager{
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads, RouteConfigName: service}},
		HttpFilters:    []*hcmv3.HttpFilter{{Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&routerv3.Router{})}}},
	}
	snapshot, err := cache.NewSnapshot(version, map[resource.Type][]types.Resource{
		resource.ListenerType: {&listenerv3.Listener{Name: service, ApiListener: &listenerv3.ApiListener{ApiListener: pack(hcm)}}},
		resource.RouteType: {&routev3.RouteConfiguration{Name: service, VirtualHosts: []*routev3.VirtualHost{{
			Name: service, Domains: []string{"*"}, Routes: []*routev3.Route{{
				Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: ""}},
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{
					ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: service}}},
			}}}}}},
		resource.ClusterType: {&clusterv3.Cluster{
			Name: service, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
			EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads}}},
		resource.EndpointType: {&endpointv3.ClusterLoadAssignment{ClusterName: service, Endpoints: []*endpointv3.LocalityLbEndpoints{{
			Locality: &corev3.Locality{Region: "here"}, LoadBalancingWeight: wrapperspb.UInt32(1),
			LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: endpoint}}},
		}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cache.SetSnapshot(t.Context(), node, snapshot); err != nil {
		t.Fatal(err)
	}
}

// program is a gRPC program: it finds the service through the relay. Each call makes a new one.
func program(t *testing.T, relay, service string) *grpc.ClientConn {
	t.Helper()
	bootstrap := fmt.Sprintf(`{"xds_servers": [{"server_uri": %q, "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}], "node": {"id": "program"}}`, relay)
	builder, err := xds.NewXDSResolverWithConfigForTesting([]byte(bootstrap))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("xds:///"+service, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(builder))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func call(conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	return err
}

// TestGRPCProgramWithoutAControlPlane is a state-of-the-world client that restarts while there is no control plane.
func TestGRPCProgramWithoutAControlPlane(t *testing.T) {
	w, p := newWorld(t)
	first, second := grpcApp(t), grpcApp(t)
	w.forGRPC(t, "program", "1", "greeter", first)
	dir := t.TempDir()
	r := startRelay(t, dir, p.address)
	conn := program(t, r.address, "greeter")
	if err := call(conn); err != nil {
		t.Fatal(err)
	}
	r.knows(t, 4)

	p.leave()
	r.from(t, true)
	if err := call(conn); err != nil {
		t.Errorf("without a control plane: %v", err)
	}
	_ = conn.Close()
	for _, life := range []string{"the program restarted", "the relay too"} {
		begun := time.Now()
		conn = program(t, r.address, "greeter")
		if err := call(conn); err != nil {
			t.Errorf("%s: %v", life, err)
		}
		t.Logf("%s: served after %v", life, time.Since(begun))
		_ = conn.Close()
		r.stop()
		r = startRelay(t, dir, p.address)
	}

	conn = program(t, r.address, "greeter")
	defer func() { _ = conn.Close() }()
	if err := call(conn); err != nil {
		t.Error(err)
	}
	p.comeBack()
	r.from(t, false)
	eventually(t, func() string { // what this server sends again all the same is its affair
		for url, version := range w.begun() {
			if version != "1" {
				return fmt.Sprintf("%s is asked for as if the program had %q", url, version)
			}
		}
		return ""
	})
	w.forGRPC(t, "program", "2", "greeter", second)
	eventually(t, func() string { // the first app is not called any more once the edit is there
		var to peer.Peer
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Peer(&to))
		if err != nil || to.Addr.String() != second {
			return fmt.Sprintf("called %v, %v; want %s", to.Addr, err, second)
		}
		return ""
	})
}
