package proxy_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/proxy"
)

// TestInternalListener leads a call through a listener of the same process, and then takes that listener away.
func TestInternalListener(t *testing.T) {
	host := upstream(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	routeTo := func(cluster string) *dataplane.HTTP {
		route := &dataplane.Route{Path: dataplane.PathMatch{Prefix: "/"}, Cluster: cluster}
		return &dataplane.HTTP{SuppressEnvoy: true, Routes: &dataplane.RouteConfig{Hosts: []*dataplane.VirtualHost{{Domains: []string{"*"}, Routes: []*dataplane.Route{route}}}}}
	}
	clusterOf := func(name string, address netip.AddrPort) *dataplane.Cluster {
		return &dataplane.Cluster{Name: name, ConnectTimeout: patience, Thresholds: unlimited(), Hosts: []dataplane.Host{{Address: address, Weight: 1}}}
	}
	table := &dataplane.Table{
		Clusters: map[string]*dataplane.Cluster{
			"outer": clusterOf("outer", dataplane.Inside("inner", "1")), "real": clusterOf("real", netip.MustParseAddrPort(host)),
		},
		Listeners: map[string]*dataplane.Listener{
			"outbound": {Name: "outbound", Address: netip.MustParseAddrPort("127.0.0.1:0"), HTTP: routeTo("outer")},
			"inner":    {Name: "inner", Inside: true, HTTP: routeTo("real")},
		},
	}
	inside := new(proxy.Inside)
	e := engine.New(engine.Options{NewPool: proxy.Pools(inside.Dial(proxy.TCP)), Rand: rand.Uint64})
	server := proxy.NewServer(proxy.Options{
		Engine: e, Inside: inside, Log: io.Discard, Listen: func(address string) (net.Listener, error) { return net.Listen("tcp", address) },
	})
	client := &http.Client{Timeout: patience, Transport: new(http.Transport)}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		server.Close(ctx)
		e.Close()
	})
	if err := server.SetTable(table); err != nil {
		t.Fatal(err)
	}
	post := func(body string) (int, string) {
		resp, err := client.Post("http://"+server.Addresses()["outbound"]+"/", "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(got)
	}
	body := strings.Repeat("x", 1<<20)
	for range 2 { // by a new connection, and by the same again
		if status, got := post(body); status != 200 || got != body {
			t.Fatalf("%d with %d bytes, want 200 with %d", status, len(got), len(body))
		}
	}
	without := *table
	without.Listeners = map[string]*dataplane.Listener{"outbound": table.Listeners["outbound"]}
	if err := server.SetTable(&without); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no listener: 503", func() bool {
		status, _ := post("x")
		return status == http.StatusServiceUnavailable
	})
	if err := server.SetTable(table); err != nil {
		t.Fatal(err)
	}
	if status, got := post("again"); status != 200 || got != "again" {
		t.Errorf("the listener is back: %d %q", status, got)
	}
}
